"""Raw rows of any common shape → a conversation, or a preference pair. Pure functions of one row.

| shape    | keys (ALIASES lists others that mean the same)                     | seen in                     |
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
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, NotRequired, TypedDict

Row = Mapping[str, object]


class Message(TypedDict):
    """A turn."""

    role: str  # user | assistant | system
    content: str
    weight: NotRequired[int]  # 0: the answer is read and not trained on


class Rejection(NamedTuple):
    """Why a row is dropped: the name of the filter's finding, and what exactly was seen."""

    reason: str
    detail: str


class Pair(NamedTuple):
    """One preference: a prompt that ends with the user's turn, and two ways to go on, each from an answer to an answer."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


class _Broken(Exception):
    """The row cannot be read; the text is the rejection's detail."""


ALIASES = {
    "messages": "conversations conversation dialogue dialog dialogs turns utterances utters chat 대화",
    "instruction": "지시 지시문 명령",
    "input": "입력 context 문맥",
    "output": "출력 response 응답",
    "question": "q query req user human inputs 질문 질문내용 질의 문의 문의내용 사용자 사용자_질문",
    "answer": "a res reply assistant gpt bot target targets 답변 답변내용 답 대답 챗봇 챗봇_답변",
    "prompt": "프롬프트",
    "completion": "완성",
    "system": "system_prompt systemprompt 시스템",
    "history": "이력",
    "chosen": "chosen_response accepted preferred 선택 채택 선호",
    "rejected": "rejected_response rejected_responses dispreferred 거절 기각 비선호",
    "split": "subset 구분",
    "source": "출처",
    "id": "prompt_id uid conversation_id 번호",
}
"""Our key → what files call it, in lower case."""
ROLES = {
    **dict.fromkeys("user human usr prompter customer q 사용자 유저 질문자 고객 손님".split(), "user"),
    **dict.fromkeys(
        "assistant gpt bot model ai chatgpt chatbot a 챗봇 어시스턴트 상담사 상담원 도우미 답변자".split(), "assistant"
    ),
    **dict.fromkeys("system developer 시스템".split(), "system"),
}
ADAPTERS = {"messages": ("messages", ""), "instruction": ("instruction", "output"), "question_answer": ("question", "answer")}
QUESTIONS, ANSWERS = ("instruction", "question", "prompt"), ("output", "answer", "completion")
_PARTNERS = dict(zip(QUESTIONS + ANSWERS, ANSWERS + QUESTIONS, strict=True))
OURS = (*ALIASES, "text")
_ALWAYS_READ = {"id", "source", "group", "split", "topic", "repairs", "reference", "weight"}
_PAIR_FACTS = set(
    "origin chosen_score rejected_score chosen_faults rejected_faults chosen_by rejected_by rejected_finished".split()
)
_ROLE_KEYS, _TEXT_KEYS = (
    ("role", "from", "speaker", "author"),
    ("content", "value", "text", "utterance", "msg", "message", "발화"),
)
_TRAINED_KEYS = ("weight", "loss", "train", "training")
"""Of a turn, 0 or false where it is not to be trained on: OpenAI, ms-swift, axolotl."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKERS = re.compile(
    r"(?:^|\n)[ \t]*(?:<(usr|user|bot|assistant|sys|system)>|###\s*(User|Instruction|Human|Assistant|Response|System)\s*:?"
    r"|(Human|User|Assistant|질문|답변|사용자|챗봇)\s*:|<\|im_start\|>(user|assistant|system)\s)[ \t]*"
    r"|(?:<s>)?\s*(\[/?INST\])\s*",
    re.IGNORECASE,
)
_MARKED = {"instruction": "user", "response": "assistant", "sys": "assistant", "질문": "user", "답변": "assistant",
           "[inst]": "user", "[/inst]": "assistant"}  # fmt: skip
_TURN_END = re.compile(r"(\s*(<\|im_end\|>|</s>))+\s*$")


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
    except _Broken as problem:
        return Rejection("broken_row", str(problem))
    except _Untrained as problem:
        return Rejection("weight", str(problem))


def adapt_prompt(row: object) -> tuple[list[Message], str | None] | None:
    """A prompt that ends with the user's turn, and its reference answer, if there is one. None where there is no prompt."""
    try:
        named = _named(row, None)
        asked = next((key for key in QUESTIONS if named.get(key)), "")
        if "rejected" in named:  # a pair: its prompt, without either side
            pairs = adapt_pairs(row)
            return None if isinstance(pairs, Rejection) else (pairs[0].prompt, None)
        if "messages" not in named and asked and not any(named.get(key) for key in ANSWERS):
            messages = _with_context(named, _turns_of(named[asked], asked, "user", named.get("input")))
        else:
            messages = _conversation(named, "auto")
    except _Broken:
        return None
    messages = _without_weights(messages)
    reference = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else None
    asks = bool(messages) and messages[-1]["role"] == "user" and bool(messages[-1]["content"])
    return (messages, reference or None) if asks else None


def adapt_pairs(row: object, columns: Mapping[str, str] | None = None) -> list[Pair] | Rejection:
    """The row's preference pairs (one for each rejected answer), or why there are none.

    >>> adapt_pairs({"question": "수도는?", "chosen": "서울이에요.", "rejected": ["몰라요."]})[0].prompt
    [{'role': 'user', 'content': '수도는?'}]
    """
    try:
        named = _named(row, columns)
        if "rejected" not in named or not ("chosen" in named or "messages" in named):
            missing = "rejected" if "chosen" in named or "messages" in named else "chosen"
            keys = ", ".join(map(str, list(named)[:8])) or "none"
            raise _Broken(f"'{missing}' is missing; the keys are {keys}")
        prompt = _pair_prompt(named)
        if "chosen" in named:
            chosen = _side(named["chosen"], "chosen")
        else:  # ms-swift: the chosen answer ends the messages
            last = max((n for n, message in enumerate(prompt) if message["role"] == "user"), default=-1)
            prompt, chosen = prompt[: last + 1], prompt[last + 1 :]
        pairs = []
        value = _loads(named["rejected"])
        several = isinstance(value, list) and not any(isinstance(item, dict) for item in value)
        for item in value if isinstance(value, list) and several else [value]:
            asked, good, bad = _apart(prompt, chosen, _side(item, "rejected"))
            if not _says(good) or not _says(bad):
                return Rejection("empty", f"the {'rejected' if _says(good) else 'chosen'} side is empty")
            if good == bad:
                return Rejection("equal", "both sides are the same")
            pairs.append(Pair(_without_weights(asked), good, bad))
        return pairs or Rejection("empty", "the rejected side is empty")
    except _Broken as problem:
        return Rejection("broken_row", str(problem))


def unread_keys(row: object, columns: Mapping[str, str] | None = None, pair: bool = False) -> list[str]:
    """Keys with a value that no adapter makes use of: `tools`, `messages[].reasoning_content`."""
    try:
        named = _named(row, columns)
    except _Broken:
        return []
    read = {*_ALWAYS_READ, "system", "history", "input"}
    read |= {*_PAIR_FACTS, "chosen", "rejected", "messages", *QUESTIONS} if pair else {*_shape(named), "text"}
    unread = [str(key) for key, value in named.items() if key not in read and value not in (None, "", [], {})]
    messages = named.get("messages")
    if isinstance(messages, list):
        known = {*_ROLE_KEYS, *_TEXT_KEYS}
        items = [item for one in messages if isinstance(one, dict) and _is_messages([one]) for item in one.items()]
        unread_turns = {key for key, value in items if key not in known and value and not _is_weight(key, value)}
        unread += [f"messages[].{key}" for key in sorted(map(str, unread_turns))]
    return [key for key in unread if not re.fullmatch(r"|index|unnamed.*|__.*__|row_idx|truncated_cells", key.lower())]


def is_trained(message: Message) -> bool:
    """Whether the turn is an answer that carries loss."""
    return message["role"] == "assistant" and message.get("weight") != 0


def clean(text: str) -> str:
    """NFC, Unix line ends, no white space around: nothing that a reader sees changes.

    Half a surrogate pair (`"\\ud83d"` in the JSON) cannot be written as UTF-8; it becomes U+FFFD, which filters see.
    """
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()


def pair_id(pair: Pair) -> str:
    """Hash of prompt and sides, 16 hex digits."""
    return hashlib.sha256(json.dumps(pair, ensure_ascii=False).encode()).hexdigest()[:16]


def split_of(row: object) -> str:
    """`train`, or `eval` for a row whose own column says that it is for validation or test."""
    named = row.get("split", row.get("구분", row.get("subset"))) if isinstance(row, dict) else None
    held_out = r"(valid|validation|val|dev|test|eval|evaluation)(ation)?|검증|평가|시험"
    return "eval" if isinstance(named, str) and re.fullmatch(held_out, named.strip().lower()) else "train"


# -------------------- keys


@lru_cache(4096)
def _our_name(key: str) -> str:
    """Our name of a file's key: `답변` → `answer`."""
    plain = unicodedata.normalize("NFC", key).strip().lower().replace(" ", "_")
    return plain if plain in ALIASES else next((ours for ours, others in ALIASES.items() if plain in others.split()), key)


def _named(row: object, columns: Mapping[str, str] | None) -> dict[str, object]:
    """The row under our names; the file's other keys stay as they are. A row inside a single key is unwrapped."""
    row = _loads(row) if isinstance(row, str) else row
    if isinstance(row, list) and row and _is_messages(row):
        row = {"messages": row}
    if not isinstance(row, dict):
        raise _Broken(f"the row is {kind_of(row)}, expected an object")
    columns = columns or {}
    named: dict[str, object] = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    taken = set(columns.values())
    for exact in (True, False):  # a file's own `answer` comes before its `답변`
        for key, value in row.items():
            ours = _our_name(key) if isinstance(key, str) else str(key)
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
        lists = [key for key, value in named.items() if isinstance(value, list) and value and _is_messages(value)]
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


def _is_messages(value: Sequence[object]) -> bool:
    return all(isinstance(one, dict) and any(key in one for key in _ROLE_KEYS) for one in value)


def _loads(value: object) -> object:
    """A list or an object that was written as JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return parsed if isinstance(parsed, list | dict) else value
    return value


# -------------------- conversations


def _conversation(row: dict[str, object], adapter: str) -> list[Message]:
    question, answer = _shape(row) if adapter == "auto" else ADAPTERS[adapter]
    if "rejected" in row and question != "messages":
        raise _Broken("it is a preference pair, which pairs and DPO read")
    if question == "messages":
        return _with_context(row, _messages_of(row.get("messages", {}), "messages"))
    if not question:
        text = row.get("text")
        if isinstance(text, str) and (turns := _marked_turns(text)):
            return _with_context(row, turns)
        keys = ", ".join(map(str, list(row)[:8])) or "none"
        raise _Broken(f"no adapter fits the keys ({keys}); name columns in the recipe")
    for key in (question, answer):
        if key not in row:
            raise _Broken(f"'{key}' is missing")
    turns = _turns_of(row[question], question, "user", row.get("input"))
    return _with_context(row, [*turns, *_turns_of(row[answer], answer, "assistant")])


def _turns_of(value: object, key: str, role: str, given: object = None) -> list[Message]:
    """Text as one turn of `role`; messages as they are."""
    value = _loads(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, list | dict) and value:
        return _messages_of(value, key)
    if not isinstance(value, str):
        raise _Broken(f"'{key}' is {kind_of(value)}, expected text")
    given = given or ""
    if not isinstance(given, str):
        raise _Broken(f"'input' is {kind_of(given)}, expected text")
    text = f"{clean(value)}\n\n{clean(given)}" if clean(given) else clean(value)
    return _marked_turns(text) or [{"role": role, "content": text}]


def _messages_of(value: object, key: str) -> list[Message]:
    value = _loads(value)
    if isinstance(value, dict):  # {"messages": […]} once more, or one message
        inner = next((value[name] for name in ("messages", *ALIASES["messages"].split()) if name in value), None)
        if inner is None and not _is_messages([value]):
            raise _Broken(f"'{key}' is {'missing' if not value else kind_of(value)}, expected a list")
        value = [value] if inner is None else _loads(inner)
    if not isinstance(value, list):
        raise _Broken(f"'{key}' is {kind_of(value)}, expected a list")
    if len(value) > 1 and all(isinstance(one, str) for one in value):  # texts by turns
        value = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(value)]
    value = [turn for one in value for turn in _exchange(one)]
    names = [
        str(one[next(k for k in _ROLE_KEYS if k in one)]) for one in value if isinstance(one, dict) and _is_messages([one])
    ]
    bot_is_sys = {"sys", "system"} & {name.lower() for name in names} and not any(
        ROLES.get(name.lower()) == "assistant" for name in names
    )
    turns: list[Message] = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise _Broken(f"message {number} is {kind_of(message)}, expected an object")
        role = next((message[name] for name in _ROLE_KEYS if name in message), None)
        content = next((message[name] for name in _TEXT_KEYS if name in message), None)
        if not isinstance(role, str):
            raise _Broken(f"message {number} has no role")
        role = clean(role)
        plain = role.lower()
        role = "assistant" if bot_is_sys and plain == "sys" else ROLES.get(plain, role)
        turns.append({"role": role, "content": _content(content, number, message)})
        if role == "assistant" and any(_is_off(message.get(key)) for key in _TRAINED_KEYS):
            turns[-1]["weight"] = 0
    return turns


def _exchange(one: object) -> list[object]:
    """`{"user": "안녕?", "assistant": "안녕하세요!"}` as two messages; any other element of a list of messages as it is."""
    named = {_our_name(key): value for key, value in one.items() if isinstance(key, str)} if isinstance(one, dict) else {}
    question, answer = (next((key for key in keys if key in named), "") for keys in (QUESTIONS, ANSWERS))
    if not question or not answer or _is_messages([one]):
        return [one]
    return [{"role": "user", "content": named[question]}, {"role": "assistant", "content": named[answer]}]


def _content(content: object, number: int, message: Row) -> str:
    """Text, also where it is in parts: `[{"type": "text", "text": "안녕"}]`."""
    content = [content] if isinstance(content, dict) else content
    if isinstance(content, list) and content and all(isinstance(part, dict | str) for part in content):
        texts = [part if isinstance(part, str) else part.get("text") for part in content]
        other = next((part for part, text in zip(content, texts, strict=True) if not isinstance(text, str)), None)
        if other is not None:
            raise _Broken(f"content of message {number} has a part of type {other.get('type')!r}, expected text")
        content = "\n".join(map(str, texts))
    if not isinstance(content, str):
        calls = " (it calls a tool)" if message.get("tool_calls") or message.get("function_call") else ""
        raise _Broken(f"content of message {number} is {kind_of(content)}{calls}, expected text")
    return clean(content)


def _marked_turns(text: str) -> list[Message]:
    """Turns of one text that begins with a marker: `<usr> 안녕\\n<bot> 반가워요.`, `Human: 안녕\\n\\nAssistant: 반가워요.`"""
    text = clean(text)
    marks = list(_MARKERS.finditer(text))
    if len(marks) < 2 or marks[0].start() > 0:
        return []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    names = [next(filter(None, mark.groups())).lower() for mark in marks]
    roles = [_MARKED.get(name) or ROLES.get(name, name) for name in names]
    return [
        {"role": role, "content": _TURN_END.sub("", text[mark.end() : end]).strip()}
        for role, mark, end in zip(roles, marks, ends, strict=True)
    ]


def _with_context(row: Row, turns: list[Message]) -> list[Message]:
    """The turns after the row's `history`, and `system` before all."""
    history = _loads(row.get("history")) or []
    before: list[Message] = []
    if isinstance(history, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in history):
        for asked, answered in history:
            before += [*_turns_of(asked, "history", "user"), *_turns_of(answered, "history", "assistant")]
    else:
        before = _messages_of(history, "history")
    system = row.get("system") or ""
    if not isinstance(system, str):
        raise _Broken(f"'system' is {kind_of(system)}, expected text")
    turns = [*before, *turns]
    if clean(system) and not (turns and turns[0]["role"] == "system"):
        turns = [{"role": "system", "content": clean(system)}, *turns]
    return turns


def _without_weights(messages: list[Message]) -> list[Message]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


class _Untrained(Exception):
    """No answer of the row is to be trained on."""


def _is_off(weight: object) -> bool:
    return str(weight).lower() in ("0", "0.0", "false")


def _is_weight(key: object, value: object) -> bool:
    return key in _TRAINED_KEYS and (_is_off(value) or str(value).lower() in ("1", "1.0", "true"))


def _upto_trained(row: Row, messages: list[Message]) -> list[Message]:
    """The turns up to the last answer that is trained on, where some are not."""
    if _is_off(row.get("weight")):
        raise _Untrained("the row's weight is 0")
    if not any(message.get("weight") == 0 for message in messages):
        return messages
    last = max((number for number, message in enumerate(messages) if is_trained(message)), default=-1)
    if last < 0:
        raise _Untrained("every answer has weight 0")
    return messages[: last + 1]


# -------------------- pairs


def _pair_prompt(row: dict[str, object]) -> list[Message]:
    key = next((name for name in ("messages", "prompt", "instruction", "question") if row.get(name)), "")
    if not key:
        return _with_context(row, [])
    turns = _messages_of(row[key], key) if key == "messages" else _turns_of(row[key], key, "user", row.get("input"))
    return _with_context(row, turns)


def _side(value: object, key: str) -> list[Message]:
    """A side as turns; null and empty ones as none."""
    value = _loads(value)
    if value in (None, "", [], {}):
        return []
    return _turns_of(value, key, "assistant")


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
            raise _Broken("the two sides have no common beginning that ends with the user's turn, so there is no prompt")
        begin = chosen[:common]
        system = [message for message in prompt[:1] if message["role"] == "system" and begin[0]["role"] != "system"]
        prompt, sides = [*system, *begin], [chosen[common:], rejected[common:]]
    else:
        sides = [chosen, rejected]
    if not prompt or prompt[-1]["role"] != "user":
        raise _Broken("no prompt that ends with the user's turn; expected 'prompt', 'question' or whole conversations as sides")
    for side, name in zip(sides, ("chosen", "rejected"), strict=True):
        if side and [turn["role"] for turn in side] != (["assistant", "user"] * len(side))[: len(side) | 1]:
            raise _Broken(
                f"the {name} side's turns after the prompt are not the assistant's and the user's, an answer the last"
            )
    return prompt, sides[0], sides[1]


def _says(side: list[Message]) -> bool:
    """Whether it has answers that count, and each of them says something."""
    return any(map(is_trained, side)) and all(any(map(str.isalnum, turn["content"])) for turn in side if is_trained(turn))


def kind_of(value: object) -> str:
    """JSON's word for the type, as a person would say it."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
