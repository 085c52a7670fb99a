"""Is a round better than the one before, within the limits on what no single answer shows? Numbers in, verdict out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from align_ko.evaluation.scores import GREEDY_SETTING, Result
from align_ko.recipe import AcceptanceArgs


@dataclass(frozen=True)
class Verdict:
    """`reasons` is empty for an accepted round; `gain` is natural share over the round before (0.05 = 5 points)."""

    accepted: bool
    gain: float
    reasons: tuple[str, ...]


def read_measures(scores: Path, model: str) -> Result:
    """The greedy line of one model in a scores.json."""
    results: list[Result] = json.loads(scores.read_text(encoding="utf-8"))["results"]
    return next(result for result in results if (result["model"], result["setting"]) == (model, GREEDY_SETTING))


def broken_limits(measures: Result, start_nll: float | None, gate: AcceptanceArgs) -> dict[str, str]:
    """Measure → what is wrong with it, for every broken limit: `{"collapse": "collapse 0.154 is over 0.03"}`."""
    limits = _limits(measures, start_nll, gate)
    return {measure: text for measure, (excess, text) in limits.items() if excess > 0}


def _limits(measures: Result, start_nll: float | None, gate: AcceptanceArgs) -> dict[str, tuple[float, str]]:
    """Measure → how far it is beyond its limit (broken above 0), "collapse 0.154 is over 0.03". NLL is compared with the
    start's."""
    collapse, relevant, distinct = measures["collapse"], measures["relevant"], measures["distinct"]
    length, low, high = measures["median_characters"], gate.min_median_characters, gate.max_median_characters
    limits = {
        "collapse": (collapse, collapse - gate.max_collapse, f"over {gate.max_collapse:g}"),
        "relevant": (relevant, gate.min_relevant - relevant, f"under {gate.min_relevant:g}"),
        "distinct": (distinct, gate.min_distinct - distinct, f"under {gate.min_distinct:g}"),
        "median_characters": (length, max(low - length, length - high), f"outside {low:g} to {high:g}"),
    }
    nll = measures["reference_nll"]
    if nll is not None and start_nll is not None:
        most = start_nll * (1 + gate.max_nll_rise)
        limits["reference_nll"] = nll, nll - most, f"over {most:.3f} ({gate.max_nll_rise:.0%} above the start's)"
    return {name: (excess, f"{name} {value:.3g} is {expected}") for name, (value, excess, expected) in limits.items()}


def judge_round(now: Result, before: Result, start: Result, gate: AcceptanceArgs, may_lose: float = 0.0) -> Verdict:
    """Refused: fewer natural answers than the round before (by more than the share `may_lose`), or a limit broken, and not less
    so by the round before: else no round could improve a start whose answers are alike or irrelevant."""
    gain = now["natural"] - before["natural"]
    fell = gain < -may_lose - 1e-9  # 49/51 - 50/51 is not -1/51 to the last bit
    reasons = [f"natural {now['natural']:.1%} is under the round before ({before['natural']:.1%})"] if fell else []
    earlier = _limits(before, start["reference_nll"], gate)
    limits = _limits(now, start["reference_nll"], gate)
    reasons += [text for name, (excess, text) in limits.items() if excess > max(0.0, earlier.get(name, (0.0, ""))[0])]
    return Verdict(not reasons, gain, tuple(reasons))
