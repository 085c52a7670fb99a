"""Training and eval loss, the verdicts and the greedy share as one picture, for the card and for a glance into the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {"normal": "#2a9d57", "caution": "#e0a100", "overfit": "#c8342b", "": "#555555"}


def draw_curves(path: Path, log: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Any]]) -> bool:
    """Write a PNG; False (and no file) where nothing was logged. `seen`: `overfitting.evaluations`.

    Labels are English: matplotlib has no Korean font of its own, and would draw boxes.
    """
    train = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    natural = [(entry["step"], entry["eval_greedy_natural"]) for entry in log if "eval_greedy_natural" in entry]
    if not train and not seen:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if train:
        axes.plot(*zip(*train, strict=True), color="#8899aa", linewidth=1, label="train loss")
    if seen:
        steps, losses = [row["step"] for row in seen], [row["eval_loss"] for row in seen]
        axes.plot(steps, losses, color="#1f3b73", linewidth=1.5, label="eval loss")
        for word, colour in COLOURS.items():
            points = [(row["step"], row["eval_loss"]) for row in seen if row["verdict"] == word]
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, zorder=3, label=word or None)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if natural:
        share = axes.twinx()
        share.plot(*zip(*natural, strict=True), color="#8a3ffc", linestyle="--", marker=".", label="greedy natural")
        share.set_ylim(0, 1.02)
        share.set_ylabel("greedy natural")
    figure.legend(loc="outside upper center", ncols=6, fontsize="small", frameon=False)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", metadata={"Software": None})
    temporary.replace(path)
    return True
