"""Texts as the HTML reports draw them: faults and changes marked, long ones folded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from align_ko.errors import visible
from align_ko.evaluation.scores import FaultRow
from align_ko.records import Fault, Message

CLIP = 340  # characters of a text that are shown before "더 보기"
CLIP_LINES = 12
# faults of the answer as a whole: a badge says so, underlining every word would not help
_WHOLE_ANSWER = frozenset({"empty", "too_short", "not_korean", "wrong_register"})
_LEAD = 120  # characters of the beginning that are shown where the first mark comes much later
_AROUND = 100  # characters shown before that mark
_WORTH_CLIPPING = 90  # a shorter rest is simply shown


def clip_at(text: str) -> int:
    """Where "더 보기" begins: after CLIP characters or CLIP_LINES lines, at a space if one is near; else at the end."""
    lines = [place for place, char in enumerate(text) if char == "\n"]
    cut = min(CLIP, lines[CLIP_LINES - 1] if len(lines) >= CLIP_LINES else CLIP)
    if len(text) - cut < _WORTH_CLIPPING:
        return len(text)
    space = max(text.rfind(" ", cut - 30, cut), text.rfind("\n", cut - 30, cut))
    return space + 1 if space > 0 else cut


class Part(NamedTuple):
    """A stretch of a text, marked or not; `tip` says why."""

    text: str
    marked: bool
    tip: str = ""


class Piece(NamedTuple):
    """A stretch of a text that is shown or folded."""

    folded: bool
    parts: list[Part]
    characters: int


def fold(text: str, faults: Iterable[Fault | FaultRow]) -> list[Piece]:
    """An answer with its faults marked, folded where it is long; a filter of the templates."""
    return pieces(segments(text, [fault if isinstance(fault, Fault) else Fault(**fault) for fault in faults]))[0]


def segments(text: str, faults: Sequence[Fault]) -> list[Part]:
    """The text cut wherever a fault begins or ends, so that overlapping faults need no nested marks."""
    local = [fault for fault in faults if fault.code not in _WHOLE_ANSWER]
    edges = {0, len(text)} | {edge for f in local for edge in (f.start, f.end) if 0 < edge < len(text)}
    parts = []
    for left, right in pairwise(sorted(edges)):
        tips = dict.fromkeys(f.message for f in local if f.start <= left and right <= f.end)
        parts.append(Part(text[left:right], bool(tips), " / ".join(tips)))
    return parts


def pieces(parts: Sequence[Part], limit: int = sys.maxsize) -> tuple[list[Piece], int]:
    """(pieces, characters beyond `limit`, which are left out). The beginning is shown and the rest folded, all but the text
    around the first mark, where that is in the rest."""
    text = "".join(part.text for part in parts)
    whole = text[:limit]
    cut = clip_at(whole)
    first = next((sum(len(part.text) for part in parts[:n]) for n, part in enumerate(parts) if part.marked), 0)
    if first < cut:
        edges = [0, cut]
    elif first - _AROUND <= _LEAD * 2:
        edges = [0, min(first + CLIP, len(whole))]
    else:
        edges = [0, _LEAD, first - _AROUND, first - _AROUND + CLIP]
        whole = text[: max(limit, edges[-1])] if limit else whole  # a mark beyond the limit brings its surroundings with it
    edges = [min(edge, len(whole)) for edge in edges] + [len(whole)]
    made = [
        Piece(place % 2 == 1, [part._replace(text=visible(part.text)) for part in _between(parts, start, end)], end - start)
        for place, (start, end) in enumerate(pairwise(edges))
        if end > start
    ]
    return made, len(text) - len(whole)


def _between(parts: Sequence[Part], start: int, end: int) -> Iterable[Part]:
    """The stretch `start:end` of the joined text, still in parts."""
    place = 0
    for part in parts:
        inside = part.text[max(start - place, 0) : max(end - place, 0)]
        if inside:
            yield part._replace(text=inside)
        place += len(part.text)


def earlier_turns(prompt: Sequence[Message]) -> Sequence[Message]:
    """The turns before the last question."""
    return prompt[: max((place for place, message in enumerate(prompt) if message["role"] == "user"), default=0)]
