"""Which texts of a set are alike; near_duplicates.py asks it of questions and answers, shards.py in parts.

Short texts keep their runs (sketches.py) and are compared exactly. Runs that many texts share ("… 에 대해 설명해 주세요")
weigh a quarter of rare ones, so that rows written to one template are alike only where what they ask about is. Two are
compared if they share one of their rarest runs, those that make up 1 - threshold of the weight, which misses no pair (prefix
filtering: Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"). Long texts are compared if a band of their
signatures is equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.sketches import SLOTS, Held, Sketch, spans

SideName = Literal["question", "answer"]
CROWD = 64  # of more than twice as many texts that share a run or a band, each meets the so many best and the so many before it
BATCH, PAIRS = 4096, 16_384  # texts, pairs at a time: bounds the memory
MERGED = 1_000_000  # pairs found, from which those found more than once are dropped
RARE = 20  # a run in up to so many texts weighs 4, in 33 texts 3, in 55 2, in 200 and more 1
_BITS = 22  # of a run's hash, by which its texts are counted
LOW = (1 << 32) - 1
_MIX = np.uint64(0x9E3779B97F4A7C15)  # spreads keys evenly, so that a range of them is a part
_ADD = np.uint64(0x0001000100010001)  # times four numbers of 16 bits: their sum, in the upper 16

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Found = tuple[Ints, NDArray[np.float64]]  # (pairs, `worse << 32 | better`; their similarities)
NONE: Found = np.empty(0, np.int64), np.empty(0)
KEY = np.dtype([("key", "u8"), ("text", "u4"), ("left", "u2"), ("total", "u2")])
"""What makes two texts meet: of a short text one of its rarest runs, the weight of it and all commoner ones, and of all runs;
of a long one a band of its signature, and in `left` whether the text has its runs, too."""
Keys = NDArray[Any]  # of KEY
Slots = NDArray[np.uint16]  # (texts, SLOTS): signatures, or the weight of each text's runs by slot


class Texts(Protocol):
    """Sketches of texts, in memory or on disk; `numbers` of some of them."""

    def runs(self, numbers: Ints) -> tuple[Ints, NDArray[np.uint32]]:
        """How many each text has; all of them, one text after the other."""

    def signatures(self, numbers: Ints) -> Slots:
        """Of texts that have one."""

    def facts(self, numbers: Ints) -> Words:
        """What must agree between two questions."""

    def has_runs(self, numbers: Ints) -> NDArray[np.bool_]: ...


def alike_texts(sketches: Sequence[Sketch], name: SideName, threshold: float, long_threshold: float) -> Found:
    """All pairs of them, numbered from the best text on."""
    texts = Held(sketches)
    short = np.array([number for number, one in enumerate(sketches) if one.runs], np.int64)
    weights = weigh(run_counts(texts, short))
    keys = np.concatenate([np.empty(0, KEY), *(short_keys(texts, batch, name, weights, threshold) for batch in batches(short))])
    long = np.array([number for number, one in enumerate(sketches) if one.signature], np.int64)
    exact, facts = texts.has_runs(long), _facts(texts, long, name)
    bands = texts.signatures(long).view(np.uint64).T
    pairs = (long_pairs(texts, band ^ facts, long, exact, long_threshold) for band in bands)
    return once(chain(short_pairs(texts, keys, weights, threshold), *pairs))


class Weights(NamedTuple):
    """Of a run, by the upper bits of its hash: 1 to 4, and its place from the rarest on, where a key is sorted by it."""

    weight: NDArray[np.float64]
    rank: Words


def run_counts(texts: Texts, numbers: Ints) -> Ints:
    """How many of these texts have a run, by the upper bits of its hash."""
    counts = np.zeros(1 << _BITS, np.int64)
    for batch in batches(numbers):
        counts += np.bincount(_runs(texts, batch)[1] >> 32 - _BITS, minlength=len(counts))
    return counts


def weigh(counts: Ints) -> Weights:
    weight, common = np.full(len(counts), 4.0), counts > RARE  # few are
    weight[common] = np.maximum(np.rint(4 / (1 + np.log(counts[common] / RARE))), 1)
    rank = np.minimum(counts, (1 << 20) - 1).astype(np.uint64) << np.uint64(32)
    return Weights(weight, rank)


def short_keys(texts: Texts, batch: Ints, name: SideName, weights: Weights, threshold: float) -> Keys:
    """The keys of the texts that keep their runs. Two texts whose similarity is `threshold` share a key."""
    place, runs = _runs(texts, batch)
    rarest_first: Words = np.sort(place << 52 | weights.rank[runs >> 32 - _BITS] | runs)
    place, runs = rarest_first >> np.uint64(52), rarest_first & np.uint64(LOW)
    weight = weights.weight[runs >> 32 - _BITS]
    total = np.bincount(place, weight, len(batch))
    # Two texts whose first common run this is have at most in common what is left from it on.
    left = np.cumsum(total)[place] - np.cumsum(weight) + weight
    place, runs, left = (part[left / total[place] >= threshold] for part in (place, runs, left))
    keys = np.empty(len(runs), KEY)
    keys["key"], keys["text"] = (runs ^ _facts(texts, batch, name)[place]) * _MIX, batch[place]
    keys["left"], keys["total"] = left, total[place]
    return keys


def short_pairs(texts: Texts, keys: Keys, weights: Weights, threshold: float) -> Iterator[Found]:
    """Of the texts that keep their runs: the weighted share of common ones. Misses no pair outside a crowd."""
    keys = keys[np.argsort(keys["key"], kind="stable")]  # what shares a key beside one another: several times as fast
    text, left, total = keys["text"].astype(np.int64), keys["left"].astype(float), keys["total"].astype(float)
    least = threshold / (1 + threshold) * (1 - 1e-9)
    for worse, better in _sharing(keys["key"]):
        both = total[worse] + total[better]
        worth = np.minimum(left[worse], left[better]) >= least * both
        numbers, worse, better = _different(text[worse[worth]], text[better[worth]])
        counts, runs = texts.runs(numbers)
        # Two texts have at most in common the smaller sums of both: spares most comparisons.
        sums = _sums(counts, runs, weights)
        common = np.minimum(sums.take(worse, 0), sums.take(better, 0)).view(np.uint64).sum(axis=1) * _ADD >> 48
        both = both[worth]
        worth = common >= least * both
        worse, better, both = worse[worth], better[worth], both[worth]
        pair_runs = np.sort(np.concatenate([_runs_at(worse, counts, runs), _runs_at(better, counts, runs)]))
        pair_runs = pair_runs[1:][pair_runs[1:] == pair_runs[:-1]]
        common = np.bincount(pair_runs >> 32, weights.weight[(pair_runs & LOW) >> 32 - _BITS], len(worse))
        yield _alike(numbers[worse], numbers[better], common / (both - common), threshold)


def long_keys(texts: Texts, batch: Ints, name: SideName) -> Keys:
    """The bands of these texts' signatures, each mixed with its own number."""
    bands = texts.signatures(batch).view(np.uint64)
    keys = np.zeros(bands.shape, KEY)
    keys["key"] = (bands ^ _facts(texts, batch, name)[:, None]) + np.arange(bands.shape[1], dtype=np.uint64) * _MIX
    keys["text"], keys["left"] = batch[:, None], texts.has_runs(batch)[:, None]
    return keys.ravel()


def long_pairs(texts: Texts, keys: Words, text: Ints, exact: NDArray[np.bool_], threshold: float) -> Iterator[Found]:
    """Of the texts that have signatures, not both of them their runs: the share of equal slots, if a band is equal. Of 4
    slots: one band of 32 is equal with probability .99 at a similarity of .6, .23 at .3."""
    for worse, better in _sharing(keys):
        estimated = ~(exact[worse] & exact[better])
        numbers, worse, better = _different(text[worse[estimated]], text[better[estimated]])
        slots = texts.signatures(numbers)
        equal = np.bitwise_count((slots.take(worse, 0) == slots.take(better, 0)).view(np.uint64)).sum(axis=1)
        yield _alike(numbers[worse], numbers[better], equal / SLOTS, threshold)


def batches(numbers: Ints) -> Iterator[Ints]:
    return (numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH))


def _facts(texts: Texts, numbers: Ints, name: SideName) -> Words:
    """What must agree besides; nothing between two answers."""
    return np.zeros(len(numbers), np.uint64) if name == "answer" else texts.facts(numbers)


def _sharing(keys: Words) -> Iterator[tuple[Ints, Ints]]:
    """Places of equal keys, the later and the earlier one, some thousand at a time: all pairs of them, but in a crowd. One key
    after the other, so that few texts make up many pairs."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begin = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    begin = np.repeat(begin, np.diff(begin, append=len(keys)))  # where the crowd of each begins
    meets = np.minimum(np.arange(len(keys)) - begin, 2 * CROWD)
    ends = np.cumsum(meets)  # of each one's pairs
    for first in range(0, int(meets.sum()), PAIRS):
        pair = np.arange(first, min(first + PAIRS, ends[-1]))
        late = np.searchsorted(ends, pair, side="right")
        step = pair - ends[late] + meets[late]
        yield order[late], order[np.where(step < CROWD, late - step - 1, begin[late] + step - CROWD)]


def _different(worse: Ints, better: Ints) -> tuple[Ints, Ints, Ints]:
    """(each text once, the places of the worse and of the better ones among them): none is read twice."""
    numbers, places = np.unique(np.concatenate([worse, better]), return_inverse=True)
    return numbers, places[: len(worse)], places[len(worse) :]


def _alike(worse: Ints, better: Ints, similarity: NDArray[np.float64], threshold: float) -> Found:
    alike = similarity >= threshold
    return worse[alike] << 32 | better[alike], similarity[alike]


def once(found: Iterable[Found]) -> Found:
    """Each pair once, in order. Holds at most twice what is left, or MERGED."""
    whole, more, count = NONE, list[Found](), 0
    for some in found:
        more.append(some)
        count += len(some[0])
        if count > max(len(whole[0]), MERGED):
            whole, more, count = _merged([whole, *more]), [], 0
    return _merged([whole, *more])


def _merged(found: Sequence[Found]) -> Found:
    pairs, similarities = map(np.concatenate, zip(*found, strict=True))
    pairs, places = np.unique(pairs, return_index=True)
    return pairs, similarities[places]


def _runs(texts: Texts, numbers: Ints) -> tuple[Words, Words]:
    """(the place in `numbers`, the run) of each run of these texts."""
    counts, runs = texts.runs(numbers)
    return np.repeat(np.arange(len(counts), dtype=np.uint64), counts), runs.astype(np.uint64)


def _sums(counts: Ints, runs: NDArray[np.uint32], weights: Weights) -> Slots:
    """The weight of each text's runs by slot."""
    slot = np.repeat(np.arange(len(counts)) * SLOTS, counts) + runs % SLOTS
    return np.bincount(slot, weights.weight[runs >> 32 - _BITS], len(counts) * SLOTS).astype(np.uint16).reshape(-1, SLOTS)


def _runs_at(places: Ints, counts: Ints, runs: NDArray[np.uint32]) -> Words:
    """`which << 32 | run` of each run of the texts at these places."""
    many = counts[places]
    at = spans((np.cumsum(counts) - counts)[places], many)
    return np.repeat(np.arange(len(places), dtype=np.uint64) << 32, many) | runs[at]
