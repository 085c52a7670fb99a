"""The rows that pass between stages, and how their files are read and written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Required, TypedDict, TypeVar, cast, final

from align_ko.errors import UserError
from align_ko.json_rows import read_json_rows

Item = TypeVar("Item")
Message = dict[str, str]  # {"role": "user" | "assistant" | "system", "content": str}


@final
class ConversationRow(TypedDict, total=False):
    """A row of train.jsonl or eval.jsonl of curation."""

    messages: Required[list[Message]]
    source: str
    group: str
    id: str
    repairs: list[str]


@final
class PairRow(TypedDict, total=False):
    """A row of train.jsonl or eval.jsonl of preferences: what training reads of PreferencePair."""

    prompt: Required[list[Message]]
    chosen: Required[list[Message]]
    rejected: Required[list[Message]]
    rejected_finished: bool
    source: str
    id: str


@dataclass(frozen=True)
class Conversation:
    """One training row: `{"messages": [...], "source": "kullm_v2", "group": "instruction", "id": "9f2c…", "repairs": []}`."""

    messages: list[Message]
    source: str
    group: str
    id: str = ""
    repairs: tuple[str, ...] = ()  # what curation put right in it, by name

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", content_id(self.messages))

    def to_row(self) -> dict[str, object]:
        return dict(vars(self))


@dataclass(frozen=True)
class PreferencePair:
    """TRL's explicit-prompt conversational preference row, with where each side came from."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    id: str
    origin: str  # repair | contrast | synthetic
    chosen_score: float
    rejected_score: float
    chosen_faults: list[str] = field(default_factory=list)
    rejected_faults: list[str] = field(default_factory=list)
    chosen_by: str = ""  # "reference" or the decoding setting, e.g. "temperature=0.7 top_p=0.9"
    rejected_by: str = ""
    rejected_finished: bool = True  # False: the answer never ended, so training must not close it with eos

    def to_row(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Fault:
    """One thing a native reader would object to, at characters `start:end` of the text."""

    code: str  # see align_ko.korean.naturalness.FAULT_CODES
    start: int
    end: int
    message: str  # one line, Korean


@dataclass(frozen=True)
class Assessment:
    """What `align_ko.korean.assess` says of one answer."""

    natural: bool  # no fault that outweighs the threshold
    score: float  # 0 (unusable) .. 1 (nothing to object to)
    faults: tuple[Fault, ...]
    speech_level: str  # polite | plain | archaic | neutral | mixed | unknown

    @property
    def codes(self) -> list[str]:
        """Fault codes without repeats, in order of appearance."""
        return list(dict.fromkeys(fault.code for fault in self.faults))


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """`count` items spread over all of them; all where count is 0 or there are no more."""
    if not count or count >= len(items):
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def last_user_text(messages: Sequence[Message]) -> str:
    """The question that the next answer answers; `""` where nobody asked."""
    return next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")


def content_id(messages: list[Message]) -> str:
    """Hash of roles and texts, 16 hex digits; Unicode form and surrounding white space do not matter.

    The train/eval split depends on it, so a row keeps its side when other rows come or go.
    """
    text = "\x1e".join(f"{m['role']}\x1f{unicodedata.normalize('NFC', m['content']).strip()}" for m in messages)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file or a JSON array. UserError with the line of a row that is broken or no object."""
    for line, row in _numbered_rows(path):
        if not isinstance(row, dict):
            raise UserError("this row is no JSON object", file=path, line=line, expected="{…} on every line")
        yield row


def _numbered_rows(path: str | Path) -> Iterator[tuple[int, object]]:
    if not Path(path).is_file():
        raise UserError("file not found", file=path)
    for row in read_json_rows(Path(path)):
        if row.problem:
            raise UserError(row.problem, file=path, line=row.line, expected="JSONL or a JSON array")
        yield row.line, row.value


def read_conversations(path: str | Path) -> Iterator[ConversationRow]:
    """Rows with `messages`; a row of responses.jsonl becomes its prompt and answer, and is dropped where the answer is empty.

    `{"prompt_id": "9f2c", "prompt": [user "안녕?"], "response": "안녕하세요!", …}` →
    `{"id": "9f2c", "messages": [user "안녕?", assistant "안녕하세요!"]}`
    """
    for row in read_jsonl(path):
        if "messages" in row or "response" not in row:
            yield cast(ConversationRow, row)
        elif any(map(str.isalnum, str(row["response"] or ""))):
            asked = parse_prompt(row)
            if asked is None:
                raise UserError(f"the row of prompt {row.get('prompt_id')} has no prompt", file=path)
            yield {"id": asked.id, "messages": [*asked.prompt, {"role": "assistant", "content": str(row["response"]).strip()}]}


def read_pairs(path: str | Path) -> Iterator[PairRow]:
    return cast(Iterator[PairRow], read_jsonl(path))


@dataclass(frozen=True)
class PromptRow:
    """One prompt, which ends with the user's turn, and the reference answer, if there is one."""

    id: str
    prompt: list[Message]
    reference: str | None = None
    group: str = ""
    topic: str = ""

    @property
    def messages(self) -> list[Message]:
        """The prompt with its reference as last turn."""
        return self.prompt if self.reference is None else [*self.prompt, {"role": "assistant", "content": self.reference}]

    def to_row(self) -> dict[str, object]:
        return {"id": self.id, "messages": self.messages, "group": self.group, "topic": self.topic}


def read_prompts(path: str | Path, key: str | None = None, limit: int = 0) -> Iterator[PromptRow]:
    """The prompts of a file; JSONL or a JSON array, in any encoding that curation reads.

    `key` is the recipe's key that names the file; `limit` 0 reads all. UserError with the line of a row that is no prompt.
    """
    ids: dict[str, list[Message]] = {}
    for line, value in islice(_numbered_rows(path), limit or None):
        row = parse_prompt(value)
        if row is None:
            expected = "{'messages': [{'role', 'content'}, …]} or {'prompt': text or messages}, the last turn asked by the user"
            raise UserError("this row has no prompt", file=path, line=line, key=key, expected=expected)
        if ids.setdefault(row.id, row.prompt) != row.prompt:  # two prompts under one id: answers would be mixed up
            row = replace(row, id=content_id(row.prompt))
        yield row


def parse_prompt(row: object) -> PromptRow | None:
    """A row's prompt, and its reference: the last assistant turn, or the key `reference`. None for a row without a prompt.

    `{"messages": [user "안녕하세요", assistant "안녕하세요!"]}` → the user's turn and "안녕하세요!"; `{"prompt": "안녕하세요"}`
    has no reference. A missing id becomes the hash of the prompt.
    """
    if not isinstance(row, dict):
        return None
    messages = row.get("messages") or row.get("prompt")
    if isinstance(messages, str) and messages.strip():
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        return None
    prompt: list[Message] = [{"role": message["role"], "content": message["content"]} for message in messages]
    reference = prompt.pop()["content"] if prompt[-1]["role"] == "assistant" else row.get("reference") or None
    if not prompt or prompt[-1]["role"] != "user" or not isinstance(reference, str | None):
        return None
    name = row.get("id", row.get("prompt_id"))
    group, topic = (str(row.get(key) or "") for key in ("group", "topic"))
    return PromptRow(content_id(prompt) if name in (None, "") else str(name), prompt, reference, group, topic)


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


TEMPORARY = ".align_ko.tmp"  # process.lock_folder removes what a killed run left of these


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[str]]:
    """Write a temporary file beside `path`, renamed over `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            yield out
        os.chmod(temporary, 0o644)  # mkstemp makes files private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows atomically; returns how many."""
    count = 0
    with atomic_write(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_json(path: str | Path, value: object) -> None:
    with atomic_write(path) as out:
        json.dump(value, out, ensure_ascii=False, indent=2)
        out.write("\n")
