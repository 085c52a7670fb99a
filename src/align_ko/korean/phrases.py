"""Stuttering: the same phrase or the same word again and again, though every sentence is a new one.

Three rules over the words of running prose, particles taken off; the sentences of list items are judged one by one (by rule 3
also item by item), and headings, tables, code, formulas and counting words (첫 번째 …, 두 번째 …) are left out:

1. One word three times in a row with changing particles: `경복궁은 경복궁의 경복궁으로`.
2. Phrases: more than half of the words (`COVERED_SHORT`; in prose of 60 words and more, 70 % of some 40 in a row,
   `COVERED_LONG`) stand in a pair that comes three times or a run of four that comes twice. Pairs that the prompt
   already has may come back.
3. One content word six times among twenty words in a row (`CROWD`), seven times if the prompt has it (`CROWD_TOPIC`).

The bounds are set on two sides. All three together flag 14 of 1,555 answers that a judge gave 9 or 10 (0.9 %, most of
them word problems and comparisons) and none of the 1,099 answers in our own 950 rows, where the largest share that
rule 2 sees is 0.34: people do not write so. At a share of 0.5 it would be 19 answers, at 0.6 13, and the made-up
dates and sayings of a small model under greedy decoding lie between 0.67 and 0.91 (weights and fur fall under rules 1
and 3). The limit agreed on for all of `filler`, which stuffing.py adds to, is 3 % and 0.5 %.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, pairwise
from operator import eq
from typing import NamedTuple

from align_ko.korean.prose import Sentence, Span, without_code
from align_ko.korean.words import COUNTS, ROOTS, TOKEN, UNCOUNTED, stem_root, tokens

COVERED_SHORT = 0.55
COVERED_LONG = 0.7
CROWD = 6
CROWD_TOPIC = 7
# Names in Latin letters, labels and numbers tell two phrases apart: CPU 작업에 적합하고, I/O 작업에 적합합니다.
_TOKEN = re.compile(rf"{TOKEN.pattern}|(?P<name>[A-Za-z][가-힣]*|[A-Za-z0-9]+|\x01)")
_SUM = re.compile(r"[=\\→×÷]|\d ?[+*/] ?\d")
_LABEL = re.compile(r"[^:.]{1,40}:")
_RESULT = re.compile(r"\W*(?:정답|답변|답|결론|결과|최종 답변?)\W{0,3}:")  # what a calculation says once more at its end
_NAME = "\0"  # in the stem of a name, which is unique by its place
_VERBAL_END = frozenset("다고한게면서니요며")
_WINDOW = 40
_NEAR = 20


class Word(NamedTuple):
    """`stem` without its particle (11일로 → 11일); `root` is the stem's opening (중요하고 → 중요), "" for grammar."""

    stem: str
    root: str
    start: int
    end: int


def _units(text: str, parts: list[Sentence]) -> list[list[tuple[int, str]]]:
    """Runs of prose; every list item is its own, without its label, since items of one list are alike by right."""
    said = without_code(text, sign=True)
    sums = _SUM.search(said)
    units: list[list[tuple[int, str]]] = [[]]
    for part in parts:
        piece = said[part.start : part.end]
        if part.kind in ("table", "heading") or (":" in piece and _RESULT.match(piece)) or (sums and _SUM.search(piece)):
            units.append([])
            continue
        offset = 0
        if part.kind == "item":
            units.append([])
            label = _LABEL.match(piece)
            offset = label.end() if label else 0
        units[-1].append((part.start + offset, piece[offset:]))
        if part.kind == "item":
            units.append([])
    return [unit for unit in units if unit]


def _paragraphs(text: str, units: list[list[tuple[int, str]]]) -> list[list[tuple[int, str]]]:
    """List items of several sentences, which are one paragraph to a reader."""
    lines: list[list[list[tuple[int, str]]]] = []
    end = 0
    for unit in units:
        if not lines or "\n" in text[end : unit[0][0]]:
            lines.append([])
        lines[-1].append(unit)
        end = unit[-1][0] + len(unit[-1][1])
    return [list(chain.from_iterable(line)) for line in lines if len(line) > 1]


def _may_hold_one_word(words: Sequence[str], near: int | None = None) -> bool:
    """Does a root come often enough for rule 3, within `near` words of each other?"""
    roots = list(ROOTS.each(words))
    if len(roots) - len(set(roots)) < 3:
        return False
    counts = Counter(roots)
    often = {root for root, count in counts.items() if count >= 4 and root and (count >= CROWD or len(root) == 1)}
    if not often or not near:
        return bool(often)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, root in enumerate(roots):
        if root in often:
            places[root].append(place)
    return any(
        last - first < near
        for root, each in places.items()
        for first, last in zip(each, each[(CROWD if len(root) > 1 else 4) - 1 :], strict=False)
    )


def _words(unit: list[tuple[int, str]]) -> list[Word]:
    """A name is equal to no other word, so that no phrase goes on beyond it."""
    return [
        Word(f"{m['name']}{_NAME}{start + m.start()}", "", start + m.start(), start + m.end())
        if m["name"]
        else Word(*stem_root(m.group()), start + m.start(), start + m.end())
        for start, piece in unit
        for m in _TOKEN.finditer(piece)
        if not COUNTS[m.group()]
    ]


def _counting(unit: list[tuple[int, str]]) -> tuple[Sequence[str], Sequence[str]]:
    """The names and the words of a unit without those that count up (첫 번째 상자는 …, 두 번째 상자는 …)."""
    words: Sequence[str] = list(chain.from_iterable([tokens(piece) for _, piece in unit]))
    names = list(UNCOUNTED.each(words))
    if "" in names:
        words, names = [word for word in words if not COUNTS[word]], [name for name in names if name]
    return names, words


def _may_stutter(stems: Sequence[str], words: Sequence[str]) -> bool:
    """Do enough pairs come back for rule 1 or 2, or one root for rule 3? Spans are found only where they do.

    `back` pairs that come back cover 3 * `back` words at most: one that comes three times (two of them back) covers six,
    a run of four that comes twice (its three pairs back) covers eight.
    """
    size = len(stems)
    if size < 3 or size - len(set(stems)) < 2:
        return False
    pairs = list(pairwise(stems))
    back = len(pairs) - len(set(pairs))
    least = COVERED_SHORT if size < 60 else COVERED_LONG
    need = max(6, least * min(size, _WINDOW))
    if back and any(map(eq, pairs, pairs[1:])) and any(map(eq, stems, stems[1:])):
        return True
    if 3 * back >= need and sum(_covered(stems, frozenset())) >= need:
        return True
    return _may_hold_one_word(words, _NEAR)


def _covered(stems: Sequence[str], known: frozenset[tuple[str, str]]) -> list[bool]:
    """Which words stand in a bigram that comes three times or a run of four words that comes twice."""
    covered = [False] * len(stems)
    for size, least in ((2, 3), (4, 2)):
        grams = list(zip(*(stems[i:] for i in range(size)), strict=False))
        if len(grams) - len(set(grams)) < least - 1:
            continue
        often = {
            gram
            for gram, count in Counter(grams).items()
            if count >= least and not all(pair in known for pair in pairwise(gram))
        }
        for i, gram in enumerate(grams):
            if gram in often:
                covered[i : i + size] = [True] * size
    return covered


def stuttering(text: str, parts: list[Sentence], prompt: str | None = None, *, screen: bool = True) -> Span | None:
    """The stretch where phrases or one word crowd out everything else.

    `수박은 1kg에 100g쯤이면 100g당 100g이 100g이에요.` → the words from the first 100g to the last.
    `screen`: look at spans only where words come back often enough; the outcome is the same without.
    """
    pieces = _units(text, parts)
    units = [_words(unit) for unit in pieces if not screen or _may_stutter(*_counting(unit))]
    paragraphs = [_words(item) for item in _paragraphs(text, pieces) if not screen or _may_hold_one_word(_counting(item)[1])]
    if not units and not paragraphs:
        return None
    asked = [stem_root(m.group()) for m in TOKEN.finditer(prompt or "")]
    known = frozenset(pairwise(root or stem for stem, root in asked))
    topic = frozenset(root for _, root in asked if root)
    for words in units:
        if found := _run(words) or _phrases(words, known) or _one_word(words, topic):
            return found
    return next(filter(None, (_one_word(words, topic) for words in paragraphs)), None)


def _span(words: list[Word]) -> Span:
    return Span(words[0].start, words[-1].end)


def _run(words: list[Word]) -> Span | None:
    """`경복궁은 경복궁의 경복궁으로`: one stem three times in a row, each time with another particle or none."""
    for i in range(len(words) - 2):
        one, two, three = words[i : i + 3]
        if len(one.root) > 1 and one.stem == two.stem == three.stem and not one.stem.isdigit():
            return _span([one, three])
    return None


def _terms_joined(words: list[Word]) -> list[Word]:
    """`대화 상자를`, which comes back, is one word: 대화상자."""
    pairs = Counter((one.root, two.root) for one, two in pairwise(words) if _is_bare_noun(one) and two.start - one.end == 1)
    if not any(count > 1 for count in pairs.values()):
        return words
    joined: list[Word] = []
    for word in words:
        before = joined[-1] if joined else None
        last = (before.root[-2:], word.root) if before else ("", "")
        if before and word.root and pairs[last] > 1 and _is_bare_noun(before) and word.start - before.end == 1:
            joined[-1] = Word(f"{before.stem}{word.stem}", f"{before.root}{word.root}", before.start, word.end)
        else:
            joined.append(word)
    return joined


def _phrases(words: list[Word], known: frozenset[tuple[str, str]]) -> Span | None:
    words = _terms_joined(words)
    if len(words) < 6:
        return None
    least = COVERED_SHORT if len(words) < 60 else COVERED_LONG
    stems = [word.root or word.stem for word in words]
    anywhere = _covered(stems, known)
    if sum(anywhere) < max(6, least * min(len(words), _WINDOW)):
        return None
    for i in range(0, max(1, len(words) - _WINDOW + 1), 5):
        near = words[i : i + _WINDOW]
        if sum(anywhere[i : i + _WINDOW]) < max(6, least * len(near)):  # what comes back near by comes back
            continue
        covered = _covered(stems[i : i + _WINDOW], known)
        if sum(covered) >= max(6, least * len(near)):
            return _span([word for word, again in zip(near, covered, strict=True) if again])
    return None


def _one_word(words: list[Word], topic: frozenset[str]) -> Span | None:
    counts: Counter[str] = Counter()
    for i, word in enumerate(words):
        if i >= _NEAR:
            counts[words[i - _NEAR].root] -= 1
        counts[word.root] += 1
        least = CROWD_TOPIC if word.root in topic else CROWD
        # 털이 털을 털어 줘도: a noun of one syllable also counts in the words that open with it.
        if not word.root or counts[word.root] < (least if len(word.root) > 1 else 4):
            continue
        near = words[max(0, i - _NEAR + 1) : i + 1]
        again = [
            place
            for place, each in enumerate(near)
            if each.root == word.root or (len(word.root) == 1 and each.stem[0] == word.root)
        ]
        if len(again) >= least and _stands_alone(near, again) >= least and not _says_more(near[again[0] :], word.root):
            return _span([near[again[0]], near[again[-1]]])
    return None


def _stands_alone(near: list[Word], again: list[int]) -> int:
    """How often the word is no part of two terms that are compared: 부모 노드, 자식 노드, 노드 A, 노드 B."""
    terms: Counter[str] = Counter()
    for place in again:
        word = near[place]
        before = near[place - 1] if place else None
        after = near[place + 1] if place + 1 < len(near) else None
        key = ""
        if word.stem[-1] not in _VERBAL_END:
            if after and _NAME in after.stem and after.start - word.end < 2:
                key = after.stem.split(_NAME)[0][:1]
            elif before and _is_bare_noun(before) and before.root != word.root:
                key = before.root
        terms[key] += 1
    compared = len([key for key in terms if key]) > 1
    return max(terms.values()) if compared else len(again)


def _says_more(stretch: list[Word], root: str) -> bool:
    """Is there something new beside the word for every time that it comes? Of a term that is explained there is."""
    times = sum(each.root == root for each in stretch)
    new = len({each.root for each in stretch if each.root and each.root != root}) + _names_in(stretch)
    return new >= (times if len(root) > 1 else 1.5 * times)


def _names_in(stretch: list[Word]) -> int:
    return len({each.stem.split(_NAME)[0] for each in stretch if _NAME in each.stem})


def _is_bare_noun(word: Word) -> bool:
    """부모 in 부모 노드; not 굵은 or 길고 in 굵은 털, 길고 털이."""
    return len(word.root) > 1 and word.end - word.start == len(word.stem) and word.stem[-1] not in _VERBAL_END
