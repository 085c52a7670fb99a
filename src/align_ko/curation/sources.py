"""Raw files → raw rows, one at a time, whatever the file's form and encoding.

`read_source(path)` takes a JSON array, JSONL, CSV/TSV, Parquet, a folder of these, or a hub dataset id. A row that
cannot be read is yielded like any other, with `problem` set: the caller counts it and goes on. Only a path that leads
nowhere is an error.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from align_ko.errors import UserError
from align_ko.json_rows import MAX_ELEMENT, Advance, open_text, read_json_rows
from align_ko.json_rows import RawRow as RawRow
from align_ko.recipe.load import SUFFIXES, local_files


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


def read_file(path: Path, advance: Advance = lambda count: None) -> Iterator[RawRow]:
    """Rows of one file, read as a stream. JSON and JSONL are told apart by the first character, not by the name."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, advance)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, advance, "\t" if suffix == ".tsv" else ",")
    if suffix not in SUFFIXES:
        raise UserError("unknown kind of file", file=path, expected=", ".join(SUFFIXES))
    return read_json_rows(path, advance)


def _read_csv(path: Path, advance: Advance, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_ELEMENT)  # the module's own limit of 131,072 raises in the middle of a file
    with open_text(path, advance, newline="") as text:
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
