"""The rows that passed the filters so far: their text on disk, in memory only what later steps decide by."""

from __future__ import annotations

import json
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from align_ko.adapters import Rejection
from align_ko.curation.facts import Tally
from align_ko.curation.judge import Judged, entry
from align_ko.sources import RawRow


class Pool(AbstractContextManager["Pool"]):
    """Rows as they come from the judge; a context manager, because the text of the kept ones is in a temporary file."""

    def __init__(self, folder: Path, rejected: IO[str], tally: Tally) -> None:
        self.rows: list[Judged] = []  # kept, `text` empty
        self._rejected, self._tally = rejected, tally
        self._seen: dict[bytes, int] = {}  # duplicate key → number of the row that has it
        folder.mkdir(parents=True, exist_ok=True)
        self._texts = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self._places: list[tuple[int, int]] = []  # (offset, length) of each kept row's text
        self._end = 0
        self._moved = False  # the file's position is not its end

    def __exit__(self, *error: object) -> None:
        self._texts.close()

    def add(self, row: Judged) -> None:
        self._tally.count_read(row)
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
        """Drop kept rows by number. The others keep their order and get new numbers."""
        for number, why in sorted(reasons.items()):
            self._reject(again(self.rows[number]._replace(text=self.text(number)), why))
        left = [number for number in range(len(self.rows)) if number not in reasons]
        self.rows = [self.rows[number] for number in left]
        self._places = [self._places[number] for number in left]
        self._seen.clear()

    def _reject(self, row: Judged) -> None:
        self._tally.count_dropped(row)
        self._rejected.write(row.text + "\n")


def again(row: Judged, why: Rejection) -> Judged:
    """A kept row as a dropped one, with its entry for rejected.jsonl, which contains the curated row."""
    text = entry(why, row.label, RawRow(row.file, row.line, json.loads(row.text)))
    return row._replace(reason=why.reason, detail=why.detail, text=text)
