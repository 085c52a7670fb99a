"""The curation run: raw files → train.jsonl, eval.jsonl, preferences.jsonl and rejected.jsonl, and the facts of a report."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from align_ko import reasons
from align_ko.adapters import OURS, Rejection
from align_ko.curation.facts import CurationFacts, Tally
from align_ko.curation.filters import FILTERS, Rules, filter_names
from align_ko.curation.finish import finish
from align_ko.curation.judge import Judged, Work, entry, judge_batch, start
from align_ko.curation.near_duplicates import Duplicate, near_duplicates
from align_ko.curation.profanity import load_list
from align_ko.curation.repairs import MOST_WRONG_PARTICLES, REPAIRS
from align_ko.curation.select import goodness
from align_ko.errors import UserError, nearest
from align_ko.overlap import prompts_to_hold_out
from align_ko.recipe import DataRecipe, recipe_error
from align_ko.records import Message, atomic_write, read_prompts
from align_ko.sources import RawRow, local_files, read_source
from align_ko.workers import Workers, cores, few_collections, in_batches

BATCH = 400  # rows sent to a worker process at once
BYTES_PER_PROCESS = 8_000_000
"""Bytes of input that pay for one more process: starting it and loading the morphological analyser takes about two seconds."""
_RATE = "{task.fields[rows]:>9,} rows {task.fields[rate]:>8,.0f}/s"


Unrelated = Callable[[Sequence[tuple[list[Message], str]]], list[str]]
"""(prompt, answer) → why the answer does not belong to the prompt; empty where it does."""


def curate(recipe: DataRecipe, console: Console | None = None, unrelated: Unrelated | None = None) -> CurationFacts:
    """Run the whole stage. Its rows replace those of an earlier run all together at the end, or not at all (from the first on
    there is no manifest.json, which the caller writes last); rejected.jsonl is written even where no row is left."""
    console = console or Console()
    check_names(recipe)
    out, tally = Path(recipe.output_dir), Tally(recipe.seed)
    with (
        few_collections(),
        Workers(_processes(recipe), start, (work_of(recipe),)) as workers,
        atomic_write(out / "rejected.jsonl") as rejected,
        Pool(out, rejected, tally) as pool,
    ):
        try:
            return _curated(recipe, console, workers, pool, tally, unrelated)
        except UserError as error:
            if not tally.dropped:
                raise
            failed = error
    raise failed


def _curated(
    recipe: DataRecipe, console: Console, workers: Workers, pool: Pool, tally: Tally, unrelated: Unrelated | None
) -> CurationFacts:
    for row in _judged_rows(recipe, workers, console):
        pool.add(row)
    tally.lap("read and judge", tally.read.total())
    if unrelated:
        count = len(pool.rows)
        _drop_unrelated(pool, unrelated)
        tally.lap("off topic", count)
    with console.status("near-duplicates and selection…"):
        return finish(recipe, pool, tally, _near_duplicates(recipe, pool.rows), workers)


def _judged_rows(recipe: DataRecipe, workers: Workers, console: Console) -> Iterator[Judged]:
    """Every row of every source after the filters. UserError for a source that is empty or mostly broken."""
    read: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    first: dict[str, Judged] = {}  # broken row of each source
    columns = TextColumn("{task.description:<20}"), BarColumn(), TextColumn(_RATE), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        batches = (
            [(name, raw) for raw in rows]
            for name, source in recipe.sources.items()
            for rows in in_batches(
                check_columns(recipe, name, _read_with_progress(progress, name, source.path, source.split)), BATCH
            )
        )
        for judged in workers.ordered_map(judge_batch, batches):
            for row in judged:
                read[row.name] += 1
                if row.reason == "broken_row":
                    broken[row.name] += 1
                    first.setdefault(row.name, row)
                yield row
    check_read(recipe, read, broken, {name: f"{row.file}:{row.line}: {row.detail}" for name, row in first.items()})


def check_read(recipe: DataRecipe, read: Mapping[str, int], broken: Mapping[str, int], first: Mapping[str, str]) -> None:
    """UserError for a source that is empty or mostly broken; `first`: a broken row of each."""
    for name, source in recipe.sources.items():
        if not read.get(name):
            raise recipe_error(recipe, f"sources.{name}.path", f"{source.path} contains no rows")
        if broken.get(name, 0) / read[name] > recipe.max_broken_share:
            problem = f"{broken[name]:,} of {read[name]:,} rows cannot be read; the first: {first[name]}"
            limit = f"at most max_broken_share ({recipe.max_broken_share:g}) of them"
            raise recipe_error(recipe, f"sources.{name}", problem, limit)


def check_columns(recipe: DataRecipe, name: str, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """The rows. UserError for a name in `columns` that is none of ours, or that none of the first hundred rows has."""
    columns, head = recipe.sources[name].columns, list(islice(rows, 100 if recipe.sources[name].columns else 0))
    theirs = list(dict.fromkeys(str(key) for row in head if isinstance(row.value, dict) for key in row.value))
    for ours, column in columns.items():
        key = f"sources.{name}.columns.{ours}"
        if ours not in OURS:
            raise recipe_error(recipe, key, "is no name of ours", ", ".join(OURS), nearest(ours, OURS))
        if theirs and column not in theirs:
            problem = f"{recipe.sources[name].path} has no column '{column}'"
            raise recipe_error(recipe, key, problem, f"one of its columns: {', '.join(theirs)}", nearest(column, theirs))
    yield from head
    yield from rows


def _drop_unrelated(pool: Pool, unrelated: Unrelated) -> None:
    """Each answer beside all that was said before it."""
    numbers: list[int] = []
    questions: list[tuple[list[Message], str]] = []
    for number in range(len(pool.rows)):
        messages: list[Message] = json.loads(pool.text(number))["messages"]
        turns = [turn for turn, message in enumerate(messages) if message["role"] == "assistant"]
        questions += [(messages[:turn], messages[turn]["content"]) for turn in turns]
        numbers += [number] * len(turns)
    found = zip(numbers, unrelated(questions), strict=True)
    pool.drop({number: Rejection("unrelated", why) for number, why in found if why})


def _near_duplicates(recipe: DataRecipe, rows: Sequence[Judged]) -> dict[int, Duplicate]:
    limits = recipe.near_duplicates
    order = [goodness(row.score, sum(row.lengths), row.id) for row in rows]
    questions, answers = [row.question_sketch for row in rows], [row.answer_sketch for row in rows]
    return near_duplicates(questions, answers, order, limits.question, limits.long_question, limits.answer)


def work_of(recipe: DataRecipe) -> Work:
    prompts = tuple(dict.fromkeys(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path)))
    wrong_particles = MOST_WRONG_PARTICLES if "particles" in recipe.repairs else 0
    bounds, level, data = recipe.lengths, recipe.require_speech_level, recipe.personal_data
    rules = Rules(bounds, level, data, recipe.profanity_file, wrong_particles=wrong_particles)
    topics = recipe.selection == "quality_diverse"
    return Work(recipe.sources, recipe.groups, rules, filter_names(recipe), prompts, recipe.repairs, topics)


def _processes(recipe: DataRecipe) -> int:
    """As the recipe says, or as many as there are cores, if there is enough to read for them."""
    if recipe.num_proc:
        return recipe.num_proc
    files = [local_files(source.path) for source in recipe.sources.values()]
    size = sum(file.stat().st_size for several in files for file in several)
    return cores() if not all(files) else min(cores(), 1 + size // BYTES_PER_PROCESS)


def check_names(recipe: DataRecipe) -> None:
    """Check the names of filters and repairs, and the list of swear words, before anything is read."""
    for key, known in (("filters", FILTERS), ("repairs", REPAIRS)):
        for number, name in enumerate(getattr(recipe, key)):
            if name not in known:
                close = nearest(name, known)
                raise recipe_error(recipe, f"{key}[{number}]", f"unknown {key[:-1]}", ", ".join(known), close)
    load_list(recipe.profanity_file)


def evaluation_prompts(path: str) -> Iterator[str]:
    """The questions of a prompt file that training must not see."""
    for row in read_prompts(path, "evaluation_files"):
        yield from prompts_to_hold_out(row.prompt)


def _read_with_progress(progress: Progress, name: str, path: str, split: str) -> Iterator[RawRow]:
    """The source's rows. The bar moves by bytes: the number of rows is not known before they are read."""
    total = sum(file.stat().st_size for file in local_files(path)) or None  # None: a hub data set
    task, start = progress.add_task(name, total=total, rows=0, rate=0.0), time.perf_counter()
    number = 0
    for number, raw in enumerate(read_source(path, split, lambda count: progress.advance(task, count)), 1):
        if number % 100 == 0:
            progress.update(task, rows=number, rate=number / (time.perf_counter() - start))
        yield raw
    progress.update(task, rows=number)


# -------------------- the rows that passed the filters so far


class Pool(AbstractContextManager["Pool"]):
    """Rows as they come from the judge; a context manager, because the text of the kept ones is in a temporary file."""

    def __init__(self, folder: Path, rejected: IO[str], tally: Tally) -> None:
        self.rows: list[Judged] = []  # kept, `text` empty
        self._rejected, self._tally = rejected, tally
        self._seen: dict[bytes, int] = {}  # duplicate key → number of the row that has it
        folder.mkdir(parents=True, exist_ok=True)
        self._texts = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self._places: list[tuple[int, int]] = []  # (offset, length) of each kept row's text
        self._end = 0
        self._moved = False  # the file's position is not its end

    def __exit__(self, *error: object) -> None:
        self._texts.close()

    def add(self, row: Judged) -> None:
        self._tally.count_read(row)
        if row.reason:
            return self._reject(row)
        first = self._seen.setdefault(row.key, len(self.rows))
        if first < len(self.rows):
            why = reasons.SAYS_THE_SAME.format(self.rows[first].file, self.rows[first].line)
            return self._reject(again(row, Rejection("duplicate", why)))
        text = row.text.encode("utf-8") + b"\n"
        if self._moved:  # seeking writes out what waits to be written: not before every row
            self._texts.seek(self._end)
            self._moved = False
        self._texts.write(text)
        self._places.append((self._end, len(text)))
        self._end += len(text)
        self.rows.append(row._replace(text=""))
        return None

    def text(self, number: int) -> str:
        """JSON of kept row `number`, with its line end."""
        self._moved = True
        start, length = self._places[number]
        self._texts.seek(start)
        return self._texts.read(length).decode("utf-8")

    def drop(self, reasons: dict[int, Rejection]) -> None:
        """Drop kept rows by number. The others keep their order and get new numbers."""
        for number, why in sorted(reasons.items()):
            self._reject(again(self.rows[number]._replace(text=self.text(number)), why))
        left = [number for number in range(len(self.rows)) if number not in reasons]
        self.rows = [self.rows[number] for number in left]
        self._places = [self._places[number] for number in left]
        self._seen.clear()

    def _reject(self, row: Judged) -> None:
        self._tally.count_dropped(row)
        self._rejected.write(row.text + "\n")


def again(row: Judged, why: Rejection) -> Judged:
    """A kept row as a dropped one, with its entry for rejected.jsonl, which contains the curated row."""
    text = entry(why, row.label, RawRow(row.file, row.line, json.loads(row.text)))
    return row._replace(reason=why.reason, detail=why.detail, text=text)
