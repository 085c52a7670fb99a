"""Say in words whether a run still learns or already memorises, and stop it when eval loss rises."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# The strategy document's table, as (train loss, eval loss): (1.5, 1.6) and (1.2, 1.3) normal, (0.8, 1.1) caution,
# (0.3, 1.5) overfit. What separates its rows is the gap; the bounds lie midway between .1, .3 and 1.2.
CAUTION_GAP = 0.2
OVERFIT_GAP = 0.75


def verdict(train_loss: float, eval_loss: float) -> str:
    """`normal`, `caution` or `overfit`.

    >>> [verdict(*pair) for pair in [(1.5, 1.6), (1.2, 1.3), (0.8, 1.1), (0.3, 1.5)]]
    ['normal', 'normal', 'caution', 'overfit']
    """
    gap = eval_loss - train_loss
    return "normal" if gap < CAUTION_GAP else "caution" if gap < OVERFIT_GAP else "overfit"


class OverfittingWatch(TrainerCallback):
    """Prints the verdict at each evaluation; stops after `patience` evaluations in a row above the best by `min_rise`."""

    def __init__(
        self, patience: int = 1, min_rise: float = 0.0, with_verdict: bool = True, console: Console | None = None
    ) -> None:
        self.patience, self.min_rise, self.with_verdict = patience, min_rise, with_verdict
        self.console = console or Console()
        self.best = float("inf")
        self.risen = 0
        self.history: list[dict[str, Any]] = []

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        loss = (metrics or {}).get("eval_loss")
        if loss is None:
            return
        recent = [entry["loss"] for entry in state.log_history if "loss" in entry][-5:]
        train = sum(recent) / len(recent) if recent else float("nan")
        # the document's table is about SFT losses; a DPO loss starts at ln 2 and says nothing of memorising
        word = verdict(train, loss) if recent and self.with_verdict else ""
        self.risen = self.risen + 1 if loss > self.best + self.min_rise else 0
        self.best = min(self.best, loss)
        self.history.append({"step": state.global_step, "train_loss": train, "eval_loss": loss, "verdict": word})
        if state.is_world_process_zero:
            self.console.print(f"step {state.global_step}: train {train:.3f}  eval {loss:.3f}  {word}")
        if self.risen >= self.patience:
            if state.is_world_process_zero:
                self.console.print(f"eval loss has risen above {self.best:.3f}: training stops, the best checkpoint is kept")
            control.should_training_stop = True
