"""Files of rows → raw rows, one at a time: JSON in any form, CSV with `,` `;` or tab, Parquet, a folder of these, one that
datasets.save_to_disk wrote, or a hub dataset id; text may be packed (.gz, .zst). A row that cannot be read is yielded with
`problem` set; only a path that leads nowhere is an error."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from align_ko import reasons
from align_ko.errors import UserError
from align_ko.json_rows import BAD_BYTE, MAX_ELEMENT, Advance, open_text, read_json_rows
from align_ko.json_rows import RawRow as RawRow

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst")
_PACKED = (".gz", ".zst")


def folder_of(name: str) -> Path:
    """The folder `scripts`, `recipes`, `metrics` or `accelerate_configs`, of the installation or of the checkout."""
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parents[1] / name


def read_source(path: str, split: str = "train", advance: Advance = lambda count: None) -> Iterator[RawRow]:
    """All rows behind `path`: a file, a folder (its data files, sorted), or a hub dataset id."""
    if files := local_files(path, split):
        for file in files:
            yield from read_file(file, advance)
    elif is_hub_id(path):
        yield from _read_hub(path, split)
    else:
        raise UserError("file or folder not found", file=path)


def local_files(path: str, split: str = "train") -> list[Path]:
    """The data files behind a path, sorted; none for a hub id. `split`: of a DatasetDict that save_to_disk wrote."""
    root = find_path(path)
    if not root.exists():
        return []
    if root.is_file():
        return [root]
    if (root / "dataset_dict.json").is_file() and (root / split).is_dir():
        root = root / split
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    if saved := [file.parent for file in files if file.name == "state.json"]:  # what datasets.save_to_disk wrote
        files = [file for file in files if file.parent not in saved and file.name != "dataset_dict.json"]
        for folder in saved:
            names = [entry["filename"] for entry in json.loads((folder / "state.json").read_text())["_data_files"]]
            files += [folder / name for name in names]
    if not files:
        raise UserError("this folder contains no data file", file=path, expected=", ".join(SUFFIXES))
    return files


def find_path(path: str | Path) -> Path:
    """The file of that name, also where the name on disk is in another Unicode form: macOS and archives from it write `학`
    as `ㅎㅏㄱ` (NFD), keyboards as one character (NFC)."""
    wanted = Path(path).expanduser()
    try:
        if wanted.exists() or str(wanted).isascii():
            return wanted
        parent = find_path(wanted.parent) if wanted.parent != wanted else wanted
        name = unicodedata.normalize("NFC", wanted.name)
        same = (entry for entry in parent.iterdir() if unicodedata.normalize("NFC", entry.name) == name)
        return next(same, wanted)
    except OSError:
        return wanted


def is_hub_id(path: str) -> bool:
    """True for what may be a hub id: beomi/KoAlpaca-v1.1a, but not data/rows.jsonl, ../rows nor a name in a folder that exists
    here (outputs/sft)."""
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path, re.ASCII) and not path.lower().endswith((*SUFFIXES, ".txt", ".jinja"))
    return bool(is_id) and not Path(path).parent.is_dir()


def read_file(path: Path, advance: Advance = lambda count: None) -> Iterator[RawRow]:
    """Rows of one file, read as a stream. JSON and JSONL are told apart by their content, not by the name."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = suffixes[-1:] if suffixes and suffixes[-1] in _PACKED else []
    suffix = (suffixes[: len(suffixes) - len(packed)] or [""])[-1]
    with open(path, "rb") as raw:
        is_parquet = raw.read(4) == b"PAR1"
    if is_parquet or (suffix == ".parquet" and not packed):
        return _read_parquet(path, advance)
    if suffix == ".arrow" and not packed:
        return _read_arrow(path)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, advance)
    if suffix not in (".json", ".jsonl", ".ndjson"):
        hint = "; save the table as CSV" if suffix.startswith(".xls") else ""
        raise UserError("unknown kind of file", file=path, expected=", ".join(SUFFIXES) + hint)
    return read_json_rows(path, advance)


def _read_csv(path: Path, advance: Advance) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_ELEMENT)  # the module's own limit of 131,072 raises in the middle of a file
    with open_text(path) as text:
        first = text.readline()
        named = re.fullmatch(r'\ufeff?"?sep=(.)"?\s*', first)  # Excel's own line before the header
        head = Counter(first)
    delimiter = named[1] if named else max(",;\t|", key=lambda one: (head[one], one == ","))
    with open_text(path, advance, newline="") as text:
        lines = _Lines(text)
        if named:
            next(lines)
        header = _header(_record(lines, delimiter)[0])
        while lines.more():
            start = lines.number + 1
            fields, problem = _record(lines, delimiter)
            if not fields and not problem:
                continue
            if not problem and len(fields) != len(header):
                problem = reasons.FIELDS
            if (problem and len(fields) < len(header) and lines.read_again()) or lines.is_torn():
                problem = reasons.OPEN_QUOTE
            elif any(BAD_BYTE in field for field in fields):
                problem = reasons.NOT_TEXT
            elif _header(fields) == header:
                problem = reasons.HEADER_AGAIN
            yield RawRow(str(path), start, dict(zip(header, fields, strict=False)), problem)


class _Lines:
    """Lines of a file, of which those of the last record can be read again but for the first: a quotation mark that is never
    closed would make one field of the rest."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text, self._again, self._record = iter(text), deque[str](), list[str]()
        self.number = self._doubtful = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text)
        self._record.append(line)
        self.number += 1
        return line

    def more(self) -> bool:
        """Whether there is another record; the last one's lines are forgotten."""
        self._record = []
        if not self._again and (line := next(self._text, None)) is not None:
            self._again.append(line)
        return bool(self._again)

    def read_again(self) -> bool:
        """Put the lines after the last record's first back; False where it had no other."""
        back, self._doubtful = self._record[1:], max(self._doubtful, self.number)
        self._again.extendleft(reversed(back))
        self.number -= len(back)
        return bool(back)

    def is_torn(self) -> bool:
        """Whether the last record is the end of one whose lines are read again: it has half of a pair of quotation marks."""
        return self.number <= self._doubtful and "".join(self._record).count('"') % 2 == 1


def _record(lines: _Lines, delimiter: str) -> tuple[list[str], str]:
    """The fields of the next record, or what is wrong."""
    try:
        return next(csv.reader(lines, delimiter=delimiter), []), ""
    except csv.Error as error:
        return [], reasons.BAD_CSV.format(error)


def _header(names: list[str]) -> list[str]:
    """Names of columns; of a name that stands twice the second becomes `answer (2)`, so that nothing is overwritten."""
    seen: Counter[str] = Counter()
    header = []
    for name in (name.strip().replace(BAD_BYTE, "\ufffd") for name in names):
        seen[name] += 1
        header.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return header


def _read_parquet(path: Path, advance: Advance) -> Iterator[RawRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        size, number = path.stat().st_size, 0
        for batch in file.iter_batches(batch_size=1024):
            for value, problem in _values(batch):
                number += 1
                yield RawRow(str(path), number, value, problem)
            advance(size * batch.num_rows // max(file.metadata.num_rows, 1))
    except (pyarrow.ArrowException, OSError) as error:
        yield RawRow(str(path), 0, "", reasons.BAD_PARQUET.format(" ".join(str(error).split())))


def _values(batch: pyarrow.RecordBatch) -> Iterator[tuple[object, str]]:
    """The rows of a batch; Arrow checks neither that text is UTF-8 nor that a date is one before it becomes Python's."""
    try:
        yield from ((value, "") for value in batch.to_pylist())
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            yield "", reasons.BAD_VALUE.format(error)
        else:
            for number in range(batch.num_rows):
                yield from _values(batch.slice(number, 1))


def _read_arrow(path: Path) -> Iterator[RawRow]:
    """A file of datasets.save_to_disk."""
    import pyarrow

    number = 0
    try:
        with pyarrow.memory_map(str(path)) as file:
            for batch in pyarrow.ipc.open_stream(file):
                for value, problem in _values(batch):
                    number += 1
                    yield RawRow(str(path), number, value, problem)
    except (pyarrow.ArrowException, OSError) as error:
        yield RawRow(str(path), number, "", reasons.BAD_ARROW.format(" ".join(str(error).split())))


def _read_hub(name: str, split: str) -> Iterator[RawRow]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
        for number, value in enumerate(rows, 1):
            yield RawRow(name, number, value)
    except Exception as error:  # the hub client raises many kinds; each means that this source cannot be read
        raise UserError(f"hub dataset cannot be read ({type(error).__name__}: {error})", file=name) from None
