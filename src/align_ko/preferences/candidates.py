"""The answers a checkpoint gives to each prompt: one greedy, and one per decoding setting. Resumable per prompt and setting."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from align_ko.generation.local import GREEDY, Generated, describe, generate_answers
from align_ko.recipe import DecodingArgs, GenerationArgs
from align_ko.records import Message, read_jsonl, write_json


@dataclass(frozen=True)
class Task:
    """One prompt with the answer a person wrote for it, if there is one."""

    id: str
    prompt: list[Message]
    reference: str | None


@dataclass(frozen=True)
class Candidate:
    setting: str  # "greedy" or the recipe's name
    decoding: str  # "temperature=0.7 top_p=0.9 …"
    text: str
    finished: bool
    tokens: int


def tasks_from_rows(rows: list[dict[str, Any]], max_prompts: int = 0) -> list[Task]:
    """Rows with `messages` → prompts (everything before the last assistant turn) and references, in a stable shuffled order.

    The order is by content hash: it mixes the groups, and a longer list begins with the shorter one.
    """
    tasks = [
        Task(row["id"], row["messages"][:-1], row["messages"][-1]["content"])
        for row in rows
        if row["messages"][-1]["role"] == "assistant"
    ]
    tasks.sort(key=lambda task: hashlib.sha256(("prompts" + task.id).encode()).digest())
    return tasks[:max_prompts] if max_prompts else tasks


def draw_candidates(
    model: Any,
    tokenizer: Any,
    tasks: list[Task],
    settings: dict[str, DecodingArgs],
    generation: GenerationArgs,
    file: Path,
    made_with: dict[str, Any],
) -> dict[str, list[Candidate]]:
    """Answers per task id. Each finished batch is appended to `file`, and a rerun draws only what is missing there.

    `made_with` says what the answers depend on (checkpoint, settings); a file made with something else is started afresh.
    """
    meta = file.with_suffix(".meta.json")
    fresh = {**made_with, "max_new_tokens": generation.max_new_tokens, "seed": generation.seed}
    if file.is_file() and (not meta.is_file() or json.loads(meta.read_text(encoding="utf-8")) != fresh):
        print(f"{file} was drawn from another checkpoint or setting: starting afresh")
        file.unlink()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(meta, fresh)
    _drop_torn_line(file)
    drawn: dict[str, dict[str, Candidate]] = defaultdict(dict)
    if file.is_file():
        for row in read_jsonl(file):
            task_id = row.pop("id")
            drawn[task_id][row["setting"]] = Candidate(**row)
    every = {"greedy": GREEDY, **settings}
    todo = {name: [task for task in tasks if name not in drawn[task.id]] for name in every}
    total = sum(map(len, todo.values()))
    have = len(tasks) * len(every) - total
    if have:
        print(f"{have} answers are there already, {total} to go")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with file.open("a", encoding="utf-8") as out, Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("answers", total=total, rate="")
        for number, (name, decoding) in enumerate(every.items()):
            missing = todo[name]

            def save(indices: list[int], answers: list[Generated], missing: list[Task] = missing, name: str = name) -> None:
                for index, answer in zip(indices, answers, strict=True):
                    found = Candidate(name, describe(every[name]), answer.text, answer.finished, answer.tokens)
                    drawn[missing[index].id][name] = found
                    out.write(json.dumps({"id": missing[index].id, **asdict(found)}, ensure_ascii=False) + "\n")
                out.flush()
                speed = progress.tasks[bar].speed
                progress.update(bar, advance=len(answers), rate=f"{speed:.1f}/s" if speed else "")

            generate_answers(
                model,
                tokenizer,
                [task.prompt for task in missing],
                decoding,
                generation.max_new_tokens,
                generation.batch_size,
                generation.seed + 1000 * number,
                stop_loops=True,
                on_batch=save,
            )
    return {task.id: [drawn[task.id][name] for name in every] for task in tasks}


def _drop_torn_line(file: Path) -> None:
    """A killed run may leave half a line at the end; cut it off so that the rest is kept."""
    if not file.is_file():
        return
    data = file.read_bytes()
    if data and not data.endswith(b"\n"):
        file.write_bytes(data[: data.rfind(b"\n") + 1])
