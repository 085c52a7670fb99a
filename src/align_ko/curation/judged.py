"""What became of a raw row, as worker processes send it back, and its line of rejected.jsonl where it fell."""

from __future__ import annotations

import json
from typing import NamedTuple

from align_ko.curation.adapters import Rejection
from align_ko.curation.near_duplicates import EMPTY, Sketch
from align_ko.curation.sources import RawRow


class Judged(NamedTuple):
    """A row after the filters. `reason` is empty for one that stays."""

    name: str  # of the source in the recipe
    label: str  # of the source in the report: the row's own name for it where it has one
    group: str
    file: str
    line: int
    reason: str
    detail: str
    text: str  # JSON of the curated row, or of the rejected.jsonl entry
    id: str = ""
    key: bytes = b""  # equal for rows that say the same
    score: float = 1.0  # mean of its answers, 0 to 1
    lengths: tuple[int, ...] = ()  # characters of each answer
    levels: tuple[str, ...] = ()  # speech level of each answer, if any filter asked
    repairs: tuple[str, ...] = ()
    repaired: tuple[str, str] = ("", "")  # the first message that a repair changed, before and after
    masked: tuple[str, ...] = ()  # kinds of personal data, one for each place
    question_sketch: Sketch = EMPTY
    answer_sketch: Sketch = EMPTY
    words: bytes = b""  # of the question, for its topic


def entry(why: Rejection, source: str, raw: RawRow) -> str:
    """A line of rejected.jsonl."""
    row = {**why._asdict(), "source": source, "file": raw.file, "line": raw.line, "row": raw.value}
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written
