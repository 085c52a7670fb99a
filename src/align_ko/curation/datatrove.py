"""Curation beyond one machine: the rules of judge.py and near_duplicates.py as steps of datatrove, which runs them in processes
here, as Slurm jobs or on a Ray cluster, and remembers which tasks are done. The same rows are kept as on one machine.

    stage     tasks   what each does
    judge     many    reads its part of the sources, judges it, writes shard and rejected rows
    rank      one     drops what says the same as an earlier row, ranks the rest from the best on
    keys      many    the keys of its shard's texts
    pairs     many    compares the texts that share a key of its range

engine.py runs them and finishes: which near-duplicates fall, the mixture, the files and the report.
docs/engines.md has the lines for Slurm. The folder of a run is shared by all machines; what is done there is not done again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep

from align_ko.curation.curate import BATCH, work_of
from align_ko.curation.facts import Tally
from align_ko.curation.judge import Judge, Judged, Work
from align_ko.curation.shard_pairs import find_pairs, rank_rows, write_keys
from align_ko.curation.shards import Shards, ShardWriter
from align_ko.recipe import DataRecipe, NearDuplicateArgs, SourceArgs, hash_inputs
from align_ko.sources import local_files, read_file, read_source
from align_ko.workers import cores, in_batches

BYTES_PER_TASK = 50_000_000
"""Of input, about 50,000 rows: what is lost where a task is killed."""

# -------------------- the steps


class ReadSources(PipelineStep):
    """Rows of the recipe's sources: whole files where there are as many as tasks, else every so-many-th batch of each."""

    type, name = "📖 - READER", "align_ko sources"

    def __init__(self, sources: dict[str, SourceArgs]) -> None:
        super().__init__()
        self.sources = sources

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        units: list[tuple[str, Path | None]] = []
        for name, source in self.sources.items():
            files = local_files(source.path, source.split)
            units += [(name, file) for file in files] or [(name, None)]  # None: on the hub
        whole = len(units) >= world_size
        for unit, (name, file) in enumerate(units):
            if whole and unit % world_size != rank:
                continue
            source = self.sources[name]
            rows = read_file(file) if file else read_source(source.path, source.split)
            for number, raw in enumerate(rows):
                if whole or number // BATCH % world_size == rank:
                    place = unit << 40 | number
                    yield Document("", str(place), metadata={"place": place, "source": name, "raw": raw})


class JudgeRows(PipelineStep):
    """Repairs, filters and judge. Adds `judged` to each document; `text` becomes JSON of the curated or rejected row."""

    type, name = "🔻 - FILTER", "align_ko judge"

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        judge = Judge(self.work)
        for batch in in_batches(data, BATCH):
            with self.track_time(unit="batch"):
                judged = judge.each([(one.metadata["source"], one.metadata["raw"]) for one in batch])
            for document, row in zip(batch, judged, strict=True):
                self.stat_update("total", f"dropped_{row.reason}" if row.reason else "forwarded")
                document.text = row.text
                document.metadata["judged"] = row
                yield document


class WriteShard(PipelineStep):
    """A shard of kept rows, rejected rows beside it, and the counts of both."""

    type, name = "💽 - WRITER", "align_ko shard"

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__()
        self.folder, self.seed = folder, seed

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> None:
        tally, first = Tally(self.seed), dict[str, str]()
        read, broken = Counter[str](), Counter[str]()
        self.folder.mkdir(parents=True, exist_ok=True)
        rejected = self.folder / f"{rank:05d}.rejected.jsonl"
        with ShardWriter(self.folder, rank) as kept, rejected.open("w", encoding="utf-8") as out:
            for document in data:
                row: Judged = document.metadata["judged"]
                tally.count_read(row)
                read[row.name] += 1
                if not row.reason:
                    kept.add(document.metadata["place"], row)
                    continue
                if row.reason == "broken_row":
                    broken[row.name] += 1
                    first.setdefault(row.name, f"{row.file}:{row.line}: {row.detail}")
                tally.count_dropped(row)
                out.write(row.text + "\n")
        counts = {"tally": tally.counts(), "read": read, "broken": broken, "first": first}
        (self.folder / f"{rank:05d}.counts.json").write_text(json.dumps(counts, ensure_ascii=False), encoding="utf-8")


class ShardStep(PipelineStep):
    """Work on all shards; `work`: (shards, folder, rank, world_size, limits)."""

    type = "🫂 - DEDUP"

    def __init__(self, name: str, folder: Path, limits: NearDuplicateArgs, work: Callable[..., None]) -> None:
        self.name = f"align_ko {name}"
        super().__init__()
        self.folder, self.limits, self.work = folder, limits, work

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:
        with self.track_time():
            self.work(Shards(self.folder / "shards"), self.folder / "pairs", rank, world_size, self.limits)


def _rank(shards: Shards, folder: Path, rank: int, world_size: int, limits: NearDuplicateArgs) -> None:
    rank_rows(shards, folder, limits)


def _keys(shards: Shards, folder: Path, rank: int, world_size: int, limits: NearDuplicateArgs) -> None:
    write_keys(shards, folder, rank, limits)


# -------------------- the stages


def tasks_of(recipe: DataRecipe) -> int:
    """As the recipe says, or by the size of the input."""
    size = sum(file.stat().st_size for source in recipe.sources.values() for file in local_files(source.path, source.split))
    return recipe.tasks or max(size // BYTES_PER_TASK, cores())


def stages(recipe: DataRecipe) -> list[tuple[str, int, list[PipelineStep]]]:
    """(name, tasks, pipeline) of each stage, one after the other."""
    folder, tasks, limits = work_folder(recipe), tasks_of(recipe), recipe.near_duplicates
    judge = [ReadSources(recipe.sources), JudgeRows(work_of(recipe)), WriteShard(folder / "shards", recipe.seed)]
    works = (("rank", 1, _rank), ("keys", tasks, _keys), ("pairs", tasks, find_pairs))
    return [("judge", tasks, judge), *((name, count, [ShardStep(name, folder, limits, work)]) for name, count, work in works)]


def executors(recipe: DataRecipe, make: Callable[..., PipelineExecutor], **options: Any) -> PipelineExecutor:
    """The last stage of a chain of datatrove's executors, each depending on the one before: `run()` starts them all.

    `executors(recipe, SlurmPipelineExecutor, time="4:00:00", partition="cpu").run()`
    """
    last: PipelineExecutor | None = None
    for name, tasks, pipeline in stages(recipe):
        logs = str(work_folder(recipe) / "logs" / name)
        last = make(pipeline=pipeline, tasks=tasks, depends=last, logging_dir=logs, **options)
    assert last
    return last


def work_folder(recipe: DataRecipe) -> Path:
    """Where the tasks meet; another one where recipe, inputs or code differ, so that nothing old is taken for done."""
    code = [file.read_bytes() for file in sorted(Path(__file__).parents[1].rglob("*.py"))]
    fields = asdict(recipe) | {"num_proc": 0, "engine": "", "tasks": tasks_of(recipe)}
    parts = [json.dumps(fields, sort_keys=True, default=str), *(one.digest for one in hash_inputs(recipe))]
    key = hashlib.blake2b("\n".join(parts).encode() + b"".join(code), digest_size=6).hexdigest()
    return Path(recipe.output_dir).resolve() / ".engine" / key
