"""Raw rows of any common shape → a conversation, or a preference pair. Pure functions of one row.

| shape    | keys (turns.ALIASES lists others that mean the same)                     | seen in                     |
|----------|--------------------------------------------------------------------|-----------------------------|
| messages | messages [{role, content}], also ShareGPT's from/value             | smol-koreantalk, OpenAI     |
| question | instruction (input) output; question answer; prompt completion; 질문 답변 | kullm-v2, KoAlpaca, TRL |
| text     | one text with `<usr>`/`<bot>`, `Human:`, `### User:`, ChatML, `[INST]` | HH, chat logs           |
| pair     | prompt chosen rejected; sides as text, messages or conversations   | UltraFeedback, Orca, HH     |

`system` and `history` become turns. `columns` maps our names to the file's: {question: Q, answer: A}.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from align_ko import reasons
from align_ko.turns import (
    ALIASES,
    ANSWERS,
    QUESTIONS,
    ROLE_KEYS,
    TEXT_KEYS,
    Broken,
    Message,
    Row,
    clean,
    is_messages,
    is_off,
    is_trained,
    is_weight,
    kind_of,
    loads,
    marked_turns,
    messages_of,
    our_name,
    turns_of,
)


class Rejection(NamedTuple):
    """Why a row is dropped: the name of the filter's finding, and what exactly was seen."""

    reason: str
    detail: str


class Pair(NamedTuple):
    """One preference: a prompt that ends with the user's turn, and two ways to go on, each from an answer to an answer."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


ADAPTERS = {"messages": ("messages", ""), "instruction": ("instruction", "output"), "question_answer": ("question", "answer")}
_PARTNERS = dict(zip(QUESTIONS + ANSWERS, ANSWERS + QUESTIONS, strict=True))
OURS = (*ALIASES, "text")
_ALWAYS_READ = {"id", "source", "group", "split", "topic", "repairs", "reference", "weight"}
_PAIR_FACTS = set(
    "origin chosen_score rejected_score chosen_faults rejected_faults chosen_by rejected_by rejected_finished".split()
)


def adapt(row: object, adapter: str = "auto", columns: Mapping[str, str] | None = None) -> list[Message] | Rejection:
    """The row's messages, NFC and stripped, or why there are none.

    >>> adapt({"instruction": "번역해 줘", "input": "Good morning", "output": "좋은 아침이에요."})[0]
    {'role': 'user', 'content': '번역해 줘\\n\\nGood morning'}
    >>> adapt({"question": "수도는?", "answer": None}).detail
    "'answer' is null, expected text"
    """
    try:
        named = _named(row, columns)
        return _upto_trained(named, _conversation(named, adapter))
    except Broken as problem:
        return Rejection("broken_row", str(problem))
    except _Untrained as problem:
        return Rejection("weight", str(problem))


def adapt_prompt(row: object) -> tuple[list[Message], str | None] | None:
    """A prompt that ends with the user's turn, and its reference answer, if there is one. None where there is no prompt."""
    try:
        named = _named(row)
        asked = next((key for key in QUESTIONS if named.get(key)), "")
        if "rejected" in named:  # a pair: its prompt, without either side
            pairs = adapt_pairs(row)
            return None if isinstance(pairs, Rejection) else (pairs[0].prompt, None)
        if "messages" not in named and asked and not any(named.get(key) for key in ANSWERS):
            messages = _with_context(named, turns_of(named[asked], asked, "user", named.get("input")))
        else:
            messages = _conversation(named, "auto")
    except Broken:
        return None
    messages = _without_weights(messages)
    reference = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else None
    asks = bool(messages) and messages[-1]["role"] == "user" and bool(messages[-1]["content"])
    return (messages, reference or None) if asks else None


def adapt_pairs(row: object) -> list[Pair] | Rejection:
    """The row's preference pairs (one for each rejected answer), or why there are none.

    >>> adapt_pairs({"question": "수도는?", "chosen": "서울이에요.", "rejected": ["몰라요."]})[0].prompt
    [{'role': 'user', 'content': '수도는?'}]
    """
    try:
        named = _named(row)
        if "rejected" not in named or not ("chosen" in named or "messages" in named):
            missing = "rejected" if "chosen" in named or "messages" in named else "chosen"
            keys = ", ".join(map(str, list(named)[:8])) or "none"
            raise Broken(f"'{missing}' is missing; the keys are {keys}")
        prompt = _pair_prompt(named)
        if "chosen" in named:
            chosen = _side(named["chosen"], "chosen")
        else:  # ms-swift: the chosen answer ends the messages
            last = max((n for n, message in enumerate(prompt) if message["role"] == "user"), default=-1)
            prompt, chosen = prompt[: last + 1], prompt[last + 1 :]
        pairs = []
        value = loads(named["rejected"])
        several = isinstance(value, list) and not any(isinstance(item, dict) for item in value)
        for item in value if isinstance(value, list) and several else [value]:
            asked, good, bad = _apart(prompt, chosen, _side(item, "rejected"))
            if not _says(good) or not _says(bad):
                return Rejection("empty", f"the {'rejected' if _says(good) else 'chosen'} side is empty")
            if good == bad:
                return Rejection("equal", "both sides are the same")
            pairs.append(Pair(_without_weights(asked), good, bad))
        return pairs or Rejection("empty", "the rejected side is empty")
    except Broken as problem:
        return Rejection("broken_row", str(problem))


def unread_keys(row: object, columns: Mapping[str, str] | None = None, pair: bool = False) -> list[str]:
    """Keys with a value that no adapter makes use of: `tools`, `messages[].reasoning_content`."""
    try:
        named = _named(row, columns)
    except Broken:
        return []
    read = {*_ALWAYS_READ, "system", "history", "input"}
    read |= {*_PAIR_FACTS, "chosen", "rejected", "messages", *QUESTIONS} if pair else {*_shape(named), "text"}
    unread = [str(key) for key, value in named.items() if key not in read and value not in (None, "", [], {})]
    messages = named.get("messages")
    if isinstance(messages, list):
        known = {*ROLE_KEYS, *TEXT_KEYS}
        items = [item for one in messages if isinstance(one, dict) and is_messages([one]) for item in one.items()]
        unread_turns = {key for key, value in items if key not in known and value and not is_weight(key, value)}
        unread += [f"messages[].{key}" for key in sorted(map(str, unread_turns))]
    return [key for key in unread if not re.fullmatch(r"|index|unnamed.*|__.*__|row_idx|truncated_cells", key.lower())]


def pair_id(pair: Pair) -> str:
    """Hash of prompt and sides, 16 hex digits."""
    return hashlib.sha256(json.dumps(pair, ensure_ascii=False).encode()).hexdigest()[:16]


def split_of(row: object) -> str:
    """`train`, or `eval` for a row whose own column says that it is for validation or test."""
    named = row.get("split", row.get("구분", row.get("subset"))) if isinstance(row, dict) else None
    held_out = r"(valid|validation|val|dev|test|eval|evaluation)(ation)?|검증|평가|시험"
    return "eval" if isinstance(named, str) and re.fullmatch(held_out, named.strip().lower()) else "train"


# -------------------- keys


def _named(row: object, columns: Mapping[str, str] | None = None) -> dict[str, object]:
    """The row under our names; the file's other keys stay as they are. A row inside a single key is unwrapped."""
    row = loads(row) if isinstance(row, str) else row
    if isinstance(row, list) and row and is_messages(row):
        row = {"messages": row}
    if not isinstance(row, dict):
        raise Broken(reasons.ROW_IS.format(kind_of(row)))
    columns = columns or {}
    named: dict[str, object] = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    taken = set(columns.values())
    for exact in (True, False):  # a file's own `answer` comes before its `답변`
        for key, value in row.items():
            ours = our_name(key) if isinstance(key, str) else str(key)
            if key in taken or (ours == key) != exact:
                continue
            free = ours not in named and ours not in columns
            if free or not (ours in columns or exact):
                named[ours if free else key] = None if value != value else value  # NaN is how pandas writes that there is none
    if "input" in named and named.keys() & {"output", "answer", "completion"} and not named.keys() & {*QUESTIONS, "messages"}:
        named["instruction"] = named.pop("input")
    wrapped = [value for value in row.values() if isinstance(value, dict)]
    if not any(_shape(named)) and "text" not in named and "rejected" not in named and len(wrapped) == 1:
        rest = {key: value for key, value in row.items() if not isinstance(value, dict)}
        return rest | _named(wrapped[0], columns)
    if not any(_shape(named)) and "rejected" not in named:  # messages under a name of the file's own
        lists = [key for key, value in named.items() if isinstance(value, list) and value and is_messages(value)]
        if len(lists) == 1:
            named["messages"] = named.pop(lists[0])
    return named


def _shape(row: Row) -> tuple[str, str]:
    """The keys of question and answer, `("messages", "")`, or two empty names."""
    if "messages" in row:
        return "messages", ""
    question = next((key for key in QUESTIONS if key in row), "")
    answer = next((key for key in ANSWERS if key in row), "")
    return question or _PARTNERS.get(answer, ""), answer or _PARTNERS.get(question, "")


# -------------------- conversations


def _conversation(row: dict[str, object], adapter: str) -> list[Message]:
    question, answer = _shape(row) if adapter == "auto" else ADAPTERS[adapter]
    if "rejected" in row and question != "messages":
        raise Broken(reasons.IS_PAIR)
    if question == "messages":
        return _with_context(row, messages_of(row.get("messages", {}), "messages"))
    if not question:
        text = row.get("text")
        if isinstance(text, str) and (turns := marked_turns(text)):
            return _with_context(row, turns)
        keys = ", ".join(map(str, list(row)[:8])) or "none"
        raise Broken(reasons.NO_ADAPTER.format(keys))
    for key in (question, answer):
        if key not in row:
            raise Broken(reasons.NO_KEY.format(key))
    turns = turns_of(row[question], question, "user", row.get("input"))
    return _with_context(row, [*turns, *turns_of(row[answer], answer, "assistant")])


def _with_context(row: Row, turns: list[Message]) -> list[Message]:
    """The turns after the row's `history`, and `system` before all."""
    history = loads(row.get("history")) or []
    before: list[Message] = []
    if isinstance(history, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        for asked, answered in history:
            before += [*turns_of(asked, "history", "user"), *turns_of(answered, "history", "assistant")]
    else:
        before = messages_of(history, "history")
    system = row.get("system") or ""
    if not isinstance(system, str):
        raise Broken(reasons.VALUE_IS.format("system", kind_of(system)))
    turns = [*before, *turns]
    if clean(system) and not (turns and turns[0]["role"] == "system"):
        turns = [{"role": "system", "content": clean(system)}, *turns]
    return turns


def _without_weights(messages: list[Message]) -> list[Message]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


class _Untrained(Exception):
    """No answer of the row is to be trained on."""


def _upto_trained(row: Row, messages: list[Message]) -> list[Message]:
    """The turns up to the last answer that is trained on, where some are not."""
    if is_off(row.get("weight")):
        raise _Untrained(reasons.ROW_WEIGHT)
    if not any(message.get("weight") == 0 for message in messages):
        return messages
    last = max((number for number, message in enumerate(messages) if is_trained(message)), default=-1)
    if last < 0:
        raise _Untrained(reasons.ANSWER_WEIGHTS)
    return messages[: last + 1]


# -------------------- pairs


def _pair_prompt(row: dict[str, object]) -> list[Message]:
    key = next((name for name in ("messages", "prompt", "instruction", "question") if row.get(name)), "")
    if not key:
        return _with_context(row, [])
    turns = messages_of(row[key], key) if key == "messages" else turns_of(row[key], key, "user", row.get("input"))
    return _with_context(row, turns)


def _side(value: object, key: str) -> list[Message]:
    """A side as turns; null and empty ones as none."""
    value = loads(value)
    if value in (None, "", [], {}):
        return []
    return turns_of(value, key, "assistant")


def _apart(
    prompt: list[Message], chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt and the two sides. Where these are whole conversations, the prompt is their longest common beginning."""
    sides = []
    whole = any(side and side[0]["role"] != "assistant" for side in (chosen, rejected))
    if whole:
        if not chosen or not rejected:
            return prompt, [], []
        common = 0
        while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
            common += 1
        while common and (common == min(len(chosen), len(rejected)) or chosen[common - 1]["role"] != "user"):
            common -= 1
        if not common:
            raise Broken("the two sides have no common beginning that ends with the user's turn, so there is no prompt")
        begin = chosen[:common]
        system = [message for message in prompt[:1] if message["role"] == "system" and begin[0]["role"] != "system"]
        prompt, sides = [*system, *begin], [chosen[common:], rejected[common:]]
    else:
        sides = [chosen, rejected]
    if not prompt or prompt[-1]["role"] != "user":
        raise Broken("no prompt that ends with the user's turn; expected 'prompt', 'question' or whole conversations as sides")
    for side, name in zip(sides, ("chosen", "rejected"), strict=True):
        if side and [turn["role"] for turn in side] != (["assistant", "user"] * len(side))[: len(side) | 1]:
            raise Broken(f"the {name} side's turns after the prompt are not the assistant's and the user's, an answer the last")
    return prompt, sides[0], sides[1]


def _says(side: list[Message]) -> bool:
    """Whether it has answers that count, and each of them says something."""
    return any(map(is_trained, side)) and all(any(map(str.isalnum, turn["content"])) for turn in side if is_trained(turn))
