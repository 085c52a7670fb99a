"""The rows that pass between stages, and how they are read and written.

Stages meet only through files, so these few shapes are the whole contract. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from align_ko.errors import UserError

Item = TypeVar("Item")
Message = dict[str, str]  # {"role": "user" | "assistant" | "system", "content": str}


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

    def to_row(self) -> dict[str, Any]:
        row = {"messages": self.messages, "source": self.source, "group": self.group, "id": self.id}
        return {**row, "repairs": list(self.repairs)}


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

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Fault:
    """One thing a native reader would object to. `start:end` is the span in the assessed text (characters)."""

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


def prompt_and_reference(row: Any) -> tuple[list[Message], str | None] | None:
    """The prompt of a row and the answer that stands behind it, if one does; None for a row that holds no prompt.

    `{"messages": [user "안녕하세요", assistant "안녕하세요!"]}` → the user's turn and "안녕하세요!"; `{"prompt": "안녕하세요"}`
    or messages that end with the user have no reference.
    """
    messages = row.get("messages") or row.get("prompt") if isinstance(row, dict) else None
    if isinstance(messages, str) and messages.strip():
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
        return None
    reference = messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else None
    prompt: list[Message] = [
        {"role": m["role"], "content": m["content"]} for m in (messages if reference is None else messages[:-1])
    ]
    return (prompt, reference) if prompt and prompt[-1]["role"] == "user" else None


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def content_id(messages: list[Message]) -> str:
    """Hash of what is said, 16 hex digits. Unicode form and surrounding white space do not matter.

    The train/eval split hangs on it, so a row keeps its side when other rows come or go.
    """
    text = "\x1e".join(f"{m['role']}\x1f{unicodedata.normalize('NFC', m['content']).strip()}" for m in messages)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file that this package wrote. Raises UserError with the line number of a broken row."""
    path = Path(path)
    if not path.is_file():
        raise UserError("file not found", file=path)
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"not valid JSON: {error.msg}", file=path, line=number) from None


def read_conversations(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows with `messages`; of the answers that evaluate.py keeps, the prompt with the answer, those that say nothing left out.

    `{"prompt_id": "9f2c", "prompt": [user "안녕?"], "response": "안녕하세요!", …}` →
    `{"id": "9f2c", "messages": [user "안녕?", assistant "안녕하세요!"]}`
    """
    for row in read_jsonl(path):
        if "messages" in row or "response" not in row:
            yield row
        elif any(map(str.isalnum, row["response"])):
            answer = {"role": "assistant", "content": row["response"].strip()}
            yield {"id": row["prompt_id"], "messages": [*row["prompt"], answer]}


def drop_torn_line(file: Path) -> None:
    """A killed run may leave half a line at the end of a file; cut it off, so that the next begins a line of its own."""
    if not file.is_file():
        return
    data = file.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(file, data.rfind(b"\n") + 1)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[str]]:
    """Open a temporary file beside `path`; rename it over `path` only if the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            yield out
        os.chmod(temporary, 0o644)  # mkstemp makes files private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows through a temporary file and rename; returns how many."""
    count = 0
    with atomic_write(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_json(path: str | Path, value: Any) -> None:
    with atomic_write(path) as out:
        json.dump(value, out, ensure_ascii=False, indent=2)
        out.write("\n")
