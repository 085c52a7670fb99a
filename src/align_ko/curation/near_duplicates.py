"""Which rows nearly repeat a better one, in their question or in their answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from align_ko.curation.lsh import similar_pairs
from align_ko.curation.sketches import letters, sketch
from align_ko.curation.workers import SideBySide, one_by_one
from align_ko.overlap import normalize
from align_ko.recipe import NearDuplicateArgs
from align_ko.records import Message

__all__ = [
    "ANSWER_THRESHOLD",
    "LONG_QUESTION_THRESHOLD",
    "QUESTION_THRESHOLD",
    "Duplicate",
    "duplicate_key",
    "near_duplicates",
    "sketch",
]

SideName = Literal["question", "answer"]
QUESTION_THRESHOLD = NearDuplicateArgs.question
"""Weighted share of common runs of jamo from which two questions ask the same, given the same numbers and quoted words.

Above: "사과는 왜 빨간가요?" and "사과는 왜 빨개요?" 0.59, "한국의 수도는 어디인가요?" and "한국의 수도는 어디야?" 0.74.
Below: "사과는 왜 빨간가요?" and "고추는 왜 빨간가요?" 0.36, "김치찌개는 …" and "된장찌개는 어떻게 끓이나요?" 0.46.
Read by eye, ten or so pairs of each step of .05: of the 23,976 requests of StyleKQC nearly all from 0.5 on say the same in
another style; of the 11,662 short questions of songys those from 0.6 on mostly do (the rest swap one word, 남자친구 and
여자친구), of those from 0.5 to 0.55 not even half.
"""
LONG_QUESTION_THRESHOLD = NearDuplicateArgs.long_question
"""The same beyond 65 syllables or so: there endings weigh little, and what is alike may be the instruction to a new passage."""
ANSWER_THRESHOLD = NearDuplicateArgs.answer
"""The same for answers of any length, whatever their numbers: at 0.7 five sentences of six are the same."""
MIN_QUESTION = 7  # letters; "안녕하세요" opens a thousand different conversations, and each may stay
MIN_ANSWER = 20  # letters; "네, 맞습니다." answers many questions


@dataclass(frozen=True)
class Duplicate:
    """Why a row falls: the better row that stays, the side on which they meet, and how alike they are there (0-1)."""

    kept: int
    side: SideName
    similarity: float


def duplicate_key(messages: Sequence[Message]) -> bytes:
    """16 bytes, equal for conversations that differ in spacing, punctuation, width and case only.

    >>> one, other = ([{"role": "user", "content": text}] for text in ("수도가 어디?", "수도가  어디"))
    >>> duplicate_key(one) == duplicate_key(other)
    True
    """
    said = "".join(f"\x1e{message['role']}\x1f{normalize(message['content'])}" for message in messages)
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def near_duplicates(
    questions: Sequence[bytes],
    answers: Sequence[bytes],
    order: Sequence[Any],
    question_threshold: float = QUESTION_THRESHOLD,
    long_threshold: float = LONG_QUESTION_THRESHOLD,
    answer_threshold: float = ANSWER_THRESHOLD,
    side_by_side: SideBySide = one_by_one,
) -> dict[int, Duplicate]:
    """Row → the better row that it repeats. The best row goes first; a row falls only if it is near one that stays.

    So of a chain A ~ B ~ C in which A and C are far apart, A and C stay. `order` holds a key for each row, the smallest
    for the best (selection.goodness makes them); without ties among them, the outcome hangs on the rows alone.
    A threshold above 1 leaves that side out, even where two are equal. The two sides meet only at the end; until then
    `side_by_side` may have one of them done by another process.

    >>> asked = ["김치찌개는 어떻게 끓이나요?", "김치찌개는 어떻게 끓여요?", "된장찌개는 어떻게 끓이나요?"]
    >>> near_duplicates([sketch(text) for text in asked], [sketch("")] * 3, [1, 2, 3])
    {1: Duplicate(kept=0, side='question', similarity=0.742)}
    """
    names: list[SideName] = []
    calls: list[tuple[Any, ...]] = []
    if question_threshold <= 1:
        names.append("question")
        calls.append((questions, question_threshold, long_threshold, MIN_QUESTION, True))
    if answer_threshold <= 1:
        names.append("answer")
        calls.append((answers, answer_threshold, answer_threshold, MIN_ANSWER, False))
    sides = [_Side(name, *alike) for name, alike in zip(names, side_by_side(_alike, calls), strict=True)]
    found: dict[int, Duplicate] = {}
    for rank, row in enumerate(sorted(range(len(order)), key=order.__getitem__)):
        matches = [(*match, side) for side in sides if (match := side.nearest(row))]
        if matches:
            similarity, _, kept, side = max(matches, key=lambda match: match[:2])
            found[row] = Duplicate(kept, side.name, round(similarity, 3))
        else:
            for side in sides:
                side.keep(row, rank)
    return found


def _alike(
    sketches: Sequence[bytes], threshold: float, long_threshold: float, least: int, agree: bool
) -> tuple[list[int], list[tuple[int, int, float]]]:
    """(the number of each row's text, -1 for one of fewer letters than `least`; the pairs of like texts)."""
    texts = sorted({one for one in sketches if letters(one) >= least})
    numbers = {text: number for number, text in enumerate(texts)}
    return [numbers.get(one, -1) for one in sketches], list(similar_pairs(texts, threshold, long_threshold, agree))


class _Side:
    """The rows' questions, or their answers: each different text once, with its like ones and the row that stays for it."""

    def __init__(self, name: SideName, texts: list[int], pairs: list[tuple[int, int, float]]) -> None:
        self.name = name
        self._text = texts
        self._near: dict[int, dict[int, float]] = {}
        self._kept: dict[int, tuple[int, int]] = {}  # text → (rank, row) of the best row that says it and stays
        for one, other, similarity in pairs:
            self._near.setdefault(one, {})[other] = similarity
            self._near.setdefault(other, {})[one] = similarity

    def nearest(self, row: int) -> tuple[float, int, int] | None:
        """(similarity, minus the rank, row) of the most similar row that stays so far, the better of two alike."""
        text = self._text[row]
        if text in self._kept:
            rank, kept = self._kept[text]
            return 1.0, -rank, kept
        near = self._near.get(text)
        if not near:
            return None
        return max(
            ((near[other], -self._kept[other][0], self._kept[other][1]) for other in near if other in self._kept), default=None
        )

    def keep(self, row: int, rank: int) -> None:
        if self._text[row] >= 0:
            self._kept[self._text[row]] = rank, row
