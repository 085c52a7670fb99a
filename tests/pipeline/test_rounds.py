"""Rounds: which stages run with which recipes, what is repeated after an interruption, and what a gate lets through."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import turns
from rich.console import Console

import align_ko.recipe
from ablate_dpo import AblationRecipe, plan_run
from align_ko import process
from align_ko.errors import UserError
from align_ko.pipeline import stages
from align_ko.pipeline.plan import (
    distillation_stages,
    evaluation_stage,
    gate_file,
    interpolation_stages,
    plan_rounds,
    write_gate_prompts,
)
from align_ko.pipeline.rounds import _pairs, broken_limits, judge_round, run_rounds
from align_ko.pipeline.stages import Stage, StageFailed, plain, run_stage, why_again
from align_ko.recipe import (
    AcceptanceArgs,
    AlignRecipe,
    DpoRecipe,
    EvaluateRecipe,
    PreferencesRecipe,
    changed,
    load_recipe,
)
from align_ko.records import read_jsonl, write_json, write_jsonl
from align_ko.report.pipeline import show, write_report, write_seeds
from compare_handbook import CompareRecipe, plan_variant

ROOT = Path(__file__).parents[2]
PREFERENCES = """\
model_name_or_path: outputs/sft
prompts_file: train.jsonl
output_dir: data/preferences
max_prompts: 200
generation: {seed: 7}
evaluation_files: [held_out.jsonl]
"""
DPO = """\
model_name_or_path: outputs/sft
merge_adapter: true
data: {train_file: a.jsonl, eval_file: b.jsonl}
training: {output_dir: outputs/dpo, learning_rate: 8e-5, warmup_steps: 0.1, loss_type: [sigmoid, sft], save_strategy: "no"}
"""
ALIGN = """\
start: outputs/sft
output_dir: outputs/align
rounds: 3
min_gain: 0.02
preferences: {recipe: preferences.yaml}
dpo:
  recipe: dpo.yaml
  set: {training: {beta: 0.2}}
per_round:
  - {}
  - dpo: {training: {learning_rate: 2e-5}}
    preferences: {max_prompts: 50}
gate: {prompts_file: gate.jsonl}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> AlignRecipe:
    monkeypatch.chdir(tmp_path)
    for name, text in {"preferences": PREFERENCES, "dpo": DPO, "align": ALIGN}.items():
        Path(f"{name}.yaml").write_text(text)
    return load_recipe(AlignRecipe, ["align.yaml"])


# -------------------- the plan


def test_each_round_starts_from_the_one_before_with_fresh_prompts(recipe):
    start, *rounds = plan_rounds(recipe)
    assert (start.name, start.checkpoint, [stage.title for stage in start.stages]) == ("start", "outputs/sft", ["start/gate"])
    pairs, trained, judged = zip(*(round_.stages for round_ in rounds), strict=True)
    assert [stage.recipe.model_name_or_path for stage in pairs] == [
        "outputs/sft", "outputs/align/round-1/dpo", "outputs/align/round-2/dpo"
    ]  # fmt: skip
    # trained on: the adapter, which run_dpo copies as the reference; the merged model would get a second adapter
    assert [stage.recipe.model_name_or_path for stage in trained] == [
        "outputs/sft", "outputs/align/round-1/dpo/adapter", "outputs/align/round-2/dpo/adapter"
    ]  # fmt: skip
    assert [stage.recipe.first_prompt for stage in pairs] == [0, 200, 250] and pairs[1].recipe.max_prompts == 50
    assert [stage.recipe.generation.seed for stage in pairs] == [42, 100_045, 200_048]
    assert [stage.recipe.training["seed"] for stage in trained] == [42, 43, 44]
    assert [stage.recipe.training["learning_rate"] for stage in trained] == [8e-5, 2e-5, 8e-5]
    assert {stage.recipe.training["beta"] for stage in trained} == {0.2}
    assert {stage.recipe.evaluation_files for stage in pairs} == {("held_out.jsonl", "gate.jsonl")}
    assert [stage.recipe.models for stage in judged][1] == {"round-2": "outputs/align/round-2/dpo"}
    assert judged[0].recipe.sampling == {} and judged[0].recipe.prompts_file == "gate.jsonl"


def test_without_a_merged_model_the_next_round_takes_the_folder_itself(recipe):
    Path("dpo.yaml").write_text(DPO.replace("merge_adapter: true\n", ""))
    assert plan_rounds(recipe)[2].stages[1].recipe.model_name_or_path == "outputs/align/round-1/dpo"


def test_another_seed_changes_sampling_and_training(recipe):
    other = load_recipe(AlignRecipe, ["align.yaml", "--seed", "7"])
    pairs, trained, _ = plan_rounds(other)[1].stages
    assert (pairs.recipe.generation.seed, trained.recipe.training["seed"]) == (7, 7)


def test_with_an_sft_recipe_the_start_is_trained_first(recipe):
    Path("sft.yaml").write_text(
        "model: {model_name_or_path: quickstart}\ndata: {train_file: t, eval_file: e}\ntraining: {output_dir: elsewhere}\n"
    )
    start = plan_rounds(load_recipe(AlignRecipe, ["align.yaml", "--sft.recipe", "sft.yaml", "--seed", "9"]))[0]
    assert [stage.title for stage in start.stages] == ["sft", "start/gate"] and start.checkpoint == "outputs/align/sft"
    assert start.stages[0].recipe.training == {"output_dir": "outputs/align/sft", "seed": 9}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{beta: 0.2}", "{bata: 0.2}", "align.yaml:8: training.bata: unknown key; did you mean 'beta'?"),
        ("learning_rate: 2e-5", "learning_rate: -1", "align.yaml:11: training.learning_rate: -1 cannot work"),
        ("max_prompts: 50", "max_prompts: many", "align.yaml:12: max_prompts: 'many' does not fit"),
    ],
)
def test_a_mistake_in_any_round_is_told_with_its_line(recipe, old, new, said):
    Path("align.yaml").write_text(ALIGN.replace(old, new))
    with pytest.raises(UserError) as caught:
        plan_rounds(load_recipe(AlignRecipe, ["align.yaml"]))
    assert str(caught.value).startswith(said)


def test_every_stage_starts_the_processes_it_was_told_to(recipe):
    Path("evaluate.yaml").write_text("models: {base: x}\nprompts_file: e.jsonl\noutput_dir: o\n")
    Path("distill.yaml").write_text(DISTILL)
    flags = [
        "--preferences.accelerate_config",
        "p.yaml",
        "--gate.accelerate_config",
        "g.yaml",
        "--distill.recipe",
        "distill.yaml",
    ]
    flags += ["--evaluate.recipe", "evaluate.yaml", "--evaluate.accelerate_config", "e.yaml"]
    own = load_recipe(AlignRecipe, ["align.yaml", *flags])
    stages = [*plan_rounds(own)[1].stages, *distillation_stages(own, 1, "outputs/dpo", plan_rounds(own)[1].stages[1].recipe)]
    stages.append(evaluation_stage(own, "outputs/sft"))
    assert [(stage.script, stage.accelerate_config) for stage in stages] == [
        ("build_preferences", "p.yaml"),
        ("run_dpo", ""),
        ("evaluate", "g.yaml"),
        ("evaluate", "g.yaml"),
        ("run_sft", ""),
        ("evaluate", "g.yaml"),
        ("evaluate", "e.yaml"),
    ]


@pytest.mark.parametrize("key", ["messages", "prompt"])
def test_a_part_of_the_gates_prompts(recipe, key):
    write_jsonl("gate.jsonl", [{key: [{"role": "user", "content": f"질문 {n}"}]} for n in range(9)])
    few = replace(recipe, gate=replace(recipe.gate, max_prompts=4))
    write_gate_prompts(few.gate, Path(few.output_dir))
    file = gate_file(few.gate, Path(few.output_dir))
    assert len(file.read_text().splitlines()) == 4
    before = file.read_bytes()
    write_gate_prompts(few.gate, Path(few.output_dir))
    assert file.read_bytes() == before  # stages compare its content


# -------------------- running and resuming

SCRIPT = """\
import sys, os, time, signal
from pathlib import Path
from align_ko.manifest import write_manifest
from align_ko.recipe import {kind}, load_recipe
from align_ko.recipe import hash_inputs
recipe = load_recipe({kind}, sys.argv[1:])
folder = Path({folder})
with open("log", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
exec(os.environ.get("DO", ""))
write_manifest(folder, recipe, hash_inputs(recipe), stage="x")
"""


def write_weights(folder: str | Path, text: str) -> None:
    """A whole safetensors file without tensors."""
    header = json.dumps({"__metadata__": {"text": text}}).encode()
    Path(folder, "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.fixture
def stage(recipe) -> Stage:
    """Round 1's DPO, whose script only notes that it ran."""
    Path("scripts").mkdir()
    script = SCRIPT.format(kind="DpoRecipe", folder="recipe.training['output_dir']")
    Path("scripts/run_dpo.py").write_text(script)
    pairs = Path("outputs/align/round-1/preferences")
    write_jsonl(pairs / "train.jsonl", [{"a": 1}])
    write_json(pairs / "manifest.json", {})
    Path("outputs/sft").mkdir(parents=True)
    write_weights("outputs/sft", "weights")
    return plan_rounds(recipe)[1].stages[1]


def ran() -> list[str]:
    return Path("log").read_text().splitlines() if Path("log").exists() else []


def test_a_finished_stage_is_not_repeated_and_a_changed_one_is(stage, recipe, capfd):
    assert run_stage(stage, Path("scripts")) is True and ran() == ["outputs/align/round-1/dpo.yaml --resume replace"]
    assert run_stage(stage, Path("scripts")) is False and len(ran()) == 1
    assert json.loads((stage.folder / "times.json").read_text())["seconds"] > 0
    # the written recipe alone gives the same stage
    assert plain(load_recipe(DpoRecipe, [str(stage.file)])) == plain(stage.recipe)

    hotter = replace(stage, recipe=replace(stage.recipe, training={**stage.recipe.training, "learning_rate": 1e-3}))
    assert why_again(hotter) == "the recipe has changed: training.learning_rate"
    assert run_stage(hotter, Path("scripts")) is True and why_again(hotter) == ""
    write_jsonl("outputs/align/round-1/preferences/train.jsonl", [{"a": 2}])
    assert why_again(hotter) == "outputs/align/round-1/preferences/train.jsonl has changed"


def test_a_stage_is_repeated_for_other_weights_and_not_for_other_times(stage):
    run_stage(stage, Path("scripts"))
    future = time.time() + 1e6
    for file in (*Path("outputs").rglob("*"), Path("dpo.yaml")):
        os.utime(file, (future, future))
    assert why_again(stage) == ""
    write_weights("outputs/sft", "WEIGHTS")
    assert why_again(stage) == "outputs/sft has changed"


def test_stages_under_the_home_folder_are_not_repeated(stage, tmp_path, monkeypatch):
    """A manifest writes the home folder as `~`; every stage was run again for that."""
    monkeypatch.setenv("HOME", str(tmp_path))
    training = {**stage.recipe.training, "output_dir": str(tmp_path / stage.folder), "hub_token": "hf_secret"}
    start, rows = tmp_path / "outputs/sft", tmp_path / stage.recipe.data.train_file
    data = replace(stage.recipe.data, train_file=str(rows))
    recipe = replace(stage.recipe, training=training, model_name_or_path=str(start), data=data)
    own = replace(stage, recipe=recipe, folder=tmp_path / stage.folder)
    seen, start_process = [], stages.subprocess.Popen
    monkeypatch.setattr(
        stages.subprocess, "Popen", lambda *a, **k: seen.append(k["env"].get("HF_TOKEN")) or start_process(*a, **k)
    )
    run_stage(own, Path("scripts"))
    assert seen == ["hf_secret"] and "hf_secret" not in own.file.read_text()
    assert str(tmp_path) not in (own.folder / "manifest.json").read_text()
    assert why_again(own) == ""
    write_jsonl(rows, [{"a": 3}])
    assert why_again(own) == "~/outputs/align/round-1/preferences/train.jsonl has changed"


ALL_INPUTS = {
    "build_preferences": (
        "PreferencesRecipe", "recipe.output_dir",
        "model_name_or_path: outputs/sft\nprompts_file: train.jsonl\noutput_dir: pairs\n"
        "evaluation_files: [held_out.jsonl]\nskip_prompts_files: [skip.jsonl]\n",
        ["train.jsonl", "held_out.jsonl", "skip.jsonl", "outputs/sft"],
    ),
    "run_dpo": (
        "DpoRecipe", "recipe.training['output_dir']",
        "model_name_or_path: outputs/sft\ngate: {prompts: 2, prompts_file: gate.jsonl}\n"
        "data: {train_file: train.jsonl, eval_file: held_out.jsonl}\n"
        "training: {output_dir: dpo, eval_strategy: steps, eval_steps: 1}\n",
        ["train.jsonl", "held_out.jsonl", "gate.jsonl", "outputs/sft"],
    ),
    "run_sft": (
        "SftRecipe", "recipe.training['output_dir']", "model: {model_name_or_path: outputs/sft}\n"
        "data: {train_file: train.jsonl, eval_file: held_out.jsonl, chat_template: mine.jinja}\n"
        "training: {output_dir: sft}\n",
        ["train.jsonl", "held_out.jsonl", "mine.jinja", "outputs/sft"],
    ),
    "evaluate": (
        "EvaluateRecipe", "recipe.output_dir", "models: {sft: outputs/sft}\nprompts_file: gate.jsonl\noutput_dir: judged\n"
        "chat_template: mine.jinja\n",
        ["gate.jsonl", "mine.jinja", "outputs/sft"],
    ),
    "build_sft_data": (
        "DataRecipe", "recipe.output_dir", "sources: {raw: {path: raw, group: dialogue}}\noutput_dir: data\n"
        "evaluation_files: [held_out.jsonl]\nprofanity_file: words.txt\n",
        ["raw/a.jsonl", "held_out.jsonl", "words.txt"],
    ),
    "export": (
        "ExportRecipe", "recipe.output_dir",
        "model_name_or_path: outputs/sft\noutput_dir: best\ninterpolate_from: outputs/base\n"
        "interpolation: 0.5\n",
        ["outputs/sft", "outputs/base"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("script", ALL_INPUTS)
def test_a_stage_is_repeated_for_every_file_it_reads(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind, folder, text, inputs = ALL_INPUTS[script]
    for model in ("outputs/sft", "outputs/base"):
        Path(model).mkdir(parents=True)
        write_weights(model, "weights")
    for name in inputs:
        if not Path(name).is_dir():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("a")
    Path("scripts").mkdir()
    Path(f"scripts/{script}.py").write_text(SCRIPT.format(kind=kind, folder=folder))
    Path("recipe.yaml").write_text(text)
    recipe = load_recipe(getattr(align_ko.recipe, kind), ["recipe.yaml"])
    output = Path(recipe.training["output_dir"] if "training" in folder else recipe.output_dir)
    stage = Stage(script, script, recipe, tmp_path / "written.yaml", output)
    run_stage(stage, Path("scripts"))
    assert why_again(stage) == ""
    for name in inputs:
        file = Path(name) / "tokenizer_config.json" if Path(name).is_dir() else Path(name)
        before = file.read_bytes() if file.exists() else None
        file.write_text("{}")
        assert why_again(stage) == f"{name} has changed"
        file.unlink() if before is None else file.write_bytes(before)
    assert why_again(stage) == ""


@pytest.mark.parametrize(
    ("do", "error", "said"),
    [
        ("sys.exit(2)", UserError, "round-1/dpo ended with exit code 2"),
        ("sys.exit(130)", KeyboardInterrupt, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", UserError, "round-1/dpo ended with exit code -9"),
    ],
)
def test_a_stage_that_fails_is_repeated(stage, monkeypatch, do, error, said):
    monkeypatch.setenv("DO", do)
    with pytest.raises(error, match=said):
        run_stage(stage, Path("scripts"))
    assert why_again(stage) == "not made yet"
    monkeypatch.delenv("DO")
    assert run_stage(stage, Path("scripts")) is True and len(ran()) == 2


@pytest.mark.parametrize("code", [-9, 0])
def test_a_training_run_cut_off_after_its_manifest_goes_on(stage, monkeypatch, code):
    """Seen once in CI: killed before the last line of its record, it was taken for done, and the gate would not have it."""
    record = "from align_ko.manifest import RUN_FILE; from align_ko.records import write_json\n"
    record += "write_json(folder / RUN_FILE, {'finished': %s}); write_manifest(folder, recipe, hash_inputs(recipe), stage='x')"
    killed = "\nos.kill(os.getpid(), signal.SIGKILL)" if code else ""
    monkeypatch.setenv("DO", record % "None" + killed)
    with pytest.raises(StageFailed, match=f"round-1/dpo ended with exit code {code}"):
        run_stage(stage, Path("scripts"))
    assert stage.folder.joinpath("manifest.json").is_file() and why_again(stage) == "not finished"
    spent = 100.0  # more than the second attempt can take by itself
    write_json(stage.folder / "times.json", {"seconds": spent})
    monkeypatch.setenv("DO", record % "'2026-11-24T01:30:00+0000'")
    assert run_stage(stage, Path("scripts")) is True and why_again(stage) == "" and len(ran()) == 2
    assert json.loads((stage.folder / "times.json").read_text())["seconds"] > spent  # both attempts count


def test_training_is_told_to_go_on_or_to_start_over_by_itself(stage):
    run_stage(stage, Path("scripts"))
    assert ran() == [f"{stage.file} --resume replace"]
    assert why_again(stage) == ""  # that flag makes it no other recipe


def test_ctrl_c_reaches_the_stage_and_ends_with_130(stage, monkeypatch):
    monkeypatch.setenv("DO", "time.sleep(0.3); open('started', 'w').close(); time.sleep(60)")  # by then the parent waits
    code = (  # a job that a script starts with & inherits that Ctrl-C is ignored
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from align_ko.errors import run_script\n"
        "from align_ko.recipe import AlignRecipe, load_recipe\n"
        "from align_ko.pipeline import stages; from align_ko.pipeline.plan import plan_rounds\n"
        "stages.PATIENCE = 0.2\n"
        "stage = plan_rounds(load_recipe(AlignRecipe, ['align.yaml']))[1].stages[1]\n"
        "run_script(lambda: stages.run_stage(stage, Path('scripts')))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    process.send_signal(2)  # to the parent alone: it must stop the stage too
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and said.endswith(
        "interrupted; what was finished is saved, the same command continues from there\n"
    )
    assert why_again(stage) == "not made yet"


def wait_for(file: Path) -> None:
    end = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not come"
        time.sleep(0.02)


def test_a_stage_ends_with_a_killed_run_and_is_repeated(stage, monkeypatch):
    """align.py is killed alone and started again at once."""
    monkeypatch.setenv(
        "DO", "from align_ko.process import lock_folder; lock_folder(folder); open('started', 'w').close(); time.sleep(60)"
    )
    code = (
        "from pathlib import Path; from align_ko.pipeline.plan import plan_rounds\n"
        "from align_ko.pipeline.stages import run_stage\n"
        "from align_ko.recipe import AlignRecipe, load_recipe\n"
        "run_stage(plan_rounds(load_recipe(AlignRecipe, ['align.yaml']))[1].stages[1], Path('scripts'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(Path("started"))
    parent.kill()
    parent.wait()
    monkeypatch.delenv("DO")
    assert run_stage(stage, Path("scripts")) is True and len(ran()) == 2


def test_seeds_may_run_side_by_side(recipe, monkeypatch):
    """Each run holds its own seed's folder alone, while it is at work, and the table is written after the last."""
    Path("outputs/sft").mkdir(parents=True)
    Path("outputs/sft/config.json").write_text("{}")
    for name in ("train", "held_out", "gate"):
        write_jsonl(f"{name}.jsonl", [{"messages": turns("질문", "답변입니다.")}])
    folders, held = ("outputs/align", "outputs/align/seed-1", "outputs/align/seed-2"), []

    def look(*_, **__) -> str:
        held.append([folder for folder in folders if Path(folder).resolve() in process._held])
        return "result"

    monkeypatch.setattr("align_ko.pipeline.rounds.run_rounds", look)
    monkeypatch.setattr("align_ko.report.pipeline.write_report", look)
    monkeypatch.setattr("align_ko.report.pipeline.write_seeds", lambda folder, results, *_: (look(), held.append(results)))
    for arguments in ([], ["--seeds", "1", "2"]):
        monkeypatch.setattr(sys, "argv", ["align.py", "align.yaml", *arguments])
        runpy.run_path(str(ROOT / "scripts/align.py"))["main"]()
    whole, one, two = ([folder] for folder in folders)
    assert held == [whole, whole, one, one, two, two, [], {1: "result", 2: "result"}]


# -------------------- the gate

GOOD = {
    "n": 50, "natural": 0.80, "natural_low": 0.67, "natural_high": 0.89, "loops": 0.1, "filler": 0.0, "unfinished": 0.02,
    "median_characters": 120, "distinct": 1.0, "collapse": 0.01, "relevant": 0.98, "chrf": 14.0, "reference_nll": 2.0,
}  # fmt: skip
GATE = AcceptanceArgs("gate.jsonl")


@pytest.mark.parametrize(
    ("now", "reasons"),
    [
        ({"natural": 0.80}, ()),  # no worse
        ({"natural": 0.78}, ("natural 78.0% is under the round before (80.0%)",)),
        ({"natural": 0.95, "collapse": 0.154}, ("collapse 0.154 is over 0.03",)),
        ({"natural": 0.95, "relevant": 0.94}, ("relevant 0.94 is under 0.95",)),
        ({"natural": 0.95, "distinct": 0.97}, ("distinct 0.97 is under 0.98",)),
        ({"natural": 0.95, "median_characters": 79}, ("median_characters 79 is outside 80 to 400",)),
        ({"natural": 0.95, "reference_nll": 2.06}, ()),  # 3 % exactly
        ({"natural": 0.95, "reference_nll": 2.07}, ("reference_nll 2.07 is over 2.060 (3% above the start's)",)),
        ({"natural": 0.95, "reference_nll": None}, ()),
    ],
)
def test_the_gate(now, reasons):
    verdict = judge_round(GOOD | now, GOOD, GOOD, GATE)
    assert (verdict.reasons, verdict.accepted) == (reasons, not reasons)
    assert verdict.gain == pytest.approx((GOOD | now)["natural"] - 0.8)


def test_nll_is_held_against_the_start_not_the_round_before():
    creeping = judge_round(GOOD | {"reference_nll": 2.08}, GOOD | {"reference_nll": 2.05}, GOOD, GATE)
    assert not creeping.accepted


def test_a_limit_that_was_broken_before_refuses_only_what_is_worse():
    weak = GOOD | {"collapse": 0.05, "median_characters": 60}
    assert set(broken_limits(weak, 2.0, GATE)) == {"collapse", "median_characters"}
    assert judge_round(weak | {"collapse": 0.04, "median_characters": 70}, weak, weak, GATE).accepted
    worse = judge_round(weak | {"natural": 0.9, "collapse": 0.06, "median_characters": 450}, weak, weak, GATE)
    assert worse.reasons == ("collapse 0.06 is over 0.03", "median_characters 450 is outside 80 to 400")


# -------------------- all rounds, with stages that only write scores


def rounds_with(recipe, natural: dict[str, float], pairs=(99, 99, 99), **measures):
    titles = []

    def run(stage: Stage) -> bool:
        titles.append(stage.title)
        if stage.title.endswith("/preferences"):
            count = pairs[int(stage.title[6]) - 1]
            write_json(stage.folder / "manifest.json", {} if count else {"nothing_to_do": "no pair could be made"})
            write_jsonl(stage.folder / "train.jsonl", [{}] * count)
        if stage.title.endswith("/gate"):
            name = stage.title.split("/")[0]
            result = GOOD | {"natural": natural[name]} | measures.get(name.replace("-", "_"), {})
            write_json(stage.folder / "scores.json", {"results": [{"model": name, "setting": "greedy", **result}]})
            row = {"model": name, "setting": "greedy", "kind": "heldout", "prompt": [{"role": "user", "content": "질문|하나"}],
                   "response": f"{name}의 답", "faults": []}  # fmt: skip
            write_jsonl(stage.folder / "responses.jsonl", [row])
        return True

    return run_rounds(recipe, run), titles


def test_rounds_go_on_while_they_gain(recipe, tmp_path, capsys):
    result, titles = rounds_with(recipe, {"start": 0.2, "round-1": 0.8, "round-2": 0.9, "round-3": 0.95})
    assert titles == ["start/gate", *(f"round-{n}/{s}" for n in (1, 2, 3) for s in ("preferences", "dpo", "gate")), "best"]
    assert (result.best.name, result.stopped) == ("round-3", "all 3 rounds are done")
    folder = Path(recipe.output_dir)
    write_report(folder, result, "gate.jsonl", False, Console(width=200))
    best = json.loads((folder / "best.json").read_text())
    assert (best["round"], best["checkpoint"]) == ("round-3", "outputs/align/round-3/dpo")
    text = (folder / "report.md").read_text()
    beginning, end = (
        "| 80.0 (67-89) | 98.0 | not judged | not judged | 10.0 |",
        "| 100.0 | 0.010 | 14.0 | 2.000 | +60.0 points |",
    )
    assert f"| round-1 {beginning} 0.0 | 2.0 | 120 {end}" in text
    assert "**1. 질문|하나** (natural in form)\n\n> round-3의 답" in text
    gate = json.loads((folder / "round-2/gate.json").read_text())
    assert gate["verdict"]["accepted"] and gate["before"]["natural"] == 0.8 and gate["limits"]["max_collapse"] == 0.03


def test_a_refused_round_ends_it_and_the_last_good_one_is_the_result(recipe):
    natural = {"start": 0.2, "round-1": 0.8, "round-2": 0.99}
    result, titles = rounds_with(recipe, natural, round_2={"collapse": 0.2})
    assert titles[-2:] == ["round-2/gate", "best"] and result.best.name == "round-1"
    assert result.stopped == "round-2 was refused: collapse 0.2 is over 0.03"


def test_a_small_gain_is_kept_and_ends_it(recipe):
    result, titles = rounds_with(recipe, {"start": 0.2, "round-1": 0.8, "round-2": 0.81})
    assert result.best.name == "round-2" and result.stopped == "round-2 brought 1.0 points, less than 2"
    assert "round-3/preferences" not in titles


@pytest.mark.parametrize("few", [0, 15])
def test_with_hardly_a_pair_there_is_no_further_round(recipe, few):
    result, titles = rounds_with(recipe, {"start": 0.2, "round-1": 0.8}, pairs=(16, few))
    assert titles[-2:] == ["round-2/preferences", "best"] and result.best.name == "round-1"
    assert result.stopped == f"round-2 found {few} pairs, fewer than 16: there is little left to repair"
    with pytest.raises(UserError, match="round-1/preferences: no pair could be made"):  # nothing was repaired at all
        rounds_with(recipe, {"start": 0.2}, pairs=(0,))


def test_a_pair_builder_that_fails_ends_the_run_as_a_failure(recipe, monkeypatch):
    """It had drawn its answers and then crashed, which once passed for a round without pairs: little left to repair."""
    Path("scripts").mkdir()
    script = SCRIPT.format(kind="PreferencesRecipe", folder="recipe.output_dir")
    Path("scripts/build_preferences.py").write_text(script)
    pairs = plan_rounds(recipe)[2].stages[0]
    write_jsonl(pairs.folder / "candidates.jsonl", [])
    monkeypatch.setenv("DO", "raise MemoryError")
    with pytest.raises(StageFailed, match="round-2/preferences ended with exit code 1"):
        _pairs(plan_rounds(recipe)[2], partial(run_stage, scripts=Path("scripts")))
    nothing = "write_manifest(folder, recipe, hash_inputs(recipe), nothing_to_do='no pair could be made'); sys.exit(2)"
    monkeypatch.setenv("DO", nothing)
    for _ in range(2):  # the second time it is done before
        assert _pairs(plan_rounds(recipe)[2], partial(run_stage, scripts=Path("scripts"))) == 0
    assert len(ran()) == 2


def interpolated(recipe, natural: dict[str, float], **measures):
    own = changed(recipe, interpolation=0.8)
    measures["round_2"] = {"natural_low": 0.875, **measures.get("round_2", {})}
    return own, *rounds_with(own, {"start": 0.2, "round-1": 0.9, "round-2": 0.9, **natural}, **measures)


def test_the_result_goes_back_towards_the_start_and_is_judged_again(recipe, capsys):
    # round 2 has 90 %, by chance between 87.5 and more: so 88 % is let pass
    own, result, titles = interpolated(recipe, {"interpolated": 0.88}, interpolated={"reference_nll": 1.9})
    assert titles[-3:] == ["interpolated/model", "interpolated/gate", "best"]
    assert (result.best.name, result.result.name) == ("round-2", "interpolated")
    start, first, *_ = plan_rounds(own)
    made, judged = interpolation_stages(own, start.checkpoint, result.best.checkpoint, first.stages[1].recipe)
    assert (made.recipe.model_name_or_path, made.recipe.interpolate_from) == ("outputs/align/round-2/dpo", "outputs/sft")
    assert made.recipe.interpolation == 0.8 and judged.recipe.models == {"interpolated": "outputs/align/interpolated/model"}
    folder = Path(own.output_dir)
    write_report(folder, result, "gate.jsonl", False, Console(width=200))
    best = json.loads((folder / "best.json").read_text())
    assert (best["round"], best["interpolated"], best["checkpoint"]) == ("round-2", True, "outputs/align/interpolated/model")
    assert best["measures"]["natural"] == 0.88
    assert "| -2.0 points, the result |" in (folder / "report.md").read_text()
    assert "result: round-2, interpolated, as a plain model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("natural", "measures", "why"),
    [
        (0.87, {}, "natural 87.0% is under the round before (90.0%)"),
        (0.95, {"reference_nll": 2.07}, "reference_nll 2.07 is over 2.060 (3% above the start's)"),
    ],
)
def test_a_worse_point_on_the_way_back_is_refused(recipe, natural, measures, why):
    _, result, titles = interpolated(recipe, {"interpolated": natural}, interpolated=measures)
    assert result.interpolated.verdict.reasons == (why,) and titles[-1] == "best"
    assert result.result is result.best and result.best.name == "round-2"


def test_rounds_may_cost_what_the_way_back_returns_and_no_more(recipe):
    # 3 % / 0.8² = 4.7 %: NLL 2.0 may rise to 2.094 before interpolation
    _, result, _ = interpolated(recipe, {"interpolated": 0.9}, round_2={"reference_nll": 2.09})
    assert result.best.name == "round-2" and result.stopped == "round-2 brought 0.0 points, less than 2"
    _, result, _ = interpolated(recipe, {"interpolated": 0.9}, round_2={"reference_nll": 2.1})
    assert result.best.name == "round-1" and "reference_nll 2.1 is over 2.094" in result.stopped
    # the way back was refused, so what stays breaks the limit: said out loud
    _, result, _ = interpolated(recipe, {"interpolated": 0.2}, round_2={"reference_nll": 2.09})
    assert result.stopped.endswith("THE RESULT BREAKS A LIMIT: reference_nll 2.09 is over 2.060 (3% above the start's)")


DISTILL = """\
model: {model_name_or_path: elsewhere}
distill: {repetition_penalty: 1.05}
data: {train_file: t.jsonl, eval_file: e.jsonl}
training: {output_dir: elsewhere}
"""


def distilled(natural: dict[str, float], *flags: str, **measures):
    Path("distill.yaml").write_text(DISTILL)
    write_jsonl(Path("train.jsonl"), [{"messages": turns(f"질문 {n}", "답")} for n in range(3)])
    own = load_recipe(AlignRecipe, ["align.yaml", "--distill.recipe", "distill.yaml", "--rounds", "1", *flags])
    measures["round_1"] = {"natural_low": 0.85}
    return own, *rounds_with(own, {"start": 0.2, "round-1": 0.9, **natural}, **measures)


def test_the_result_is_distilled_on_its_own_answers_and_judged_again(recipe, capsys):
    own, result, titles = distilled({"distilled": 0.95, "interpolated": 0.9}, "--interpolation", "0.8")
    assert titles[-6:] == [
        "interpolated/model",
        "interpolated/gate",
        "distilled/answers",
        "distilled/model",
        "distilled/gate",
        "best",
    ]
    assert [outcome.name for outcome in result.way] == ["round-1", "interpolated", "distilled"]
    answers, trained, judged = distillation_stages(own, 1, result.interpolated.checkpoint, plan_rounds(own)[1].stages[1].recipe)
    assert answers.recipe.models == {"distilled": "outputs/align/interpolated/model"} and answers.recipe.sampling == {}
    rows = list(read_jsonl(answers.recipe.prompts_file))
    assert len(rows) == 3 and all([m["role"] for m in row["messages"]] == ["user"] for row in rows)
    assert trained.recipe.model.model_name_or_path == "outputs/align/interpolated/model" and trained.recipe.merge_adapter
    assert trained.recipe.data.train_file == "outputs/align/distilled/answers/responses.jsonl"
    assert trained.recipe.distill.repetition_penalty == 1.05
    assert judged.recipe.models == {"distilled": "outputs/align/distilled/model"} and judged.recipe.prompts_file == "gate.jsonl"
    folder = Path(own.output_dir)
    write_report(folder, result, "gate.jsonl", False, Console(width=200))
    best = json.loads((folder / "best.json").read_text())
    assert (best["round"], best["interpolated"], best["distilled"]) == ("round-1", True, 1)
    assert best["checkpoint"] == "outputs/align/distilled/model"
    assert "result: round-1, interpolated, distilled, as a plain model" in capsys.readouterr().out


def test_distillation_asks_the_prompts_of_files_without_those_that_judge(recipe):
    """Each once, whatever files it stands in: 질문 0 to 2, 질문 2 and 3; the gate asks 질문 3, the evaluation 질문 0."""
    write_jsonl(Path("sft.jsonl"), [{"messages": turns(f"질문 {n}", "다른 답")} for n in (2, 3)])
    write_jsonl(Path("gate.jsonl"), [{"messages": turns("질문 3", "답")}])
    write_jsonl(Path("held_out.jsonl"), [{"messages": turns("질문 0", "답")}])
    own, result, _ = distilled({"distilled": 0.95}, "--distill.prompts_files", "[train.jsonl, sft.jsonl]")
    answers, *_ = distillation_stages(own, 1, result.best.checkpoint, plan_rounds(own)[1].stages[1].recipe)
    asked = [row["messages"][0]["content"] for row in read_jsonl(answers.recipe.prompts_file)]
    assert sorted(asked) == ["질문 1", "질문 2"]


def test_the_table_fits_a_terminal_of_80_columns():
    told = io.StringIO()
    numbers = {"natural": 1.0, "natural_low": 0.93, "natural_high": 1.0, "loops": 0.0, "filler": 0.0, "unfinished": 0.0}
    show([("distilled-3", GOOD | numbers, "")], "Gate", Console(width=80, file=told))
    rows = [line for line in told.getvalue().splitlines() if line.startswith("distilled-3")]
    assert len(rows) == 1 and rows[0].rstrip().endswith("14.0 2.000") and "…" not in told.getvalue()


def test_an_adapter_is_merged_before_distillation(recipe):
    Path("dpo.yaml").write_text(DPO.replace("merge_adapter: true\n", ""))
    own, *_ = distilled({"distilled": 0.95})
    adapter = Path("outputs/align/round-1/dpo/adapter_config.json")
    adapter.parent.mkdir(parents=True)
    adapter.write_text("{}")
    merged, answers, trained, _ = distillation_stages(own, 1, "outputs/align/round-1/dpo", plan_rounds(own)[1].stages[1].recipe)
    assert (merged.script, merged.recipe.model_name_or_path) == ("export", "outputs/align/round-1/dpo")
    assert answers.recipe.models == {"distilled": "outputs/align/distilled/start"}
    assert trained.recipe.model.model_name_or_path == "outputs/align/distilled/start"


def test_a_worse_distilled_model_is_refused(recipe):
    _, result, titles = distilled({"distilled": 0.84}, "--distill.passes", "3")
    assert [one.verdict.reasons for one in result.distilled] == [("natural 84.0% is under the round before (90.0%)",)]
    assert result.result is result.best and titles[-2:] == ["distilled/gate", "best"]


def test_each_pass_starts_from_the_one_before_on_its_answers(recipe, capsys):
    own, result, titles = distilled({"distilled": 0.92, "distilled-2": 0.94, "distilled-3": 0.5}, "--distill.passes", "4")
    passes = ("distilled", "distilled-2", "distilled-3")  # the third is refused, so there is no fourth
    assert titles[-10:] == [f"{name}/{part}" for name in passes for part in ("answers", "model", "gate")] + ["best"]
    assert [outcome.name for outcome in result.way] == ["round-1", "distilled", "distilled-2"]
    assert [round(one.verdict.gain, 2) for one in result.distilled] == [0.02, 0.02, -0.44]
    dpo = plan_rounds(own)[1].stages[1].recipe
    first, second = (distillation_stages(own, number, f"model-{number}", dpo) for number in (1, 2))
    assert first[0].recipe.prompts_file == second[0].recipe.prompts_file == "outputs/align/distilled/prompts.jsonl"
    assert second[0].recipe.models == {"distilled-2": "model-2"} and second[1].recipe.model.model_name_or_path == "model-2"
    assert second[1].recipe.data.train_file == "outputs/align/distilled-2/answers/responses.jsonl"
    assert [stages[1].recipe.training["seed"] for stages in (first, second)] == [42, 43]
    folder = Path(own.output_dir)
    write_report(folder, result, "gate.jsonl", False, Console(width=200))
    best = json.loads((folder / "best.json").read_text())
    assert (best["distilled"], best["checkpoint"]) == (2, "outputs/align/distilled-2/model")
    assert "result: round-1, distilled, distilled-2, as a plain model" in capsys.readouterr().out
    table = [row.split(" | ") for row in (folder / "report.md").read_text().splitlines() if row.startswith("| distilled")]
    assert [(row[0], row[-1]) for row in table] == [
        ("| distilled", "+2.0 points |"),
        ("| distilled-2", "+2.0 points, the result |"),
        ("| distilled-3", "refused: natural 50.0% is under the round before (94.0%) |"),
    ]


def test_no_pass_at_all_is_told(recipe):
    with pytest.raises(UserError, match=r"distill\.passes: 0 cannot work; expected 1 or more"):
        distilled({}, "--distill.passes", "0")


def test_distillation_without_a_penalty_is_told_before_the_first_round(recipe):
    Path("distill.yaml").write_text(DISTILL.replace("1.05", "1.0"))
    with pytest.raises(UserError, match=r"distill.recipe: this recipe distils nothing"):
        plan_rounds(load_recipe(AlignRecipe, ["align.yaml", "--distill.recipe", "distill.yaml"]))


def test_when_no_round_is_good_the_start_stays(recipe):
    result, _ = rounds_with(recipe, {"start": 0.9, "round-1": 0.8})
    assert (result.best.name, result.best.checkpoint) == ("start", "outputs/sft")


def test_seeds_stand_in_one_table(recipe):
    folder, results = Path(recipe.output_dir), {}
    for seed, share in ((42, 0.9), (43, 0.86)):
        own = changed(recipe, seed=seed, output_dir=str(folder / f"seed-{seed}"))
        results[seed], _ = rounds_with(own, {"start": 0.2, "round-1": share, "round-2": 0.1})
    write_seeds(folder, results, False, Console(width=200))
    text = (folder / "seeds.md").read_text()
    lines = [line for line in text.splitlines() if "seed 4" in line]
    assert [line.split(" (")[0] for line in lines] == [
        "| start, seed 42 | 20.0", "| result, seed 42 | 90.0", "| start, seed 43 | 20.0", "| result, seed 43 | 86.0"
    ]  # fmt: skip
    assert all(line.endswith("| round-1 |") for line in lines[1::2]) and text.count("> round-1의 답") == 2
    assert json.loads((folder / "seeds.json").read_text())["43"]["best"]["checkpoint"] == "outputs/align/seed-43/round-1/dpo"
    for some, title in ((results, "# 2 seeds"), ({42: results[42]}, "# 1 seed")):
        write_seeds(folder, some, False, Console(width=200))
        assert (folder / "seeds.md").read_text().splitlines()[0] == title


def test_prompts_are_asked_in_turn(recipe):
    assert load_recipe(PreferencesRecipe, ["preferences.yaml", "--first_prompt", "3"]).first_prompt == 3


@pytest.mark.parametrize(
    ("kind", "flags", "planned"),
    [
        ("quickstart/align", [], 1),
        ("quickstart/align", ["--rounds", "2"], 2),
        ("quickstart/rounds", [], 2),
        ("solar/align", [], 3),
        ("qwen3_8b/align", [], 3),
        ("gemma3_12b/align", [], 3),
        ("qwen2_5_1_5b/align", [], 1),
    ],
)
def test_our_own_recipes_plan_all_their_rounds(kind, flags, planned, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    recipe = load_recipe(AlignRecipe, [f"recipes/{kind}.yaml", *flags])
    rounds = plan_rounds(recipe)[1:]
    assert [stage.script for stage in rounds[-1].stages] == ["build_preferences", "run_dpo", "evaluate"]
    rates = [round_.stages[1].recipe.training["learning_rate"] for round_ in rounds]
    assert len(rounds) == planned and rates == sorted(rates, reverse=True)
    # what a gate has chosen by is never what the result is judged by, and never trained on
    assert recipe.gate.prompts_file in rounds[0].stages[0].recipe.evaluation_files
    judged = load_recipe(EvaluateRecipe, ["recipes/quickstart/evaluate.yaml"]).prompts_file
    assert recipe.gate.prompts_file != judged


def test_our_ablation_and_comparison_plan_all_they_train(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    ablation = load_recipe(AblationRecipe, ["recipes/quickstart/ablation.yaml"])
    assert len(ablation.settings) >= 6 and len(ablation.seeds) >= 2
    for name in ablation.settings:
        plan_run(ablation, name, 1)
    compare = load_recipe(CompareRecipe, ["recipes/quickstart/compare.yaml"])
    sft, dpo = plan_variant(compare, "handbook", (10, 10))
    published = {"learning_rate": 5e-6, "beta": 0.01, "loss_type": ["sigmoid"], "lr_scheduler_type": "cosine"}
    assert {key: dpo.recipe.training[key] for key in published} == published
    assert (sft.recipe.training["learning_rate"], sft.recipe.model.lora_r, dpo.recipe.model.lora_r) == (2e-4, 16, 128)
