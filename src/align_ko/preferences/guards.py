"""Checks on the whole set of pairs, and on evaluation prompts: pairs are dropped here, each with its reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from align_ko import reasons
from align_ko.korean import WEIGHTS
from align_ko.korean.set_measures import collapse_shares
from align_ko.overlap import PromptIndex, overlaps, prompts_to_hold_out
from align_ko.recipe import PairingArgs
from align_ko.records import Message, PreferencePair

_WORD = re.compile(r"[가-힣]{2,}")
_CROWDS = 3
"""Times a stem has to be repeated, and in a tenth of the words, to crowd an answer."""
_STEM = 2  # syllables: 다양한, 다양하게 and 다양성 are one
_IRRELEVANT = 0.3  # between a wrong particle and filler


def is_held_out(prompt: Sequence[Message], index: PromptIndex) -> bool:
    """Whether any question of the conversation is an evaluation prompt or nearly one; later short ones say nothing alone."""
    return any(overlaps(question, index) for question in prompts_to_hold_out(prompt))


def drop_held_out(pairs: list[PreferencePair], index: PromptIndex, dropped: Counter[str]) -> list[PreferencePair]:
    return _without(pairs, lambda pair: is_held_out(pair.prompt, index), reasons.HELD_OUT, dropped)


def shared_filler(chosen: str, rejected: str, prompt: str) -> list[str]:
    """Stems that crowd both sides, so that the pair teaches them as much as it takes away: `다양한 … 다양하게` → ["다양"]"""
    crowding = [_crowding_stems(text) for text in (chosen, rejected)]
    return sorted(stem for stem in crowding[0] & crowding[1] if stem not in prompt)


def _crowding_stems(text: str) -> set[str]:
    words = _WORD.findall(text)
    counts = Counter(word[:_STEM] for word in words)
    return {stem for stem, count in counts.items() if count >= _CROWDS and count >= 0.1 * len(words)}


def drop_shared_filler(pairs: list[PreferencePair], dropped: Counter[str]) -> list[PreferencePair]:
    def shares(pair: PreferencePair) -> bool:
        prompt = "\n".join(message["content"] for message in pair.prompt)
        return bool(shared_filler(pair.chosen[0]["content"], pair.rejected[0]["content"], prompt))

    # a spoilt copy contains the chosen answer's own words; its fault is another
    return _without(pairs, lambda p: p.origin != "synthetic" and shares(p), reasons.SHARED_FILLER, dropped)


def drop_generic(pairs: list[PreferencePair], max_collapse: float, dropped: Counter[str]) -> list[PreferencePair]:
    """Drop pairs whose chosen answer says what chosen answers to three or more other prompts say, the worst first; a tenth of
    those above the bound at a time, since each drop makes the others less generic."""
    while pairs:
        prompts = ["\n".join(message["content"] for message in pair.prompt) for pair in pairs]
        shares = collapse_shares(prompts, [pair.chosen[0]["content"] for pair in pairs])
        over = sorted(
            (place for place, share in enumerate(shares) if share is not None and share > max_collapse),
            key=lambda place: (-(shares[place] or 0.0), pairs[place].id),
        )
        if not over:
            break
        dropped_places = set(over[: max(1, len(over) // 10)])
        dropped[reasons.GENERIC] += len(dropped_places)
        pairs = [pair for place, pair in enumerate(pairs) if place not in dropped_places]
    return pairs


def gravest(faults: Sequence[str]) -> str:
    """The fault that weighs most, `none` for a contrast: unfinished, repetition → repetition"""
    return max(faults, key=lambda code: WEIGHTS.get(code, _IRRELEVANT), default="none")


def main_fault(pair: PreferencePair) -> str:
    """What the pair is rejected for: the fault that was put in, else the gravest."""
    return pair.rejected_faults[0] if pair.origin == "synthetic" else gravest(pair.rejected_faults)


def balance(pairs: list[PreferencePair], args: PairingArgs, dropped: Counter[str]) -> list[PreferencePair]:
    """Cap the shares of contrasts and of chosen candidates, then of each fault; pairs of small margin are dropped first."""
    kinds: tuple[tuple[str, float, Callable[[PreferencePair], bool]], ...] = (
        (reasons.CONTRASTS_FULL, args.contrast_share, lambda pair: pair.origin == "contrast"),
        (reasons.CANDIDATES_FULL, args.candidate_share, lambda pair: pair.chosen_by != "reference"),
    )
    for reason, share, is_kind in kinds:
        if share < 1:  # of what remains; rounded, so that .1 of 10 is one and not 0.9999
            most = int(round(share / (1 - share) * sum(not is_kind(pair) for pair in pairs), 6))
            pairs = _capped(pairs, is_kind, most, reason, dropped)
    most = int(args.fault_share * len(pairs))
    for fault in sorted({main_fault(pair) for pair in pairs} - {"none"}):
        full = reasons.FAULT_FULL.format(fault)
        pairs = _capped(pairs, lambda pair, f=fault: main_fault(pair) == f, most, full, dropped)  # type: ignore[misc]
    return pairs


def _capped(
    pairs: list[PreferencePair], is_kind: Callable[[PreferencePair], bool], most: int, reason: str, dropped: Counter[str]
) -> list[PreferencePair]:
    by_margin = sorted(filter(is_kind, pairs), key=lambda pair: (pair.rejected_score - pair.chosen_score, pair.id))
    surplus = {pair.id for pair in by_margin[most:]}
    return _without(pairs, lambda pair: pair.id in surplus, reason, dropped)


def _without(
    pairs: list[PreferencePair], drop: Callable[[PreferencePair], bool], reason: str, dropped: Counter[str]
) -> list[PreferencePair]:
    """The pairs that `drop` does not select; the others are counted under `reason`."""
    left = [pair for pair in pairs if not drop(pair)]
    if len(left) < len(pairs):
        dropped[reason] += len(pairs) - len(left)
    return left
