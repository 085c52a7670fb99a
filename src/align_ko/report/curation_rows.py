"""Rows as a person reads them: a conversation, what was wrong in it marked, what changed marked.

The text is data from anywhere, so nothing here may raise, and what cannot be seen is shown by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from align_ko.curation.adapters import adapt
from align_ko.records import Message

COMPARED = 1500
"""Characters (or words) up to which two texts are compared piece by piece; the time grows with the square."""
MAX_DETAIL = 600
"""Characters of a detail that are shown; one that names a row's keys may be as long as they are."""

_WHOLE_ANSWER = frozenset({"off_topic"})  # the detail quotes how the answer begins, not what is wrong
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHITE_SPACE = str.maketrans({" ": "␣", "\n": "↵\n", "\t": "⇥", "\u00a0": "⍽", "\u3000": "□"})


class Part(NamedTuple):
    """A stretch of a text, marked or not."""

    text: str
    marked: bool


def messages_of(row: Any) -> list[Message]:
    """The conversation in a raw row, [] where there is none to be seen.

    >>> messages_of({"question": "수도는?", "answer": "서울이에요."})[1]["content"]
    '서울이에요.'
    >>> messages_of('{"question": "수도')
    []
    """
    found = adapt(row)
    return found if isinstance(found, list) else []


def raw_text(row: Any) -> str:
    """A row that is no conversation, as it stands."""
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, indent=1, default=str)


def visible(text: str) -> str:
    """Control and zero-width characters by name, so that a reader sees what the filter saw.

    >>> visible("가\\u200b나\\x00")
    '가[U+200B]나[U+0000]'
    """
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", writable(text))


def writable(text: str) -> str:
    """Half a surrogate pair cannot be written as UTF-8.

    >>> writable("가" + chr(0xD83D))
    '가\ufffd'
    """
    return _SURROGATE.sub("\ufffd", text)


def offending(reason: str, detail: str, messages: Sequence[Message]) -> list[list[Part]]:
    """Every message in parts, those marked that `detail` quotes (`높임말과 반말이 섞여 있습니다. …내려 앉는다.…`).

    >>> asked, said = ({"role": "user", "content": "방법은?"}, {"role": "assistant", "content": "이 方法을 쓰세요."})
    >>> offending("strange_characters", "어울리지 않는 글자가 있습니다. …方法…", [asked, said])[1]
    [Part(text='이 ', marked=False), Part(text='方法', marked=True), Part(text='을 쓰세요.', marked=False)]
    """
    texts = [message["content"] for message in messages]
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    numbered = re.match(r"answer (\d+): ", detail)
    if reason in _WHOLE_ANSWER:
        return [[Part(text, False)] for text in texts]
    if numbered and 0 < int(numbered[1]) <= len(answers):
        answers = [answers[int(numbered[1]) - 1]]
    others = [place for place in range(len(messages)) if place not in answers]
    for places in (answers, others):  # the fault is usually the answer's
        span = _quoted(detail, [texts[place] for place in places])
        if span:
            return [_mark(text, span, reason) if place in places else [Part(text, False)] for place, text in enumerate(texts)]
    return [[Part(text, False)] for text in texts]


def _quoted(detail: str, texts: Sequence[str]) -> str:
    """The longest end of `detail` between two …, or the quoted word it begins with, that a text holds; else ""."""
    word = re.match(r"'([^']+)' is ", detail)
    ends = [word[1]] if word else []
    if detail.endswith("…"):
        ends += [detail[found.end() : -1] for found in re.finditer("…", detail[:-1])]
    return next((end for end in ends if end and any(end in text for text in texts)), "")


def _mark(text: str, span: str, reason: str) -> list[Part]:
    """`text` with `span` marked: at its end for what breaks off, else wherever it stands."""
    if reason == "unfinished":
        places = [text.rfind(span)]
    elif reason == "wrong_particle" and text.count(span) > 1:
        places = []  # a particle alone does not say which of them is wrong
    else:
        places = [found.start() for found in re.finditer(re.escape(span), text)]
    parts, done = [], 0
    for place in places:
        if place >= 0:
            parts += [Part(text[done:place], False), Part(span, True)]
            done = place + len(span)
    return [part for part in [*parts, Part(text[done:], False)] if part.text]


def differences(before: str, after: str, words: bool = False) -> tuple[list[Part], list[Part]]:
    """Both texts in parts, what the other lacks marked; by character, or by word.

    >>> differences("물를 끓여요.", "물을 끓여요.")[1]
    [Part(text='물', marked=False), Part(text='을', marked=True), Part(text=' 끓여요.', marked=False)]
    """
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
    """Marked blanks drawn, since a repair of white space could not be seen otherwise.

    >>> show_white_space([Part("네", False), Part("  ", True)])
    [Part(text='네', marked=False), Part(text='␣␣', marked=True)]
    """
    return [Part(part.text.translate(_WHITE_SPACE) if part.marked else part.text, part.marked) for part in parts]


def same_side(pair: Mapping[str, Any]) -> tuple[list[list[Part]], list[list[Part]]]:
    """(kept, dropped) of a near-duplicate in parts, the differing words of the side that is alike marked."""
    role = {"question": "user", "answer": "assistant"}.get(str(pair.get("side")), "")
    sides = [messages_of(pair["kept"]), messages_of(pair["dropped"])]
    firsts = [next((n for n, m in enumerate(side) if m["role"] == role), None) for side in sides]
    parts = [[[Part(message["content"], False)] for message in side] for side in sides]
    if firsts[0] is not None and firsts[1] is not None:
        texts = (sides[0][firsts[0]]["content"], sides[1][firsts[1]]["content"])
        parts[0][firsts[0]], parts[1][firsts[1]] = differences(*texts, words=True)
    return parts[0], parts[1]
