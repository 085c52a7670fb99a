"""Say in words whether a run still learns or already memorises, and stop it when eval loss rises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict, cast

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# The strategy document's table, as (train loss, eval loss): (1.5, 1.6) and (1.2, 1.3) normal, (0.8, 1.1) caution,
# (0.3, 1.5) overfit. What separates its rows is the gap; the bounds are midway between .1, .3 and 1.2.
CAUTION_GAP = 0.2
OVERFIT_GAP = 0.75
Metrics = dict[str, float] | None


class Evaluation(TypedDict):
    """One evaluation; beside these the gate's numbers, `eval_greedy_…`."""

    step: int
    train_loss: float | None
    eval_loss: float
    verdict: str


def verdict(train_loss: float, eval_loss: float) -> str:
    """Train and eval loss (1.2, 1.3) → `normal`, (0.8, 1.1) → `caution`, (0.3, 1.5) → `overfit`."""
    gap = eval_loss - train_loss
    return "normal" if gap < CAUTION_GAP else "caution" if gap < OVERFIT_GAP else "overfit"


def evaluations(log: Iterable[Mapping[str, float]], with_verdict: bool = True) -> list[Evaluation]:
    """Every evaluation in a trainer's `log_history`, with the gate's numbers; a checkpoint has it, so a resumed run knows all
    of it. The train loss is the mean of the five logged before, or None. No verdict in DPO, whose loss starts at ln 2; nothing
    of GRPO, whose loss says nothing."""
    result: list[Evaluation] = []
    recent: list[float] = []
    for entry in log:
        if "loss" in entry:
            recent = [*recent[-4:], entry["loss"]]
        greedy = {key: value for key, value in entry.items() if key.startswith("eval_greedy_")}
        if greedy and result and result[-1]["step"] == entry["step"]:
            result[-1].update(cast(Evaluation, greedy))
        if "eval_loss" in entry and "eval_reward" not in entry:
            train = sum(recent) / len(recent) if recent else None
            word = verdict(train, entry["eval_loss"]) if train is not None and with_verdict else ""
            result.append({"step": int(entry["step"]), "train_loss": train, "eval_loss": entry["eval_loss"], "verdict": word})
    return result


def risen(losses: Iterable[float]) -> int:
    """How many evaluations in a row, the last included, are above the best before them: 1.6, 1.3, 1.31, 1.4 → 2"""
    best, count = float("inf"), 0
    for loss in losses:
        count = count + 1 if loss > best else 0
        best = min(best, loss)
    return count


class OverfittingWatch(TrainerCallback):
    """Prints the verdict at each evaluation; stops after `patience` evaluations in a row above the best. All is
    read from the trainer's log, so a resumed run stops where it would have stopped."""

    def __init__(self, patience: int = 1, with_verdict: bool = True, console: Console | None = None) -> None:
        self.patience, self.with_verdict = patience, with_verdict
        self.console = console or Console()
        self.history: list[Evaluation] = []

    def on_train_begin(self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object) -> TrainerControl:
        self.history = evaluations(state.log_history, self.with_verdict)
        control.should_training_stop |= self._too_often()
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Metrics = None, **kwargs: object
    ) -> TrainerControl:
        before = len(self.history)
        self.history = evaluations(state.log_history, self.with_verdict)
        if len(self.history) == before:
            return control
        now, best = self.history[-1], min(self.history, key=lambda entry: entry["eval_loss"])
        if state.is_world_process_zero:
            train = "   –  " if now["train_loss"] is None else f"{now['train_loss']:.3f}"
            self.console.print(f"step {state.global_step}: train {train}  eval {now['eval_loss']:.3f}  {now['verdict']}")
        if self._too_often():
            chosen, by = f"step {best['step']}, the best,", "eval_" + str(args.metric_for_best_model).removeprefix("eval_")
            if by.startswith("eval_greedy_"):  # chosen by answers, but never one that this stop is about
                chosen = f"the best by {by.removeprefix('eval_')} before this evaluation"
                if metrics is not None:
                    metrics[by] = float("-inf")
            if state.is_world_process_zero:
                saved = "is what is saved" if args.load_best_model_at_end else "is NOT kept: load_best_model_at_end is false"
                self.console.print(f"eval loss has risen above {best['eval_loss']:.3f}: training stops; {chosen} {saved}")
            control.should_training_stop = True
        return control

    def _too_often(self) -> bool:
        return risen(entry["eval_loss"] for entry in self.history) >= self.patience
