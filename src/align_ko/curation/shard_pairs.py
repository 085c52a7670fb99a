"""Duplicates and near-duplicates among shards, as near_duplicates.py finds them among rows in memory, and the same ones: one
task ranks the rows, each shard writes the keys of its texts, each task compares the texts that share a key of its range.

    ranked.npy   number of the row with each rank           ranks.npy    the reverse; -1 for a duplicate
    duplicates   (number, that of the row it repeats)       question, answer: the best rank with an equal text, -1 for none
    counts       texts that have a run (alike.run_counts)   keys/, pairs/: alike.KEY, sorted; (worse, better) and similarity
    texts        of each rank, where its sketch is: shards.TEXT
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.alike import (
    KEY,
    LOW,
    Found,
    Ints,
    Keys,
    SideName,
    batches,
    long_keys,
    long_pairs,
    once,
    run_counts,
    short_keys,
    short_pairs,
    weigh,
)
from align_ko.curation.near_duplicates import Duplicate, Side, repeats, says_enough
from align_ko.curation.shards import SIDES, Shards, Sketches
from align_ko.curation.sketches import Held
from align_ko.recipe import NearDuplicateArgs

KEYS_AT_ONCE = 1_500_000  # compared at a time: 200 MB


def sides_of(limits: NearDuplicateArgs) -> dict[SideName, tuple[float, float]]:
    """The thresholds of the sides that are compared."""
    thresholds = {"question": (limits.question, limits.long_question), "answer": (limits.answer, limits.answer)}
    return {side: thresholds[side] for side in SIDES if thresholds[side][0] <= 1}


def rank_rows(shards: Shards, folder: Path, limits: NearDuplicateArgs) -> None:
    """Of rows that say the same only the first one read gets a rank."""
    folder.mkdir(parents=True, exist_ok=True)
    key, place = shards.column("key"), shards.column("place")
    order, begins = _groups(key[:, 0], key[:, 1], place)
    first = np.repeat(order[begins], np.diff(begins, append=len(order)))
    again = order != first
    np.save(folder / "duplicates.npy", np.stack([order[again], first[again]], axis=1))
    numbers = np.sort(order[~again])
    score, off, tie = (shards.column(name)[numbers] for name in ("score", "off", "id"))
    ranked = numbers[np.lexsort((tie, off, score))]
    ranks = np.full(len(key), -1)
    ranks[ranked] = np.arange(len(ranked))
    np.save(folder / "ranked.npy", ranked)
    np.save(folder / "ranks.npy", ranks)
    for side in sides_of(limits):
        keys, facts = (shards.column(side, name)[ranked] for name in ("key", "facts"))
        order, begins = _groups(keys, facts, np.arange(len(ranked)))
        best = np.empty(len(ranked), np.int64)
        best[order] = np.repeat(order[begins], np.diff(begins, append=len(order)))
        best[shards.column(side, "letters")[ranked] < says_enough(side)] = -1
        np.save(folder / f"{side}.npy", best)
        np.save(folder / f"{side}-texts.npy", shards.texts(side, ranked))
        texts, counts = _sketches(shards, folder, side), run_counts(Held([]), np.empty(0, np.int64))
        for shard in range(len(shards.starts) - 1):
            counts += run_counts(texts, _different(shards, folder, side, shard))
        np.save(folder / f"{side}-counts.npy", counts)


def write_keys(shards: Shards, folder: Path, shard: int, limits: NearDuplicateArgs) -> None:
    (folder / "keys").mkdir(exist_ok=True)
    for side, (threshold, _) in sides_of(limits).items():
        weights = weigh(np.load(folder / f"{side}-counts.npy"))
        texts, own = _sketches(shards, folder, side), _different(shards, folder, side, shard)
        short = (short_keys(texts, batch, side, weights, threshold) for batch in batches(own[texts.has_runs(own)]))
        long = (long_keys(texts, batch, side) for batch in batches(own[texts.has_signature(own)]))
        for kind, some in (("short", short), ("long", long)):
            keys = np.concatenate([np.empty(0, KEY), *some])
            np.save(folder / f"keys/{side}-{kind}-{shard:05d}.npy", keys[np.argsort(keys["key"])])


def find_pairs(shards: Shards, folder: Path, part: int, parts: int, limits: NearDuplicateArgs) -> None:
    """The pairs of alike texts that share a key of the `part`-th range of `parts`."""
    (folder / "pairs").mkdir(exist_ok=True)
    for side, (threshold, long_threshold) in sides_of(limits).items():
        texts, weights = _sketches(shards, folder, side), weigh(np.load(folder / f"{side}-counts.npy"))
        short = (short_pairs(texts, keys, weights, threshold) for keys in _ranges(folder, f"{side}-short", part, parts))
        long = (
            long_pairs(texts, keys["key"], keys["text"].astype(np.int64), keys["left"] > 0, long_threshold)
            for keys in _ranges(folder, f"{side}-long", part, parts)
        )
        np.savez(folder / f"pairs/{side}-{part:05d}.npz", *once(chain.from_iterable(chain(short, long))))


def repeats_among(folder: Path, limits: NearDuplicateArgs) -> dict[int, Duplicate]:
    """The decision, by the rows' numbers."""
    ranked = np.load(folder / "ranked.npy", mmap_mode="r")
    involved = np.zeros(len(ranked), np.bool_)
    known: list[tuple[SideName, Ints, Found, NDArray[np.bool_]]] = []
    for side in sides_of(limits):
        files = sorted((folder / "pairs").glob(f"{side}-*.npz"))
        pairs, similarity = once(map(_found, files))
        best = np.load(folder / f"{side}.npy")
        is_met = np.zeros(len(best), np.bool_)  # a text that another one is like, or that several rows have
        is_met[pairs >> 32] = is_met[pairs & LOW] = True
        is_met[best[(best >= 0) & (best != np.arange(len(best)))]] = True
        known.append((side, best, (pairs, similarity), is_met))
        involved |= (best >= 0) & is_met[best]
    rows = np.flatnonzero(involved)
    sides = []
    for side, best, (pairs, similarity), is_met in known:
        texts = np.flatnonzero(is_met)
        text = np.where(is_met[best[rows]] & (best[rows] >= 0), np.searchsorted(texts, best[rows]), -1)
        pairs = np.searchsorted(texts, pairs >> 32) << 32 | np.searchsorted(texts, pairs & LOW)
        sides.append(Side(side, dict(zip(rows.tolist(), text.tolist(), strict=True)), (pairs, similarity), len(texts)))
    found = repeats(rows.tolist(), sides)
    return {int(ranked[row]): Duplicate(int(ranked[one.kept]), one.side, one.similarity) for row, one in found.items()}


def _found(file: Path) -> Found:
    with np.load(file) as arrays:
        return arrays["arr_0"], arrays["arr_1"]


def _groups(first: NDArray[Any], second: NDArray[Any], order: NDArray[Any]) -> tuple[Ints, Ints]:
    """(places of equal ones beside one another, each group in `order`; where each group begins)."""
    places = np.lexsort((order, second, first))
    new = (first[places[1:]] != first[places[:-1]]) | (second[places[1:]] != second[places[:-1]])
    return places, np.flatnonzero(np.append(True, new)) if len(places) else places


def _sketches(shards: Shards, folder: Path, side: SideName) -> Sketches:
    """By rank."""
    return Sketches(shards, np.load(folder / f"{side}-texts.npy", mmap_mode="r"))


def _different(shards: Shards, folder: Path, side: SideName, shard: int) -> Ints:
    """The ranks of a shard's different texts."""
    ranks = np.load(folder / "ranks.npy", mmap_mode="r")[shards.starts[shard] : shards.starts[shard + 1]]
    own = ranks[ranks >= 0]
    return own[np.load(folder / f"{side}.npy", mmap_mode="r")[own] == own]


def _ranges(folder: Path, name: str, part: int, parts: int) -> Iterator[Keys]:
    """All shards' keys of a part's range, in so many pieces that each is small; those of the best text first."""
    files = [np.load(file, mmap_mode="r") for file in sorted((folder / "keys").glob(f"{name}-*.npy"))]
    pieces = parts * (1 + sum(map(len, files)) // parts // KEYS_AT_ONCE)
    for piece in range(part * pieces // parts, (part + 1) * pieces // parts):
        low, high = (piece << 64) // pieces, (piece + 1 << 64) // pieces
        keys = np.concatenate([np.asarray(one[_place(one, low) : _place(one, high)]) for one in files])
        yield keys[np.argsort(keys["text"], kind="stable")]


def _place(keys: Keys, key: int) -> int:
    return bisect_left(range(len(keys)), key, key=lambda place: int(keys[place]["key"]))
