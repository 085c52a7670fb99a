"""Word and phrase stuffing that no loop detector sees."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Set
from itertools import chain, pairwise

from align_ko.korean.phrases import stuttering
from align_ko.korean.prose import Sentence, Span, sentences
from align_ko.korean.words import HANGUL, NOUNS, ROOTS, syllables

# Words that say little crowd sooner than names of things: 다양한 whatever it describes, others where little else is said.
_VAGUE = re.compile(
    "다양한|다양하게|여러|많은|좋은|중요한|새로운|특별한|훌륭한|아름다운|적절한|관련된|효과적인|효율적인|긍정적인"
)
_EMPTY = re.compile(r"[가-힣](?:한|적인|로운|스러운|는)$|^(?:여러|많은|좋은)$")
_NEEDED = re.compile(
    "특정한|동일한|같은|다른|필요한|가능한|[가-힣]{0,4}있는|[가-힣]{0,4}없는|하는|되는|선택적인|기본적인|개인적인|일반적인"
)
_LATIN = re.compile("[A-Za-z]+")
_NAME = re.compile("[A-Za-z0-9`'\"‘’“”「」]")
_COMMON_TEXT = (
    "있습니다 합니다 입니다 됩니다 있는 하는 경우 때문 것입니다 수 것 있으며 대한 대해 "
    "통해 위해 위한 그 이 및 등 더 한 두 세 첫 번째"
)
_COMMON = frozenset(_COMMON_TEXT.split())
_SUM = re.compile(r"[=\\\d]")
_ORDINALS = frozenset("첫 첫째 둘째 셋째 넷째 다섯째 여섯째 두 세 네 번째".split())
_HESITATION = re.compile(
    r"(?<![가-힣])(?:음+|어+|으음|흠+|에+|뭐랄까|뭐라고 할까|그러니까|그게|그러니까 그게|글쎄요?)(?:,|…|\.{2,})"
)
_HESITATION_END = re.compile(r"[음어흠에까게쎄요](?:,|…|\.\.)")  # quickly found, and in every _HESITATION


def _crowding(count: int, share: float, size: int, kind: str) -> bool:
    """Bounds that at most 0.7 % of the answers judged 9 or 10 pass, by length in words (benchmarks/bench_korean.py)."""
    if kind == "empty":
        return (count >= 3 and share >= 0.1) if size < 30 else (count >= 4 and share >= (0.08 if size < 60 else 0.065))
    if kind == "topic":
        return count >= 4 and share >= (0.21 if size < 60 else 0.16)
    return (count >= 3 and share >= 0.2) if size < 30 else (count >= 4 and share >= (0.17 if size < 60 else 0.15))


_BRIEF = 18
CROWD_EMPTY, CROWD_EMPTY_NEAR = 5, 30
"""So often within so many words of one line an empty word crowds it, however long the answer is: 5 within 30 flags none of
the 1,555 answers judged 9 or 10 and of our own 1,099, 4 would flag five and one."""


def _crowded_stretch(places: list[int], lines: list[int]) -> tuple[int, int] | None:
    """The first CROWD_EMPTY of `places` that stand near each other in one line: (first, last)."""
    for first, last in zip(places, places[CROWD_EMPTY - 1 :], strict=False):
        if last - first < CROWD_EMPTY_NEAR and lines[first] == lines[last]:
            return first, last
    return None


def _says_more(
    text: str, stretch: list[str], word: str, start: int, end: int, least: float, kinds: Set[tuple[str, str]] = frozenset()
) -> bool:
    """Is there something new beside the word for every time that it comes, as of a term that is explained? A term of two words
    that the prompt compares (`kinds`: 부모 노드 and 자식 노드) is no second 노드."""
    new = {ROOTS[each] for each in stretch if each != word} - {"", ROOTS[word]}
    if least > 1:  # 좋습니다, 좋기 and 좋다고 are one word
        new = {root[0] for root in new}
    named = len(re.findall(rf"{word} [A-Z0-9](?![A-Za-z0-9])", text[start : end + 2]))  # 노드 A, 노드 B
    named += sum(pair in kinds for pair in pairwise(stretch))
    return len(new) + len(set(_LATIN.findall(text, start, end))) >= least * (stretch.count(word) - named)


def _compared(prompt: str) -> frozenset[tuple[str, str]]:
    """`부모 노드와 자식 노드는 뭐가 달라요?` → (부모, 노드), (자식, 노드); nothing for a word with one such neighbour."""
    words = [NOUNS[word] for word in HANGUL.findall(prompt)]
    pairs = set(pairwise(words))
    heads = Counter(head for _, head in pairs)
    return frozenset(pair for pair in pairs if heads[pair[1]] > 1)


def _may_crowd(parts: list[Sentence]) -> bool:
    """Is some word, or are so many words, said again that `filler` need look where? No bound of it lies lower."""
    said = [part.text for part in parts if part.kind not in ("table", "heading") and not _SUM.search(part.text)]
    words = list(NOUNS.each(chain.from_iterable(map(syllables, said))))
    size = len(words)
    if size < 10 or size - len(set(words)) < 2:
        return False
    counts = Counter(words)
    for word, count in [(word, count) for word, count in counts.items() if count > 2]:
        if len(word) > 1 and word not in _COMMON:
            empty = bool(_EMPTY.search(word))
            kinds = ("empty",) if empty else ("topic", "other")
            if (empty and count >= CROWD_EMPTY) or any(_crowding(count, count / size, size, kind) for kind in kinds):
                return True
    least = max(3, 0.2 * (size - 2))
    if size - len(counts) < least:  # triples of words come back no more often than words
        return False
    return size - 2 - len(set(zip(words, words[1:], words[2:], strict=False))) >= least


def hesitation(text: str) -> Span | None:
    """`음, 그러니까 뭐랄까, 김치는 어, 그게, …`: a word for thinking aloud more than once in fifteen words, three times."""
    if len(_HESITATION_END.findall(text)) < 3:
        return None
    found = list(_HESITATION.finditer(text))
    if len(found) < 3 or len(found) * 15 < len(text.split()):
        return None
    return Span(found[0].start(), found[-1].end())


_QUOTED = re.compile(r"[\"'“‘「]([^\"'“”‘’「」\n]{1,12})[\"'”’」]")


def quoted_stuffing(text: str) -> Span | None:
    """`'가'는 '가'로만 쓰면 '가'가 '가'로만 맞습니다`: one quotation four times, with hardly another word between."""
    found = list(_QUOTED.finditer(text))
    if len(found) < 4:
        return None
    said, times = Counter(each[1] for each in found).most_common(1)[0]
    if times < 4 or times * 2 < len(found):
        return None
    own = [each for each in found if each[1] == said]
    rest = _QUOTED.sub(" ", text[own[0].start() : own[-1].end()])
    between = {ROOTS[word] for word in HANGUL.findall(rest)} - {""}
    return Span(own[0].start(), own[-1].end()) if len(between) + len(_LATIN.findall(rest)) < times else None


def filler(text: str, parts: list[Sentence] | None = None, prompt: str | None = None, *, screen: bool = True) -> Span | None:
    """One word or phrase that crowds the answer, though no loop is exact; None if there is none.

    `다양한 주제에 대해 다양한 정보를 제공하고 있습니다. 또한, 다양한 주제에 대해 다양한 의견을 …` → 다양한
    The prompt's own words are the topic and may come back more often; sums and formulas are left out.
    `screen`: look for places only where words come back often enough; the outcome is the same without.
    """
    parts = sentences(text) if parts is None else parts
    if found := hesitation(text) or quoted_stuffing(text) or stuttering(text, parts, prompt, screen=screen):
        return found
    if screen and not _may_crowd(parts):
        return None
    kinds = _compared(prompt) if prompt else frozenset()
    topic = {NOUNS[word][:2] for word in HANGUL.findall(prompt) if len(word) > 1} if prompt else set()
    where: dict[str, list[int]] = defaultdict(list)
    spots: list[tuple[int, int]] = []
    words: list[str] = []
    lines: list[int] = []  # of each word
    opens: set[int] = set()  # words that a list item opens with, since items of one list are alike by right
    line = last_end = 0
    for part in parts:
        if part.kind in ("table", "heading") or _SUM.search(part.text):
            continue
        line += "\n" in text[last_end : part.start]
        last_end = part.end
        if part.kind == "item":
            opens.add(len(words))
        for match in HANGUL.finditer(part.text):
            word = NOUNS[match.group()]
            if not words or words[-1] not in _ORDINALS:  # 첫째 주는 …, 둘째 주는 … counts up
                where[word].append(len(words))
            words.append(word)
            lines.append(line)
            spots.append((part.start + match.start(), part.start + match.end()))
    size = len(words)
    if size < 10:
        return None
    # 업로드하신 파일은 이미지 파일이 아니거나 파일이 깨져 있습니다: in one sentence or two a thing is named three times.
    once_named = size < _BRIEF and sum(len(places) > 2 for places in where.values()) == 1
    for word, places in where.items():
        if len(places) < 3 or len(word) < 2 or word in _COMMON:
            continue
        kind = "empty" if _EMPTY.search(word) else "topic" if word[:2] in topic else "other"
        if _NEEDED.fullmatch(word) if kind == "empty" else once_named and len(places) == 3:
            continue
        first, last = places[0], places[-1]
        if _crowding(len(places), len(places) / size, size, kind):
            more = 1.5 if kind == "empty" or word[0] == "것" else 1.0
            if _VAGUE.fullmatch(word) or not _says_more(
                text, words[max(0, first - 1) : last + 1], word, spots[first][0], spots[last][1], more, kinds
            ):
                return Span(spots[first][0], spots[last][1])
        if kind == "empty" and (near := _crowded_stretch(places, lines)):
            return Span(spots[near[0]][0], spots[near[1]][1])
    grams = [
        gram if place not in opens and not _NAME.search(text, spots[place][1], spots[place + 2][0]) else ("", "", "")
        for place, gram in enumerate(zip(words, words[1:], words[2:], strict=False))
    ]
    counts = Counter(grams)
    del counts["", "", ""]
    extra = 0.0
    for gram, count in counts.items():
        if count > 1:
            extra += (count - 1) * sum(word not in _COMMON and word[:2] not in topic for word in gram) / 3
    if extra >= 3 and extra / len(grams) >= (0.2 if size < 30 else 0.28):
        top = counts.most_common(1)[0][0]
        first = grams.index(top)
        last = len(grams) - 1 - grams[::-1].index(top)
        return Span(spots[first][0], spots[last + 2][1])
    return None
