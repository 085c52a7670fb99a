"""JSONL files and JSON arrays in any common encoding, read as a stream, one row at a time.

A row that cannot be read is yielded like any other, with `problem` set; the caller decides whether that is an error.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # characters read at a time from a JSON array
MAX_ELEMENT = 1 << 25  # an array element longer than this (32 M characters) is a lost quotation mark, not a row
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")
_OPENING = re.compile(r'\{\s*"[^"]{0,100}"\s*:')  # an element up to its first key: `{"id": 1}` → `{"id":`
Advance = Callable[[int], None]  # called with the number of bytes read, for the progress bar


@dataclass(frozen=True)
class RawRow:
    """One row of a file, `RawRow("koalpaca.jsonl", 7, {"instruction": …})`, or why it could not be read,
    `RawRow("koalpaca.jsonl", 8, '{"instruc', "not valid JSON: …")`."""

    file: str  # path as the recipe has it
    line: int  # 1-based line where the row starts; in Parquet and on the hub the row's number
    value: Any
    problem: str = ""


def read_json_rows(path: Path, advance: Advance = lambda count: None) -> Iterator[RawRow]:
    """Rows of a JSON array or of JSONL: the first character tells, not the name."""
    with open_text(path) as text:
        first = text.read(4096).lstrip()[:1]
    return _read_json_array(path, advance) if first == "[" else _read_jsonl(path, advance)


def find_encoding(path: Path) -> str:
    """UTF-8 (with or without BOM), UTF-16 with BOM, or CP949, decided on the whole file.

    A UTF-8 file with a few broken bytes is not valid CP949 either: it is `utf-8-sig`, decoded with replacement characters, so
    that only the rows with one are dropped.
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
    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(str(path))
        self._advance = advance

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self._advance(count)
        return count


def open_text(path: Path, advance: Advance = lambda count: None, newline: str | None = None) -> io.TextIOWrapper:
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
    with open_text(path, advance) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                value, problem = _parse(line)
                yield RawRow(str(path), number, line.rstrip("\n")[:2000] if problem else value, problem)


def _read_json_array(path: Path, advance: Advance) -> Iterator[RawRow]:
    """Elements of one JSON array, with one element and a chunk in memory.

    After a broken element the reader continues at the next place that begins as the first element did (`{"messages":`).
    """
    with open_text(path, advance) as text:
        buffer, opening, ended = text.read(CHUNK), "", False
        position = buffer.index("[") + 1
        line = 1 + buffer.count("\n", 0, position)
        while True:
            between = _BETWEEN.match(buffer, position)
            start, position = position, between.end() if between else position
            line += buffer.count("\n", start, position)
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
            if not opening and (found := _OPENING.match(buffer, position)):
                opening = found.group()
            if problem:
                while (end := buffer.find(opening, position + 1) if opening else -1) < 0 and not ended:
                    more = text.read(CHUNK)
                    buffer, ended = buffer + more, not more
                end = len(buffer) if end < 0 else end
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
