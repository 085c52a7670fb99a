"""The loss of a training run as a chart: the trainer's log of its last checkpoint, and the verdict on overfitting of each
evaluation, from its manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # it imports torch
    from align_ko.training.overfitting import Evaluation


class Point(NamedTuple):
    """An evaluation; `x` and `y` in percent of the chart, from its top left."""

    x: float
    y: float
    evaluation: Evaluation


class Curves(NamedTuple):
    """Lines as SVG points in percent of the chart; `low` and `high` are the losses at its bottom and top."""

    train: str
    held_out: str
    points: list[Point]
    low: float
    high: float
    first: int
    last: int


def loss_curves(folder: Path, manifest: Mapping[str, Any]) -> Curves | None:
    """None for a run without an evaluation of its loss, such as GRPO, and where all is of one step."""
    seen: list[Evaluation] = manifest.get("evaluations") or []
    if not seen or manifest.get("stage") == "grpo":
        return None
    held_out = [(int(each["step"]), float(each["eval_loss"])) for each in seen]
    train = [(int(entry["step"]), float(entry["loss"])) for entry in _log(folder) if "loss" in entry]
    steps, losses = zip(*held_out, *train, strict=True)
    first, last, low, high = min(steps), max(steps), min(losses), max(losses)
    if first == last:
        return None

    def place(step: int, loss: float) -> tuple[float, float]:
        x = (step - first) / (last - first)
        y = (high - loss) / (high - low) if high > low else 0.5
        return round(100 * x, 2), round(100 * y, 2)

    drawn, held = (" ".join(f"{x},{y}" for x, y in (place(*each) for each in line)) for line in (train, held_out))
    points = [Point(*place(*each), evaluation) for each, evaluation in zip(held_out, seen, strict=True)]
    return Curves(drawn, held, points, low, high, first, last)


def _log(folder: Path) -> list[dict[str, float]]:
    """What the trainer logged up to its last checkpoint; nothing where no checkpoint is left."""
    found = [file for file in folder.glob("checkpoint-*/trainer_state.json") if file.parent.name.rpartition("-")[2].isdigit()]
    last = max(found, key=lambda file: int(file.parent.name.rpartition("-")[2]), default=None)
    log: list[dict[str, float]] = json.loads(last.read_text(encoding="utf-8"))["log_history"] if last else []
    return log
