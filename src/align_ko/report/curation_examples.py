"""Rows of the curation report as the template draws them: one message a bubble, long texts folded, huge ones cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from align_ko.report.curation_rows import (
    MAX_DETAIL,
    Part,
    differences,
    messages_of,
    offending,
    raw_text,
    same_side,
    show_white_space,
    visible,
)
from align_ko.report.curation_tables import clip
from align_ko.report.page import CLIP, clip_at

BUDGET = 5000
"""Characters of one conversation that stand in the page at all: some 150 are shown, and the page stays below 3 MB."""
TURNS = 12
"""Messages of one conversation that are shown."""

WHO = {"user": "사용자", "assistant": "답변", "system": "지침"}

_LEAD = 120  # characters of the beginning that are shown when what matters comes much later
_AROUND = 100  # characters shown before what is marked


def kept_card(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the training data."""
    plain = [[Part(message["content"], False)] for message in row["messages"]]
    return _card(row, row["messages"], plain) | {"id": row.get("id", "")}


def dropped_card(reason: str, example: Mapping[str, Any]) -> dict[str, Any]:
    """A dropped row: a conversation with the offending stretch marked, or the raw text where it is none."""
    messages = messages_of(example["row"])
    parts = offending(reason, example["detail"], messages)
    raw = raw_text(example["row"])
    return _card(example, messages, parts) | {
        "detail": visible(_unquoted(example["detail"], parts)[:MAX_DETAIL]),
        "place": visible(f"{example['file']}:{example['line']}"),
        "raw": "" if messages else visible(raw[:BUDGET]) or "(아무것도 없음)",
        "raw_left_out": 0 if messages else max(len(raw) - BUDGET, 0),
    }


def _unquoted(detail: str, parts: Iterable[Iterable[Part]]) -> str:
    """Without the stretch that is marked in the text anyway, and with the answer's number in Korean.

    >>> _unquoted("answer 2: 한글이 아닙니다. …方法…", [[Part("方法", True)]])
    '2번째 답변: 한글이 아닙니다.'
    """
    marked = next((part.text for message in parts for part in message if part.marked), "")
    told = detail.removesuffix(f"…{marked}…").rstrip() if marked else detail
    return re.sub(r"^answer (\d+): ", r"\1번째 답변: ", told)


def duplicate_card(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Two rows that say nearly the same, what differs marked."""
    kept, dropped = same_side(pair)
    return {
        "side": pair["side"],
        "similarity": pair["similarity"],
        "kept": _card(pair["kept"], messages_of(pair["kept"]), kept),
        "dropped": _card(pair["dropped"], messages_of(pair["dropped"]), dropped),
    }


def repair_card(example: Mapping[str, Any]) -> dict[str, Any]:
    """A repair, what it changed marked."""
    before, after = map(show_white_space, differences(example["before"], example["after"]))
    return {"repair": example["repair"], "before": pieces(before)[0], "after": pieces(after)[0]}


def _card(row: Mapping[str, Any], messages: Sequence[Mapping[str, str]], parts: Sequence[Sequence[Part]]) -> dict[str, Any]:
    bubbles, left = [], BUDGET
    for message, said in list(zip(messages, parts, strict=True))[:TURNS]:
        shown, missing = pieces(said, max(left, 0))
        left -= len(message["content"])
        role = message["role"]
        bubbles.append(
            {
                "role": role if role in WHO else "other",
                "who": WHO.get(role, visible(clip(role))),
                "pieces": shown,
                "left_out": missing,
            }
        )
    return {
        "source": visible(clip(str(row.get("source") or ""))),
        "group": visible(clip(str(row.get("group") or ""))),
        "characters": sum(len(message["content"]) for message in messages),
        "bubbles": bubbles,
        "more_turns": max(len(messages) - TURNS, 0),
    }


def pieces(parts: Iterable[Part], limit: int = BUDGET) -> tuple[list[dict[str, Any]], int]:
    """(`[{"folded": bool, "parts": [Part, …], "characters": n}, …]`, characters beyond `limit`, which are left out).

    The beginning is shown and the rest folded. Where the first mark stands in the rest, a short beginning is shown and
    the text around the mark, and what lies between is folded too.
    """
    parts = list(parts)
    text = "".join(part.text for part in parts)
    whole = text[:limit]
    cut = clip_at(whole)
    first = _first_mark(parts)
    if first is None or first < cut:
        edges = [0, cut]
    elif first - _AROUND <= _LEAD * 2:
        edges = [0, min(first + CLIP, len(whole))]
    else:
        # a mark beyond the limit brings its surroundings with it
        edges = [0, _LEAD, first - _AROUND, first - _AROUND + CLIP]
        whole = text[: max(limit, edges[-1])] if limit else whole
    edges = [min(edge, len(whole)) for edge in edges] + [len(whole)]
    made = []
    for place, (start, end) in enumerate(pairwise(edges)):
        if end > start:
            inside = [Part(visible(part.text), part.marked) for part in _between(parts, start, end)]
            made.append({"folded": place % 2 == 1, "parts": inside, "characters": end - start})
    return made, len(text) - len(whole)


def _first_mark(parts: Sequence[Part]) -> int | None:
    place = 0
    for part in parts:
        if part.marked:
            return place
        place += len(part.text)
    return None


def _between(parts: Sequence[Part], start: int, end: int) -> list[Part]:
    """The stretch `start:end` of the joined text, still in parts."""
    found, place = [], 0
    for part in parts:
        inside = part.text[max(start - place, 0) : max(end - place, 0)]
        if inside:
            found.append(Part(inside, part.marked))
        place += len(part.text)
    return found
