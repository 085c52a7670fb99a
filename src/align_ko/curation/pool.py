"""The rows that a run has kept so far: their text on disk, what is decided by in memory."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import IO, Any

from align_ko.curation.adapters import Rejection
from align_ko.curation.judged import Judged, entry
from align_ko.curation.sources import RawRow

EXAMPLES_PER_REASON = 5


@dataclass
class Tally:
    """What happened to the rows of one source."""

    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Pool:
    """Rows as they come from the judge; a context manager, because the text of the kept ones lies in a temporary file.

    Of each kept row memory holds some hundred bytes, so that a file far larger than memory can be curated.
    """

    def __init__(self, folder: Path, rejected: IO[str], seed: int) -> None:
        self.rows: list[Judged] = []  # kept, `text` empty
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.levels_before: Counter[str] = Counter()
        self.lengths_before: dict[str, Counter[int]] = defaultdict(Counter)  # by group
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self._rejected = rejected
        self._draw = Random(seed)
        self._seen: dict[bytes, int] = {}  # duplicate key → number of the row that has it
        folder.mkdir(parents=True, exist_ok=True)
        self._texts = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self._places: list[tuple[int, int]] = []  # where each kept row's text lies
        self._end = 0
        self._moved = False  # the file's position is not its end

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._texts.close()

    def add(self, row: Judged) -> None:
        """Count it; keep it, or write it to rejected.jsonl."""
        self.tallies[row.label].read += 1
        before = self.lengths_before[row.group]
        for length in row.lengths:  # one or two: Counter.update costs several times as much
            before[length] += 1
        for level in row.levels:
            self.levels_before[level] += 1
        if row.reason:
            return self._reject(row)
        first = self._seen.setdefault(row.key, len(self.rows))
        if first < len(self.rows):
            place = f"{self.rows[first].file}:{self.rows[first].line}"
            return self._reject(again(row, Rejection("duplicate", f"says the same as {place}")))
        text = row.text.encode("utf-8") + b"\n"
        if self._moved:  # seeking writes out what waits to be written: not before every row
            self._texts.seek(self._end)
            self._moved = False
        self._texts.write(text)
        self._places.append((self._end, len(text)))
        self._end += len(text)
        self.rows.append(row._replace(text=""))
        return None

    def text(self, number: int) -> str:
        """JSON of kept row `number`, with its line end."""
        self._moved = True
        start, length = self._places[number]
        self._texts.seek(start)
        return self._texts.read(length).decode("utf-8")

    def drop(self, reasons: dict[int, Rejection]) -> None:
        """Kept rows, by number, that fall after all. The others keep their order and get new numbers."""
        for number, why in sorted(reasons.items()):
            self._reject(again(self.rows[number]._replace(text=self.text(number)), why))
        left = [number for number in range(len(self.rows)) if number not in reasons]
        self.rows = [self.rows[number] for number in left]
        self._places = [self._places[number] for number in left]
        self._seen.clear()

    def _reject(self, row: Judged) -> None:
        self.tallies[row.label].dropped[row.reason] += 1
        self._rejected.write(row.text + "\n")
        kept = self.examples.setdefault(row.reason, [])
        if len(kept) < EXAMPLES_PER_REASON:
            kept.append(json.loads(row.text))
        elif self._draw.random() < 0.05:  # later ones get a chance too, so that the examples come from the whole file
            kept[self._draw.randrange(EXAMPLES_PER_REASON)] = json.loads(row.text)


def again(row: Judged, why: Rejection) -> Judged:
    """A kept row as one that falls, with its entry for rejected.jsonl (the curated row stands in it)."""
    text = entry(why, row.label, RawRow(row.file, row.line, json.loads(row.text)))
    return row._replace(reason=why.reason, detail=why.detail, text=text)


def count(values: Iterable[Iterable[Any]]) -> Counter[Any]:
    """`[("polite",), ("polite", "plain")]` → polite 2, plain 1."""
    return Counter(value for several in values for value in several)
