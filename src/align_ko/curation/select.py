"""Which rows are taken: how many of each group, which of them, and on which side of the split.

A group's rows are taken at random, the best first, or so that no subject crowds out the rest. For the last (feature-based
submodular choice, greedily made) a word of a question is worth what TF-IDF gives it times the square root of how often it
occurs among the rows taken: the hundredth question about 카톡 adds a twentieth of what the first one did. The row that adds
most, its quality counted in, comes next.

Measured on 6,121 short questions, a third of them about messengers and mail, 1,000 taken at a mean score of 1.00 either way:
of the best, 52 % are about messengers and the mean similarity to the nearest other one taken is .31 (TF-IDF of bigrams);
taken so, 14 % and .13; at random 35 % and .25; the best of each of 440 k-means clusters 37 % and .24.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple, Protocol, TypedDict, TypeVar

import numpy as np

from align_ko import reasons
from align_ko.recipe import Selection
from align_ko.workers import Workers


class HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=HasId)


class GroupRows(TypedDict):
    group: str
    wanted: int
    available: int
    taken: int
    share: float


@dataclass(frozen=True)
class Mixture:
    """The decision: rows per group, and one sentence that says what was decided and why."""

    wanted: dict[str, int]
    available: dict[str, int]
    taken: dict[str, int]
    decision: str

    def table(self) -> list[GroupRows]:
        """Per group `{"group": "dialogue", "wanted": 25000, "available": 88752, "taken": 22579, "share": 0.25}`."""
        total = max(sum(self.taken.values()), 1)
        columns = zip(self.wanted.items(), self.available.values(), self.taken.values(), strict=True)
        return [
            {"group": group, "wanted": wanted, "available": available, "taken": taken, "share": round(taken / total, 4)}
            for (group, wanted), available, taken in columns
        ]


def decide(available: Mapping[str, int], weights: Mapping[str, float], max_samples: int, on_shortage: str) -> Mixture:
    """Rows to take per group. Of 30 a and 100 b, wanted in equal parts and 100 in all: shrink → 30 and 30, fill → 30 and 70,
    upsample → 50 and 50."""
    counts = {group: available.get(group, 0) for group in dict.fromkeys([*weights, *available])}
    # A group with no rows at all would shrink the rest to nothing: it is left out, and the sentence says so.
    shares = {group: weights[group] for group in weights if weights[group] > 0 and counts[group] > 0}
    wanted = dict.fromkeys(counts, 0) | divide(max_samples, {g: w for g, w in weights.items() if w > 0})
    aim = divide(max_samples, shares)
    short = {group: count for group, count in aim.items() if count > counts[group]}
    said = [reasons.SHORT.format(group, count, counts[group]) for group, count in short.items()]
    if not short:
        taken = aim
        said.append(reasons.ENOUGH.format(sum(aim.values())))
    elif on_shortage == "upsample":
        taken = aim
        said.append(reasons.UPSAMPLED.format(max_samples))
    elif on_shortage == "fill":
        taken = _fill(counts, shares, max_samples)
        everything = taken == {group: counts[group] for group in taken}
        total = sum(taken.values())
        percents = ", ".join(f"{group} {count / max(total, 1):.1%}" for group, count in taken.items())
        said.append((reasons.ALL_TAKEN if everything else reasons.FILLED).format(total, max_samples, percents))
    else:
        total_weight = sum(shares.values())
        total = min(max_samples, *(int(counts[g] * total_weight / shares[g] + 1e-9) for g in shares))
        taken = divide(total, shares)
        said.append(reasons.SHRUNK.format(total, max_samples))
    missing = [group for group in weights if weights[group] > 0 and counts[group] == 0]
    if missing:
        said.append(reasons.NO_ROWS.format(", ".join(missing)))
    unweighted = [group for group in counts if counts[group] and not weights.get(group)]
    if unweighted:
        said.append(reasons.NO_WEIGHT.format(", ".join(unweighted)))
    return Mixture(wanted, counts, dict.fromkeys(counts, 0) | taken, " ".join(said))


def divide(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` in whole rows by weight, their sum exact: 10 by .5, .25 and .25 → 5, 3 and 2."""
    whole = sum(weights.values())
    exact = {group: total * weight / whole for group, weight in weights.items()}
    counts = {group: int(value + 1e-9) for group, value in exact.items()}
    by_remainder = sorted(exact, key=lambda group: counts[group] - exact[group])
    for group in by_remainder[: total - sum(counts.values())]:
        counts[group] += 1
    return counts


def split(rows: Sequence[Row], eval_share: float, preference_share: float = 0.0) -> tuple[list[Row], list[Row], list[Row]]:
    """(train, eval, preferences) by each row's own id, so that none changes sides as others come or go. A row that was repeated
    (upsampling) is once in eval and in preferences."""
    limits = int(eval_share * 16**8), int((eval_share + preference_share) * 16**8)
    places = [(row, int(row.id[:8], 16)) for row in rows]
    train = [row for row, place in places if place >= limits[1]]
    held_out = {row.id: row for row, place in places if place < limits[0]}
    preferences = {row.id: row for row, place in places if limits[0] <= place < limits[1]}
    return train, list(held_out.values()), list(preferences.values())


def draw(row_id: str, seed: int, lap: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{lap}:{row_id}".encode(), digest_size=8).digest()


def _fill(counts: Mapping[str, int], shares: Mapping[str, float], total: int) -> dict[str, int]:
    """The wanted shares where there are rows enough; what is short goes to the others, again by weight."""
    taken: dict[str, int] = {}
    open_shares = dict(shares)
    while open_shares:
        part = divide(total - sum(taken.values()), open_shares)
        short = [group for group in open_shares if part[group] > counts[group]]
        if not short:
            return taken | part
        for group in short:
            taken[group] = counts[group]
            del open_shares[group]
    return taken


SWEET_SPOT = (150, 500)  # characters of an answer: long enough to say something, short enough to stay natural
SCORE, LENGTH = 8, 2  # powers: against variety, a score of 0.9 counts 0.43, an answer half or double the sweet spot 0.25


class Features(NamedTuple):
    id: str
    group: str
    score: float  # the mean of `assess` over its answers
    answer_characters: int  # of all its answers
    words: bytes = b""  # topic_words of its question, for quality_diverse


def goodness(score: float, answer_characters: int, tie: str | bytes) -> tuple[float, float, str | bytes]:
    """A key that sorts the best row first: by score to one decimal, then by nearness to the sweet spot, then by `tie`.

    >>> sorted([goodness(0.9, 200, "a"), goodness(1.0, 75, "b"), goodness(1.0, 300, "c"), goodness(1.0, 1500, "d")])
    [(-1.0, 0.0, 'c'), (-1.0, 1.0, 'b'), (-1.0, 2.0, 'd'), (-0.9, 0.0, 'a')]
    """
    shortest, longest = SWEET_SPOT
    off = max(shortest / max(answer_characters, 1), answer_characters / longest, 1.0) - 1.0  # half or double is 1 away
    return -round(score, 1), off, tie


def select(
    rows: Sequence[Features], taken: Mapping[str, int], seed: int, how: Selection = "random", workers: Workers | None = None
) -> list[int]:
    """The places in `rows` of `taken[group]` rows of each group, shuffled, by the seed and the rows' ids alone. A group asked
    for more than it has starts over."""
    by_group: dict[str, list[tuple[bytes, int]]] = {}
    for place, row in enumerate(rows):
        if taken.get(row.group):
            by_group.setdefault(row.group, []).append((draw(row.id, seed, 0), place))
    chosen: list[tuple[bytes, int]] = []
    parts: list[tuple[list[tuple[bytes, int]], int, int]] = []  # rows of a group, how many of them, in which lap
    for group, drawn in by_group.items():
        drawn.sort()
        laps, rest = divmod(taken[group], len(drawn))
        for lap in range(laps):
            chosen += [(draw(rows[place].id, seed, lap), place) for _, place in drawn]
        if rest:
            parts.append((drawn, rest, laps))
    if how == "quality_diverse":
        # Each group on its own, the largest here: it takes longest, and need not be sent anywhere.
        parts.sort(key=lambda part: -len(part[0]))
        calls = [(*_topics_and_quality(rows, drawn), rest) for drawn, rest, _ in parts]
        orders = workers.side_by_side(spread, calls) if workers else [spread(*call) for call in calls]
        ranked = [[drawn[number][1] for number in order] for (drawn, _, _), order in zip(parts, orders, strict=True)]
    else:
        if how == "quality":
            for drawn, _, _ in parts:  # the draw breaks ties
                drawn.sort(key=lambda one: goodness(rows[one[1]].score, rows[one[1]].answer_characters, one[0]))
        ranked = [[place for _, place in drawn] for drawn, _, _ in parts]
    for (_, rest, laps), places in zip(parts, ranked, strict=True):
        chosen += [(draw(rows[place].id, seed, laps), place) for place in places[:rest]]
    return [place for _, place in sorted(chosen)]


PART = 250_000
"""Rows among which is selected at a time: bounds the memory (2 kB a row with quality_diverse)."""


def quotas(groups: Sequence[str], taken: Mapping[str, int], parts: int) -> list[dict[str, int]]:
    """`taken` shared among `parts` of the rows (every so-many-th row) by how many of a group each has."""
    counts = [Counter(groups[part::parts]) for part in range(parts)]
    shares: dict[str, dict[str, int]] = {}
    for group, count in taken.items():
        if count:
            shares[group] = divide(count, {str(part): some[group] for part, some in enumerate(counts)})
    return [{group: share[str(part)] for group, share in shares.items()} for part in range(parts)]


def _topics_and_quality(rows: Sequence[Features], drawn: Sequence[tuple[bytes, int]]) -> tuple[list[bytes], list[float]]:
    """What `spread` asks of a group's rows, in the order in which they were drawn."""
    keys = [goodness(rows[place].score, rows[place].answer_characters, "") for _, place in drawn]
    return [rows[place].words for _, place in drawn], [(-minus) ** SCORE / (1 + off) ** LENGTH for minus, off, _ in keys]


WORDS = 32  # of one question; a long passage has shown its subject by then
COMMONEST = 0.01  # a word in fewer of the rows weighs no more: else typing errors would be the most interesting words
NEARLY = 0.95  # saves most of the time and little of the variety

# Two syllables are a crude stem: 김치찌개는, 김치찌개를 and 김치는 all give 김치. Of Latin words all is taken.
_WORD = re.compile(r"(?<![가-힣])[가-힣]{2}|[a-z][a-z0-9+#]+")


def topic_words(question: str) -> bytes:
    """The words of a question, 4 bytes each, made in the workers; equal for 김치찌개를 끓이는 법 and 김치찌개는 끓이나요?"""
    words = dict.fromkeys(_WORD.findall(question[: 20 * WORDS].lower()))
    return np.array([zlib.crc32(word.encode()) for word in words][:WORDS], dtype=np.uint32).tobytes()


def spread(words: Sequence[bytes], quality: Sequence[float], count: int) -> list[int]:
    """`count` places in the order in which they were taken. Of rows that add the same, the earlier one goes first."""
    if not words:
        return []
    sizes = [max(len(one) // 4, 1) for one in words]
    hashes = np.frombuffer(b"".join(one or bytes(4) for one in words), dtype=np.uint32)  # no word at all is a subject too
    vocabulary, places, rows = np.unique(hashes, return_inverse=True, return_counts=True)
    weights = [math.log(1 + 1 / max(share, COMMONEST)) for share in (rows / len(words)).tolist()]
    held = places.tolist()
    ends = np.cumsum(sizes).tolist()
    own = [held[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    factor = [value / math.sqrt(size) for value, size in zip(quality, sizes, strict=True)]
    worth = [*weights, 0.0]  # of the next row that has the word; last that of no word
    # What takes the worth of a row's words from the list, by far the most frequent step, in C. It gives a tuple from two on.
    worths = [itemgetter(*some) if len(some) > 1 else itemgetter(*some, len(weights)) for some in own]
    times = [0] * len(vocabulary)
    heap = [(-factor[row] * sum(worths[row](worth)), row) for row in range(len(words))]
    heapq.heapify(heap)
    taken: list[int] = []
    while heap and len(taken) < count:
        row = heap[0][1]
        now = factor[row] * sum(worths[row](worth))
        # Other rows with its words may have been taken since. What it still adds is let pass when nearly the most there is.
        if len(heap) > 2 and now < NEARLY * -min(heap[1], heap[2])[0]:
            heapq.heapreplace(heap, (-now, row))
            continue
        heapq.heappop(heap)
        taken.append(row)
        for word in own[row]:
            times[word] += 1
            worth[word] = weights[word] * (math.sqrt(times[word] + 1) - math.sqrt(times[word]))
    return taken
