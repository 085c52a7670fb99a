"""The answers that a checkpoint gives to each prompt: one greedy, and `samples` per decoding setting.

Every answer is appended to a file as soon as it ends, so a killed run loses only what was being drawn, and a rerun draws only
what is missing. Each process of `accelerate launch` draws the prompts of its own share into a file of its own.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.generation.meter import Meter
from align_ko.generation.processes import Processes
from align_ko.generation.requests import GREEDY, Draw, Generated, Request, describe, row_seed
from align_ko.generation.shards import shard, shards, whole_rows
from align_ko.recipe import CandidateArgs, DecodingArgs
from align_ko.records import PromptRow, content_id, drop_torn_line, read_prompts, write_json

Key = tuple[str, str, int]  # task id, setting, sample


@dataclass(frozen=True)
class Candidate:
    setting: str  # "greedy" or the recipe's name
    decoding: str  # "temperature=0.7 top_p=0.9 …"
    text: str
    finished: bool
    tokens: int
    sample: int = 0  # its number among the answers to one prompt under one setting


def draw_candidates(
    draw: Draw,
    tasks: list[PromptRow],
    settings: Mapping[str, CandidateArgs],
    seed: int,
    file: Path,
    made_with: dict[str, Any],
    processes: Processes | None = None,
) -> dict[str, list[Candidate]]:
    """Answers per task id, the greedy one first, then setting by setting in the recipe's order.

    `draw` is asked once, for what no file holds yet, or not at all. `made_with` says what every answer depends on (checkpoint,
    token limit): files made with something else are put aside as `.old`. A setting whose knobs changed is drawn again, more
    samples or prompts only add. An answer's seed follows from (seed, prompt, setting, sample), so neither an interruption nor
    the number of processes changes what is drawn.
    """
    processes = processes or Processes()
    meta, fresh = file.with_suffix(".meta.json"), {**made_with, "seed": seed}
    if processes.rank == 0:
        _put_aside_others(file, meta, fresh)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(meta, fresh)
    processes.wait()  # nobody reads or writes before the old files are gone
    ladder: dict[str, DecodingArgs] = {"greedy": GREEDY, **settings}
    rungs = [(name, sample) for name in ladder for sample in range(getattr(ladder[name], "samples", 1))]
    drawn = read_drawn(file, ladder)
    # The share is cut from all prompts, not from the missing ones: it is the same however far the others already are.
    share = tasks[processes.rank :: processes.count]
    keys = [(task.id, name, sample) for task in share for name, sample in rungs]
    missing = [key for key in keys if key not in drawn]
    prompts = {task.id: task.prompt for task in share}
    whose = f"process {processes.rank + 1} of {processes.count}: " if processes.count > 1 else ""
    if len(missing) < len(keys):
        print(f"{whose}{len(keys) - len(missing)} answers are there already, {len(missing)} to go", flush=True)
    if missing:
        own = shard(file, processes.rank)
        drop_torn_line(own)
        with own.open("a", encoding="utf-8", newline="\n") as out, Meter(len(missing), shown=processes.rank == 0) as meter:

            def save(index: int, answer: Generated) -> None:
                task_id, name, sample = missing[index]
                found = Candidate(name, describe(ladder[name]), answer.text, answer.finished, answer.tokens, sample)
                out.write(json.dumps({"id": task_id, **asdict(found)}, ensure_ascii=False) + "\n")
                out.flush()
                meter.advance()

            try:
                draw([Request(prompts[key[0]], ladder[key[1]], row_seed(seed, *key)) for key in missing], save)
            except UserError as error:
                if processes.rank:  # run_script lets only the first process speak, and it knows nothing of this
                    print(f"error: {whose}{error}", file=sys.stderr, flush=True)
                raise
    processes.wait()
    drawn = read_drawn(file, ladder)
    return {task.id: [drawn[task.id, name, sample] for name, sample in rungs] for task in tasks}


def read_drawn(file: Path, ladder: Mapping[str, DecodingArgs]) -> dict[Key, Candidate]:
    """Answers of all shards that were drawn with the present settings; half a line at an end (a killed run) is passed over."""
    drawn: dict[Key, Candidate] = {}
    for path in shards(file):
        for row in whole_rows(path):
            name = row["setting"]
            if name in ladder and row["decoding"] == describe(ladder[name]):
                task_id = row.pop("id")
                candidate = Candidate(**row)
                drawn.setdefault((task_id, name, candidate.sample), candidate)
    return drawn


def _put_aside_others(file: Path, meta: Path, fresh: dict[str, Any]) -> None:
    others = shards(file)
    if not others or (meta.is_file() and json.loads(meta.read_text(encoding="utf-8")) == json.loads(json.dumps(fresh))):
        return
    print(f"{file} was drawn from another checkpoint or setting: starting afresh, the old answers are in *.jsonl.old")
    for path in others:
        path.replace(path.with_name(path.name + ".old"))


def read_tasks(path: str, skip_files: Iterable[str] = ()) -> tuple[list[PromptRow], int]:
    """The prompts of a file, each once, in a stable shuffled order, and how many were dropped because their id or their
    prompt is in one of `skip_files`.

    The order is by the hash of the id: it mixes the groups, and a longer file's list begins like a shorter one's.
    """
    rows = {row.id: row for row in read_prompts(path, "prompts_file")}  # an upsampled row is in its file several times
    seen = [row for file in skip_files for row in read_prompts(file, "skip_prompts_files")]
    skip = {name for row in seen for name in (row.id, content_id(row.prompt))}
    allowed = [row for row in rows.values() if row.id not in skip and content_id(row.prompt) not in skip]
    allowed.sort(key=lambda row: hashlib.sha256(("prompts" + row.id).encode()).digest())
    return allowed, len(rows) - len(allowed)
