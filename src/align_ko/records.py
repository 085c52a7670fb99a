"""The rows that pass between stages, and how their files are read and written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, Required, TypedDict, TypeVar, final

from align_ko.adapters import Rejection, adapt, adapt_pairs, adapt_prompt, pair_id, unread_keys
from align_ko.errors import UserError, warn
from align_ko.sources import RawRow, local_files, read_file
from align_ko.turns import Message as Message
from align_ko.turns import is_trained

Item = TypeVar("Item")


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
    """One fault of form, at characters `start:end` of the text."""

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
    outside: str = ""
    """code, table or proof: a kind of text that the judge is not made for, so nothing is decided by it."""

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
    """Hash of roles and texts, 16 hex digits, whatever the Unicode form and surrounding white space; it decides the split."""
    text = "\x1e".join(f"{m['role']}\x1f{unicodedata.normalize('NFC', m['content']).strip()}" for m in messages)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Objects of a file of rows. UserError with the line of a row that is broken or no object."""
    for row in _numbered_rows(path):
        if not isinstance(row.value, dict):
            raise UserError("this row is no JSON object", file=row.file, line=row.line, expected="{…} on every line")
        yield row.value


def _raw_rows(path: str | Path) -> Iterator[RawRow]:
    """Rows of a file, or of all data files of a folder."""
    if not (files := local_files(str(path))):
        raise UserError("file not found", file=path)
    return chain.from_iterable(map(read_file, files))


def _numbered_rows(path: str | Path) -> Iterator[RawRow]:
    for row in _raw_rows(path):
        if row.problem:
            raise UserError(row.problem, file=row.file, line=row.line, expected="JSONL, a JSON array, CSV or Parquet")
        yield row


def read_conversations(path: str | Path) -> Iterator[ConversationRow]:
    """Conversations of any shape that curation reads, each with an id; a row of responses.jsonl is its prompt and answer. Rows
    without a trainable answer are dropped and reported at the end, with the keys that nothing reads. UserError where most are.

    `{"instruction": "안녕?", "output": "안녕하세요!"}` → `{"id": "9f2c…", "messages": [user "안녕?", assistant
    "안녕하세요!"]}`"""
    return _training_rows(path, _conversations_of, unread_keys, _CONVERSATIONS)


def read_pairs(path: str | Path) -> Iterator[PairRow]:
    """Preference pairs of any shape that adapters.py knows, each with an id of its own. Empty and equal sides are dropped,
    counted and reported as in read_conversations."""
    return _training_rows(path, _pairs_of, lambda row: unread_keys(row, pair=True), _PAIRS)


def _conversations_of(row: object) -> list[ConversationRow] | Rejection:
    messages = adapt(row)
    if isinstance(messages, Rejection):
        return messages
    roles = [message["role"] for message in messages]
    if other := set(roles) - {"system", "user", "assistant"}:
        return Rejection("roles", f"a turn of role {min(other)!r}")
    if roles[-1:] != ["assistant"]:
        return Rejection("roles", "the last turn is not the assistant's")
    if not all(any(map(str.isalnum, m["content"])) for m in messages if is_trained(m)):
        return Rejection("empty", "an answer is empty")
    made: ConversationRow = {"messages": messages, "id": _id_of(row) or content_id(messages)}
    if isinstance(row, dict):
        made.update({key: row[key] for key in ("source", "group", "repairs") if key in row})  # type: ignore[typeddict-item]
    return [made]


def _pairs_of(row: object) -> list[PairRow] | Rejection:
    pairs = adapt_pairs(row)
    if isinstance(pairs, Rejection):
        return pairs
    name = _id_of(row) if len(pairs) == 1 else ""
    made: list[PairRow] = []
    for pair in pairs:
        made.append({**pair._asdict(), "id": name or pair_id(pair)})  # type: ignore[typeddict-item]
        if isinstance(row, dict):
            facts = {key: row[key] for key in ("rejected_finished", "source") if key in row}
            made[-1].update(facts)  # type: ignore[typeddict-item]
    return made


def _id_of(row: object) -> str:
    """A row's own id as text; "" where it has none."""
    named = next((row[key] for key in ("id", "prompt_id", "uid") if key in row), None) if isinstance(row, dict) else None
    return str(named) if isinstance(named, str | int) and not isinstance(named, bool) else ""


TrainingRow = TypeVar("TrainingRow", ConversationRow, PairRow)
_CONVERSATIONS = "messages, instruction and output, question and answer, prompt and completion (curation: others by columns)"
_PAIRS = "prompt, chosen and rejected (text or messages), or whole conversations as chosen and rejected"


def _training_rows(
    path: str | Path,
    convert: Callable[[object], list[TrainingRow] | Rejection],
    unread: Callable[[object], list[str]],
    expected: str,
) -> Iterator[TrainingRow]:
    total, places = 0, defaultdict[str, list[RawRow]](list)
    ignored: Counter[str] = Counter()
    ids: dict[str, bytes] = {}
    for raw in _raw_rows(path):
        total += 1
        rows = Rejection("broken_row", raw.problem) if raw.problem else convert(raw.value)
        if isinstance(rows, Rejection):
            places[rows.detail].append(replace(raw, value=None))
            continue
        ignored.update(unread(raw.value))
        for row in rows:
            text = json.dumps(row, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")
            content = hashlib.sha256(text).digest()[:8]
            if ids.setdefault(row["id"], content) != content:  # another row under an id that stood before
                row["id"] = f"{row['id']}#{total}"
            yield row
    dropped = sum(map(len, places.values()))
    if 2 * dropped > total or not total:
        nothing = ("the file contains no rows", [RawRow(str(path), 0, None)])
        detail, [first, *_] = max(places.items(), key=lambda item: len(item[1]), default=nothing)
        problem = f"{dropped} of {total} rows cannot be trained on: {detail}" if total else detail
        raise UserError(problem, file=first.file, line=first.line, expected=expected)
    if dropped:
        firsts = [(detail, len(bad), bad[0]) for detail, bad in list(places.items())[:5]]
        names = {raw.file: "" if raw.file == str(path) else f" of {Path(raw.file).name}" for *_, raw in firsts}
        why = "; ".join(f"{detail} ({n}, first on line {raw.line}{names[raw.file]})" for detail, n, raw in firsts)
        warn(f"{path}: {dropped} of {total} rows are left out: {why}")
    if ignored:
        warn(f"{path}: keys that nothing reads: " + ", ".join(f"{key} ({count} rows)" for key, count in ignored.items()))


@dataclass(frozen=True)
class PromptRow:
    """One prompt, which ends with the user's turn, and the reference answer, if there is one."""

    id: str
    prompt: list[Message]
    reference: str | None = None
    group: str = ""
    topic: str = ""
    demands: tuple[Mapping[str, Any], ...] = ()
    """What a rule can check of an answer (korean/demands.py)."""
    suite: str = ""
    """The set of prompts that it was asked with."""

    @property
    def messages(self) -> list[Message]:
        """The prompt with its reference as last turn."""
        return self.prompt if self.reference is None else [*self.prompt, {"role": "assistant", "content": self.reference}]

    def to_row(self) -> dict[str, object]:
        return {"id": self.id, "messages": self.messages, "group": self.group, "topic": self.topic}


def read_prompts(path: str | Path, key: str | None = None) -> Iterator[PromptRow]:
    """The prompts of a file, in any form and encoding that curation reads. UserError with the line of a row that is none, and
    with `key`, the recipe's key that names the file."""
    ids: dict[str, list[Message]] = {}
    for raw in _numbered_rows(path):
        row = parse_prompt(raw.value)
        if row is None:
            expected = (
                "{'messages': [{'role', 'content'}, …]}, {'prompt': text or messages} or {'question': text}, asked by the user"
            )
            raise UserError("this row has no prompt", file=raw.file, line=raw.line, key=key, expected=expected)
        if ids.setdefault(row.id, row.prompt) != row.prompt:  # two prompts under one id: answers would be mixed up
            row = replace(row, id=content_id(row.prompt))
        yield row


def parse_prompt(row: object) -> PromptRow | None:
    """A row's prompt, and its reference: the last assistant turn, or the key `reference`. None for a row without a prompt. A
    missing id becomes the hash of the prompt.

    `{"messages": [user "안녕하세요", assistant "안녕하세요!"]}` → the user's turn and "안녕하세요!"
    """
    if isinstance(row, dict) and "prompt" in row:  # the response of a responses.jsonl is the model's own, no reference
        row = {key: value for key, value in row.items() if key != "response"}
    asked = adapt_prompt(row)
    if asked is None or not isinstance(row, dict) or not isinstance(row.get("reference"), str | None):
        return None
    prompt, reference = asked
    group, topic = (str(row.get(key) or "") for key in ("group", "topic"))
    listed = row.get("demands")
    demands = tuple(listed) if isinstance(listed, list) and all(isinstance(one, dict) for one in listed) else ()
    name, reference = _id_of(row) or content_id(prompt), reference or row.get("reference") or None
    return PromptRow(name, prompt, reference, group, topic, demands)


TEMPORARY = ".align_ko.tmp"  # process.lock_folder removes what a killed run left of these


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[str]]:
    """Write a temporary file beside `path`, renamed over `path` when the block ends without an error."""
    with atomic_writes(path) as [out]:
        yield out


@contextmanager
def atomic_writes(*paths: str | Path, before: Callable[[], None] = lambda: None) -> Iterator[list[IO[str]]]:
    """The same for several files: all are written to their ends, then `before` is called, then all are renamed."""
    temporary: dict[str, Path] = {}
    try:
        with ExitStack() as opened:
            files: list[IO[str]] = []
            for path in map(Path, paths):
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
                temporary[name] = path
                files.append(opened.enter_context(os.fdopen(handle, "w", encoding="utf-8", newline="\n")))
            yield files
        for name in temporary:
            os.chmod(name, 0o644)  # mkstemp makes files private
        before()
        for name, path in temporary.items():
            os.replace(name, path)
    except BaseException:
        for name in temporary:
            Path(name).unlink(missing_ok=True)
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
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    with atomic_write(path) as out:
        out.write(text)
