"""A good answer spoilt in a controlled way: the rejected side of pairs for faults that greedy decoding shows too seldom.

Every copy is read by assess and thrown away where that does not find the fault that was meant. The same seed and prompt
spoil an answer in the same way again.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from align_ko.korean import assess
from align_ko.korean.prose import sentences
from align_ko.preferences.pairing import LENGTH, Side, long_enough, make_pair
from align_ko.preferences.speech_flip import Style, to_plain
from align_ko.recipe import PairingArgs
from align_ko.records import Message, PreferencePair, last_user_text

_PADDING = (  # each turns on one empty word, as small models do
    "다양한 방법을 활용하면 다양한 상황에서 다양한 도움을 받을 수 있습니다. 다양한 경험을 쌓으며 다양한 가능성을 열어 가세요.",
    "중요한 것은 중요한 부분을 놓치지 않는 것입니다. 이는 매우 중요한 의미를 지니며, 중요한 역할을 하는 중요한 요소입니다.",
    "새로운 시각으로 새로운 길을 찾으면 새로운 기회와 새로운 가치를 얻을 수 있습니다. 새로운 내일을 준비해 보세요.",
    "효과적인 방법을 쓰면 효과적인 결과를 얻을 수 있습니다. 효과적인 계획과 효과적인 실천으로 하루를 채워 보세요.",
)
_STRAY = ("因此", "这个", "という", "について", "который", "также", "以及", "しかし")
_LONGEST_ECHO = 4


@dataclass(frozen=True)
class Good:
    """An answer worth spoiling, and whose it is (`reference` or a decoding setting)."""

    task_id: str
    prompt: list[Message]
    text: str
    by: str
    score: float


@dataclass(frozen=True)
class Spoilt:
    text: str
    finished: bool  # False: left open, no eos behind it


def spoil(fault: str, answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """`answer` with `fault` in it, or None where it does not lend itself to that (too short, no polite sentence, …)."""
    return _SPOILERS[fault](answer, question, rng)


def _wrong_register(answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """Every sentence in plain speech: 서울입니다. 한강이 흘러요. → 서울이다. 한강이 흐른다."""
    return _flipped(answer, rng, every=True)


def _mixed_register(answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """A third of the sentences, at least one, in plain speech: 서울입니다. 한강이 흘러요. → 서울입니다. 한강이 흘러."""
    return _flipped(answer, rng, every=False)


def _flipped(answer: str, rng: random.Random, every: bool) -> Spoilt | None:
    style: Style = rng.choice(("handa", "hae"))
    parts = [part for part in sentences(answer) if part.text.strip()]
    plain = {place: flipped for place, part in enumerate(parts) if (flipped := to_plain(answer[part.start : part.end], style))}
    if not plain or (not every and len(parts) < 2):
        return None
    if not every:
        taken = rng.sample(sorted(plain), max(1, min(len(plain), len(parts) // 3)))
        plain = {place: plain[place] for place in taken}
    for place in sorted(plain, reverse=True):
        answer = answer[: parts[place].start] + plain[place] + answer[parts[place].end :]
    return Spoilt(answer, True)


def _repetition(answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """Up to some sentence, and then that sentence again and again, never ended: A. B. C. → A. B. B. B. B."""
    parts = [part for part in sentences(answer) if len(answer[part.start : part.end].split()) >= 3]
    if not parts:
        return None
    part = rng.choice(parts)
    sentence = answer[part.start : part.end].strip()
    return Spoilt(answer[: part.end].rstrip() + f" {sentence}" * 3, False)


def _unfinished(answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """Cut at a word in its last third: … 찬물에 한 시간 불리세요. → … 찬물에 한"""
    words = [match.start() for match in re.finditer(r"(?<=[가-힣,]) (?=\S)", answer)]
    places = [place for place in words if place >= 0.6 * len(answer)]
    return Spoilt(answer[: rng.choice(places)].rstrip(), False) if places else None


def _filler(answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """Padded out with sentences that would fit any question: … 다양한 방법을 활용하면 다양한 상황에서 다양한 도움을 …"""
    if "```" in answer:
        return None
    return Spoilt(f"{answer.rstrip()} {rng.choice(_PADDING)}", True)


def _strange_characters(answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """Two foreign words between the Korean ones: 불을 줄이고 저어 주세요. → 불을 因此 줄이고 저어 주세요."""
    gaps = [match.start() for match in re.finditer(r"(?<=[가-힣]) (?=[가-힣])", answer)]
    if len(gaps) < 4 or "```" in answer:
        return None
    stray = rng.sample(_STRAY, 2)
    for place, word in zip(sorted(rng.sample(gaps, 2), reverse=True), stray, strict=True):
        answer = f"{answer[:place]} {word}{answer[place:]}"
    return Spoilt(answer, True)


def _echo(answer: str, question: str, rng: random.Random) -> Spoilt | None:
    """The question over and over instead of an answer, as base models do, about as long as the answer; never ended."""
    asked = question.strip()
    times = round(len(answer) / max(len(asked), 1))
    return Spoilt(" ".join([asked] * max(2, times)), False) if len(asked) >= 8 and times <= _LONGEST_ECHO else None


_SPOILERS: dict[str, Callable[[str, str, random.Random], Spoilt | None]] = {
    "wrong_register": _wrong_register,
    "mixed_register": _mixed_register,
    "repetition": _repetition,
    "unfinished": _unfinished,
    "filler": _filler,
    "strange_characters": _strange_characters,
    "echo": _echo,
}


def synthetic_pairs(good: Sequence[Good], wanted: int, args: PairingArgs) -> tuple[list[PreferencePair], Counter[str]]:
    """Up to `wanted` pairs, one for each good answer, the recipe's faults by turns; and why copies were dropped.

    An answer that cannot be spoilt in the way whose turn it is gets the next one. Sides of a register pair are alike by
    design, so `max_similarity` does not apply here; the length tolerance does.
    """
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    faults, turn = args.synthetic_faults, 0
    for item in good:
        if len(pairs) >= wanted or not faults:
            break
        question = last_user_text(item.prompt)
        own = assess(item.text, question)
        if not own.natural:
            dropped["synthetic: the answer to spoil is not natural itself"] += 1
            continue
        for step in range(len(faults)):
            fault = faults[(turn + step) % len(faults)]
            rng = random.Random(f"{args.seed} {item.task_id} {fault}")
            spoilt = spoil(fault, item.text, question, rng)
            if spoilt is None or fault in own.codes:
                continue
            if not long_enough(spoilt.text, item.text, args) or len(spoilt.text) > (1 + args.length_tolerance) * len(item.text):
                dropped[f"synthetic: {LENGTH}"] += 1
                continue
            if fault not in assess(spoilt.text, question).codes:
                dropped[f"synthetic: assess finds no {fault} in the spoilt copy"] += 1
                continue
            spoilt_assessment = assess(spoilt.text, question, spoilt.finished)
            codes = [fault, *(code for code in spoilt_assessment.codes if code != fault)]
            score = min(spoilt_assessment.score, item.score)
            rejected = Side(spoilt.text, f"spoilt: {fault}", score, codes, spoilt.finished)
            pairs.append(make_pair(item.task_id, item.prompt, "synthetic", Side(item.text, item.by, item.score), rejected))
            turn += step + 1
            break
    return pairs, dropped
