"""Every stage killed at random moments over an earlier result, and run again: the same files, never a mixture, nothing left.

`ALIGN_KO_KILLS=20 pytest -m slow tests/pipeline/test_kills_slow.py -s` prints the table of docs/experiments.md.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import SHORT_ROWS, make_llama, turns
from forked_runs import ForkedRuns
from test_align_slow import GATE, RECIPES
from test_training import train_sft

from align_ko.errors import UserError
from align_ko.manifest import MANIFEST_FILE, is_finished, result_problem
from align_ko.process import HOLDER_FILE, LOCK_FILE
from align_ko.recipe import DpoRecipe, EvaluateRecipe, SftRecipe, check_inputs, recipe_from
from align_ko.records import write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]
KILLS = int(os.environ.get("ALIGN_KO_KILLS", "3"))
# keys, and files, in which two equal runs differ
TIMES = ("made_at", "peak_memory_gib", "command", "manifest_sha256", "metrics", "seconds", "rows_per_second")
UNEQUAL = (
    LOCK_FILE, HOLDER_FILE, "times.json", "training_run.json", "training_args.bin", "trainer_state.json", "README.md",
    "curves.png",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """`later`: a stage that reads what this one writes."""

    script: str
    recipe: str
    changed: tuple[str, ...]  # flags of the earlier run
    later: SftRecipe | DpoRecipe | EvaluateRecipe


SFT_MORE = "training: {output_dir: later}\n"
STAGES = {
    "curate": Stage(
        "build_sft_data",
        "sources: {raw: {path: raw.jsonl, group: dialogue}}\noutput_dir: out\nnum_proc: 2\npreference_share: 0.2\n"
        "near_duplicates: {question: 1.1, long_question: 1.1, answer: 1.1}\n",
        ("--seed", "7", "--max_samples", "20", "--on_shortage", "shrink"),
        recipe_from(SftRecipe, model={"model_name_or_path": "llama"}, training={"output_dir": "later"},
                    data={"train_file": "out/train.jsonl", "eval_file": "out/eval.jsonl"}),
    ),
    "pairs": Stage(
        "build_preferences", RECIPES["pref"].replace("output_dir: x", "output_dir: out"), ("--max_prompts", "4"),
        recipe_from(DpoRecipe, model_name_or_path="sft", training={"output_dir": "later"},
                    data={"train_file": "out/train.jsonl", "eval_file": "out/eval.jsonl"}),
    ),
    "evaluate": Stage(
        "evaluate",
        RECIPES["evaluate"].replace("output_dir: x", "output_dir: out").replace("base: llama", "base: llama, sft: sft"),
        ("--max_prompts", "1"),
        recipe_from(SftRecipe, model={"model_name_or_path": "llama"}, training={"output_dir": "later"},
                    data={"train_file": "out/responses.jsonl", "eval_file": "gate.jsonl"}),
    ),
    "export": Stage(
        "export", "model_name_or_path: sft\noutput_dir: out\ndtype: float32\n", ("--dtype", "bfloat16"),
        recipe_from(EvaluateRecipe, models={"exported": "out"}, prompts_file="gate.jsonl", output_dir="later"),
    ),
    "align": Stage(
        "align", RECIPES["align"].replace("rounds: 2", "rounds: 1"), ("--seed", "7"),
        recipe_from(EvaluateRecipe, models={"exported": "out/best"}, prompts_file="gate.jsonl", output_dir="later"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    train_sft(make_llama(folder / "llama"), folder / "sft", steps=3)
    for name in ("pref", "dpo"):
        (folder / f"{name}.yaml").write_text(RECIPES[name])
    for name, stage in STAGES.items():
        (folder / f"{name}.yaml").write_text(stage.recipe)
    write_jsonl(folder / "train.jsonl", [{"id": f"r{n}", "messages": turns(*pair)} for n, pair in enumerate(SHORT_ROWS)])
    write_jsonl(folder / "gate.jsonl", [{"id": f"g{n}", "messages": turns(*pair)} for n, pair in enumerate(GATE)])
    subjects = "바다 산 강 하늘 나무 구름 별 꽃 책 길 집 배 눈 비 바람 돌 소금 빵 우유 사과 감자 고래 나비 거북 사슴".split()
    said = "{one}의 모습은 {many} 가지로 볼 수 있습니다. 먼저 {one}의 크기를 살펴보겠습니다."
    rows = [turns(f"{one}에 대해 {many} 문장으로 알려 주세요.", said.format(one=one, many=many))
            for one in subjects for many in ("한", "두")]  # fmt: skip
    write_jsonl(folder / "raw.jsonl", [{"id": f"d{n}", "messages": row} for n, row in enumerate(rows)])
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def forked(place) -> Iterator[ForkedRuns]:
    with ForkedRuns(TMPDIR=str(place / "tmp"), TRANSFORMERS_VERBOSITY="error") as runs:
        yield runs


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, object]:
    """Every file: bytes; JSON without times; rows that a store appends as they are made, in any order."""
    found: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in UNEQUAL):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        if path.name in ("candidates.jsonl", "answers.jsonl", "reference_losses.jsonl"):
            found[name] = sorted(data.splitlines())
        else:
            found[name] = without_times(json.loads(data)) if path.suffix == ".json" else data
        if path.name == "report.html":  # curation's shows its speed
            found[name] = re.sub(rb"[\d.,]+", b"", data)
    return found


def results(found: dict[str, object]) -> dict[str, object]:
    """Without stores and what a killed run may leave until the next one."""
    stores = ("candidates.jsonl", "answers/", "judge")
    return {
        name: data
        for name, data in found.items()
        if not name.startswith(stores) and not name.rpartition("/")[2].startswith(".")
    }


def state(stage: Stage, folder: Path, earlier: dict[str, object], whole: dict[str, object]) -> str:
    """What a killed run left of `folder`: the earlier result, the new one whole, or what later stages refuse."""
    try:
        check_inputs(stage.later)
        refused = ""
    except UserError as error:
        refused = str(error)
    if stage.script == "align":
        wrong = {path.parent: result_problem(path.parent) for path in folder.rglob(MANIFEST_FILE) if is_finished(path.parent)}
        assert not any(wrong.values()), wrong
        return "refused" if refused else "whole"
    found = results(contents(folder))
    known = "earlier" if found == results(earlier) else "whole" if found == results(whole) else ""
    if refused:
        assert not (folder / MANIFEST_FILE).exists() and "did not come to its end" in refused, refused
        return "refused"
    new = [name for name, data in found.items() if data != earlier.get(name)]
    assert known, f"a later stage reads a mixture: of {list(found)}, {new} are not of the earlier run"
    return known


@pytest.mark.parametrize("name", STAGES)
def test_killed_at_random_moments(name, place, forked, monkeypatch):
    monkeypatch.chdir(place)
    stage, out, dice = STAGES[name], place / "out", random.Random(name)
    argv = [f"{name}.yaml"]
    for folder in ("out", "earlier", "whole"):
        shutil.rmtree(place / folder, ignore_errors=True)

    def finish(*flags: str, gone: str = ""):
        ended = forked.run(stage.script, [*argv, *flags], place, when_gone=gone)
        assert ended.status == 0 and not ended.left, (place / "last.txt").read_text()[-4000:]
        return ended

    finish(*stage.changed)
    shutil.copytree(out, place / "earlier")
    mark = f"out/best/{MANIFEST_FILE}" if name == "align" else f"out/{MANIFEST_FILE}"
    unhurt = finish(gone=mark)
    earlier, whole = contents(place / "earlier"), contents(out)
    assert unhurt.gone and results(earlier) != results(whole)
    seen: Counter[str] = Counter()
    for number in range(KILLS):
        at_swap, group = number % 2 == 1, number // 2 % 2 == 0
        latest, status = unhurt.seconds - unhurt.gone if at_swap else unhurt.seconds, 0
        while status == 0:  # too late, where this run was faster than the one that was timed
            shutil.rmtree(out)
            shutil.copytree(place / "earlier", out)
            moment = dice.uniform(0, latest)
            ended = forked.run(stage.script, argv, place, moment, group, mark if at_swap else "")
            status, latest = ended.status, 0.7 * latest
        assert status == -9, (place / "last.txt").read_text()[-4000:]
        assert not ended.left, f"lives on: {ended.left}"
        seen[state(stage, out, earlier, whole)] += 1
        finish()
        now = contents(out)
        different = [file for file in {**whole, **now} if now.get(file) != whole.get(file)]
        assert not different, f"kill {number}, {moment:.2f} s: {different}"
        temporary = [path.name for path in (place / "tmp").iterdir() if not path.name.startswith("torchinductor_")]  # a cache
        assert not temporary
    print(f"\n| {name} | {unhurt.seconds:.1f} | {KILLS} | {dict(seen)} |")


SFT = """\
model: {model_name_or_path: llama, dtype: float32, lora_r: 8}
data: {train_file: train.jsonl, eval_file: gate.jsonl}
training: {output_dir: out, max_steps: 3, per_device_train_batch_size: 2, max_length: 512, gradient_checkpointing: false,
           save_strategy: steps, save_steps: 1, bf16: false, report_to: none}
"""
SAVED, NOTHING = (
    "what was finished is saved, the same command continues from there",
    "nothing was written, the files of an earlier",
)


@pytest.mark.parametrize(
    ("script", "recipe", "largest", "said"),
    [
        ("build_sft_data", "curate", 3_000, NOTHING),
        ("build_preferences", "pairs", 1_500, SAVED),
        ("evaluate", "evaluate", 1_500, SAVED),
        ("export", "export", 100_000, "the files in out are not all of one run, and later stages refuse them"),
        ("run_sft", "sft", 6_000, "no checkpoint is whole yet: the same command starts from the beginning"),
        ("run_sft", "sft", 100_000, "no checkpoint is whole yet: the same command starts from the beginning"),
    ],
)
def test_a_full_disk_is_one_line_and_the_command_goes_on_when_there_is_room(script, recipe, largest, said, place, forked):
    (place / "sft.yaml").write_text(SFT)
    shutil.rmtree(place / "out", ignore_errors=True)
    full = forked.run(script, [f"{recipe}.yaml"], place, largest=largest)
    *before, line = (place / "last.txt").read_text().strip().splitlines()
    assert full.status == 2 and not full.left and not any(text.startswith(("Traceback", "error")) for text in before), before
    assert re.match(
        r"error: \S+: (File too large|No space left on device); the disk /\S* has [\d.]+ of [\d.]+ GiB free; ", line
    )
    assert said in line
    again = forked.run(script, [f"{recipe}.yaml"], place)
    assert again.status == 0, (place / "last.txt").read_text()[-4000:]
