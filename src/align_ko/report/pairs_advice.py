"""Which loss the pairs at hand call for: plain rules with their thresholds in the open, nothing learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FEW_PAIRS = 1000
LENGTH_GAP = 0.2
OFF_POLICY = 0.5
GENERIC = 0.03


def advise(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Fields of dpo.yaml's `training`, each with the numbers and the rule behind it, in English and in Korean.

    Rules: `sigmoid_norm`, the ablation's winner (docs/experiments.md), but `sigmoid` with `ld_alpha` where the chosen sides are
    on average more than a fifth shorter than the rejected ones; the SFT term below 1,000 pairs or with a collapse above .03;
    without the SFT term WPO's `use_weighting` where more than half of the chosen sides were not written by the model.
    """
    pairs, lengths, gap = summary["pairs"], summary["mean_characters"], summary["length_gap_share"]
    collapse, curated = summary["chosen"]["collapse"], summary["off_policy_share"]
    holds, shorter = pairs < FEW_PAIRS or collapse > GENERIC, gap < -LENGTH_GAP
    preference = "sigmoid" if shorter else "sigmoid_norm"
    length = f"chosen {lengths['chosen']:.0f}, rejected {lengths['rejected']:.0f} characters on average ({gap:+.0%})"
    said = f"평균 길이는 선택 {lengths['chosen']:.0f}자, 거부 {lengths['rejected']:.0f}자입니다."
    rules = [
        _rule(
            "loss_type",
            f"[{preference}, sft]" if holds else f"[{preference}]",
            f"{pairs} pairs, collapse {collapse:.3f} in the chosen answers; {length}",
            f"sft: fewer than {FEW_PAIRS:,} pairs, or collapse above {GENERIC}; sigmoid if chosen {LENGTH_GAP:.0%} shorter",
            f"쌍은 {pairs:,}개, 선택된 답변의 쏠림은 {collapse:.3f}이고 {said}",
            f"쌍이 {FEW_PAIRS:,}개보다 적거나 쏠림이 {GENERIC}보다 크면 sft 항으로 내용을 붙들고, "
            f"길이로 나누는 sigmoid_norm은 선택된 답변이 {LENGTH_GAP:.0%} 넘게 짧을 때만 sigmoid로 바꿉니다.",
        )
    ]
    if holds:
        rules.append(
            _rule(
                "loss_weights",
                "[1.0, 1.0]",
                "the SFT term as strong as the preference term",
                "goes with sft",
                "sft 항을 선호 항과 같은 세기로 둡니다.",
                "sft 항이 있을 때 함께 씁니다.",
            )
        )
    if not shorter:
        rules.append(
            _rule(
                "beta",
                "5.0",
                "sigmoid_norm counts per token, so its beta is larger",
                "goes with sigmoid_norm",
                "sigmoid_norm은 토큰마다 세므로 beta의 눈금이 다릅니다.",
                "sigmoid_norm일 때 함께 씁니다.",
            )
        )
    if shorter:
        rules.append(
            _rule(
                "ld_alpha",
                "0.5",
                f"{length}: what the longer side has beyond the shorter counts half",
                f"chosen sides over {LENGTH_GAP:.0%} shorter",
                f"{said} 긴 쪽이 더 가진 토큰은 절반만 셉니다.",
                f"선택된 답변이 {LENGTH_GAP:.0%} 넘게 짧을 때 씁니다.",
            )
        )
    if curated > OFF_POLICY and not holds:  # TRL cannot weigh beside the sft term (recipe/losses.py)
        rules.append(
            _rule(
                "use_weighting",
                "true",
                f"{curated:.0%} of the chosen sides are curated answers, not the model's own",
                f"more than {OFF_POLICY:.0%} of the chosen sides are curated",
                f"선택된 답변의 {curated:.0%}는 모델이 쓴 것이 아니라 모범 답안입니다.",
                f"모범 답안이 {OFF_POLICY:.0%}를 넘으면 WPO로 모델이 낼 법한 쌍에 무게를 둡니다.",
            )
        )
    return rules


def _rule(key: str, value: str, because: str, rule: str, because_ko: str, rule_ko: str) -> dict[str, str]:
    return {"key": key, "value": value, "because": because, "rule": rule, "because_ko": because_ko, "rule_ko": rule_ko}
