"""A sweep: what is searched, what a trial reports, what ends it, and what an interrupted sweep does again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from align_ko.errors import UserError
from align_ko.pipeline.stages import StageFailed, run_at_once
from align_ko.recipe import AlignRecipe, DpoRecipe, recipe_from

optuna = pytest.importorskip("optuna")

from align_ko.pipeline.sweep import STORAGE, STUDY, Space, ended, gate_steps, read_space, sweep  # noqa: E402
from align_ko.report.pipeline import write_sweep  # noqa: E402

TRIAL = """\
import json, sys, pathlib, yaml
recipe = yaml.safe_load(open(sys.argv[1]))
rate = recipe["training"]["learning_rate"]
folder = pathlib.Path(recipe["training"]["output_dir"], "greedy_gate")
folder.mkdir(parents=True)
for step in (0, 2, 4):
    rows = [{"prompt": "p", "response": "r", "finished": True, "natural": n < 10 * rate, "score": 1, "faults": [], "cut": False}
            for n in range(10)]
    (folder / "written").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    (folder / "written").rename(folder / f"step-{step:06d}.jsonl")  # whole at once, as the gate writes it
sys.exit(2 if rate > 0.85 else 0)
"""


def load(values):
    keys = {name.partition(".")[2]: value for name, value in values.items()}
    return recipe_from(DpoRecipe, model_name_or_path="m", data={"train_file": "a", "eval_file": "b"}, training=keys)


@pytest.fixture
def script(tmp_path) -> Path:
    (tmp_path / "trial.py").write_text(TRIAL)
    return tmp_path / "trial.py"


def test_ranges_and_lists():
    assert read_space("training.learning_rate=1e-5..1e-4") == Space("training.learning_rate", low=1e-5, high=1e-4)
    assert read_space("training.max_steps=8..32") == Space("training.max_steps", low=8, high=32)
    assert read_space("training.learning_rate=1e-5,2e-5").choices == (1e-5, 2e-5)
    assert read_space("training.loss_type=[sigmoid],[sigmoid_norm, sft]").choices == (["sigmoid"], ["sigmoid_norm", "sft"])
    for bad in ("training.beta", "training.beta=", "training.beta=2..1", "=1,2", "training.beta=a..b"):
        with pytest.raises(UserError, match=r"--search: .* is no range and no list of values"):
            read_space(bad)


def test_trials_are_told_by_their_gate_and_go_on(tmp_path, script, monkeypatch):
    monkeypatch.setattr("align_ko.pipeline.sweep.LOOK_EVERY", 0.01)
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: False)
    spaces = [Space("training.learning_rate", choices=(0.3, 0.6, 0.9))]
    study = sweep(load, spaces, tmp_path / "s", 2, script)
    assert len(ended(study)) == 2
    running = study.ask()  # a sweep that was killed in a trial
    running.suggest_categorical("training.learning_rate", ["0.3\n...\n", "0.6\n...\n", "0.9\n...\n"])
    study = sweep(load, spaces, tmp_path / "s", 5, script)
    assert len(ended(study)) == 5 and study.trials[2].state.name == "FAIL"
    assert study.trials[3].params == study.trials[2].params
    for trial in ended(study):
        rate = float(trial.params["training.learning_rate"].split()[0])
        assert trial.user_attrs["measures"]["eval_greedy_natural"] == pytest.approx(rate)
        assert (trial.state.name == "PRUNED") == (rate > 0.85)  # every evaluation was refused
    assert [step for step, _ in gate_steps(tmp_path / "s/trial-0")] == [2, 4]
    out = io.StringIO()
    write_sweep(tmp_path / "s", ended(study), Console(file=out, width=200))
    assert (tmp_path / "s/sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "s/sweep.md").read_text().count("trial-") == 5
    assert optuna.load_study(study_name=STUDY, storage=f"sqlite:///{tmp_path / 's' / STORAGE}").trials == study.trials


def test_a_sweep_that_goes_on_draws_other_values(tmp_path, script):
    spaces = [Space("training.learning_rate", low=0.1, high=0.8)]
    drawn = [sweep(load, spaces, tmp_path / "s", count, script).trials[-1].params["training.learning_rate"] for count in (1, 2)]
    assert drawn[0] != drawn[1]


def test_a_trial_that_optuna_prunes_is_ended(tmp_path, script, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: True)
    script.write_text(TRIAL.replace("sys.exit", "import time; time.sleep(600); sys.exit"))
    study = sweep(load, [Space("training.learning_rate", choices=(0.3,))], tmp_path / "s", 1, script)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"]
    assert study.trials[0].user_attrs["measures"]["eval_greedy_natural"] == pytest.approx(0.3)


def test_a_trial_without_a_look_is_a_mistake(tmp_path):
    (tmp_path / "trial.py").write_text("import sys; sys.exit('error: data.train_file: there is no a')")
    with pytest.raises(UserError, match=r"trial 0 ended before its gate looked: error: data\.train_file: there is no a"):
        sweep(load, [Space("training.learning_rate", choices=(0.3,))], tmp_path / "s", 1, tmp_path / "trial.py")


SEED = """\
import os, sys, yaml
recipe = yaml.safe_load(open(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], recipe["seed"], "seeds" in recipe)
sys.exit(recipe["seed"] == 9)
"""


def test_seeds_run_at_once_each_on_a_gpu_of_its_own(tmp_path):
    (tmp_path / "align.py").write_text(SEED)

    def run(*seeds):
        parts = {"preferences": {"recipe": "p"}, "dpo": {"recipe": "d"}, "gate": {"prompts_file": "g"}}
        folders = {seed: str(tmp_path / f"seed-{seed}") for seed in seeds}
        recipes = {
            seed: recipe_from(AlignRecipe, start="m", output_dir=folder, seed=seed, seeds=(1,), **parts)
            for seed, folder in folders.items()
        }
        run_at_once(recipes, ("4", "7"), tmp_path / "align.py")
        return [Path(f"{folder}.log").read_text().split() for folder in folders.values()]

    told = run(1, 2, 3)
    assert {gpu for gpu, *_ in told} <= {"4", "7"} and [rest for _, *rest in told] == [[str(n), "False"] for n in (1, 2, 3)]
    with pytest.raises(StageFailed, match="seed 9 failed"):
        run(1, 9)
