"""Where the marks of the reports' charts go. Plain numbers: the templates draw them as HTML and SVG.

Drawn there rather than by matplotlib, because labels are Korean (a machine may have no font for them, a browser has),
follow dark and light, and stay text that can be read out, searched and copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from align_ko.evaluation.scores import GREEDY_SETTING, Gap, Result, ScoredAnswer, Summary

BINS = 64
"""Dots whose lengths are in the same bin are stacked."""
STRIP_HEIGHT = 76
"""Pixels of one row of dots."""
_STEP = 7.0  # pixels between two stacked dots, less where the stack would not fit


class ModelBars(NamedTuple):
    model: str
    bars: list[Result]  # one per setting
    gap: Gap | None


def natural_bars(summary: Summary) -> list[ModelBars]:
    """Per model its natural share under each decoding, with the interval, and the decoding gap in points."""
    rows: dict[str, list[Result]] = {}
    for result in summary["results"]:
        rows.setdefault(result["model"], []).append(result)
    return [ModelBars(model, results, summary["decoding_gap"].get(model)) for model, results in rows.items()]


def fault_bars(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Fault → model → share of its answers, the worst first; faults that no model shows are left out."""
    codes = list(results[0]["faults"]) if results else []
    shares = {code: {result["model"]: result["faults"][code] for result in results} for code in codes}
    worst = sorted(shares, key=lambda code: -max(shares[code].values()))
    return {code: shares[code] for code in worst if any(shares[code].values())}


class Dot(NamedTuple):
    x: float
    y: float
    natural: bool


class Strip(NamedTuple):
    """The lengths of one model's answers; without a model those of the references."""

    model: str | None
    median: float
    median_x: float
    dots: list[Dot]


class Strips(NamedTuple):
    """x in percent, y in pixels."""

    height: int
    ticks: list[tuple[float, str]]  # x, label
    strips: list[Strip]


def length_strips(rows: Iterable[ScoredAnswer]) -> Strips:
    """One strip of dots per model (held-out, greedy) and one for the references."""
    lengths: dict[str, list[tuple[int, bool]]] = {}
    references: dict[str, int] = {}
    for row in rows:
        if row["kind"] == "heldout" and row["setting"] == GREEDY_SETTING:
            lengths.setdefault(row["model"], []).append((len(row["response"]), row["natural"]))
            if row["reference"]:
                references[row["prompt_id"]] = len(row["reference"])
    named: list[tuple[str | None, list[tuple[int, bool]]]] = [*lengths.items()]
    if references:
        named.append((None, [(length, True) for length in references.values()]))
    longest = max((length for _, values in named for length, _ in values), default=0)
    step = _nice_step(longest)
    top = step * max(1, -(-longest // step))
    ticks = [(100 * value / top, f"{value:,}") for value in range(0, top + 1, step)]
    return Strips(STRIP_HEIGHT, ticks, [_strip(model, values, top) for model, values in named])


def _strip(model: str | None, values: Sequence[tuple[int, bool]], top: int) -> Strip:
    bins: dict[int, list[tuple[int, bool]]] = {}
    for length, natural in sorted(values):
        bins.setdefault(length * BINS // top, []).append((length, natural))
    step = min(_STEP, (STRIP_HEIGHT - 10) / max(map(len, bins.values())))
    middle = sorted(length for length, _ in values)
    median = (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2
    dots = [
        # the first on the line, the others above and below it in turn
        Dot(round(100 * length / top, 2), round(STRIP_HEIGHT / 2 + step * ((n + 1) // 2) * (-1) ** n, 1), natural)
        for stack in bins.values()
        for n, (length, natural) in enumerate(stack)
    ]
    return Strip(model, median, round(100 * median / top, 2), dots)


def _nice_step(longest: int) -> int:
    """About five ticks at round numbers.

    >>> _nice_step(430), _nice_step(1900)
    (100, 500)
    """
    size = 10
    while True:
        for factor in (1, 2, 5):
            if longest <= 5 * size * factor:
                return size * factor
        size *= 10
