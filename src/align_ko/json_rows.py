"""JSONL, JSON arrays and objects of rows in any common encoding, plain or packed; JSONL and arrays one row at a time. A row
that cannot be read is yielded with `problem` set."""

from __future__ import annotations

import codecs
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from align_ko import reasons
from align_ko.errors import UserError

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
    """Rows of JSON arrays, of JSONL, or of one object that contains rows: the content tells, not the name."""
    with open_text(path) as text:
        head = text.read(4096).lstrip("\ufeff \r\n\t")
    with open_text(path) as text:
        line = next((line for line in iter(partial(text.readline, CHUNK if head[:1] == "[" else -1), "") if line.strip()), "")
        first, problem = _parse(line.lstrip("\ufeff").replace(BAD_BYTE, "?"))
        whole = not any(line.strip() for line in text)
    if head[:1] == "[" and (problem or whole or not first or _is_table(first)):  # else each line is a list of messages
        return _read_json_array(path, advance)
    if head[:1] == "{" and (problem or whole):  # an object over several lines or on a single one, or a broken first line
        return _read_json_object(path, advance)
    return _read_jsonl(path, advance)


def rows_in(value: Mapping[str, Any]) -> Iterator[Any]:
    """The rows of an object: `{"data": [row, …]}`, `{"id0": row, …}`, or the object itself where it is a row.

    >>> list(rows_in({"a": {"question": "수도는?"}, "b": {"question": "강은?"}}))
    [{'id': 'a', 'question': '수도는?'}, {'id': 'b', 'question': '강은?'}]
    """
    if table := _columns_of(value):
        yield from table
        return
    lists = {
        key: item
        for key, item in value.items()
        if isinstance(item, list) and _is_table(item) and not (key in _TURNS and item[0].keys() & _SPEAKERS)
    }
    objects = [item for item in value.values() if isinstance(item, dict)]
    if lists and not any(isinstance(item, list) and item for key, item in value.items() if key not in lists):
        for key, rows in lists.items():
            yield from rows if len(lists) == 1 else ({"split": key, **row} for row in rows)
    elif len(objects) == 1 and len(value) == 1 and any(map(_holds_rows, objects[0].values())):
        yield from rows_in(objects[0])
    elif len(objects) == len(value) > 1:
        yield from ({"id": key, **row} for key, row in value.items())
    else:
        yield value


_TURNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns")
_SPEAKERS = {"user", "human", "assistant", "gpt", "bot"}
"""`{"conversations": [{"user": …, "assistant": …}, …]}` is one conversation."""


def _columns_of(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table that was written by columns, or pandas' `split`; none for any other object.

    >>> _columns_of({"question": {"0": "가?", "1": "나?"}, "answer": {"0": "네.", "1": "아니요."}})
    [{'question': '가?', 'answer': '네.'}, {'question': '나?', 'answer': '아니요.'}]
    """
    names, rows = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(rows, list) and rows and all(isinstance(row, list) for row in rows):
        return [dict(zip(map(str, names), row, strict=False)) for row in rows]
    columns = list(value.values())
    if columns and all(isinstance(each, dict) and each and all(map(str.isdecimal, each)) for each in columns):
        return [{name: column.get(row) for name, column in value.items()} for row in columns[0]]
    texts = len(columns) > 1 and all(isinstance(each, list) and all(isinstance(item, str) for item in each) for each in columns)
    if texts and len({len(each) for each in columns}) == 1 and len(columns[0]) > 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    return []


def _holds_rows(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and _is_table(value))


def _is_table(items: list[Any]) -> bool:
    """Whether a list's elements are rows, not messages."""
    names = ("role", "from", "speaker", "author", "type", "content", "value", "utterance", "text", "msg", "function", "demand")
    return bool(items) and all(isinstance(item, dict) for item in items) and not any(name in items[0] for name in names)


def _read_json_object(path: Path, advance: Advance) -> Iterator[RawRow]:
    """Objects over several lines, read whole. Where the first is no JSON, the file is JSONL with a broken first line."""
    with open_text(path) as text:
        content = text.read().rstrip()
    values: list[Any] = []
    position = len(content) - len(content.lstrip())
    while position < len(content):
        value, position, problem, _ = _decode(content, position)
        if problem:
            return _read_jsonl(path, advance)
        values += list(rows_in(value)) if isinstance(value, dict) else [value]
        position += len(content[position : position + 99]) - len(content[position : position + 99].lstrip(" \r\n\t,"))
    broken = BAD_BYTE in content
    problem = reasons.NOT_TEXT
    return (
        RawRow(str(path), number, value, problem if broken and BAD_BYTE in json.dumps(value, ensure_ascii=False) else "")
        for number, value in enumerate(values, 1)
    )


def find_encoding(path: Path) -> str:
    """UTF-8, UTF-16 or CP949: what decodes most of the file's lines, and of those what leaves fewest bad characters."""
    with open_bytes(path) as raw:
        head = raw.read(4096)
    if head[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    zeros = head.count(0)
    if zeros * 20 > len(head):  # UTF-16 without its mark; no other text is full of zero bytes
        return "utf-16-le" if head[1::2].count(0) * 2 >= zeros else "utf-16-be"
    failures = {}
    for encoding in ("utf-8-sig", "cp949"):
        failures[encoding] = _failures(path, encoding)
        if failures[encoding] == (0, 0):
            return encoding
    return min(failures, key=failures.__getitem__)


def _failures(path: Path, encoding: str) -> tuple[int, int]:
    """Lines that cannot be decoded (of a very long line, pieces), and bad characters in them."""
    decoder, lines, characters = codecs.getincrementaldecoder(encoding)(), 0, 0
    with open_bytes(path) as raw:
        while piece := raw.readline(CHUNK):
            try:
                decoder.decode(piece, final=piece.endswith(b"\n"))
            except UnicodeDecodeError:
                lines, characters = lines + 1, characters + piece.decode(encoding, "replace").count("\ufffd")
                decoder.reset()
    return lines, characters


BAD_BYTE = "\udcff"  # stands for bytes that are no text; half a surrogate pair, which no file can contain itself
codecs.register_error("align_ko_bad_byte", lambda error: (BAD_BYTE, error.end))  # type: ignore[attr-defined]


_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_NO_ROWS = {
    "version https://git-lfs": ("a Git LFS pointer, not the file itself", "the file after 'git lfs pull'"),
    "<!doctype html": ("an HTML page, as a failed download leaves it", "the file itself"),
    "<html": ("an HTML page, as a failed download leaves it", "the file itself"),
    "pk\x03\x04": ("a zip archive or an Excel table", "its files unpacked, the table saved as CSV"),
}
"""How a file begins that contains no rows: what it is, what is wanted."""


class _CountingFile(io.FileIO):
    def __init__(self, path: Path, advance: Advance) -> None:
        super().__init__(str(path))
        self._advance = advance

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        self._advance(count)
        return count


def open_bytes(path: Path, advance: Advance = lambda count: None) -> IO[bytes]:
    """The file's bytes, unpacked where they begin as gzip or zstd do. `advance` gets the packed ones."""
    raw = io.BufferedReader(_CountingFile(path, advance))
    packing = next((name for magic, name in _PACKED.items() if raw.peek(4).startswith(magic)), None)
    if not packing:
        return raw
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(raw, compression=packing), CHUNK)


def open_text(path: Path, advance: Advance = lambda count: None, newline: str | None = None) -> io.TextIOWrapper:
    """Bytes that cannot be decoded become BAD_BYTE, so that they cost their row and no other."""
    try:
        with open_bytes(path) as raw:
            head = raw.read(64).decode("latin-1").lower()
        encoding = find_encoding(path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot be unpacked or read: {error}", file=path) from None
    for begin, (kind, expected) in _NO_ROWS.items():
        if head.startswith(begin):
            raise UserError(f"this is {kind}", file=path, expected=expected)
    return io.TextIOWrapper(open_bytes(path, advance), encoding=encoding, errors="align_ko_bad_byte", newline=newline)


def _parse(text: str) -> tuple[Any, str]:
    """(value, "") or (None, what is wrong)."""
    if BAD_BYTE in text:
        return None, reasons.NOT_TEXT_AT.format(text.index(BAD_BYTE) + 1)
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        return None, reasons.BAD_JSON_AT.format(error.msg, error.colno)
    except (RecursionError, ValueError) as error:  # nested thousands deep; a number of thousands of digits
        return None, reasons.NO_JSON.format(error)


def _read_jsonl(path: Path, advance: Advance) -> Iterator[RawRow]:
    with open_text(path, advance) as lines:
        for number, line in enumerate(lines, 1):
            line = line.lstrip("\ufeff")  # files with marks, one after the other
            if line.strip():
                value, problem = _parse(line)
                yield RawRow(str(path), number, line.rstrip("\n")[:2000] if problem else value, problem)


def _read_json_array(path: Path, advance: Advance) -> Iterator[RawRow]:
    """Elements of one JSON array, with one element and a chunk in memory. After a broken element the reader continues at the
    next place that begins as the first element did (`{"messages":`)."""
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
                rest = buffer[position + 1 :] + text.read(CHUNK)
                if not rest.strip():
                    return
                line += buffer.count("\n", position, position + 1)
                line += rest[: len(rest) - len(rest.lstrip())].count("\n")
                buffer, position, opening = rest.lstrip().removeprefix(",").lstrip(), 1, ""
                if buffer[:1] != "[":
                    yield RawRow(str(path), line, buffer[:2000], reasons.AFTER_ARRAY)
                    return
                continue  # another array in the same file
            if position == len(buffer):
                yield RawRow(str(path), line, "", reasons.CUT_ARRAY)
                return
            if not opening and (found := _OPENING.match(buffer, position)):
                opening = found.group()
            if problem:
                while (end := buffer.find(opening, position + 1) if opening else -1) < 0 and not ended:
                    more = text.read(CHUNK)
                    buffer, ended = buffer + more, not more
                end = len(buffer) if end < 0 else end
            elif BAD_BYTE in buffer[position:end]:
                problem = reasons.NOT_TEXT
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
        return None, position, reasons.BAD_JSON.format(error.msg), cut
    except (RecursionError, ValueError) as error:
        return None, position, reasons.NO_JSON.format(error), False
