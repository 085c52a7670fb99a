"""Rows of the curation report as the template draws them: faults and changes are marked, long texts folded or cut. The text is
data from anywhere, so nothing here may raise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from align_ko.adapters import adapt
from align_ko.curation.facts import DroppedRow, NearDuplicatePair, RepairExample
from align_ko.errors import visible
from align_ko.records import Fault, Message
from align_ko.report.korean import in_korean
from align_ko.report.page import Both, Part, Piece, both, pieces, segments
from align_ko.turns import is_trained

BUDGET = 5000  # characters of one conversation on the page, which shows some 150 and stays below 3 MB
TURNS = 12  # messages of one conversation that are shown
COMPARED = 1500  # characters (or words) up to which two texts are compared piece by piece; the time grows with the square
MAX_DETAIL = 600  # characters of a detail that are shown; one that names a row's keys may be as long as they are

_WHOLE_ANSWER = frozenset({"off_topic"})  # the detail quotes how the answer begins, not what is wrong
_WHITE_SPACE = str.maketrans({" ": "␣", "\n": "↵\n", "\t": "⇥", "\u00a0": "⍽", "\u3000": "□"})


class Bubble(NamedTuple):
    role: str
    pieces: list[Piece]
    left_out: int  # characters


class Chat(NamedTuple):
    characters: int
    bubbles: list[Bubble]
    more_turns: int


class DroppedCard(NamedTuple):
    """A dropped row: a conversation, or the raw text of a row that is none."""

    example: DroppedRow
    detail: Both
    chat: Chat
    raw: str
    raw_left_out: int


def chat(messages: Sequence[Message], parts: Sequence[Sequence[Part]] = ()) -> Chat:
    """A conversation; `parts` of its messages where something is marked."""
    bubbles, left = [], BUDGET
    for message, marked in list(zip(messages, parts or _unmarked(messages), strict=True))[:TURNS]:
        shown, missing = pieces(marked, max(left, 0))
        left -= len(message["content"])
        bubbles.append(Bubble(message["role"], shown, missing))
    return Chat(sum(len(message["content"]) for message in messages), bubbles, max(len(messages) - TURNS, 0))


def dropped_card(example: DroppedRow) -> DroppedCard:
    """A dropped row, the offending stretch marked."""
    row, messages = example["row"], conversation_of(example["row"])
    parts = offending(example["reason"], example["detail"], messages)
    raw = "" if messages else row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, indent=1, default=str)
    detail = both(*(_without_quote(text, parts)[:MAX_DETAIL] for text in (in_korean(example["detail"]), example["detail"])))
    shown = visible(raw[:BUDGET]) or "(아무것도 없음)" * (not messages)
    return DroppedCard(example, detail, chat(messages, parts), shown, max(len(raw) - BUDGET, 0))


def duplicate_chats(pair: NearDuplicatePair) -> list[Chat]:
    """The row that was kept and the one that was dropped, their differing words marked on the side that is alike."""
    role = {"question": "user", "answer": "assistant"}.get(pair["side"], "")
    messages = [conversation_of(row) for row in (pair["kept"], pair["dropped"])]
    parts = [_unmarked(side) for side in messages]
    firsts = [next((n for n, m in enumerate(side) if m["role"] == role), -1) for side in messages]
    if min(firsts) >= 0:
        before, after = (side[first]["content"] for side, first in zip(messages, firsts, strict=True))
        parts[0][firsts[0]], parts[1][firsts[1]] = differences(before, after, words=True)
    return [chat(*side) for side in zip(messages, parts, strict=True)]


def repair_texts(example: RepairExample) -> list[list[Piece]]:
    """A text before and after its repair, what changed marked."""
    return [pieces(show_white_space(parts), BUDGET)[0] for parts in differences(example["before"], example["after"])]


def conversation_of(row: object) -> list[Message]:
    messages = adapt(row)
    return messages if isinstance(messages, list) else []


def _unmarked(messages: Sequence[Message]) -> list[list[Part]]:
    return [[Part(message["content"], False)] for message in messages]


def offending(reason: str, detail: str, messages: Sequence[Message]) -> list[list[Part]]:
    """Every message in parts, marked where `detail` quotes it: `높임말과 반말이 섞여 있습니다. …내려 앉는다.…`"""
    parts = _unmarked(messages)
    texts = [message["content"] for message in messages]
    answers = [place for place, message in enumerate(messages) if is_trained(message)]
    numbered = re.match(r"answer (\d+): ", detail)
    if reason in _WHOLE_ANSWER:
        return parts
    if numbered and 0 < int(numbered[1]) <= len(answers):
        answers = [answers[int(numbered[1]) - 1]]
    others = [place for place in range(len(messages)) if place not in answers]
    for places in (answers, others):  # the fault is usually the answer's
        if span := _quoted(detail, [texts[place] for place in places]):
            return [_mark(texts[n], span, reason) if n in places else parts[n] for n in range(len(parts))]
    return parts


def _quoted(detail: str, texts: Sequence[str]) -> str:
    """The longest end of `detail` between two …, or the quoted word it begins with, that one of the texts contains; else ""."""
    word = re.match(r"'([^']+)' is ", detail)
    ends = [word[1]] if word else []
    if detail.endswith("…"):
        ends += [detail[found.end() : -1] for found in re.finditer("…", detail[:-1])]
    return next((end for end in ends if end and any(end in text for text in texts)), "")


def _mark(text: str, span: str, reason: str) -> list[Part]:
    """`text` with `span` marked: at its end for what breaks off, else wherever it occurs."""
    if reason == "unfinished":
        places = [text.rfind(span)]
    elif reason == "wrong_particle" and text.count(span) > 1:
        places = []  # a particle alone does not say which of them is wrong
    else:
        places = [found.start() for found in re.finditer(re.escape(span), text)]
    return segments(text, [Fault("", place, place + len(span), "") for place in places if place >= 0])


def _without_quote(detail: str, parts: Iterable[Iterable[Part]]) -> str:
    """Without what is marked in the text anyway: `한글이 아닙니다. …方法…` → `한글이 아닙니다.`"""
    marked = next((part.text for message in parts for part in message if part.marked), "")
    return detail.removesuffix(f"…{marked}…").rstrip() if marked else detail


def differences(before: str, after: str, words: bool = False) -> tuple[list[Part], list[Part]]:
    """Both texts in parts, what the other lacks marked; by character, or by word. 물를 끓여요. and 물을 끓여요. → 를 and 을"""
    left, right = (re.findall(r"\s+|\S+", text) if words else list(text) for text in (before, after))
    if max(len(left), len(right)) > COMPARED:
        return [Part(before, False)], [Part(after, False)]
    parts: tuple[list[Part], list[Part]] = ([], [])
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, piece in ((parts[0], left[a:b]), (parts[1], right[c:d])):
            if piece:
                side.append(Part("".join(piece), kind != "equal"))
    return parts


def show_white_space(parts: Sequence[Part]) -> list[Part]:
    """Marked blanks drawn as signs (␣, ↵); a repair of white space would be invisible otherwise."""
    return [Part(part.text.translate(_WHITE_SPACE) if part.marked else part.text, part.marked) for part in parts]
