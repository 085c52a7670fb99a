"""Which rows nearly repeat a better one, in their question or in their answer.

Short texts keep their runs (sketches.py) and are compared exactly. Runs that many texts share ("… 에 대해 설명해 주세요")
weigh a quarter of rare ones, so that rows written to one template are alike only where what they ask about is. Two are
compared if they share one of their rarest runs, those that make up 1 - threshold of the weight, which misses no pair (prefix
filtering: Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"). Long texts are compared if a band of their
signatures is equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.sketches import SLOTS, Sketch
from align_ko.recipe import NearDuplicateArgs

SideName = Literal["question", "answer"]
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

CROWD = 64  # of more than twice as many texts that share a run or a band, each meets the so many best and the so many before it
BATCH = 4096  # texts or pairs at a time: bounds the memory
RARE = 20  # a run in up to so many texts weighs 4, in 33 texts 3, in 55 2, in 200 and more 1
_BITS = 22  # of a run's hash, by which its texts are counted
_LOW = (1 << 32) - 1
_ADD = np.uint64(0x0001000100010001)  # times four numbers of 16 bits: their sum, in the upper 16

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Found = tuple[Ints, NDArray[np.float64]]  # (pairs, `worse << 32 | better`; their similarities)
_NONE: Found = np.empty(0, np.int64), np.empty(0)


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
    sides: list[_Side] = []
    if question_threshold <= 1:
        sides.append(_Side("question", rows, questions, question_threshold, long_threshold))
    if answer_threshold <= 1:
        sides.append(_Side("answer", rows, answers, answer_threshold, answer_threshold))
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


class _Side:
    """The questions or the answers: each different text once, numbered from the best row's on, and which are alike."""

    def __init__(
        self, name: SideName, rows: Sequence[int], sketches: Sequence[Sketch], threshold: float, long_threshold: float
    ) -> None:
        self.name = name
        self._text = [-1] * len(rows)  # of each row; -1 where it says too little
        self._kept: dict[int, tuple[int, int]] = {}  # text → (-rank, row) of the best row that has it and stays
        least = MIN_QUESTION if name == "question" else MIN_ANSWER
        texts: dict[tuple[bytes, bytes], tuple[int, Sketch]] = {}
        for row in rows:
            if (one := sketches[row]).letters >= least:
                self._text[row], _ = texts.setdefault((one.key, one.facts), (len(texts), one))
        different = [one for _, one in texts.values()]
        facts = np.frombuffer(b"".join(one.facts if name == "question" else bytes(8) for one in different), np.uint64)
        pairs, self._similarity = _once(
            [_short_pairs(different, facts, threshold), _long_pairs(different, facts, long_threshold)]
        )
        self._better = pairs & _LOW
        self._begin = np.searchsorted(pairs >> 32, np.arange(len(different) + 1)).tolist()  # of each text's pairs

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


def _short_pairs(texts: Sequence[Sketch], facts: Words, threshold: float) -> Found:
    """Of the texts that keep their runs: the weighted share of common ones. Misses no pair outside a crowd."""
    short = np.array([number for number, one in enumerate(texts) if one.runs], np.int64)
    batches = [short[first : first + BATCH] for first in range(0, len(short), BATCH)]
    counts = np.zeros(1 << _BITS, np.int64)  # texts that have a run
    for batch in batches:
        counts += np.bincount(_runs(texts, batch)[1] >> 32 - _BITS, minlength=len(counts))
    weights = np.maximum(np.rint(4 / (1 + np.log(np.maximum(counts / RARE, 1)))), 1)
    ranks = np.minimum(counts, (1 << 20) - 1).astype(np.uint64) << 32
    totals, sums = np.zeros(len(texts)), np.zeros((len(texts), SLOTS), np.uint16)
    entries = [(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0))]
    for batch in batches:
        place, runs = _runs(texts, batch)
        rarest_first: Words = np.sort(place << 52 | ranks[runs >> 32 - _BITS] | runs)
        place, runs = rarest_first >> np.uint64(52), rarest_first & np.uint64(_LOW)
        weight = weights[runs >> 32 - _BITS]
        total = np.bincount(place, weight)
        by_slot = np.bincount(place * SLOTS + runs % SLOTS, weight, len(batch) * SLOTS)
        totals[batch], sums[batch] = total, by_slot.reshape(-1, SLOTS)
        # Two texts whose first common run this is have at most in common what is left from it on.
        left = np.cumsum(total)[place] - np.cumsum(weight) + weight
        place, runs, left = (part[left / total[place] >= threshold] for part in (place, runs, left))
        entries.append((runs ^ facts[batch][place], batch[place], left))
    keys, text, left = map(np.concatenate, zip(*entries, strict=True))
    order = np.argsort(keys, kind="stable")  # what shares a key beside one another: several times as fast
    keys, text, left = keys[order], text[order], left[order]
    total, least = totals[text], threshold / (1 + threshold) * (1 - 1e-9)
    found = [_NONE]
    for worse, better in _sharing(keys):
        worth = np.minimum(left[worse], left[better]) >= least * (total[worse] + total[better])
        worse, better = text[worse[worth]], text[better[worth]]
        common = np.minimum(sums.take(worse, 0), sums.take(better, 0)).view(np.uint64).sum(axis=1) * _ADD >> 48
        worth = common >= least * (totals[worse] + totals[better])
        worse, better = worse[worth], better[worth]
        if len(worse):
            runs = np.sort(np.concatenate([place << 32 | run for place, run in (_runs(texts, worse), _runs(texts, better))]))
            runs = runs[1:][runs[1:] == runs[:-1]]
            common = np.bincount(runs >> 32, weights[(runs & _LOW) >> 32 - _BITS], len(worse))
            found.append(_alike(worse, better, common / (totals[worse] + totals[better] - common), threshold))
    return _once(found)


def _long_pairs(texts: Sequence[Sketch], facts: Words, threshold: float) -> Found:
    """Of the texts that have signatures, not both of them their runs: the share of equal slots, if a band is equal."""
    long = np.array([number for number, one in enumerate(texts) if one.signature], np.int64)
    exact = np.array([bool(texts[number].runs) for number in long.tolist()], np.bool_)
    table = np.frombuffer(b"".join(texts[number].signature for number in long.tolist()), np.uint16).reshape(-1, SLOTS)
    found = _NONE
    for band in table.view(np.uint64).T:  # 4 slots: one of 32 is equal with probability .99 at a similarity of .6, .23 at .3
        new = [found]
        for worse, better in _sharing(band ^ facts[long]):
            equal = np.bitwise_count((table.take(worse, 0) == table.take(better, 0)).view(np.uint64)).sum(axis=1)
            equal[exact[worse] & exact[better]] = 0
            new.append(_alike(long[worse], long[better], equal / SLOTS, threshold))
        found = _once(new)
    return found


def _sharing(keys: Words) -> Iterator[tuple[Ints, Ints]]:
    """Places of equal keys, the later and the earlier one, some thousand at a time: all pairs of them, but in a crowd."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begin = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    begin = np.repeat(begin, np.diff(begin, append=len(keys)))  # where the crowd of each begins
    late = np.arange(len(keys))
    for step in range(2 * CROWD):
        late = late[late - begin[late] > step]
        for first in range(0, len(late), BATCH):
            worse = late[first : first + BATCH]
            better = worse - step - 1 if step < CROWD else begin[worse] + step - CROWD
            yield order[worse], order[better]


def _alike(worse: Ints, better: Ints, similarity: NDArray[np.float64], threshold: float) -> Found:
    alike = similarity >= threshold
    return worse[alike] << 32 | better[alike], similarity[alike]


def _once(found: Sequence[Found]) -> Found:
    pairs, similarities = map(np.concatenate, zip(*found, strict=True))
    pairs, places = np.unique(pairs, return_index=True)
    return pairs, similarities[places]


def _runs(texts: Sequence[Sketch], numbers: Ints) -> tuple[Words, Words]:
    """(the place in `numbers`, the run) of each run of these texts."""
    runs = [texts[number].runs for number in numbers.tolist()]
    places = np.repeat(np.arange(len(runs), dtype=np.uint64), [len(one) // 4 for one in runs])
    return places, np.frombuffer(b"".join(runs), np.uint32).astype(np.uint64)
