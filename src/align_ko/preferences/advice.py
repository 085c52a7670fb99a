"""Which loss the pairs at hand call for: plain rules with their thresholds in the open, nothing learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FEW_PAIRS = 1000
LENGTH_GAP = 0.2
OFF_POLICY = 0.5
GENERIC = 0.03


def advise(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fields of dpo.yaml's `training` with the number and the rule behind each, in the order of their weight.

    Rules: the SFT term below 1,000 pairs or with a collapse above .03; `sigmoid_norm` where the chosen sides are on average
    more than a fifth longer than the rejected ones, `ld_alpha` where they are more than a fifth shorter (else `sigmoid`);
    WPO's `use_weighting` where more than half of the chosen sides were not written by the model.
    """
    pairs, lengths, gap = summary["pairs"], summary["mean_characters"], summary["length_gap_share"]
    collapse = summary["chosen"]["collapse"]
    length = f"chosen {lengths['chosen']:.0f}, rejected {lengths['rejected']:.0f} characters on average ({gap:+.0%})"
    rules: list[dict[str, Any]] = []
    if pairs < FEW_PAIRS or collapse > GENERIC:
        because = f"{pairs} pairs, collapse {collapse:.3f} in the chosen answers: the SFT term holds the content"
        rules.append(
            _rule("loss_type", "[sigmoid, sft]", because, f"fewer than {FEW_PAIRS:,} pairs, or collapse above {GENERIC}")
        )
        rules.append(_rule("loss_weights", "[1.0, 1.0]", "as strong as the preference term", "goes with the SFT term"))
    else:
        because = f"{pairs} pairs, collapse {collapse:.3f}: no SFT term is needed"
        rules.append(_rule("loss_type", "[sigmoid]", because, f"{FEW_PAIRS:,} pairs or more, and collapse up to {GENERIC}"))
    if gap > LENGTH_GAP:
        value = rules[0]["value"].replace("sigmoid", "sigmoid_norm")
        because = f"{rules[0]['because']}; {length}: per token, so that longer is not better"
        rules[0] = _rule("loss_type", value, because, f"{rules[0]['rule']}; chosen sides over {LENGTH_GAP:.0%} longer")
        rules.append(_rule("beta", "5.0", "sigmoid_norm counts per token, so its beta is larger", "goes with sigmoid_norm"))
    elif gap < -LENGTH_GAP:
        because = f"{length}: what the longer side has beyond the shorter counts half"
        rules.append(_rule("ld_alpha", "0.5", because, f"chosen sides over {LENGTH_GAP:.0%} shorter"))
    if summary["off_policy_share"] > OFF_POLICY:
        because = (
            f"{summary['off_policy_share']:.0%} of the chosen sides are curated answers, which the model would not have said"
        )
        rules.append(_rule("use_weighting", "true", because, f"more than {OFF_POLICY:.0%} of the chosen sides are curated"))
    return rules


def _rule(key: str, value: str, because: str, rule: str) -> dict[str, Any]:
    return {"key": key, "value": value, "because": because, "rule": rule}
