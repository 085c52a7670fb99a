"""Pairs of like sketches among hundreds of thousands, without comparing every pair: MinHash bands, then a check of each pair.

Runs that many texts share ("… 에 대해 설명해 주세요") weigh a quarter of rare ones, so that rows written to one template are
alike only where what they ask about is. Every step goes by the sketches' values, none by the place of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.sketches import HEADER, SLOTS, signatures

ROWS = 4  # slots in a band: of 32 bands one agrees with probability .99 at a similarity of .6, .999 at .65, .23 at .3
MARGIN = 0.12  # an estimate this far below the threshold is still looked at: over three standard deviations
RARE = 20  # a run in up to so many texts weighs 4, in 33 texts 3, in 55 2, in 200 and more 1
CROWD = 32  # a bucket of more texts is divided by the next bands instead of compared in full
DEPTH = 5  # divisions; who is in one crowd even then is compared with the next few in it (one or two in a hundred stay)
BATCH = 5_000  # texts or pairs at a time: bounds the memory

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Pairs = tuple[Ints, Ints]


def similar_pairs(
    sketches: Sequence[bytes], threshold: float, long_threshold: float, agree: bool
) -> Iterator[tuple[int, int, float]]:
    """(i, j, similarity) of the pairs from `threshold` on, and from `long_threshold` on where one is no longer kept in full.

    `agree`: only those whose numbers and quoted words agree too.

    `sketches` are distinct and sorted, so that the same texts give the same pairs whatever order their rows came in.
    """
    if len(sketches) < 2:
        return
    header = np.frombuffer(b"".join(one[: 4 * HEADER] for one in sketches), dtype=np.uint32).reshape(-1, HEADER)
    counts = header[:, 3].astype(np.int64)
    facts = np.ascontiguousarray(header[:, :2]).view(np.uint64)[:, 0] if agree else np.zeros(len(counts), dtype=np.uint64)
    few = np.flatnonzero(counts > 0)
    runs = np.frombuffer(b"".join(sketches[i][4 * HEADER :][: 4 * counts[i]] for i in few.tolist()), dtype=np.uint32)
    yield from _exact(runs, counts[few], facts[few], few, threshold)
    sizes = np.fromiter(map(len, sketches), dtype=np.int64, count=len(sketches)) // 4
    many = np.flatnonzero(sizes > HEADER + counts)
    table = np.frombuffer(b"".join(sketches[i][-2 * SLOTS :] for i in many.tolist()), dtype=np.uint16).reshape(-1, SLOTS)
    for one, other in _candidates(table, facts[many]):
        unseen = (counts[many[one]] == 0) | (counts[many[other]] == 0)  # the exact comparison had the others
        for i, j, similarity in _estimated(table, one[unseen], other[unseen], long_threshold):
            yield from zip(many[i].tolist(), many[j].tolist(), similarity.tolist(), strict=True)


def _exact(
    runs: NDArray[np.uint32], counts: Ints, facts: Words, names: Ints, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Texts short enough for their runs to be kept: the weighted share of common runs itself."""
    if len(names) < 2:
        return
    bounds = np.concatenate(([0], np.cumsum(counts)))
    weights = _weights(runs)
    totals = np.add.reduceat(weights, bounds[:-1], dtype=np.int64)
    table = np.empty((len(names), SLOTS), dtype=np.uint16)
    for first in range(0, len(names), BATCH):
        table[first : first + BATCH] = _weighted_signatures(runs, weights, bounds[first : first + BATCH + 1])
    codes = [np.empty(0, dtype=np.int64)]
    for one, other in _candidates(table, facts):
        for i, j, _ in _estimated(table, one, other, threshold - MARGIN):
            codes.append(np.minimum(i, j) * len(names) + np.maximum(i, j))
    found = np.unique(np.concatenate(codes))
    for first in range(0, len(found), BATCH):
        i, j = np.divmod(found[first : first + BATCH], len(names))
        shared = _shared(runs, weights, bounds, i, j)
        similarity = shared / (totals[i] + totals[j] - shared)
        for place in np.flatnonzero(similarity >= threshold).tolist():
            yield int(names[i[place]]), int(names[j[place]]), float(similarity[place])


def _weights(runs: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """4 for a run that few texts have, down to 1. 22 bits of its hash stand for it, which is near enough."""
    parts = np.array_split(runs >> np.uint32(10), len(runs) // 1_000_000 + 1)
    texts = np.zeros(1 << 22, dtype=np.int64)
    for part in parts:
        texts += np.bincount(part, minlength=len(texts))
    weight = np.rint(4 / (1 + np.log(np.maximum(texts / RARE, 1)))).astype(np.uint8)
    return np.concatenate([np.maximum(weight[part], 1) for part in parts])


def _weighted_signatures(runs: NDArray[np.uint32], weights: NDArray[np.uint8], bounds: Ints) -> NDArray[np.uint16]:
    """A run of weight 3 enters as three: so the signatures agree as often as the weighted similarity says."""
    weight = weights[bounds[0] : bounds[-1]].astype(np.int64)
    run = np.repeat(runs[bounds[0] : bounds[-1]], weight).astype(np.uint64)
    copy = _ranges(np.zeros(len(weight), dtype=np.int64), weight).astype(np.uint64)
    ends = np.concatenate(([0], np.cumsum(weight)))[bounds - bounds[0]].astype(np.uint64)
    return signatures(_mix(run << np.uint64(2) | copy), ends)


def _candidates(table: NDArray[np.uint16], facts: Words) -> Iterator[Pairs]:
    """Pairs that agree in a whole band, and in `facts`."""
    bands = table.view(np.uint64)  # ROWS values of 16 bits
    for band in range(bands.shape[1]):
        members = np.arange(len(bands))
        keys = _mix(bands[:, band] ^ _mix(facts))
        for deeper in range(1, DEPTH + 1):
            # numpy sorts numbers far faster when equal ones may change places; within a bucket the members are then put back
            # in order, which the next divisions and the neighbours go by.
            order = np.argsort(keys)
            members, keys = members[order], keys[order]
            new = np.concatenate(([True], keys[1:] != keys[:-1]))
            size = np.diff(np.append(np.flatnonzero(new), len(keys)))
            shared = np.repeat(size > 1, size)
            bucket = np.cumsum(new)[shared]
            members = np.sort(bucket << 32 | members[shared]) & 0xFFFFFFFF
            keys, size = keys[shared], np.repeat(size[size > 1], size[size > 1])
            small = size <= CROWD
            yield from _neighbours(members[small], keys[small], CROWD)
            crowded = size > CROWD
            members, keys = members[crowded], keys[crowded]
            if not len(members):
                break
            if deeper < DEPTH:
                keys = _mix(keys ^ bands[members, (band + deeper) % bands.shape[1]])
        else:
            yield from _neighbours(members, keys, CROWD // 2)


def _neighbours(members: Ints, keys: Words, reach: int) -> Iterator[Pairs]:
    for step in range(1, min(reach, len(members))):
        same = keys[step:] == keys[:-step]
        if not same.any():
            return
        yield members[:-step][same], members[step:][same]


def _estimated(
    table: NDArray[np.uint16], one: Ints, other: Ints, least: float
) -> Iterator[tuple[Ints, Ints, NDArray[np.float64]]]:
    for first in range(0, len(one), BATCH):
        i, j = one[first : first + BATCH], other[first : first + BATCH]
        similarity = np.count_nonzero(table[i] == table[j], axis=1) / SLOTS
        enough = similarity >= least
        if enough.any():
            yield i[enough], j[enough], similarity[enough]


def _shared(runs: NDArray[np.uint32], weights: NDArray[np.uint8], bounds: Ints, i: Ints, j: Ints) -> Ints:
    """For each pair of texts, the weight of the runs that both have."""
    pairs = np.arange(len(i), dtype=np.uint64)
    size_i, size_j = bounds[i + 1] - bounds[i], bounds[j + 1] - bounds[j]
    at = np.concatenate((_ranges(bounds[i], size_i), _ranges(bounds[j], size_j)))
    pair = np.concatenate((np.repeat(pairs, size_i), np.repeat(pairs, size_j)))
    keys = pair << np.uint64(32) | runs[at]
    order = np.argsort(keys, kind="stable")
    both = order[:-1][keys[order[1:]] == keys[order[:-1]]]
    return np.bincount(pair[both].astype(np.int64), weights=weights[at[both]], minlength=len(i)).astype(np.int64)


def _ranges(starts: Ints, counts: Ints) -> Ints:
    """[starts[0], starts[0] + 1, …] and so on, `counts` of each."""
    return np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def _mix(keys: Words) -> Words:
    keys = keys ^ keys >> np.uint64(31)
    keys *= np.uint64(0x9E3779B97F4A7C15)
    keys ^= keys >> np.uint64(29)
    return keys
