"""The curation run: raw files → train.jsonl, eval.jsonl, rejected.jsonl, report.md and report.json in one folder."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from align_ko.curation import report
from align_ko.curation.adapters import Rejection, adapt
from align_ko.curation.duplicates import OVERLAP_THRESHOLD, PromptIndex, duplicate_key, prompts_to_hold_out
from align_ko.curation.filters import FILTERS, Candidate, Filter, Rules, choose_filters, first_rejection
from align_ko.curation.mixture import decide, select, split
from align_ko.curation.progress import progress_bars, read_with_progress
from align_ko.curation.sources import RawRow
from align_ko.errors import UserError, nearest
from align_ko.recipe import DataRecipe, SourceArgs
from align_ko.recipe_loading import recipe_error
from align_ko.records import Conversation, atomic_write, content_id, read_jsonl, write_json, write_jsonl

EXAMPLES_PER_REASON = 3
KEPT_EXAMPLES = 10


@dataclass
class Tally:
    """What happened to the rows of one source."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass
class Pool:
    """What the run has gathered so far."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    kept: list[Conversation] = field(default_factory=list)
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)  # row id → speech level of each answer
    levels_before: Counter[str] = field(default_factory=Counter)
    lengths_before: Counter[int] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    seen: dict[bytes, str] = field(default_factory=dict)  # duplicate key → where the first one stands


def curate(recipe: DataRecipe, console: Console | None = None) -> dict[str, Any]:
    """Run the whole stage and return what report.json holds."""
    console = console or Console()
    started = time.perf_counter()
    out = Path(recipe.output_dir)
    filters = _filters(recipe)
    draw = random.Random(recipe.seed)

    pool = _gather(recipe, filters, draw, console)
    mixture = decide(Counter(row.group for row in pool.kept), recipe.weights, recipe.max_samples, recipe.on_shortage)
    chosen = select(pool.kept, mixture.taken, recipe.seed)
    train, held_out = split(chosen, recipe.eval_share)
    if not train:
        raise UserError("no row is left for training; this file says why", file=out / "rejected.jsonl")
    write_jsonl(out / "train.jsonl", (row.to_row() for row in train))
    write_jsonl(out / "eval.jsonl", (row.to_row() for row in held_out))

    read = sum(tally.read for tally in pool.tallies.values())
    taken = Counter(row.source for row in {row.id: row for row in chosen}.values())
    seconds = time.perf_counter() - started
    facts: dict[str, Any] = {
        "rows": {
            "read": read,
            "kept": len(pool.kept),
            "taken": len(chosen),
            "train": len(train),
            "eval": len(held_out),
        },
        "seconds": round(seconds, 1),
        "rows_per_second": round(read / max(seconds, 1e-9)),
        "funnel": {name: report.funnel(t.read, t.dropped, taken[name]) for name, t in pool.tallies.items()},
        "reasons": {name: dict(tally.dropped.most_common()) for name, tally in pool.tallies.items()},
        "mixture": {"groups": mixture.table(), "decision": mixture.decision},
        "answer_characters": report.histograms(pool.lengths_before, _answer_lengths(chosen)),
        "speech_levels": {
            "before": dict(pool.levels_before.most_common()),
            "after": dict(Counter(level for row in chosen for level in pool.levels[row.id]).most_common()),
        },
        "kept_examples": [row.to_row() for row in draw.sample(train, min(KEPT_EXAMPLES, len(train)))],
        "dropped_examples": dict(sorted(pool.examples.items())),
        "filters": [check.__name__ for check in filters] + ["duplicate", "evaluation_overlap"],
    }
    write_json(out / "report.json", facts)
    with atomic_write(out / "report.md") as page:
        page.write(report.to_markdown(facts))
    report.show(facts, console)
    console.print(f"Written to {out}/: train.jsonl, eval.jsonl, rejected.jsonl, report.md, report.json", soft_wrap=True)
    return facts


def _filters(recipe: DataRecipe) -> list[Filter]:
    for number, name in enumerate(recipe.filters):
        if name not in FILTERS:
            close = nearest(name, FILTERS)
            raise recipe_error(recipe, f"filters[{number}]", "unknown filter", ", ".join(FILTERS), close)
    return choose_filters(recipe.filters)


def _gather(recipe: DataRecipe, filters: list[Filter], draw: random.Random, console: Console) -> Pool:
    """Read every source and judge every row; what falls is written to rejected.jsonl at once."""
    rules = Rules(recipe.lengths, recipe.require_speech_level)
    held_out = PromptIndex(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path))
    pool = Pool()
    with atomic_write(Path(recipe.output_dir) / "rejected.jsonl") as rejected, progress_bars(console) as progress:
        for name, source in recipe.sources.items():
            read, broken, first_broken = 0, 0, ""
            for raw in read_with_progress(progress, name, source.path, source.split):
                label = label_of(raw, name, source)
                group = source.group if source.group != "auto" else group_of(label, recipe.groups)
                tally = pool.tallies.setdefault(label, Tally())
                read, tally.read = read + 1, tally.read + 1
                found = _judge(raw, label, group, source, rules, filters, held_out, pool)
                if isinstance(found, Conversation):
                    pool.kept.append(found)
                    continue
                tally.dropped[found.reason] += 1
                if found.reason == "broken_row":
                    broken, first_broken = broken + 1, first_broken or f"{raw.file}:{raw.line}: {found.detail}"
                _reject(rejected, raw, label, found, pool.examples, draw)
            if not read:
                raise recipe_error(recipe, f"sources.{name}.path", f"{source.path} holds no rows")
            if broken / read > recipe.max_broken_share:
                problem = f"{broken:,} of {read:,} rows cannot be read; the first: {first_broken}"
                limit = f"at most max_broken_share ({recipe.max_broken_share:g}) of them"
                raise recipe_error(recipe, f"sources.{name}", problem, limit)
    return pool


def _judge(
    raw: RawRow,
    label: str,
    group: str,
    source: SourceArgs,
    rules: Rules,
    filters: list[Filter],
    held_out: PromptIndex,
    pool: Pool,
) -> Conversation | Rejection:
    """The row as a conversation, or why it is dropped."""
    if raw.problem:
        return Rejection("broken_row", raw.problem)
    messages = adapt(raw.value, source.adapter, source.columns)
    if isinstance(messages, Rejection):
        return messages
    if not group:
        return Rejection("broken_row", f"source {label!r} stands in no group; add it under `groups` in the recipe")
    row = Candidate(Conversation(messages, label, group, content_id(messages)), raw.file, raw.line)
    pool.lengths_before.update(map(len, row.answers))
    found = first_rejection(row, rules, filters)
    levels = tuple(assessment.speech_level for assessment in row.__dict__.get("assessments", ()))  # only if one asked
    pool.levels_before.update(levels)
    if found:
        return found
    key = duplicate_key(messages)
    if key in pool.seen:
        return Rejection("duplicate", f"says the same as {pool.seen[key]}")
    pool.seen[key] = f"{raw.file}:{raw.line}"
    for question in row.questions:
        prompt, similarity = held_out.nearest(question)
        if similarity >= OVERLAP_THRESHOLD:
            return Rejection("evaluation_overlap", f"{similarity:.2f} like the evaluation prompt {prompt[:80]!r}")
    pool.levels[row.conversation.id] = levels
    return row.conversation


def label_of(raw: RawRow, name: str, source: SourceArgs) -> str:
    """The row's own `source` where the group hangs on that, else the recipe's name for the file."""
    own = raw.value.get(source.columns.get("source", "source")) if isinstance(raw.value, dict) else None
    return own if source.group == "auto" and isinstance(own, str) and own else name


def group_of(source: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    """The group that lists `source`, or "".

    >>> group_of("koalpaca", {"instruction": ("kullm_v2", "koalpaca")})
    'instruction'
    """
    return next((group for group, names in groups.items() if source in names), "")


def evaluation_prompts(path: str) -> Iterator[str]:
    """The questions of a prompt file: JSONL rows with `messages` or `prompt` (text or messages)."""
    for number, row in enumerate(read_jsonl(path), 1):
        said = row.get("messages", row.get("prompt"))
        if isinstance(said, str):
            yield said
        elif isinstance(said, list):
            yield from prompts_to_hold_out(said)
        else:
            raise UserError("row has no prompt", file=path, line=number, expected="'messages' or 'prompt'")


def _reject(
    out: IO[str],
    raw: RawRow,
    source: str,
    found: Rejection,
    examples: dict[str, list[dict[str, Any]]],
    draw: random.Random,
) -> None:
    """Write the row to rejected.jsonl, and keep a few of each reason for the report ."""
    row = {**found._asdict(), "source": source, "file": raw.file, "line": raw.line, "row": raw.value}
    text = json.dumps(row, ensure_ascii=False, default=str)
    out.write(text.encode("utf-8", "replace").decode("utf-8") + "\n")  # half a surrogate pair cannot be written
    kept = examples.setdefault(found.reason, [])
    if len(kept) < EXAMPLES_PER_REASON:
        kept.append(json.loads(text))
    elif draw.random() < 0.05:  # later ones get a chance too, so that the examples come from the whole file
        kept[draw.randrange(EXAMPLES_PER_REASON)] = json.loads(text)


def _answer_lengths(rows: list[Conversation]) -> Counter[int]:
    return Counter(len(m["content"]) for row in rows for m in row.messages if m["role"] == "assistant")
