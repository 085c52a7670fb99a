"""Where the marks of the report's three plots go. Plain numbers: the template draws them as HTML and SVG.

Drawn there rather than by matplotlib, because labels are Korean (a machine may have no font for them, a browser has),
follow dark and light, and stay text that can be read out, searched and copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align_ko.evaluation.scores import GREEDY_SETTING

BINS = 64
"""Dots whose lengths fall into the same bin are stacked."""

STRIP_HEIGHT = 76
"""Pixels of one row of dots."""

_STEP = 7.0  # pixels between two stacked dots, less where the stack would not fit


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: `width` in percent of the longest."""

    count: int
    share: float
    width: float


def bars(counts: Mapping[str, int]) -> dict[str, Bar]:
    """Counts with their shares of the whole, and widths in percent of the largest.

    >>> bars({"repetition": 3, "filler": 1})["filler"]
    Bar(count=1, share=0.25, width=33.3)
    """
    total, most = sum(counts.values()) or 1, max(counts.values(), default=0) or 1
    return {name: Bar(count, count / total, round(100 * count / most, 1)) for name, count in counts.items()}


def natural_bars(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per model its natural share under each decoding, with the interval, and the decoding gap in points."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for result in summary["results"]:
        rows.setdefault(result["model"], []).append(result)
    return [{"model": model, "bars": bars, "gap": summary["decoding_gap"].get(model)} for model, bars in rows.items()]


def fault_bars(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`[{"code": "repetition", "bars": [{"model": "base", "share": 0.9}, …]}, …]` under greedy, the worst first."""
    greedy = [result for result in summary["results"] if result["setting"] == GREEDY_SETTING]
    codes = list(greedy[0]["faults"]) if greedy else []
    rows = [{"code": code, "bars": [{"model": r["model"], "share": r["faults"][code]} for r in greedy]} for code in codes]
    worst = [(max(bar["share"] for bar in row["bars"]), row) for row in rows]
    return [row for share, row in sorted(worst, key=lambda pair: -pair[0]) if share > 0]


def length_strips(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One strip of dots per model (held-out, greedy) and one for the references: x in percent, y in pixels.

    `{"ticks": [{"x": 0.0, "label": "0"}, …],
      "strips": [{"model", "median", "median_x", "dots": [{"x", "y", "natural"}, …]}, …]}`
    """
    lengths: dict[str, list[tuple[int, bool]]] = {}
    references: dict[str, int] = {}
    for row in rows:
        if row["kind"] == "heldout" and row["setting"] == GREEDY_SETTING:
            lengths.setdefault(row["model"], []).append((len(row["response"]), row["natural"]))
            if row.get("reference"):
                references[row["prompt_id"]] = len(row["reference"])
    named: list[tuple[str | None, list[tuple[int, bool]]]] = [*lengths.items()]
    if references:
        named.append((None, [(length, True) for length in references.values()]))
    longest = max((length for _, values in named for length, _ in values), default=0)
    step = _nice_step(longest)
    top = step * max(1, -(-longest // step))
    return {
        "height": STRIP_HEIGHT,
        "ticks": [{"x": 100 * value / top, "label": f"{value:,}"} for value in range(0, top + 1, step)],
        "strips": [_strip(model, values, top) for model, values in named],
    }


def _strip(model: str | None, values: Sequence[tuple[int, bool]], top: int) -> dict[str, Any]:
    bins: dict[int, list[tuple[int, bool]]] = {}
    for length, natural in sorted(values):
        bins.setdefault(length * BINS // top, []).append((length, natural))
    tallest = max(map(len, bins.values()))
    step = min(_STEP, (STRIP_HEIGHT - 10) / tallest)
    middle = sorted(length for length, _ in values)
    median = (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2
    dots = [
        # first on the line, then above and below it in turn
        {
            "x": round(100 * length / top, 2),
            "y": round(STRIP_HEIGHT / 2 + step * ((place + 1) // 2) * (-1) ** place, 1),
            "natural": natural,
        }
        for stack in bins.values()
        for place, (length, natural) in enumerate(stack)
    ]
    return {"model": model, "median": median, "median_x": round(100 * median / top, 2), "dots": dots}


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
