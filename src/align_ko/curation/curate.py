"""The curation run: raw files → train.jsonl, eval.jsonl, preferences.jsonl, rejected.jsonl and a report in one folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from align_ko.curation.adapters import Rejection
from align_ko.curation.facts import gather_facts
from align_ko.curation.filters import FILTERS, Rules
from align_ko.curation.judge import Work, judge_batch, start
from align_ko.curation.judged import Judged
from align_ko.curation.mixture import decide, split
from align_ko.curation.near_duplicates import near_duplicates
from align_ko.curation.pool import EXAMPLES_PER_REASON, Pool
from align_ko.curation.profanity import load_list
from align_ko.curation.progress import progress_bars, read_with_progress
from align_ko.curation.repairs import MOST_WRONG_PARTICLES, REPAIRS
from align_ko.curation.selection import Features, goodness, select
from align_ko.curation.sources import local_files
from align_ko.curation.stopwatch import Stopwatch
from align_ko.curation.workers import Workers, cores, few_collections, in_batches
from align_ko.errors import UserError, nearest
from align_ko.overlap import prompts_to_hold_out
from align_ko.recipe import DataRecipe, recipe_error
from align_ko.records import atomic_write, read_prompts
from align_ko.report import curation as report

KEPT_EXAMPLES = 30
BATCH = 400  # rows that go to a worker process at once
BYTES_PER_PROCESS = 8_000_000
"""A file for which another process pays: starting one and loading the morphological analyser takes about two seconds."""


def curate(recipe: DataRecipe, console: Console | None = None) -> dict[str, Any]:
    """Run the whole stage and return what report.json holds."""
    console = console or Console()
    watch = Stopwatch()
    out = Path(recipe.output_dir)
    _check_names(recipe)
    with (
        few_collections(),
        atomic_write(out / "rejected.jsonl") as rejected,
        Pool(out, rejected, recipe.seed) as pool,
        Workers(_processes(recipe), start, (_work(recipe),)) as workers,
    ):
        _gather(recipe, pool, workers, console)
        watch.lap("read and judge", sum(tally.read for tally in pool.tallies.values()))
        with console.status("near-duplicates…"):
            repeated = _drop_near_duplicates(recipe, pool, workers)
        watch.lap("near-duplicates", len(pool.rows) + repeated["question"] + repeated["answer"])
        with console.status("selecting rows…"):
            mixture = decide(Counter(row.group for row in pool.rows), recipe.weights, recipe.max_samples, recipe.on_shortage)
            features = [Features(row.id, row.group, row.score, sum(row.lengths), row.words) for row in pool.rows]
            places = select(features, mixture.taken, recipe.seed, recipe.selection, workers.side_by_side)
            chosen = [pool.rows[place] for place in places]
        train, held_out, preferences = split(chosen, recipe.eval_share, recipe.preference_share)
        if not train:
            raise UserError("no row is left for training; this file says why", file=out / "rejected.jsonl")
        watch.lap("select", len(pool.rows))
        texts = _texts(pool)
        _write(out / "train.jsonl", (texts(row) for row in train))
        _write(out / "eval.jsonl", (texts(row) for row in held_out))
        if preferences:
            _write(out / "preferences.jsonl", (texts(row) for row in preferences))
        else:  # one of an earlier run would hold rows that are trained on now
            (out / "preferences.jsonl").unlink(missing_ok=True)
        examples = Random(recipe.seed).sample(train, min(KEPT_EXAMPLES, len(train)))
        kept_examples = [json.loads(texts(row)) for row in examples]
        watch.lap("write", len(chosen))
    facts = gather_facts(recipe, pool, mixture, chosen, (len(train), len(held_out), len(preferences)), watch)
    facts |= {"near_duplicates": repeated, "kept_examples": kept_examples}
    report.write_reports(out, facts)
    report.show(facts, console)
    files = "train.jsonl, eval.jsonl, " + "preferences.jsonl, " * bool(preferences)
    console.print(f"Written to {out}/: {files}rejected.jsonl, report.html (also .md, .json)", soft_wrap=True)
    return facts


def _drop_near_duplicates(recipe: DataRecipe, pool: Pool, workers: Workers) -> dict[str, Any]:
    """Drop them from the pool; what the report says of them."""
    limits = recipe.near_duplicates
    order = [goodness(row.score, sum(row.lengths), row.id) for row in pool.rows]
    questions, answers = [row.question_sketch for row in pool.rows], [row.answer_sketch for row in pool.rows]
    thresholds = limits.question, limits.long_question, limits.answer
    found = near_duplicates(questions, answers, order, *thresholds, workers.side_by_side)
    sides = Counter(one.side for one in found.values())
    shown = Random(recipe.seed).sample(sorted(found), min(EXAMPLES_PER_REASON, len(found)))
    examples = [
        {
            "kept": json.loads(pool.text(found[number].kept)),
            "dropped": json.loads(pool.text(number)),
            "side": found[number].side,
            "similarity": found[number].similarity,
        }
        for number in shown
    ]
    reasons = {}
    for number, one in found.items():
        better = pool.rows[one.kept]
        detail = f"the {one.side} is {one.similarity:.2f} like that of {better.file}:{better.line}, which scores no worse"
        reasons[number] = Rejection("near_duplicate", detail)
    pool.drop(reasons)
    return {"question": sides["question"], "answer": sides["answer"], "examples": examples}


def _work(recipe: DataRecipe) -> Work:
    """What the judging processes have to know."""
    prompts = tuple(dict.fromkeys(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path)))
    rules = Rules(
        recipe.lengths,
        recipe.require_speech_level,
        recipe.personal_data,
        recipe.profanity_file,
        recipe.refusal_share,
        recipe.off_topic_words,
        MOST_WRONG_PARTICLES if "particles" in recipe.repairs else 0,
    )
    topics = recipe.selection == "quality_diverse"
    return Work(recipe.sources, recipe.groups, rules, recipe.filters, prompts, recipe.repairs, topics)


def _gather(recipe: DataRecipe, pool: Pool, workers: Workers, console: Console) -> None:
    """Read every source, have every row judged, put the outcome into the pool."""
    read: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    first: dict[str, str] = {}  # broken row of each source
    with progress_bars(console) as progress:
        batches = (
            [(name, raw) for raw in rows]
            for name, source in recipe.sources.items()
            for rows in in_batches(read_with_progress(progress, name, source.path, source.split), BATCH)
        )
        for judged in workers.ordered_map(judge_batch, batches):
            for row in judged:
                pool.add(row)
                read[row.name] += 1
                if row.reason == "broken_row":
                    broken[row.name] += 1
                    first.setdefault(row.name, f"{row.file}:{row.line}: {row.detail}")
    for name, source in recipe.sources.items():
        if not read[name]:
            raise recipe_error(recipe, f"sources.{name}.path", f"{source.path} holds no rows")
        if broken[name] / read[name] > recipe.max_broken_share:
            problem = f"{broken[name]:,} of {read[name]:,} rows cannot be read; the first: {first[name]}"
            limit = f"at most max_broken_share ({recipe.max_broken_share:g}) of them"
            raise recipe_error(recipe, f"sources.{name}", problem, limit)


def _processes(recipe: DataRecipe) -> int:
    """As the recipe says, or as many as there are cores, if there is enough to read for them."""
    if recipe.num_proc:
        return recipe.num_proc
    files = [local_files(source.path) for source in recipe.sources.values()]
    size = sum(file.stat().st_size for found in files for file in found)
    return cores() if not all(files) else min(cores(), 1 + size // BYTES_PER_PROCESS)


def _check_names(recipe: DataRecipe) -> None:
    """Names that recipe.py cannot know, and the list of swear words: said before anything is read."""
    for key, known in (("filters", FILTERS), ("repairs", REPAIRS)):
        for number, name in enumerate(getattr(recipe, key)):
            if name not in known:
                close = nearest(name, known)
                raise recipe_error(recipe, f"{key}[{number}]", f"unknown {key[:-1]}", ", ".join(known), close)
    load_list(recipe.profanity_file)


def _texts(pool: Pool) -> Callable[[Judged], str]:
    """row → its JSON line"""
    numbers = {row.id: number for number, row in enumerate(pool.rows)}
    return lambda row: pool.text(numbers[row.id])


def _write(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path) as out:
        out.writelines(lines)


def evaluation_prompts(path: str) -> Iterator[str]:
    """The questions of a prompt file that training must not see."""
    for row in read_prompts(path, "evaluation_files"):
        yield from prompts_to_hold_out(row.prompt)
