"""Is a round better than the one before, and has it kept what no single answer shows? Numbers in, verdict out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_ko.evaluation.scores import GREEDY_SETTING
from align_ko.recipe import AcceptanceArgs

Measures = dict[str, Any]
SHOWN = (
    "natural",
    "loops",
    "filler",
    "unfinished",
    "median_characters",
    "distinct",
    "collapse",
    "relevant",
    "chrf",
    "reference_nll",
)


@dataclass(frozen=True)
class Verdict:
    """`reasons` is empty for an accepted round; `gain` is natural share over the round before (0.05 = 5 points)."""

    accepted: bool
    gain: float
    reasons: tuple[str, ...]


def read_measures(scores: Path, model: str) -> Measures:
    """The greedy line of one model in a scores.json."""
    results = json.loads(scores.read_text(encoding="utf-8"))["results"]
    found: Measures = next(result for result in results if (result["model"], result["setting"]) == (model, GREEDY_SETTING))
    return found


def broken_limits(measures: Measures, start_nll: float | None, gate: AcceptanceArgs) -> dict[str, str]:
    """Measure → what is wrong with it, for every limit of the gate that is not held.

    `{"collapse": "collapse 0.154 is over 0.03"}`. Reference NLL is held against the start's, where there are references.
    """
    over: list[tuple[str, float, bool, str]] = [
        ("collapse", measures["collapse"], measures["collapse"] > gate.max_collapse, f"over {gate.max_collapse:g}"),
        ("relevant", measures["relevant"], measures["relevant"] < gate.min_relevant, f"under {gate.min_relevant:g}"),
        ("distinct", measures["distinct"], measures["distinct"] < gate.min_distinct, f"under {gate.min_distinct:g}"),
    ]
    length, low, high = measures["median_characters"], gate.min_median_characters, gate.max_median_characters
    over.append(("median_characters", length, not low <= length <= high, f"outside {low:g} to {high:g}"))
    nll = measures["reference_nll"]
    if nll is not None and start_nll is not None:
        most = start_nll * (1 + gate.max_nll_rise)
        over.append(("reference_nll", nll, nll > most, f"over {most:.3f} ({gate.max_nll_rise:.0%} above the start's)"))
    return {name: f"{name} {value:.3g} is {told}" for name, value, broken, told in over if broken}


_WORSE: dict[str, Callable[[float, float, AcceptanceArgs], bool]] = {
    "collapse": lambda now, before, gate: now > before,
    "relevant": lambda now, before, gate: now < before,
    "distinct": lambda now, before, gate: now < before,
    "median_characters": lambda now, before, gate: _outside(now, gate) > _outside(before, gate),
    "reference_nll": lambda now, before, gate: now > before,
}


def _outside(length: float, gate: AcceptanceArgs) -> float:
    """Characters by which a median misses its bounds."""
    return max(gate.min_median_characters - length, length - gate.max_median_characters, 0.0)


def judge_round(now: Measures, before: Measures, start: Measures, gate: AcceptanceArgs, may_lose: float = 0.0) -> Verdict:
    """Refused: fewer natural answers than the round before (by more than the share `may_lose`), or a limit broken.

    A limit that the round before did not hold either (an SFT model whose answers are alike, a base that is irrelevant)
    refuses only a round that is worse by it: otherwise nothing could ever mend such a start.
    """
    gain = now["natural"] - before["natural"]
    fell = gain < -may_lose - 1e-9  # 49/51 - 50/51 is not -1/51 to the last bit
    reasons = [f"natural {now['natural']:.1%} is under the round before ({before['natural']:.1%})"] if fell else []
    broken_before = broken_limits(before, start["reference_nll"], gate)
    for name, told in broken_limits(now, start["reference_nll"], gate).items():
        if name not in broken_before or _WORSE[name](now[name], before[name], gate):
            reasons.append(told)
    return Verdict(not reasons, gain, tuple(reasons))
