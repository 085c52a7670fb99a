"""A file that several processes fill together: each appends to a shard of its own, and all shards are read as one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Any

from align_ko.errors import UserError


def shard(file: Path, rank: int) -> Path:
    """`candidates.jsonl` for the first process, `candidates.rank-1.jsonl` for the second."""
    return file if rank == 0 else file.with_suffix(f".rank-{rank}{file.suffix}")


def shards(file: Path) -> list[Path]:
    """Every shard that is there, also those of a run with more processes."""
    return [path for path in [file, *sorted(file.parent.glob(f"{escape(file.stem)}.rank-*{file.suffix}"))] if path.is_file()]


def whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a shard; half a line at its end, of a killed run or of one that is still writing, is passed over."""
    # Not str.splitlines: an answer may hold U+2028, which it takes for the end of a line.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"not valid JSON: {error.msg}", file=path, line=number) from None
