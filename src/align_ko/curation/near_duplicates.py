"""Which rows nearly repeat a better one, in their question or in their answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from align_ko.curation.alike import LOW, Found, SideName, alike_texts
from align_ko.curation.sketches import Sketch
from align_ko.recipe import NearDuplicateArgs

Goodness = tuple[float, float, "str | bytes"]
QUESTION_THRESHOLD = NearDuplicateArgs.question
"""Weighted share of common runs from which two questions ask the same, given the same numbers and quoted words.

Above: "사과는 왜 빨간가요?" and "사과는 왜 빨개요?" 0.59, "한국의 수도는 어디인가요?" and "한국의 수도는 어디야?" 0.74.
Below: "사과는 왜 빨간가요?" and "고추는 왜 빨간가요?" 0.36, "김치찌개는 …" and "된장찌개는 어떻게 끓이나요?" 0.46.
Read by eye, ten or so pairs of each step of .05: of the 23,976 requests of StyleKQC nearly all from 0.5 on say the same; of
the 11,662 short questions of songys those from 0.6 on mostly do, of those from 0.5 to 0.55 not even half.
"""
LONG_QUESTION_THRESHOLD = NearDuplicateArgs.long_question
"""The same beyond 65 syllables or so: there endings weigh little, and what is alike may be the instruction to a new passage."""
ANSWER_THRESHOLD = NearDuplicateArgs.answer
"""The same for answers of any length, whatever their numbers: at 0.7 five sentences of six are the same."""
MIN_QUESTION = 7  # letters; "안녕하세요" opens a thousand different conversations, and each may stay
MIN_ANSWER = 20  # letters; "네, 맞습니다." answers many questions


@dataclass(frozen=True)
class Duplicate:
    """Why a row is dropped: the better row that stays, the side on which they meet, and how alike they are there (0-1)."""

    kept: int
    side: SideName
    similarity: float


def near_duplicates(
    questions: Sequence[Sketch],
    answers: Sequence[Sketch],
    order: Sequence[Goodness] | Sequence[int],
    question_threshold: float = QUESTION_THRESHOLD,
    long_threshold: float = LONG_QUESTION_THRESHOLD,
    answer_threshold: float = ANSWER_THRESHOLD,
) -> dict[int, Duplicate]:
    """Row → the better row that it repeats. The best row goes first; a row is dropped only if it is near one that stays.

    So of a chain A ~ B ~ C in which A and C are far apart, A and C stay. `order` has a key for each row, the smallest
    for the best (select.goodness makes them); without ties among them the outcome depends on the rows alone.
    A threshold above 1 leaves that side out, even where two texts are equal.

    >>> from align_ko.curation.sketches import sketch
    >>> asked = ["김치찌개는 어떻게 끓이나요?", "김치찌개는 어떻게 끓여요?", "된장찌개는 어떻게 끓이나요?"]
    >>> near_duplicates([sketch(text) for text in asked], [sketch("")] * 3, [1, 2, 3])
    {1: Duplicate(kept=0, side='question', similarity=0.742)}
    """
    rows = sorted(range(len(order)), key=order.__getitem__)
    sides: list[Side] = []
    if question_threshold <= 1:
        sides.append(_side("question", rows, questions, question_threshold, long_threshold))
    if answer_threshold <= 1:
        sides.append(_side("answer", rows, answers, answer_threshold, answer_threshold))
    return repeats(rows, sides)


def repeats(rows: Iterable[int], sides: Sequence[Side]) -> dict[int, Duplicate]:
    """The decision, for rows from the best on."""
    found: dict[int, Duplicate] = {}
    for rank, row in enumerate(rows):
        nearest = [(*match, side.name) for side in sides for match in side.like(row)]
        if nearest:
            similarity, _, kept, name = max(nearest, key=lambda one: one[:2])
            found[row] = Duplicate(kept, name, round(similarity, 3))
        else:
            for side in sides:
                side.keep(row, rank)
    return found


def says_enough(name: SideName) -> int:
    """Letters from which a text of this side is compared."""
    return MIN_QUESTION if name == "question" else MIN_ANSWER


def _side(name: SideName, rows: Sequence[int], sketches: Sequence[Sketch], threshold: float, long_threshold: float) -> Side:
    """Each different text once, numbered from the best row's on, and which are alike."""
    text = [-1] * len(rows)
    texts: dict[tuple[bytes, bytes], tuple[int, Sketch]] = {}
    for row in rows:
        if (one := sketches[row]).letters >= says_enough(name):
            text[row], _ = texts.setdefault((one.key, one.facts), (len(texts), one))
    different = [one for _, one in texts.values()]
    return Side(name, text, alike_texts(different, name, threshold, long_threshold), len(different))


class Side:
    """The questions or the answers: the text of each row, -1 where it says too little, and which of `count` texts are alike."""

    def __init__(self, name: SideName, text: Sequence[int] | Mapping[int, int], found: Found, count: int) -> None:
        pairs, self._similarity = found
        self.name, self._text = name, text
        self._kept: dict[int, tuple[int, int]] = {}  # text → (-rank, row) of the best row that has it and stays
        self._better = pairs & LOW
        self._begin = np.searchsorted(pairs >> 32, np.arange(count + 1)).tolist()  # of each text's pairs

    def like(self, row: int) -> Iterator[tuple[float, int, int]]:
        """(similarity, -rank, row) of each row that stays so far and that `row` repeats; of an equal one alone."""
        text = self._text[row]
        if text in self._kept:
            yield 1.0, *self._kept[text]
        elif text >= 0:
            for place in range(self._begin[text], self._begin[text + 1]):
                if kept := self._kept.get(int(self._better[place])):
                    yield float(self._similarity[place]), *kept

    def keep(self, row: int, rank: int) -> None:
        if self._text[row] >= 0:
            self._kept[self._text[row]] = -rank, row
