"""The decoding gap over a whole grid of settings: what would tuned knobs still add to greedy decoding?

Pure text, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import sqrt
from statistics import NormalDist, mean
from typing import Any

from align_ko.evaluation.scores import GREEDY
from align_ko.recipe import DecodingArgs, GridArgs


def cells(grid: GridArgs) -> dict[str, DecodingArgs]:
    """Every combination by name, `t0.7-p0.9-r1.1`; in the order temperature, top_p, repetition_penalty."""
    every = product(grid.temperature, grid.top_p, grid.repetition_penalty)
    return {f"t{t:g}-p{p:g}-r{r:g}": DecodingArgs(t, p, r) for t, p, r in every}


def grid_table(summary: Mapping[str, Any], grid: GridArgs) -> str:
    """Markdown: one table per model, a row per temperature and penalty, a column per top_p, natural share in %.

    The best cell is bold. Below: greedy, the gap in points, and how much of it may be luck.
    """
    shares = {(r["model"], r["setting"]): (r["natural"], r["n"]) for r in summary["results"]}
    text = ""
    for model, gap in summary["decoding_gap"].items():
        heads = ["temperature", "repetition_penalty", *(f"top_p {p:g}" for p in grid.top_p)]
        text += f"## {model}\n\n| {' | '.join(heads)} |\n|{'---:|' * len(heads)}\n"
        for t, r in product(grid.temperature, grid.repetition_penalty):
            row = [f"{t:g}", f"{r:g}"]
            for p in grid.top_p:
                name = f"t{t:g}-p{p:g}-r{r:g}"
                said = f"{100 * shares[model, name][0]:.1f}"
                row.append(f"**{said}**" if name == gap["setting"] else said)
            text += f"| {' | '.join(row)} |\n"
        greedy, n = shares[model, GREEDY]
        text += f"\ngreedy {100 * greedy:.1f} %, best cell {gap['setting']} {100 * gap['sampling']:.1f} %: "
        luck = _luck(greedy, n, len(cells(grid)))
        text += f"gap **{gap['points']:.1f} points** over {n} prompts (up to {luck:.1f} of them luck).\n\n"
    return text + (
        "Natural share in %. The best cell is chosen after the fact: of as many settings that are all just as good as greedy, "
        "the best would lead by the points given as luck, if answers to one prompt had nothing in common.\n"
    )


def _luck(share: float, n: int, count: int) -> float:
    """Mean lead, in points, of the best of `count` independent settings whose true natural share is `share`, over `n` prompts.

    The standard error of a share times the mean of the largest of `count` standard normals (1.82 for 18).
    """
    normal, steps = NormalDist(), 1000
    largest = mean(normal.inv_cdf(((step + 0.5) / steps) ** (1 / count)) for step in range(steps))
    return 100 * sqrt(share * (1 - share) / n) * largest
