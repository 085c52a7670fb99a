"""Polite sentences put into plain speech by their morphemes: Kiwi reads the ending, it is replaced, Kiwi spells the word.

Only the last word of a sentence changes; a word that Kiwi would not spell as it stands is left alone.
"""

from __future__ import annotations

from typing import Literal

from align_ko.korean import tagger

Style = Literal["handa", "hae"]
_HAPSYO = frozenset({"ᆸ니다", "습니다", "읍니다"})
_ASKING = frozenset({"ᆸ니까", "습니까", "읍니까"})
_ASKING_TO = frozenset({"세요", "으세요", "셔요", "으셔요", "ᆸ시오", "읍시오", "십시오", "으십시오"})
_LETS = frozenset({"ᆸ시다", "읍시다"})
_COPULA = frozenset({"에요", "예요", "이에요"})
_PARTING = {"죠": "지"}  # where more than 요 goes
_LIKE_ADJECTIVES = frozenset({"싶", "있", "없", "계시", "듯하", "만하", "법하", "듯싶"})
_TRAILING = ("SF", "SSC", "SSO", "SP", "SE", "SW", "SO", "W_EMOJI")


def to_plain(sentence: str, style: Style) -> str | None:
    """The sentence in 한다 or 해 speech; None where it is not polite or its ending is not known.

    >>> to_plain("한국의 수도는 서울입니다.", "handa"), to_plain("물을 끓여 두세요.", "hae")
    ('한국의 수도는 서울이다.', '물을 끓여 둬.')
    """
    morphemes = tagger.morphemes(sentence)
    last = max((place for place, (_, tag, _) in enumerate(morphemes) if tag == "EF"), default=-1)
    if last < 1:
        return None
    after = [(form, tag) for form, tag, _ in morphemes[last + 1 :]]
    yo = after[:1] == [("요", "JX")]
    if any(not tag.startswith(_TRAILING) for _, tag in after[yo:]):
        return None  # the ending is inside the sentence: "간다"고 했어
    stop = morphemes[last + yo][2]
    start = sentence.rfind(" ", 0, stop) + 1
    start = max(start, sentence.rfind("\n", 0, stop) + 1)
    before = [(form, tag) for form, tag, end in morphemes[:last] if end > start]
    word = _spelt([*before, *((form, tag) for form, tag, _ in morphemes[last : last + yo + 1])])
    if not before or sentence[start:stop] != word:
        return None
    if word.endswith("안녕하세요"):
        return sentence[: stop - 3] + sentence[stop:]
    stem, ending = _plain(before, morphemes[:last], morphemes[last][0], yo, style, asks=sentence.rstrip().endswith("?"))
    return sentence[:start] + _spelt([*stem, (ending, "EF")]) + sentence[stop:] if ending else None


def _spelt(parts: list[tuple[str, str]]) -> str:
    """One word: Kiwi writes 도와 드릴게요 where 도와드릴게요 is as usual."""
    return tagger.join(parts).replace(" ", "")


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
