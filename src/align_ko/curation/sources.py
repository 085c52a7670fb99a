"""Raw files → raw rows, one at a time, whatever the file's form and encoding.

`read_source(path)` takes a JSON array, JSONL, CSV/TSV, Parquet, a folder of these, or a hub dataset id. A row that
cannot be read is yielded like any other, with `problem` set: the caller counts it and goes on. Only a path that leads
nowhere is an error.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_ko.errors import UserError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
CHUNK = 1 << 20  # characters read at a time from a JSON array
MAX_ELEMENT = 1 << 25  # an array element longer than this (32 M characters) is a lost quotation mark, not a row
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")
Advance = Callable[[int], None]  # told how many bytes were read, for the progress bar


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file, or why it could not be read.

    `RawRow("koalpaca.jsonl", 7, {"instruction": …})`, `RawRow("koalpaca.jsonl", 8, '{"instruc', "not valid JSON: …")`
    """

    file: str  # path as the recipe has it
    line: int  # 1-based line where the row starts; in Parquet and on the hub the row's number
    value: Any
    problem: str = ""


def read_source(path: str, split: str = "train", advance: Advance = lambda count: None) -> Iterator[RawRow]:
    """All rows behind `path`: a file, a folder (its data files, sorted), or a hub dataset id."""
    if files := local_files(path):
        for file in files:
            yield from read_file(file, advance)
    elif is_hub_id(path) and not Path(path).parent.exists():
        yield from _read_hub(path, split)
    else:
        raise UserError("file or folder not found", file=path)


def is_hub_id(path: str) -> bool:
    """True for what may be a hub id: `owner/name`, not a file name.

    >>> is_hub_id("beomi/KoAlpaca-v1.1a"), is_hub_id("data/rows.jsonl"), is_hub_id("data/quickstart/spoilt")
    (True, False, False)
    """
    return re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None and Path(path).suffix.lower() not in SUFFIXES


def local_files(path: str) -> list[Path]:
    """The data files behind a path, sorted so that every machine reads them in the same order; none for a hub id."""
    root = Path(path).expanduser()
    if not root.exists():
        return []
    if root.is_file():
        return [root]
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    if not files:
        raise UserError("folder holds no data file", file=path, expected=", ".join(SUFFIXES))
    return files


def read_file(path: Path, advance: Advance = lambda count: None) -> Iterator[RawRow]:
    """Rows of one file, read as a stream. JSON and JSONL are told apart by the first character, not by the name."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, advance)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, advance, "\t" if suffix == ".tsv" else ",")
    if suffix not in SUFFIXES:
        raise UserError("unknown kind of file", file=path, expected=", ".join(SUFFIXES))
    with _open_text(path) as text:
        first = text.read(4096).lstrip()[:1]
    return _read_json_array(path, advance) if first == "[" else _read_jsonl(path, advance)


def find_encoding(path: Path) -> str:
    """UTF-8 (with or without BOM), UTF-16 with BOM, or CP949, decided on the whole file.

    A UTF-8 file with a few broken bytes is not valid CP949 either, so it comes back as `utf-8-sig`, and is decoded with
    replacement characters: only the rows that hold one fall.
    """
    for encoding in ("utf-8-sig", "cp949"):
        decoder = codecs.getincrementaldecoder(encoding)()
        with path.open("rb") as raw:
            if raw.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return "utf-16"
            try:
                while block := raw.read(CHUNK):
                    decoder.decode(block)
                decoder.decode(b"", final=True)
                return encoding
            except UnicodeDecodeError:
                continue
    return "utf-8-sig"


class _CountingFile(io.FileIO):
    """A file that tells `advance` how much of it was read."""

    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(str(path))
        self._advance = advance

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self._advance(count)
        return count


def _open_text(path: Path, advance: Advance = lambda count: None, newline: str | None = None) -> io.TextIOWrapper:
    raw = io.BufferedReader(_CountingFile(path, advance))
    return io.TextIOWrapper(raw, encoding=find_encoding(path), errors="replace", newline=newline)


def _parse(text: str) -> tuple[Any, str]:
    """(value, "") or (None, what is wrong)."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        return None, f"not valid JSON: {error.msg} (column {error.colno})"
    except (RecursionError, ValueError) as error:  # nested thousands deep; a number of thousands of digits
        return None, f"not readable as JSON: {error}"


def _read_jsonl(path: Path, advance: Advance) -> Iterator[RawRow]:
    with _open_text(path, advance) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                value, problem = _parse(line)
                yield RawRow(str(path), number, line.rstrip("\n")[:2000] if problem else value, problem)


def _read_json_array(path: Path, advance: Advance) -> Iterator[RawRow]:
    """Elements of one JSON array, without ever holding more than the element at hand and a chunk.

    After a broken element the reader goes on at the next place that starts as the first element did (`{"messages":`).
    """
    with _open_text(path, advance) as text:
        buffer, opening, ended = text.read(CHUNK), "", False
        position = buffer.index("[") + 1
        line = 1 + buffer.count("\n", 0, position)
        while True:
            start = _skip(buffer, position)
            line += buffer.count("\n", position, start)
            position = start
            value, end, problem, cut = _decode(buffer, position)
            if cut and not ended and len(buffer) - position < MAX_ELEMENT:
                # The chunk ends inside the element: read on. Doubling keeps a long one from being parsed over and over.
                more = text.read(max(CHUNK, len(buffer) - position))
                buffer, position, ended = buffer[position:] + more, 0, not more
                continue
            if buffer[position : position + 1] == "]":
                return
            if position == len(buffer):
                yield RawRow(str(path), line, "", "the file ends inside the array: it was cut off")
                return
            opening = opening or _opening(buffer[position : position + 200])
            while problem and (end := _next_opening(buffer, position, opening)) == len(buffer) and not ended:
                more = text.read(CHUNK)
                buffer, ended = buffer + more, not more
            yield RawRow(str(path), line, buffer[position : min(end, position + 2000)] if problem else value, problem)
            line += buffer.count("\n", position, end)
            position = end


def _decode(buffer: str, position: int) -> tuple[Any, int, str, bool]:
    """(value, its end, "", False), or (None, position, what is wrong, whether the buffer's end may be to blame)."""
    try:
        value, end = _DECODER.raw_decode(buffer, position)
        return value, end, "", False
    except json.JSONDecodeError as error:
        cut = error.pos > len(buffer) - 16 or error.msg.startswith("Unterminated")
        return None, position, f"not valid JSON: {error.msg}", cut
    except (RecursionError, ValueError) as error:
        return None, position, f"not readable as JSON: {error}", False


def _next_opening(buffer: str, position: int, opening: str) -> int:
    """Where the next element starts, or the buffer's end."""
    found = buffer.find(opening, position + 1) if opening else -1
    return len(buffer) if found < 0 else found


def _skip(buffer: str, position: int) -> int:
    """The next position that is neither white space nor a comma."""
    found = _BETWEEN.match(buffer, position)
    return found.end() if found else position


def _opening(element: str) -> str:
    """How an element starts, up to its first key: `{"id": 1}` → `{"id":`."""
    found = re.match(r'\{\s*"[^"]{0,100}"\s*:', element)
    return found.group() if found else ""


def _read_csv(path: Path, advance: Advance, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_ELEMENT)  # the module's own limit of 131,072 raises in the middle of a file
    with _open_text(path, advance, newline="") as text:
        reader = csv.DictReader(text, delimiter=delimiter)
        line = 1
        try:
            for row in reader:
                line, start = reader.line_num, line + 1
                wrong = None in row or None in row.values()  # too many fields, too few
                yield RawRow(str(path), start, row, "number of fields differs from the header's" if wrong else "")
        except csv.Error as error:
            yield RawRow(str(path), reader.line_num, "", f"not valid CSV, the rest is not read: {error}")


def _read_parquet(path: Path, advance: Advance) -> Iterator[RawRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        size, number = path.stat().st_size, 0
        for batch in file.iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield RawRow(str(path), number, value)
            advance(size * batch.num_rows // max(file.metadata.num_rows, 1))
    except (pyarrow.ArrowException, OSError) as error:
        yield RawRow(str(path), 0, "", f"not readable as Parquet: {error}")


def _read_hub(name: str, split: str) -> Iterator[RawRow]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
        for number, value in enumerate(rows, 1):
            yield RawRow(name, number, value)
    except Exception as error:  # the hub client raises many kinds; each means that this source cannot be read
        raise UserError(f"hub dataset cannot be read ({type(error).__name__}: {error})", file=name) from None
