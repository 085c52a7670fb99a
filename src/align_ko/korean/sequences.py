"""Sequences that go nowhere, and words said twice: repetition that is no loop of equal rounds.

1. Lists: no more than half of at least six items are different (사과, 배, 사과, 배, …), lines or parts between commas.
2. Growing lines: each line is the one before and more (강아지 / 강아지와 고양이 / 강아지와 고양이와 토끼 / …).
3. Sums: `+ 0 + 0 + 0`, one equation line after line, or lines with one result of which none is right (1 + 0 = 10, 2 + 0 = 10).
4. Doubled words: `저는 저는`, `김치를 김치를`. 정말 정말, 하나 하나 or 가도 가도 are meant so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from align_ko.korean.prose import Span
from align_ko.korean.words import HANGUL

_MARKER = re.compile(r"[ \t]*(?:[-*•·]|\(?\d{1,3}[.)])[ \t]+")
_EDGES = " \t.,:;!*"
_NOTHING_ADDED = re.compile(  # opens with a class, so re skips from sign to sign
    r"[-+×*x](?:(?<=[-+]) ?0(?![\d.]) ?(?:[+-] ?0(?![\d.]) ?){2,}|(?<=[×*x]) ?1(?![\d.]) ?(?:[×*x] ?1(?![\d.]) ?){3,})"
)
_SUM = re.compile(r"(\d{1,6}) ?([-+×*]) ?(\d{1,6}) ?= ?(\d{1,9})[.]?$")
_DOUBLED = re.compile(
    r"(?<![가-힣A-Za-z0-9])(?P<word>[가-힣]{2,12}(?<=[은는이가을를의로와과서게니면며고만한운된인쉬럼터다요]))"
    r" (?P=word)(?![가-힣])"
    r"(?! (?:아니|아닌|맞|되|된|될))"
)
_JOINING = re.compile(r"(그러나|그리고|하지만|따라서|또한|그래서|그런데|그러므로|또는|즉|만약) (?=\1)")
# A word that is said twice on purpose: adverbs, counting, and endings that go on (가고 가고, 자면서 자면서).
_ON_PURPOSE = re.compile(
    r"(?:정말로?|바로|진짜로?|너무너무|아주|매우|점점|조금씩|하나|하나씩|차근|천천히|빨리|자꾸|계속|또|더욱|오래|많이|가만히|가지가지)$"
    r"|(?:고|며|면서|다가|으러|[가-힣]씩|[가-힣]히|라고|다고)$|^(?:여러|이런|그런|저런|오고|가고)|도$"
    r"|^(?:우리|따로|서로|사이|아이|나이|차이|멀리|높이|깊이|길이)"
)
_POETIC = re.compile(r"(?:넓|깊|높|크|긴|멀|먼|작|푸르|맑|밝|어두|그립|그리|하얗|까맣|곱|고운)[가-힣]{0,2}$")
_LEAST = 6


def _plain(line: str) -> str:
    marker = _MARKER.match(line)
    return line[marker.end() if marker else 0 :].strip(_EDGES)


def aimless_sequence(text: str, lines: Sequence[str]) -> Span | None:
    """Where a list or a row of sums goes on without anything new; `lines` are those of `text`."""
    if found := _NOTHING_ADDED.search(text):
        return Span(*found.span())
    if len(lines) >= 3 and (found_lines := _lines(text, lines)):
        return found_lines
    return _items(text)


def _lines(text: str, lines: Sequence[str]) -> Span | None:
    whole = Span(0, len(text.rstrip()))
    said = [plain for line in lines if (plain := _plain(line))]
    growing = 0
    for one, two in pairwise(said):
        grows = len(two) > len(one) >= 2 and two.startswith(one) and bool(HANGUL.search(one))
        growing = growing + 1 if grows else 0
        if growing >= 3:
            return whole
    sums = [found.groups() for line in said if "=" in line and (found := _SUM.match(line))]
    if len(sums) >= 3 and (len(set(sums)) == 1 or (len({s[3] for s in sums}) == 1 and not any(map(_is_right, sums)))):
        return whole
    items: list[str] = []
    for line in [*lines, "."]:
        if _MARKER.match(line):
            items.append(_plain(line))
        elif line.strip():
            if len(items) >= _LEAST and len(set(items)) * 2 <= len(items) and max(map(len, items)) < 60:
                return whole
            items = []
    return None


def _is_right(numbers: Sequence[str | None]) -> bool:
    one, sign, two, result = (each or "" for each in numbers)
    value = int(one) + int(two) if sign == "+" else int(one) - int(two) if sign == "-" else int(one) * int(two)
    return value == int(result)


def _items(text: str) -> Span | None:
    """Six parts between commas, of which half are different: 빨강, 파랑, 노랑, 빨강, 파랑, 노랑."""
    if text.count(", ") < _LEAST - 1:
        return None
    start = 0
    for line in text.split("\n"):
        if line.count(", ") < _LEAST - 1:
            start += len(line) + 1
            continue
        parts = line.split(", ")
        short = [part.rsplit(" ", 1)[-1] if not place else part for place, part in enumerate(parts)]
        run: list[str] = []
        for part in [*short, ""]:
            if part and len(part) <= 12 and HANGUL.search(part) and not any(map(str.isdigit, part)):
                run.append(part.strip(_EDGES))
                continue
            last = HANGUL.match(part)
            if last and len(part) > 12:
                run.append(last[0])
            if len(run) >= _LEAST and len(set(run)) * 2 <= len(run):
                return Span(start, start + len(line))
            run = []
        start += len(line) + 1
    return None


def doubled_words(text: str) -> list[Span]:
    """`저는 저는 학생입니다` → 저는 저는; `정말 정말 고맙습니다` → nothing. `text` has code and quotations blanked."""
    found = [Span(*match.span()) for match in _DOUBLED.finditer(text) if not _meant(match["word"])]
    for match in _JOINING.finditer(text):
        end = match.end() + len(match[1])
        if not text[end : end + 1].isalpha():
            found.append(Span(match.start(), end))
    return sorted(set(found))


def _meant(word: str) -> bool:
    return bool(_ON_PURPOSE.search(word) or _POETIC.match(word))
