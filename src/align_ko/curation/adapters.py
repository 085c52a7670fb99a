"""Raw rows of the usual Korean data sets → one shape, a list of messages.

| adapter           | the row's keys                                           | seen in                              |
|-------------------|----------------------------------------------------------|--------------------------------------|
| `messages`        | messages [{role, content}] (or conversations, from/value) | smol-koreantalk, the user's own file |
| `instruction`     | instruction, input (may be missing), output              | kullm-v2, KoAlpaca                   |
| `question_answer` | question, answer (or Q, A)                               | kowiki_qa, songys Chatbot_data       |

`columns` maps our names to the file's: {question: Q, answer: A}.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from align_ko.records import Message


class Rejection(NamedTuple):
    """Why a row is dropped: the name of the filter's finding, and what exactly was seen."""

    reason: str
    detail: str


_SURROGATE = re.compile("[\ud800-\udfff]")
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # other names for ours
ALTERNATIVES = {"messages": ("conversations",), "question": ("Q",), "answer": ("A",)}


def adapt(row: object, adapter: str = "auto", columns: Mapping[str, str] | None = None) -> list[Message] | Rejection:
    """The row's messages, NFC and stripped, or why there are none.

    >>> adapt({"instruction": "번역해 줘", "input": "Good morning", "output": "좋은 아침이에요."})[0]
    {'role': 'user', 'content': '번역해 줘\\n\\nGood morning'}
    >>> adapt({"question": "수도는?", "answer": None}).detail
    "'answer' is null, expected text"
    """
    if not isinstance(row, dict):
        return Rejection("broken_row", f"the row is {_kind(row)}, expected an object")
    row = _rename(row, columns or {})
    if adapter == "auto":
        adapter = _guess(row)
    if adapter == "messages":
        return _from_messages(row.get("messages", row))
    if adapter == "instruction":
        return _from_turns(row, "instruction", "output", optional="input")
    if adapter == "question_answer":
        return _from_turns(row, "question", "answer")
    keys = ", ".join(map(str, list(row)[:8])) or "none"
    return Rejection("broken_row", f"no adapter fits the keys ({keys}); name columns in the recipe")


def _rename(row: dict[str, object], columns: Mapping[str, str]) -> dict[str, object]:
    """The row under our names; the file's other columns stay as they are."""
    renamed = dict(row)
    for ours, theirs in columns.items():
        renamed.pop(ours, None)
        if theirs in row:
            renamed[ours] = row[theirs]
    for ours, others in ALTERNATIVES.items():
        for other in others:
            if ours not in renamed and ours not in columns and other in row:
                renamed[ours] = row[other]
    return renamed


def _guess(row: dict[str, object]) -> str:
    """By the keys that are there; one of a pair is enough, so that the message can name the missing one."""
    if "messages" in row:
        return "messages"
    if "instruction" in row:
        return "instruction"
    if "question" in row or "answer" in row:
        return "question_answer"
    return "instruction" if "output" in row else ""


def _from_turns(row: dict[str, object], question: str, answer: str, optional: str = "") -> list[Message] | Rejection:
    texts = []
    for key in (question, answer):
        if key not in row:
            return Rejection("broken_row", f"'{key}' is missing")
        if not isinstance(text := row[key], str):
            return Rejection("broken_row", f"'{key}' is {_kind(text)}, expected text")
        texts.append(_clean(text))
    given = row.get(optional) or ""
    if not isinstance(given, str):
        return Rejection("broken_row", f"'{optional}' is {_kind(given)}, expected text")
    asked = f"{texts[0]}\n\n{_clean(given)}" if _clean(given) else texts[0]
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": texts[1]}]


def _from_messages(messages: object) -> list[Message] | Rejection:
    if not isinstance(messages, list):
        problem = "'messages' is missing" if isinstance(messages, dict) else f"'messages' is {_kind(messages)}"
        return Rejection("broken_row", f"{problem}, expected a list")
    turns: list[Message] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            return Rejection("broken_row", f"message {number} is {_kind(message)}, expected an object")
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str):
            return Rejection("broken_row", f"message {number} has no role")
        if not isinstance(content, str):
            return Rejection("broken_row", f"content of message {number} is {_kind(content)}, expected text")
        turns.append({"role": ROLES.get(role, role), "content": _clean(content)})
    return turns


def _clean(text: str) -> str:
    """NFC, Unix line ends, no white space around: nothing that a reader sees changes.

    Half a surrogate pair (`"\\ud83d"` in the JSON) cannot be written as UTF-8; it becomes U+FFFD, which filters see.
    """
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()


def _kind(value: object) -> str:
    """JSON's word for the type, as a person would say it."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
