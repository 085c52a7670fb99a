"""A good answer spoilt in a controlled way: the rejected side of pairs for faults that greedy decoding shows too seldom. A copy
in which assess does not find the fault is thrown away. Equal for equal seed and prompt."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from align_ko import reasons
from align_ko.korean import assess, tagger
from align_ko.korean.prose import sentences
from align_ko.preferences.pairing import Side, long_enough, make_pair
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


Style = Literal["handa", "hae"]
_HAPSYO = frozenset({"ᆸ니다", "습니다", "읍니다"})
_ASKING = frozenset({"ᆸ니까", "습니까", "읍니까"})
_ASKING_TO = frozenset({"세요", "으세요", "셔요", "으셔요", "ᆸ시오", "읍시오", "십시오", "으십시오"})
_LETS = frozenset({"ᆸ시다", "읍시다"})
_COPULA = frozenset({"에요", "예요", "이에요"})
_PARTING = {"죠": "지"}  # where more than 요 goes
_LIKE_ADJECTIVES = frozenset({"싶", "있", "없", "계시", "듯하", "만하", "법하", "듯싶"})
_TRAILING = ("SF", "SSC", "SSO", "SP", "SE", "SW", "SO", "W_EMOJI")


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


def _flipped(answer: str, rng: random.Random, every: bool) -> Spoilt | None:
    """Every sentence in plain speech, or a third of them: 서울입니다. 한강이 흘러요. → 서울이다. 한강이 흐른다."""
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
    "wrong_register": lambda answer, question, rng: _flipped(answer, rng, every=True),
    "mixed_register": lambda answer, question, rng: _flipped(answer, rng, every=False),
    "repetition": _repetition,
    "unfinished": _unfinished,
    "filler": _filler,
    "strange_characters": _strange_characters,
    "echo": _echo,
}


def synthetic_pairs(good: Sequence[Good], wanted: int, args: PairingArgs) -> tuple[list[PreferencePair], Counter[str]]:
    """Up to `wanted` pairs, one for each good answer, the recipe's faults by turns (an answer that does not lend itself to one
    gets the next); and why copies were dropped. `max_similarity` does not apply: register pairs are alike by design."""
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    faults, turn = args.synthetic_faults, 0
    for item in good:
        if len(pairs) >= wanted or not faults:
            break
        question = last_user_text(item.prompt)
        own = assess(item.text, question)
        if own.outside or not own.natural:
            dropped[reasons.UNNATURAL_ORIGINAL] += 1
            continue
        for step in range(len(faults)):
            fault = faults[(turn + step) % len(faults)]
            rng = random.Random(f"{args.seed} {item.task_id} {fault}")
            spoilt = spoil(fault, item.text, question, rng)
            if spoilt is None or fault in own.codes:
                continue
            if not long_enough(spoilt.text, item.text, args) or len(spoilt.text) > (1 + args.length_tolerance) * len(item.text):
                dropped[reasons.SPOILT_LENGTH] += 1
                continue
            if fault not in assess(spoilt.text, question).codes:
                dropped[reasons.NOT_SPOILT.format(fault)] += 1
                continue
            now = assess(spoilt.text, question, spoilt.finished)
            codes = [fault, *(code for code in now.codes if code != fault)]
            rejected = Side(spoilt.text, f"spoilt: {fault}", min(now.score, item.score), codes, spoilt.finished)
            pairs.append(make_pair(item.task_id, item.prompt, "synthetic", Side(item.text, item.by, item.score), rejected))
            turn += step + 1
            break
    return pairs, dropped


# ------------------------------------------------------------------------------------------- polite sentences in plain speech
# Kiwi reads the ending, it is replaced, and Kiwi spells the word. Only the last word of a sentence changes; a word that Kiwi
# would not spell as it is written is left alone.


def to_plain(sentence: str, style: Style) -> str | None:
    """The sentence in 한다 or 해 speech (한국의 수도는 서울입니다. → 서울이다.; 물을 끓여 두세요. → 물을 끓여 둬.); None where
    it is not polite or its ending is not known."""
    morphemes = tagger.morphemes(sentence)
    last = max((place for place, (_, tag, _) in enumerate(morphemes) if tag == "EF"), default=-1)
    if last < 1:
        return None
    after = [(form, tag) for form, tag, _ in morphemes[last + 1 :]]
    yo = after[:1] == [("요", "JX")]
    if any(not tag.startswith(_TRAILING) for _, tag in after[yo:]):
        return None  # the ending is inside the sentence: "간다"고 했어
    stop = morphemes[last + yo][2]
    start = max(sentence.rfind(" ", 0, stop), sentence.rfind("\n", 0, stop)) + 1
    before = [(form, tag) for form, tag, end in morphemes[:last] if end > start]
    word = _spelt([*before, *((form, tag) for form, tag, _ in morphemes[last : last + yo + 1])])
    if not before or sentence[start:stop] != word:
        return None
    if word.endswith("안녕하세요"):
        return sentence[: stop - 3] + sentence[stop:]
    stem, ending = _plain(before, morphemes[:last], morphemes[last][0], yo, style, asks=sentence.rstrip().endswith("?"))
    return sentence[:start] + _spelt([*stem, (ending, "EF")]) + sentence[stop:] if ending else None


def _spelt(parts: list[tuple[str, str]]) -> str:
    return tagger.join(parts).replace(" ", "")  # Kiwi writes 도와 드릴게요 where 도와드릴게요 is as usual


def _plain(
    before: list[tuple[str, str]], all_before: tuple[tuple[str, str, int], ...], form: str, yo: bool, style: Style, asks: bool
) -> tuple[list[tuple[str, str]], str]:
    """(morphemes of the last word before the ending, the plain ending); no ending where `form` is not polite."""
    kind = before[-1][1].partition("-")[0]
    copula = kind in ("VCP", "VCN")
    if yo:  # 무엇인가 + 요
        return before, form
    if form in _ASKING_TO and copula:  # 누구세요? asks; 주무세요, read as a noun, is left alone
        return before, "야" if asks else ""
    if form in _ASKING_TO:
        stem = before[:-1] if before[-1] == ("시", "EP") else before
        return (stem, "어라" if style == "handa" else "어") if stem else (before, "")
    if form in _LETS:
        return before, "자"
    if form in _ASKING or (asks and form in _HAPSYO):
        return before, "야" if copula else "어"
    if form in _HAPSYO or form in ("어요", "아요") or (form in _COPULA and copula):
        if style == "hae" or asks:
            return before, "야" if copula else "어"
        return before, "다" if _takes_da(before[-1], all_before) else "ᆫ다"
    if form.endswith("요") and len(form) > 1:
        return before, form[:-1]
    return before, _PARTING.get(form, "")


def _takes_da(last: tuple[str, str], before: tuple[tuple[str, str, int], ...]) -> bool:
    """Whether the plain statement is 다 (좋다, 했다, 책이다) and not ㄴ다 (간다, 먹는다, 가신다)."""
    form, kind = last[0], last[1].partition("-")[0]
    if kind == "EP":
        return form not in ("시", "으시")
    if kind == "VX" and form == "않":  # 좋지 않다, but 가지 않는다
        return len(before) > 2 and before[-3][1].startswith(("VA", "XSA", "VCP"))
    return kind in ("VA", "VCP", "VCN", "XSA") or form in _LIKE_ADJECTIVES
