"""Judged rows on disk, in the folder that the tasks of an engine share: a file of records per shard and an index beside it.

A record is the runs and signatures of both texts and the row as a line of JSON; the index has in a fixed width what is
compared of all rows at once. Nothing holds more than one column of it in memory. Rows are numbered shard by shard.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from align_ko.curation.alike import Ints, SideName, Slots, Words
from align_ko.curation.judge import Judged
from align_ko.curation.select import goodness
from align_ko.curation.sketches import SLOTS

SIDES: tuple[SideName, ...] = ("question", "answer")
_SIDE = [("key", "u8"), ("facts", "u8"), ("letters", "u4"), ("runs", "u2"), ("slots", "u2"), ("at", "u8")]
INDEX = np.dtype(
    [("place", "u8"), ("key", "u8", 2), ("score", "f8"), ("off", "f8"), ("id", "u8"), ("at", "u8"), ("end", "u8")]
    + [(name, _SIDE) for name in SIDES]
)
"""`place`: in the order of reading; `score`, `off`, `id`: select.goodness; `at`, `end`: of the line of JSON. Of a side
`runs`, `slots`: how many numbers there are at `at`, of 4 and then of 2 bytes."""
TEXT = np.dtype([("facts", "u8"), ("at", "u8"), ("shard", "u4"), ("runs", "u2"), ("slots", "u2")])
"""Where the sketch of a text is."""
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
            counts = len(one.runs) // 4, len(one.signature) // 2
            sides.append((_number(one.key), _number(one.facts), one.letters, *counts, self._records.tell()))
            self._records.write(one.runs + one.signature)
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

    def texts(self, side: SideName, numbers: NDArray[Any]) -> NDArray[Any]:
        """TEXT of these rows."""
        texts = np.empty(len(numbers), TEXT)
        for name in ("facts", "at", "runs", "slots"):
            texts[name] = self.column(side, name)[numbers]
        texts["shard"] = np.searchsorted(self.starts, numbers, side="right") - 1
        return texts

    def read(self, shard: NDArray[Any], at: NDArray[Any], size: NDArray[Any]) -> bytes:
        """So many bytes of each record, one after the other."""
        files = self._records
        wanted = zip(shard.tolist(), size.tolist(), at.tolist(), strict=True)
        return b"".join([os.pread(files[one], many, first) for one, many, first in wanted])

    def _entry(self, number: int) -> tuple[int, Any]:
        shard = bisect_right(self.starts, number) - 1
        return shard, self._index[shard][number - self.starts[shard]]


class Sketches:
    """Those of `texts` (TEXT), read where they are asked for (alike.Texts)."""

    def __init__(self, shards: Shards, texts: NDArray[Any]) -> None:
        self._shards, self._texts = shards, texts

    def runs(self, numbers: Ints) -> tuple[Ints, NDArray[np.uint32]]:
        texts = self._texts[numbers]
        counts = texts["runs"].astype(np.int64)
        return counts, np.frombuffer(self._shards.read(texts["shard"], texts["at"], counts * 4), np.uint32)

    def signatures(self, numbers: Ints) -> Slots:
        texts = self._texts[numbers]
        read = self._shards.read(texts["shard"], texts["at"] + texts["runs"].astype(np.uint64) * 4, texts["slots"] * 2)
        return np.frombuffer(read, np.uint16).reshape(-1, SLOTS)

    def facts(self, numbers: Ints) -> Words:
        return self._texts["facts"][numbers]

    def has_runs(self, numbers: Ints) -> NDArray[np.bool_]:
        return self._texts["runs"][numbers] > 0

    def has_signature(self, numbers: Ints) -> NDArray[np.bool_]:
        return self._texts["slots"][numbers] > 0


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
