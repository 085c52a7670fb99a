"""A curation run whose rows are judged and compared by datatrove's executors: in processes here, or on Ray."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from loguru import logger
from rich.console import Console

from align_ko import reasons
from align_ko.adapters import Rejection
from align_ko.curation.curate import again, check_columns, check_names, check_read
from align_ko.curation.datatrove import stages, work_folder
from align_ko.curation.facts import CurationFacts, Tally
from align_ko.curation.finish import finish
from align_ko.curation.near_duplicates import Duplicate
from align_ko.curation.shard_pairs import repeats_among
from align_ko.curation.shards import Rows, Shards
from align_ko.errors import UserError
from align_ko.recipe import DataRecipe, recipe_error
from align_ko.records import atomic_write
from align_ko.sources import read_source
from align_ko.workers import Workers, cores, few_collections


class LocalExecutor(LocalPipelineExecutor):
    """datatrove's own waits for ever for a task whose process was killed; this one ends with a UserError."""

    def run(self) -> None:
        ranks = self.get_incomplete_ranks()
        with Workers(min(self.workers, len(ranks)), _nothing) as workers:
            for _ in workers.ordered_map(partial(self._run_for_rank, local_rank=1), ranks):  # 1: only errors are shown
                pass


def curate_on_engine(recipe: DataRecipe, console: Console | None = None) -> CurationFacts:
    """As curate.curate. What is done is not done again after a run that was ended; UserError for a task that failed."""
    console = console or Console()
    logger.remove()  # datatrove's, which is verbose; each task's own is a file
    logger.add(sys.stderr, level="ERROR")
    if recipe.off_topic_model:
        raise recipe_error(recipe, "off_topic_model", "needs engine: local", "no model, or another engine")
    check_names(recipe)
    for name, source in recipe.sources.items():
        list(islice(check_columns(recipe, name, read_source(source.path, source.split)), 1))
    folder, tally = work_folder(recipe), Tally(recipe.seed)
    for name, tasks, pipeline in stages(recipe):
        executor = _executor(recipe, pipeline, tasks, folder / "logs" / name)
        with console.status(f"{name}: {tasks} tasks…"):
            executor.run()
        if left := executor.get_incomplete_ranks(skip_completed=True):
            logs = folder / f"logs/{name}/logs/task_{left[0]:05d}.log"
            raise UserError(f"{len(left)} of {tasks} tasks of stage {name} failed; the first one's log has why", file=logs)
        if name == "judge":
            _add_counts(recipe, folder / "shards", tally)
        tally.lap(name, tally.read.total())
    out, failed = Path(recipe.output_dir), None
    with atomic_write(out / "rejected.jsonl") as rejected, few_collections(), Workers(1, _nothing) as workers:
        pool = ShardPool(folder, rejected, tally)
        repeats = pool.numbered(repeats_among(folder / "pairs", recipe.near_duplicates))
        try:
            facts = finish(recipe, pool, tally, repeats, workers)
        except UserError as error:  # rejected.jsonl is written even where no row is left
            failed = error
    if failed:
        raise failed
    shutil.rmtree(folder.parent)
    return facts


def _nothing() -> None:
    """There is nothing to prepare in a process."""


def _executor(recipe: DataRecipe, pipeline: Sequence[Any], tasks: int, logs: Path) -> PipelineExecutor:
    options = {"pipeline": pipeline, "tasks": tasks, "workers": recipe.num_proc or cores(), "logging_dir": str(logs)}
    if recipe.engine != "ray":
        return LocalExecutor(**options)
    import ray

    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(**quiet if os.environ.get("RAY_ADDRESS") else quiet | {"include_dashboard": False})
    return RayPipelineExecutor(**options, mem_per_cpu_gb=1)


def _add_counts(recipe: DataRecipe, folder: Path, tally: Tally) -> None:
    read, broken, first = Counter[str](), Counter[str](), dict[str, str]()
    for file in sorted(folder.glob("*.counts.json")):
        counts = json.loads(file.read_text(encoding="utf-8"))
        tally.add(counts["tally"])
        read.update(counts["read"])
        broken.update(counts["broken"])
        first = counts["first"] | first
    check_read(recipe, read, broken, first)


class ShardPool:
    """The rows that are no duplicates, numbered as they were read (finish.Kept); the other ones are written to `rejected`."""

    def __init__(self, folder: Path, rejected: IO[str], tally: Tally) -> None:
        self._rejected, self._tally, self._shards = rejected, tally, Shards(folder / "shards")
        for file in sorted((folder / "shards").glob("*.rejected.jsonl")):
            with file.open(encoding="utf-8") as lines:
                rejected.writelines(lines)
        for number, first in np.load(folder / "pairs/duplicates.npy", mmap_mode="r").tolist():
            earlier = self._shards.judged(first)
            self._reject(number, Rejection("duplicate", reasons.SAYS_THE_SAME.format(earlier.file, earlier.line)))
        ranked, place = np.load(folder / "pairs/ranked.npy"), self._shards.column("place")
        self.rows = Rows(self._shards, ranked[np.argsort(place[ranked])])

    def numbered(self, repeats: dict[int, Duplicate]) -> dict[int, Duplicate]:
        """The same with the numbers of this pool."""
        numbers = np.full(self._shards.starts[-1], -1)
        numbers[self.rows.numbers] = np.arange(len(self.rows))
        return {int(numbers[row]): Duplicate(int(numbers[one.kept]), one.side, one.similarity) for row, one in repeats.items()}

    def text(self, number: int) -> str:
        return self._shards.judged(int(self.rows.numbers[number])).text + "\n"

    def drop(self, reasons: dict[int, Rejection]) -> None:
        for number, why in sorted(reasons.items()):
            self._reject(int(self.rows.numbers[number]), why)
        self.rows = Rows(self._shards, np.delete(self.rows.numbers, list(reasons)))

    def _reject(self, number: int, why: Rejection) -> None:
        row = again(self._shards.judged(number), why)
        self._tally.count_dropped(row)
        self._rejected.write(row.text + "\n")
