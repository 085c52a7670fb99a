"""One raw row → what becomes of it, in worker processes. Nothing is remembered from one row to the next, so their number does
not matter; what depends on other rows (duplicates, the mixture) is decided in curate.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from align_ko import reasons
from align_ko.adapters import Rejection, adapt, split_of, unread_keys
from align_ko.curation.filters import Candidate, Rules, choose_filters, first_rejections
from align_ko.curation.personal_data import find, mask
from align_ko.curation.repairs import AFTER_ASSESSMENT, repair
from align_ko.curation.select import topic_words
from align_ko.curation.sketches import EMPTY, Sketch, duplicate_key, sketch
from align_ko.overlap import OVERLAP_THRESHOLD, PromptIndex
from align_ko.recipe import SourceArgs
from align_ko.records import Conversation, Message, content_id
from align_ko.sources import RawRow


class Judged(NamedTuple):
    """A row after the filters. `reason` is empty for a row that is kept."""

    name: str  # of the source in the recipe
    label: str  # of the source in the report: the row's own name for it where the group is "auto"
    group: str
    file: str
    line: int
    reason: str
    detail: str
    text: str  # JSON of the curated row, or of the rejected.jsonl entry
    id: str = ""
    key: bytes = b""  # equal for rows that say the same
    score: float = 1.0  # mean of its answers, 0 to 1
    lengths: tuple[int, ...] = ()  # characters of each answer
    levels: tuple[str, ...] = ()  # speech level of each answer, if any filter asked
    repairs: tuple[str, ...] = ()
    repaired: tuple[str, str] = ("", "")  # the first message that a repair changed, before and after
    masked: tuple[str, ...] = ()  # kinds of personal data, one for each place
    question_sketch: Sketch = EMPTY
    answer_sketch: Sketch = EMPTY
    words: bytes = b""  # of the question, for its topic
    unread: tuple[str, ...] = ()  # keys that nothing reads
    held_out: bool = False  # its own split is not train


def entry(why: Rejection, source: str, raw: RawRow) -> str:
    """A line of rejected.jsonl."""
    row = {**why._asdict(), "source": source, "file": raw.file, "line": raw.line, "row": raw.value}
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written


@dataclass(frozen=True)
class Work:
    """What a worker process has to know."""

    sources: Mapping[str, SourceArgs]
    groups: Mapping[str, tuple[str, ...]]
    rules: Rules
    filters: tuple[str, ...]
    evaluation_prompts: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    with_topics: bool = False  # for selection: quality_diverse


@dataclass
class _Row:
    """A row in progress: `candidate` and the messages `before` its repairs, or the `problem` it has."""

    name: str
    label: str
    group: str
    raw: RawRow
    problem: Rejection | None = None
    before: Sequence[Message] = ()
    candidate: Candidate | None = None


class Judge:
    """What is made once per process."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.filters = choose_filters(work.filters)
        self.held_out = PromptIndex(work.evaluation_prompts)
        self._before = tuple(name for name in work.repairs if name not in AFTER_ASSESSMENT)
        if work.rules.personal_data == "mask":
            self._before += ("personal_data",)
        self._after = tuple(name for name in work.repairs if name in AFTER_ASSESSMENT)

    def each(self, batch: Sequence[tuple[str, RawRow]]) -> list[Judged]:
        """The outcome of each row, in order. Filters run filter by filter over the whole batch, which is faster."""
        rows = [self._read(name, raw) for name, raw in batch]
        problems = iter(first_rejections([row.candidate for row in rows if row.candidate], self.work.rules, self.filters))
        for row in rows:
            if row.candidate:
                row.problem = next(problems) or self._overlap(row.candidate)
        return [self._judged(row) for row in rows]

    def _read(self, name: str, raw: RawRow) -> _Row:
        source = self.work.sources[name]
        label, group = name, str(source.group)
        if source.group == "auto":  # the row names its source, and the recipe lists the sources of each group
            own = raw.value.get(source.columns.get("source", "source")) if isinstance(raw.value, dict) else None
            label = own if isinstance(own, str) and own else name
            group = next((group for group, names in self.work.groups.items() if label in names), "")
        messages = Rejection("broken_row", raw.problem) if raw.problem else adapt(raw.value, source.adapter, source.columns)
        if not group and not isinstance(messages, Rejection):
            messages = Rejection("broken_row", reasons.NO_GROUP.format(label))
        if isinstance(messages, Rejection):
            return _Row(name, label, group, raw, messages)
        repaired, changed = repair(messages, self._before)
        conversation = Conversation(repaired, label, group, content_id(repaired), changed)
        return _Row(name, label, group, raw, None, messages, Candidate(conversation))

    def _overlap(self, candidate: Candidate) -> Rejection | None:
        """Why a row is dropped that has a question too similar to an evaluation prompt."""
        for message in candidate.conversation.messages:
            if message["role"] != "user":
                continue
            prompt, similarity = self.held_out.nearest(message["content"], OVERLAP_THRESHOLD)
            if prompt:
                return Rejection("evaluation_overlap", reasons.OVERLAPS.format(similarity, prompt[:80]))
        return None

    def _judged(self, row: _Row) -> Judged:
        place = row.name, row.label, row.group, row.raw.file, row.raw.line
        assessed = row.candidate.assessed if row.candidate else []
        lengths = tuple(map(len, row.candidate.answers)) if row.candidate else ()
        levels = tuple(one.speech_level for one in assessed)
        if row.problem or not row.candidate:
            why = row.problem or Rejection("", "")
            return Judged(*place, *why, entry(why, row.label, row.raw), lengths=lengths, levels=levels)
        kept = row.candidate.conversation
        if self._after:
            messages, changed = repair(kept.messages, self._after, [one.faults for one in assessed] or None)
            if changed:
                kept = replace(kept, messages=messages, id=content_id(messages), repairs=(*kept.repairs, *changed))
        repaired, masked = _changes(row.before, kept) if kept.repairs else (("", ""), ())
        questions = [message["content"] for message in kept.messages if message["role"] == "user"]
        answers = [message["content"] for message in kept.messages if message["role"] == "assistant"]
        return Judged(
            *place,
            reason="",
            detail="",
            text=json.dumps(kept.to_row(), ensure_ascii=False),
            id=kept.id,
            key=duplicate_key(kept.messages),
            score=sum(one.score for one in assessed) / len(assessed) if assessed else 1.0,
            lengths=lengths,
            levels=levels,
            repairs=kept.repairs,
            repaired=repaired,
            masked=masked,
            question_sketch=sketch("\n".join(questions)),
            answer_sketch=sketch("\n".join(answers)),
            words=topic_words(questions[0]) if self.work.with_topics else b"",
            unread=tuple(unread_keys(row.raw.value, self.work.sources[row.name].columns)),
            held_out=split_of(row.raw.value) == "eval",
        )


def _changes(before: Sequence[Message], kept: Conversation) -> tuple[tuple[str, str], tuple[str, ...]]:
    """For the report: the first changed message before (personal data masked) and after, and the kinds of masked data."""
    texts = [(old["content"], new["content"]) for old, new in zip(before, kept.messages, strict=True)]
    masked = tuple(one.kind for old, _ in texts for one in find(old)) if "personal_data" in kept.repairs else ()
    return next(((mask(old), new) for old, new in texts if old != new), ("", "")), masked


_judge: Judge | None = None  # this process's own


def start(work: Work) -> None:
    """Initialise a worker process."""
    global _judge
    _judge = Judge(work)


def judge_batch(batch: Sequence[tuple[str, RawRow]]) -> list[Judged]:
    assert _judge, "start(work) comes first"
    return _judge.each(batch)
