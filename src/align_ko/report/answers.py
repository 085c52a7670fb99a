"""Answers as the HTML reports draw them: faults underlined, long texts folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from align_ko.records import Fault, Message

CLIP = 340
"""Characters of a text that are shown before "더 보기"."""
CLIP_LINES = 12
_WHOLE_ANSWER = frozenset({"empty", "too_short", "not_korean", "wrong_register"})
"""Faults of the answer as a whole: a badge says so, underlining every word would not help."""
_WORTH_CLIPPING = 90  # a shorter rest is simply shown


def clip_at(text: str) -> int:
    """Where "더 보기" begins: after CLIP characters or CLIP_LINES lines, at a space if one is near; else at the end."""
    lines = [place for place, char in enumerate(text) if char == "\n"]
    cut = min(CLIP, lines[CLIP_LINES - 1] if len(lines) >= CLIP_LINES else CLIP)
    if len(text) - cut < _WORTH_CLIPPING:
        return len(text)
    space = max(text.rfind(" ", cut - 30, cut), text.rfind("\n", cut - 30, cut))
    return space + 1 if space > 0 else cut


class Segment(NamedTuple):
    """A stretch of an answer under the same faults; `tip` is empty where there are none."""

    text: str
    tip: str


@dataclass(frozen=True)
class Answer:
    """An answer with its faults underlined, folded where it is long."""

    characters: int
    finished: bool
    codes: list[str]
    notes: list[tuple[str, str]]  # fault code, message
    shown: list[Segment]
    rest: list[Segment]
    rest_characters: int

    @classmethod
    def of(cls, text: str, faults: Sequence[Fault], finished: bool) -> Answer:
        cut = clip_at(text)
        return cls(
            len(text),
            finished,
            list(dict.fromkeys(fault.code for fault in faults)),
            list(dict.fromkeys((fault.code, fault.message) for fault in faults)),
            segments(text, faults, 0, cut),
            segments(text, faults, cut),
            len(text) - cut,
        )


def segments(text: str, faults: Sequence[Fault], start: int = 0, end: int | None = None) -> list[Segment]:
    """`text[start:end]` cut wherever a fault begins or ends, so that overlapping faults need no nested marks."""
    end = len(text) if end is None else min(end, len(text))
    local = [fault for fault in faults if fault.code not in _WHOLE_ANSWER]
    edges = {start, end} | {edge for f in local for edge in (f.start, f.end) if start < edge < end}
    parts = []
    for left, right in pairwise(sorted(edges)):
        over = [f.message for f in local if f.start <= left and right <= f.end]
        parts.append(Segment(text[left:right], " / ".join(dict.fromkeys(over))))
    return parts


def earlier_turns(prompt: Sequence[Message]) -> list[Message]:
    """The turns before the last question."""
    last = max((place for place, message in enumerate(prompt) if message["role"] == "user"), default=0)
    return list(prompt[:last])
