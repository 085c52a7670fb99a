"""The curation run: raw files → train.jsonl, eval.jsonl, rejected.jsonl and a report in one folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from align_ko.curation import report
from align_ko.curation.duplicates import prompts_to_hold_out
from align_ko.curation.filters import FILTERS, Rules, choose_filters
from align_ko.curation.judge import Judged, Work, judge_batch, start
from align_ko.curation.mixture import Mixture, decide, select, split
from align_ko.curation.pool import Pool, count
from align_ko.curation.progress import progress_bars, read_with_progress
from align_ko.curation.sources import local_files
from align_ko.curation.stopwatch import Stopwatch
from align_ko.curation.workers import cores, in_batches, ordered_map
from align_ko.errors import UserError, nearest
from align_ko.recipe import DataRecipe
from align_ko.recipe_loading import recipe_error
from align_ko.records import atomic_write, read_jsonl

KEPT_EXAMPLES = 30
BATCH = 200  # rows that go to a worker process at once
BYTES_PER_PROCESS = 8_000_000
"""A file for which another process pays: starting one and loading the morphological analyser takes about two seconds."""


def curate(recipe: DataRecipe, console: Console | None = None) -> dict[str, Any]:
    """Run the whole stage and return what report.json holds."""
    console = console or Console()
    watch = Stopwatch()
    out = Path(recipe.output_dir)
    _check_filters(recipe)
    with atomic_write(out / "rejected.jsonl") as rejected, Pool(out, rejected, recipe.seed) as pool:
        _gather(recipe, pool, console)
        read = sum(tally.read for tally in pool.tallies.values())
        watch.lap("read and judge", read)
        mixture = decide(Counter(row.group for row in pool.rows), recipe.weights, recipe.max_samples, recipe.on_shortage)
        chosen = select(pool.rows, mixture.taken, recipe.seed)
        train, held_out = split(chosen, recipe.eval_share)
        if not train:
            raise UserError("no row is left for training; this file says why", file=out / "rejected.jsonl")
        watch.lap("select", len(pool.rows))
        texts = _texts(pool)
        _write(out / "train.jsonl", (texts(row) for row in train))
        _write(out / "eval.jsonl", (texts(row) for row in held_out))
        examples = Random(recipe.seed).sample(train, min(KEPT_EXAMPLES, len(train)))
        kept_examples = [json.loads(texts(row)) for row in examples]
        watch.lap("write", len(chosen))
    facts = _facts(recipe, pool, mixture, chosen, len(train), len(held_out), watch)
    facts["kept_examples"] = kept_examples
    report.write_reports(out, facts)
    report.show(facts, console)
    console.print(f"Written to {out}/: train.jsonl, eval.jsonl, rejected.jsonl, report.html (also .md, .json)", soft_wrap=True)
    return facts


def _gather(recipe: DataRecipe, pool: Pool, console: Console) -> None:
    """Read every source, have every row judged, put the outcome into the pool."""
    prompts = tuple(dict.fromkeys(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path)))
    rules = Rules(recipe.lengths, recipe.require_speech_level)
    work = Work(recipe.sources, recipe.groups, rules, recipe.filters, prompts)
    read: Counter[str] = Counter()
    broken: dict[str, list[Judged]] = {}
    with progress_bars(console) as progress:
        batches = (
            [(name, raw) for raw in rows]
            for name, source in recipe.sources.items()
            for rows in in_batches(read_with_progress(progress, name, source.path, source.split), BATCH)
        )
        for judged in ordered_map(judge_batch, batches, _processes(recipe), start, (work,)):
            for row in judged:
                pool.add(row)
                read[row.name] += 1
                if row.reason == "broken_row":
                    broken.setdefault(row.name, []).append(row._replace(text=""))
    for name, source in recipe.sources.items():
        if not read[name]:
            raise recipe_error(recipe, f"sources.{name}.path", f"{source.path} holds no rows")
        if (bad := broken.get(name, [])) and len(bad) / read[name] > recipe.max_broken_share:
            first = f"{bad[0].file}:{bad[0].line}: {bad[0].detail}"
            problem = f"{len(bad):,} of {read[name]:,} rows cannot be read; the first: {first}"
            limit = f"at most max_broken_share ({recipe.max_broken_share:g}) of them"
            raise recipe_error(recipe, f"sources.{name}", problem, limit)


def _processes(recipe: DataRecipe) -> int:
    """As the recipe says, or as many as there are cores, if there is enough to read for them."""
    if recipe.num_proc:
        return recipe.num_proc
    files = [local_files(source.path) for source in recipe.sources.values()]
    size = sum(file.stat().st_size for found in files for file in found)
    return cores() if not all(files) else min(cores(), 1 + size // BYTES_PER_PROCESS)


def _check_filters(recipe: DataRecipe) -> None:
    for number, name in enumerate(recipe.filters):
        if name not in FILTERS:
            close = nearest(name, FILTERS)
            raise recipe_error(recipe, f"filters[{number}]", "unknown filter", ", ".join(FILTERS), close)


def _texts(pool: Pool) -> Callable[[Judged], str]:
    """row → its JSON line"""
    numbers = {row.id: number for number, row in enumerate(pool.rows)}
    return lambda row: pool.text(numbers[row.id])


def _write(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path) as out:
        out.writelines(lines)


def _facts(
    recipe: DataRecipe, pool: Pool, mixture: Mixture, chosen: list[Judged], train: int, held_out: int, watch: Stopwatch
) -> dict[str, Any]:
    """What report.json holds, but for the kept examples."""
    read = sum(tally.read for tally in pool.tallies.values())
    taken = Counter(row.label for row in {row.id: row for row in chosen}.values())
    return {
        "rows": {"read": read, "kept": len(pool.rows), "taken": len(chosen), "train": train, "eval": held_out},
        "seconds": round(watch.seconds, 1),
        "rows_per_second": round(read / max(watch.seconds, 1e-9)),
        "steps": watch.steps,
        "funnel": {name: report.funnel(t.read, t.dropped, taken[name]) for name, t in pool.tallies.items()},
        "reasons": {name: dict(tally.dropped.most_common()) for name, tally in pool.tallies.items()},
        "mixture": {"groups": mixture.table(), "decision": mixture.decision},
        "answer_characters": report.histograms(pool.lengths_before, count(row.lengths for row in chosen)),
        "speech_levels": {
            "before": dict(pool.levels_before.most_common()),
            "after": dict(count(row.levels for row in chosen).most_common()),
        },
        "dropped_examples": dict(sorted(pool.examples.items())),
        "filters": [check.__name__ for check in choose_filters(recipe.filters)] + ["evaluation_overlap", "duplicate"],
    }


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
