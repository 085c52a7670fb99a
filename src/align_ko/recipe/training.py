"""Recipe keys of a trustworthy run: the greedy gate, and what to do where a run was begun before. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Resume = Literal["auto", "replace", "fresh", "force"]
"""What to do in an output folder where a run was begun before.

auto: the same run goes on from its last whole checkpoint, a finished one is not repeated, a changed one is refused.
replace: as auto, but a changed run is started over.
fresh: start over. force: go on from the last checkpoint although recipe or data have changed.
"""


@dataclass(frozen=True)
class GateArgs:
    """A few prompts answered greedily at every evaluation: the numbers that eval loss does not show."""

    prompts: int = 0
    """How many prompts are answered; 0: no gate."""
    prompts_file: str = ""
    """JSONL rows with `messages` or `prompt`; empty: data.eval_file. Not the prompts of the final evaluation."""
    max_new_tokens: int = 200
    batch_size: int = 16
    max_seconds: float = 120.0
    """When a round takes longer, what was answered until then counts."""
    stop_margin: float | None = 0.1
    """Training stops when the natural share falls below that of the start by more than this; null: never."""


@dataclass(frozen=True)
class DistillArgs:
    """A decoding knob that training makes needless: the loss is the KL divergence from the starting model under the knob."""

    repetition_penalty: float = 1.0
    """As in transformers' generate, but over the answer's own tokens alone; 1.0: plain SFT. Otherwise nothing stops early."""

    @property
    def wanted(self) -> bool:
        return self.repetition_penalty != 1


def distill_problem(distill: DistillArgs, use_peft: bool, training: dict[str, Any]) -> tuple[str, str, str] | None:
    """(key, problem, expected) where `distill` cannot work, else None."""
    key = "distill.repetition_penalty"
    if not distill.wanted:
        return None
    if distill.repetition_penalty < 1:
        return key, f"{distill.repetition_penalty:g} would teach the model to repeat itself", "1.0 (plain SFT) or more"
    if not use_peft:
        return key, "the teacher is the model without its adapter, and here there is none", "model.use_peft: true"
    for other in ("packing", "padding_free", "loss_type"):
        if training.get(other):
            return f"training.{other}", "distillation has a loss of its own, over padded batches", "no such key beside distill"
    return None


GATE_METRICS = ("greedy_natural", "greedy_stopped")  # higher is better; `metric_for_best_model` takes them


def gate_problem(gate: GateArgs, training: dict[str, Any]) -> tuple[str, str, str] | None:
    """(key, problem, expected) where gate and `training` do not go together, else None."""
    metric = str(training.get("metric_for_best_model") or "").removeprefix("eval_")
    if not gate.prompts:
        if metric.startswith("greedy_"):
            return "training.metric_for_best_model", f"{metric} needs the greedy gate", "gate.prompts above 0, 32 for instance"
        return None
    if training.get("eval_strategy", "no") == "no":
        return "gate.prompts", "the gate looks at every evaluation, and there is none", "training.eval_strategy: steps"
    if not metric.startswith("greedy_"):
        return None
    if metric not in GATE_METRICS:
        return "training.metric_for_best_model", f"{metric} cannot choose", "eval_loss, " + " or ".join(GATE_METRICS)
    if training.get("greater_is_better") is False:
        return "training.greater_is_better", f"false would keep the checkpoint with the worst {metric}", "true, or leave it out"
    return None
