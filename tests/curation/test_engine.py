"""Curation on datatrove's executors: the rows of the one-machine path, and nothing lost when a process is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("datatrove", reason="datatrove is not installed (pip install 'align-ko[datatrove]')")

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from align_ko.curation import datatrove as steps
from align_ko.curation import engine
from align_ko.curation.curate import curate
from align_ko.curation.datatrove import executors, stages, work_folder
from align_ko.curation.engine import LocalExecutor, curate_on_engine
from align_ko.errors import UserError
from align_ko.recipe import DataRecipe, LengthBounds, SourceArgs
from align_ko.records import read_jsonl

FILES = ("train.jsonl", "eval.jsonl", "preferences.jsonl")
FOODS = ("김치찌개", "된장찌개", "미역국", "갈비탕", "칼국수", "비빔밥", "떡국", "잡채", "불고기", "파전", "콩나물국", "육개장")
POINTS = ("육수", "간", "불 조절", "재료 손질", "고명", "곁들임", "보관법", "데우는 법")
QUIET = Console(quiet=True)


def recipe(folder: Path, **options: Any) -> DataRecipe:
    """99 rows in two files: every tenth plain, some nearly the same, two repeated word for word, one without an answer."""
    rows = []
    for number, (food, point) in enumerate((food, point) for food in FOODS for point in POINTS):
        level = "한다." if number % 10 == 3 else "합니다."
        secret = f"{number}번째 비결은 {FOODS[number % 7]}보다 오래 준비{level}"
        question = f"{food}의 {point} 비결을 알려 주세요" + ("." if number % 5 else ", 부탁드려요.")
        rows.append({"question": question, "answer": f"{food}에서 {point}에 마음을 쓰시면 맛이 달라집니다. {secret}"})
    halves = {"one": [*rows[:50], {"question": "답이 없는 질문"}], "two": [*rows[50:], rows[7], rows[60]]}
    for name, half in halves.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in half)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    sources = {name: SourceArgs(str(folder / f"{name}.jsonl"), "dialogue") for name in halves}
    keys: dict[str, Any] = {"eval_share": 0.2, "preference_share": 0.2, "max_samples": 60, "selection": "quality_diverse"}
    keys["lengths"] = {"dialogue": LengthBounds(2, 500, 10, 1500)}
    return DataRecipe(sources, str(folder / "out"), num_proc=1, **keys | options)


def written(recipe: DataRecipe) -> list[Any]:
    out = Path(recipe.output_dir)
    rejected = sorted((row["file"], row["line"], row["reason"], row["detail"]) for row in read_jsonl(out / "rejected.jsonl"))
    return [*((out / name).read_bytes() for name in FILES), rejected]


@pytest.mark.parametrize("tasks", [1, 2, 5])  # fewer than files; as many; more, so that files are shared by batches
def test_an_engine_writes_what_one_machine_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: int) -> None:
    monkeypatch.setattr(steps, "BATCH", 7)
    local = recipe(tmp_path)
    facts = curate(local, QUIET)
    expected = written(local)
    on_engine = replace(local, engine="datatrove", tasks=tasks)
    same = curate_on_engine(on_engine, QUIET)
    assert written(on_engine) == expected
    assert {reason for _, _, reason, _ in expected[-1]} >= {"duplicate", "near_duplicate", "speech_level", "broken_row"}
    counted = ("rows", "funnel", "reasons", "mixture", "scores", "speech_levels", "answer_characters", "near_duplicates")
    assert {key: same[key] for key in counted} == {key: facts[key] for key in counted}
    assert not (tmp_path / "out/.engine").exists()


class KilledOnce(PipelineStep):
    """Ends the process of task 1 without a word, once."""

    type, name = "test", "killed once"

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def run(self, data: Iterable[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for number, document in enumerate(data):
            if rank == 1 and number == 3 and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield document


def with_a_kill(monkeypatch: pytest.MonkeyPatch, mark: Path) -> None:
    def with_one_more_step(recipe: DataRecipe) -> Any:
        (name, tasks, (reader, *others)), *rest = stages(recipe)
        return [(name, tasks, [reader, KilledOnce(mark), *others]), *rest]

    monkeypatch.setattr(engine, "stages", with_one_more_step)


def test_a_killed_process_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with a message; the next one does what is left and no more."""
    local = recipe(tmp_path)
    curate(local, QUIET)
    expected = written(local)
    with_a_kill(monkeypatch, tmp_path / "killed")
    on_engine = replace(local, engine="datatrove", tasks=2, num_proc=2)
    with pytest.raises(UserError, match="one of 2 worker processes was killed"):
        curate_on_engine(on_engine, QUIET)
    assert written(local) == expected  # an earlier run's result is whole
    done = work_folder(on_engine) / "logs/judge/completions"
    assert not (done / "00001").exists()
    executors(on_engine, LocalPipelineExecutor, workers=1).depends.depends.depends.run()  # the first stage alone
    shard = work_folder(on_engine) / "shards/00000.npy"
    before = shard.stat().st_mtime_ns
    assert (done / "00001").exists()
    monkeypatch.setattr(engine.shutil, "rmtree", lambda folder: None)
    curate_on_engine(on_engine, QUIET)
    assert written(on_engine) == expected and shard.stat().st_mtime_ns == before


def test_the_chain_of_another_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """datatrove's own executor, as Slurm's is given: all stages by one `run`, then the engine only finishes."""
    local = recipe(tmp_path)
    curate(local, QUIET)
    expected = written(local)
    on_engine = replace(local, engine="datatrove", tasks=2)
    executors(on_engine, LocalPipelineExecutor, workers=1).run()
    assert len(list((work_folder(on_engine) / "logs").glob("*/completions/*"))) == 2 + 1 + 2 + 2

    class Nothing(LocalExecutor):
        def run(self) -> None:
            assert not self.get_incomplete_ranks()

    monkeypatch.setattr(engine, "LocalExecutor", Nothing)
    curate_on_engine(on_engine, QUIET)
    assert written(on_engine) == expected


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs engine: local"):
        curate_on_engine(recipe(tmp_path, engine="datatrove", off_topic_model="quickstart"), QUIET)
    wrong = {"one": SourceArgs(str(tmp_path / "one.jsonl"), "dialogue", columns={"question": "qestion"})}
    with pytest.raises(UserError, match="has no column 'qestion'"):
        curate_on_engine(replace(recipe(tmp_path, engine="datatrove"), sources=wrong), QUIET)
    (tmp_path / "broken.jsonl").write_text("{\n" * 9, encoding="utf-8")
    broken = {"one": SourceArgs(str(tmp_path / "broken.jsonl"), "dialogue")}
    with pytest.raises(UserError, match=r"rows cannot be read; the first: .*broken\.jsonl:1: "):
        curate_on_engine(replace(recipe(tmp_path, engine="datatrove", tasks=2), sources=broken), QUIET)


def test_no_row_is_left(tmp_path: Path) -> None:
    bounds = {"dialogue": LengthBounds(2, 3, 1, 2)}
    on_engine = recipe(tmp_path, engine="datatrove", tasks=2, filters=("length",), lengths=bounds)
    with pytest.raises(UserError, match="no row of 99 is left for training: 98 too_long, 1 broken_row"):
        curate_on_engine(on_engine, QUIET)
    assert len(list(read_jsonl(tmp_path / "out/rejected.jsonl"))) == 99


@pytest.mark.slow
def test_ray_writes_the_same_files(tmp_path: Path) -> None:
    """Without a kill: datatrove waits for ever for a task whose worker Ray has not seen die (docs/engines.md)."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'align-ko[ray]')")
    local = recipe(tmp_path)
    curate(local, QUIET)
    expected = written(local)
    ray.init(num_cpus=2, object_store_memory=10**8, log_to_driver=False, include_dashboard=False)
    try:
        on_engine = replace(local, engine="ray", tasks=2, num_proc=2)
        curate_on_engine(on_engine, QUIET)
    finally:
        ray.shutdown()
    assert written(on_engine) == expected
