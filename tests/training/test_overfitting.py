"""The strategy document's table at every evaluation, the stop, and which weights the next stage gets."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from training_place import make_place, run_here, weights

from align_ko.errors import UserError
from align_ko.training import gate
from align_ko.training.finish import weights_taken
from align_ko.training.overfitting import OverfittingWatch, evaluations, risen, verdict


def test_the_documents_table():
    table = [(1.5, 1.6), (1.2, 1.3), (0.8, 1.1), (0.3, 1.5)]
    assert [verdict(*pair) for pair in table] == ["normal", "normal", "caution", "overfit"]


LOG = [
    {"step": 0, "eval_greedy_natural": 0.5},
    *({"step": step, "loss": 10.0 - step} for step in range(1, 8)),
    {"step": 7, "eval_loss": 5.1},
    {"step": 7, "eval_greedy_natural": 0.75},
    {"step": 8, "loss": 0.3},
    {"step": 8, "eval_loss": 5.9},
    {"step": 8, "train_runtime": 3.0, "train_loss": 4.0},
]


def test_evaluations_are_read_from_the_log():
    first, second = evaluations(LOG)
    # the mean of the last five losses: 7, 6, 5, 4, 3
    assert first == {"step": 7, "train_loss": 5.0, "eval_loss": 5.1, "verdict": "normal", "eval_greedy_natural": 0.75}
    assert (second["step"], second["verdict"]) == (8, "overfit") and math.isclose(
        second["train_loss"], (6 + 5 + 4 + 3 + 0.3) / 5
    )
    assert [entry["verdict"] for entry in evaluations(LOG, with_verdict=False)] == ["", ""]
    assert evaluations([{"step": 1, "eval_loss": 2.0}]) == [{"step": 1, "train_loss": None, "eval_loss": 2.0, "verdict": ""}]


@pytest.mark.parametrize(
    ("losses", "count"), [([], 0), ([1.0], 0), ([1.0, 1.0], 0), ([1.0, 1.1], 1), ([1.0, 1.3, 1.2], 2), ([1.0, 1.3, 0.9], 0)]
)
def test_risen(losses, count):
    assert risen(losses) == count


measured = gate.gate_measures


def watch_of(losses: list[float], patience: int, best_kept: bool = True, metric: str = "eval_loss"):
    out = StringIO()
    watch = OverfittingWatch(patience, console=Console(file=out, width=200))
    state = SimpleNamespace(log_history=[], global_step=0, is_world_process_zero=True)
    args = SimpleNamespace(load_best_model_at_end=best_kept, metric_for_best_model=metric, seen=[])
    control = SimpleNamespace(should_training_stop=False)
    for loss in losses:
        state.global_step += 10
        state.log_history += [{"step": state.global_step, "loss": 1.0}, {"step": state.global_step, "eval_loss": loss}]
        args.seen.append({"eval_loss": loss, "eval_greedy_natural": 0.5})
        watch.on_evaluate(args, state, control, metrics=args.seen[-1])
    return out.getvalue(), control, state, args


def test_the_watch_says_it_in_words_and_stops():
    said, control, state, args = watch_of([1.1, 1.3, 1.4], patience=2)
    assert said.splitlines() == [
        "step 10: train 1.000  eval 1.100  normal",
        "step 20: train 1.000  eval 1.300  caution",
        "step 30: train 1.000  eval 1.400  caution",
        "eval loss has risen above 1.100: training stops; step 10, the best, is what is saved",
    ]
    assert control.should_training_stop
    # a run that is resumed from that very evaluation stops as well, with a new watch that has seen nothing
    control = SimpleNamespace(should_training_stop=False)
    OverfittingWatch(2).on_train_begin(args, state, control)
    assert control.should_training_stop
    control = SimpleNamespace(should_training_stop=False)
    OverfittingWatch(3).on_train_begin(args, state, control)
    assert not control.should_training_stop
    assert "step 10, the best, is NOT kept" in watch_of([1.1, 1.2], patience=1, best_kept=False)[0]


def test_chosen_by_answers_the_evaluation_that_stops_is_never_the_best():
    said, _, _, args = watch_of([1.1, 1.3, 1.4], patience=2, metric="greedy_natural")
    assert said.splitlines()[-1] == (
        "eval loss has risen above 1.100: training stops; the best by greedy_natural before this evaluation is what is saved"
    )
    assert [metrics["eval_greedy_natural"] for metrics in args.seen] == [0.5, 0.5, -math.inf]
    assert [metrics["eval_greedy_natural"] for metrics in watch_of([1.1, 1.3], patience=1)[3].seen] == [0.5, 0.5]


# Which weights ------------------------------------------------------------------------------------------------------------


def test_the_best_checkpoint_is_the_result_and_never_silently_the_last(llama, tmp_path, monkeypatch, capsys):
    make_place(tmp_path, llama)
    monkeypatch.chdir(tmp_path)
    # a learning rate so high that eval loss jumps up at the third step
    flags = [
        "sft.yaml", "--training.learning_rate", "0.5", "--training.lr_scheduler_type", "constant", "--training.max_steps", "9",
        "--training.eval_steps", "1", "--training.save_steps", "1", "--early_stopping.patience", "1",
    ]  # fmt: skip
    run_here(monkeypatch, "run_sft", *flags)
    manifest = json.loads(Path("sft/manifest.json").read_text())
    losses = [entry["eval_loss"] for entry in manifest["evaluations"]]
    best = losses.index(min(losses)) + 1
    assert len(losses) == best + 1 < 9  # stopped at the first evaluation above the best
    assert (manifest["weights"]["from"], manifest["weights"]["step"]) == ("best", best)
    assert manifest["weights"]["value"] == min(losses)
    assert weights("sft") == weights(f"sft/checkpoint-{best}")
    capsys.readouterr()

    run_here(monkeypatch, "run_sft", *flags, "--training.load_best_model_at_end", "false", "--training.output_dir", "last")
    manifest = json.loads(Path("last/manifest.json").read_text())
    assert manifest["weights"]["from"] == "last" and weights("last") == weights(f"last/checkpoint-{len(losses)}")
    warning = f"these are the last weights (step {len(losses)}, eval loss"
    assert warning in capsys.readouterr().out and manifest["weights"]["warning"].startswith(warning)
    assert "가장 낮았던 체크포인트가 아니라 마지막" in Path("last/README.md").read_text()


def test_a_natural_checkpoint_with_risen_eval_loss_is_not_the_result(llama, tmp_path, monkeypatch):
    """Real trainer, gate before watch: the share rises at every evaluation, and at the last one eval loss has risen."""
    make_place(tmp_path, llama)
    monkeypatch.chdir(tmp_path)
    shares = iter([0.1, *(0.2 + n / 100 for n in range(9))])  # rises at every evaluation
    monkeypatch.setattr(gate, "gate_measures", lambda rows: {**measured(rows), "eval_greedy_natural": next(shares)})
    run_here(
        monkeypatch, "run_sft", "sft.yaml", "--training.learning_rate", "0.5", "--training.lr_scheduler_type", "constant",
        "--training.max_steps", "9", "--training.eval_steps", "1", "--training.save_steps", "1", "--gate.prompts", "1",
        "--gate.max_new_tokens", "2", "--training.metric_for_best_model", "greedy_natural", "--early_stopping.patience", "1",
    )  # fmt: skip
    manifest = json.loads(Path("sft/manifest.json").read_text())
    losses = [entry["eval_loss"] for entry in manifest["evaluations"]]
    assert losses[-1] > min(losses[:-1]) and len(losses) < 9
    assert (manifest["weights"]["from"], manifest["weights"]["step"]) == ("best", len(losses) - 1)
    assert weights("sft") == weights(f"sft/checkpoint-{len(losses) - 1}")


def test_a_lost_best_checkpoint_is_not_replaced_by_the_last():
    state = SimpleNamespace(best_metric=1.2, best_model_checkpoint=None, global_step=30, log_history=[])
    args = SimpleNamespace(load_best_model_at_end=True, output_dir="out", metric_for_best_model="loss")
    with pytest.raises(UserError, match="the best checkpoint of out is not there any more"):
        weights_taken(SimpleNamespace(args=args, state=state))
    with pytest.raises(UserError, match="every evaluation fell below the greedy gate, so nothing is saved to out"):
        weights_taken(SimpleNamespace(args=args, state=state), gate_passed=[False])


def test_weights_that_the_gate_refused_are_not_saved_as_the_last():
    state = SimpleNamespace(best_metric=None, best_model_checkpoint=None, global_step=200, log_history=[])
    trainer = SimpleNamespace(args=SimpleNamespace(load_best_model_at_end=False, output_dir="out"), state=state)
    said = r"load_best_model_at_end: the last evaluation fell below the greedy gate.*nothing is saved to out.*expected true"
    with pytest.raises(UserError, match=said):
        weights_taken(trainer, gate_passed=[True, False])
    assert weights_taken(trainer, gate_passed=[False, True]) == {"from": "last", "step": 200}
    trainer.args = SimpleNamespace(load_best_model_at_end=True, output_dir="out", metric_for_best_model="loss")
    state.best_metric, state.best_model_checkpoint = 1.2, "out/checkpoint-100"
    assert weights_taken(trainer, gate_passed=[True, False])["step"] == 100
