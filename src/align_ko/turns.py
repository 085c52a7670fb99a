"""A value of a row as turns of a conversation: text, messages of any spelling, exchanges, one text with marked turns."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NotRequired, TypedDict

from align_ko import reasons

Row = Mapping[str, object]


class Message(TypedDict):
    """A turn."""

    role: str  # user | assistant | system
    content: str
    weight: NotRequired[int]  # 0: the answer is read and not trained on


class Broken(Exception):
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
QUESTIONS, ANSWERS = ("instruction", "question", "prompt"), ("output", "answer", "completion")
ROLE_KEYS, TEXT_KEYS = (
    ("role", "from", "speaker", "author"),
    ("content", "value", "text", "utterance", "msg", "message", "발화"),
)
TRAINED_KEYS = ("weight", "loss", "train", "training")
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


def is_trained(message: Message) -> bool:
    """Whether the turn is an answer that carries loss."""
    return message["role"] == "assistant" and message.get("weight") != 0


def with_system(messages: Sequence[Message], system: str) -> list[Message]:
    """The conversation with one more system message, behind the one that it has already."""
    has_one = bool(messages) and messages[0]["role"] == "system"
    before = f"{messages[0]['content']}\n\n" if has_one else ""
    return [{"role": "system", "content": before + system}, *messages[has_one:]]


def clean(text: str) -> str:
    """NFC, Unix line ends, no white space around: nothing that a reader sees changes.

    Half a surrogate pair (`"\\ud83d"` in the JSON) cannot be written as UTF-8; it becomes U+FFFD, which filters see.
    """
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()


@lru_cache(4096)
def our_name(key: str) -> str:
    """Our name of a file's key: `답변` → `answer`."""
    plain = unicodedata.normalize("NFC", key).strip().lower().replace(" ", "_")
    return plain if plain in ALIASES else next((ours for ours, others in ALIASES.items() if plain in others.split()), key)


def is_messages(value: Sequence[object]) -> bool:
    return all(isinstance(one, dict) and any(key in one for key in ROLE_KEYS) for one in value)


def loads(value: object) -> object:
    """A list or an object that was written as JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return parsed if isinstance(parsed, list | dict) else value
    return value


def turns_of(value: object, key: str, role: str, given: object = None) -> list[Message]:
    """Text as one turn of `role`; messages as they are."""
    value = loads(value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, list | dict) and value:
        return messages_of(value, key)
    if not isinstance(value, str):
        raise Broken(reasons.VALUE_IS.format(key, kind_of(value)))
    given = given or ""
    if not isinstance(given, str):
        raise Broken(reasons.VALUE_IS.format("input", kind_of(given)))
    text = f"{clean(value)}\n\n{clean(given)}" if clean(given) else clean(value)
    return marked_turns(text) or [{"role": role, "content": text}]


def messages_of(value: object, key: str) -> list[Message]:
    value = loads(value)
    if isinstance(value, dict):  # {"messages": […]} once more, or one message
        inner = next((value[name] for name in ("messages", *ALIASES["messages"].split()) if name in value), None)
        if inner is None and not is_messages([value]):
            raise Broken(reasons.LIST_IS.format(key, kind_of(value)) if value else reasons.NO_LIST.format(key))
        value = [value] if inner is None else loads(inner)
    if not isinstance(value, list):
        raise Broken(reasons.LIST_IS.format(key, kind_of(value)))
    if len(value) > 1 and all(isinstance(one, str) for one in value):  # texts by turns
        value = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(value)]
    value = [turn for one in value for turn in _exchange(one)]
    names = [str(one[next(k for k in ROLE_KEYS if k in one)]) for one in value if isinstance(one, dict) and is_messages([one])]
    bot_is_sys = {"sys", "system"} & {name.lower() for name in names} and not any(
        ROLES.get(name.lower()) == "assistant" for name in names
    )
    turns: list[Message] = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise Broken(reasons.MESSAGE_IS.format(number, kind_of(message)))
        role = next((message[name] for name in ROLE_KEYS if name in message), None)
        content = next((message[name] for name in TEXT_KEYS if name in message), None)
        if not isinstance(role, str):
            raise Broken(reasons.NO_ROLE.format(number))
        role = clean(role)
        plain = role.lower()
        role = "assistant" if bot_is_sys and plain == "sys" else ROLES.get(plain, role)
        turns.append({"role": role, "content": _content(content, number, message)})
        if role == "assistant" and any(is_off(message.get(key)) for key in TRAINED_KEYS):
            turns[-1]["weight"] = 0
    return turns


def _exchange(one: object) -> list[object]:
    """`{"user": "안녕?", "assistant": "안녕하세요!"}` as two messages; any other element of a list of messages as it is."""
    named = {our_name(key): value for key, value in one.items() if isinstance(key, str)} if isinstance(one, dict) else {}
    question, answer = (next((key for key in keys if key in named), "") for keys in (QUESTIONS, ANSWERS))
    if not question or not answer or is_messages([one]):
        return [one]
    return [{"role": "user", "content": named[question]}, {"role": "assistant", "content": named[answer]}]


def _content(content: object, number: int, message: Row) -> str:
    """Text, also where it is in parts: `[{"type": "text", "text": "안녕"}]`."""
    content = [content] if isinstance(content, dict) else content
    if isinstance(content, list) and content and all(isinstance(part, dict | str) for part in content):
        texts = [part if isinstance(part, str) else part.get("text") for part in content]
        other = next((part for part, text in zip(content, texts, strict=True) if not isinstance(text, str)), None)
        if other is not None:
            raise Broken(reasons.PART_IS.format(number, other.get("type")))
        content = "\n".join(map(str, texts))
    if not isinstance(content, str):
        calls = message.get("tool_calls") or message.get("function_call")
        raise Broken((reasons.TOOL_CALL if calls else reasons.CONTENT_IS).format(number, kind_of(content)))
    return clean(content)


def marked_turns(text: str) -> list[Message]:
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


def is_off(weight: object) -> bool:
    return str(weight).lower() in ("0", "0.0", "false")


def is_weight(key: object, value: object) -> bool:
    return key in TRAINED_KEYS and (is_off(value) or str(value).lower() in ("1", "1.0", "true"))


def kind_of(value: object) -> str:
    """JSON's word for the type, as a person would say it."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
