"""Judged rows on disk, in the folder that the tasks of an engine share: a file of records per shard and an index beside it.

A record is both sketches and the row as a line of JSON; the index has in a fixed width what is compared of all rows at once.
Nothing holds more than one column of the index in memory. Rows are numbered shard by shard; ranked, from the best on.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from struct import Struct
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.alike import SideName
from align_ko.curation.judge import Judged
from align_ko.curation.select import goodness
from align_ko.curation.sketches import Sketch

SIDES: tuple[SideName, ...] = ("question", "answer")
_SIDE = [("key", "u8"), ("facts", "u8"), ("letters", "u4"), ("at", "u8")]
INDEX = np.dtype(
    [("place", "u8"), ("key", "u8", 2), ("score", "f8"), ("off", "f8"), ("id", "u8"), ("at", "u8"), ("end", "u8")]
    + [(name, _SIDE) for name in SIDES]
)
"""`place`: in the order of reading; `score`, `off`, `id`: select.goodness; `at`, `end`: of the line of JSON."""
_HEAD = Struct("<8s8sIHH")
_AT_HAND = 30_000  # sketches kept in memory: 30 MB
_LARGEST = 1024  # bytes of a sketch: 160 runs of 4, 128 slots of 2 and the head
_ELSEWHERE = {"reason", "detail", "key", "question_sketch", "answer_sketch", "unread"}
_KEPT = [name for name in Judged._fields if name not in _ELSEWHERE]


class ShardWriter(AbstractContextManager["ShardWriter"]):
    """Writes shard `rank` anew; it is whole when the index is there."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._index, self._rows = folder / f"{rank:05d}.npy", list[tuple[Any, ...]]()
        self._index.unlink(missing_ok=True)
        self._records = (folder / f"{rank:05d}.records").open("wb")

    def add(self, place: int, row: Judged) -> None:
        sides = []
        for one in (row.question_sketch, row.answer_sketch):
            at = self._records.tell()
            self._records.write(_HEAD.pack(one.key, one.facts, one.letters, len(one.runs), len(one.signature)))
            self._records.write(one.runs + one.signature)
            sides.append((_number(one.key), _number(one.facts), one.letters, at))
        at = self._records.tell()
        fields = {name: getattr(row, name) for name in _KEPT} | {"words": row.words.hex()}
        self._records.write(json.dumps(fields, ensure_ascii=False).encode("utf-8") + b"\n")
        key = _number(row.key[:8]), _number(row.key[8:])
        score, off, _ = goodness(row.score, sum(row.lengths), "")
        self._rows.append((place, key, score, off, int(row.id, 16), at, self._records.tell(), *sides))

    def __exit__(self, failed: object, *error: object) -> None:
        self._records.close()
        if not failed:
            np.save(self._index, np.array(self._rows, INDEX))


def _number(key: bytes) -> int:
    return int.from_bytes(key, "little")


class Shards:
    """All rows of a folder, read where they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.glob("*.npy"))
        self._index = [np.asarray(np.load(file, mmap_mode="r")) for file in self._files]
        self.starts = [0, *accumulate(map(len, self._index))]
        """The number of each shard's first row, and of all rows."""

    @cached_property
    def _records(self) -> list[int]:
        return [os.open(file.with_suffix(".records"), os.O_RDONLY) for file in self._files]

    def column(self, *names: str) -> NDArray[Any]:
        """One column of the index: `column("place")`, `column("question", "key")`."""
        columns: list[Any] = self._index
        for name in names:
            columns = [one[name] for one in columns]
        return np.concatenate([np.asarray(one) for one in columns])

    def judged(self, number: int) -> Judged:
        """The row without its sketches; `text` is JSON of the curated row."""
        shard, entry = self._entry(number)
        line = os.pread(self._records[shard], int(entry["end"] - entry["at"]), int(entry["at"]))
        fields = json.loads(line)
        fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return Judged(**fields | {"words": bytes.fromhex(fields["words"])}, reason="", detail="")

    def sketch(self, side: SideName, number: int) -> Sketch:
        shard, entry = self._entry(number)
        read = os.pread(self._records[shard], _LARGEST, int(entry[side]["at"]))
        key, facts, letters, runs, signature = _HEAD.unpack_from(read)
        end = _HEAD.size + runs
        return Sketch(key, letters, facts, read[_HEAD.size : end], read[end : end + signature])

    def _entry(self, number: int) -> tuple[int, Any]:
        shard = bisect_right(self.starts, number) - 1
        return shard, self._index[shard][number - self.starts[shard]]


class Sketches(Sequence[Sketch]):
    """The sketches of rows by their place in `numbers`, read one by one; the last ones stay at hand."""

    def __init__(self, shards: Shards, side: SideName, numbers: NDArray[Any]) -> None:
        self._shards, self._side, self._numbers = shards, side, np.asarray(numbers)
        self._read = lru_cache(_AT_HAND)(lambda place: shards.sketch(side, int(self._numbers[place])))

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Sketch: ...
    @overload
    def __getitem__(self, place: slice) -> Sketches: ...
    def __getitem__(self, place: int | slice) -> Sketch | Sketches:
        if isinstance(place, slice):
            return Sketches(self._shards, self._side, self._numbers[place])
        return self._read(place)


class Rows(Sequence[Judged]):
    """Rows by their place in `numbers`, without their text."""

    def __init__(self, shards: Shards, numbers: NDArray[Any]) -> None:
        self._shards, self.numbers = shards, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Judged: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    def __getitem__(self, place: int | slice) -> Judged | Rows:
        if isinstance(place, slice):
            return Rows(self._shards, self.numbers[place])
        return self._shards.judged(int(self.numbers[place]))._replace(text="")

    def __iter__(self) -> Iterator[Judged]:
        return (self[place] for place in range(len(self)))
