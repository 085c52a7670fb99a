"""One raw row → what becomes of it. This is the part of curation that worker processes share.

Nothing is remembered from one row to the next, so the outcome is the same whatever the number of processes. What hangs on
other rows (duplicates, the mixture) is decided afterwards, in curate.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from align_ko.curation.adapters import Rejection, adapt
from align_ko.curation.filters import Candidate, Filter, Rules, choose_filters, first_rejections
from align_ko.curation.near_duplicates import EMPTY, Sketch, duplicate_key, sketch
from align_ko.curation.repairs import AFTER_ASSESSMENT, repair
from align_ko.curation.rules.personal_data import find, mask
from align_ko.curation.select import topic_words
from align_ko.curation.sources import RawRow
from align_ko.overlap import OVERLAP_THRESHOLD, PromptIndex
from align_ko.recipe import SourceArgs
from align_ko.records import Conversation, Message, content_id


class Judged(NamedTuple):
    """A row after the filters. `reason` is empty for one that stays."""

    name: str  # of the source in the recipe
    label: str  # of the source in the report: the row's own name for it where it has one
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


def entry(why: Rejection, source: str, raw: RawRow) -> str:
    """A line of rejected.jsonl."""
    row = {**why._asdict(), "source": source, "file": raw.file, "line": raw.line, "row": raw.value}
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written


@dataclass(frozen=True)
class Work:
    """All that a process has to know."""

    sources: Mapping[str, SourceArgs]
    groups: Mapping[str, tuple[str, ...]]
    rules: Rules
    filters: tuple[str, ...]
    evaluation_prompts: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    with_topics: bool = False  # for selection: quality_diverse


_NOTHING = Rejection("", "")


@dataclass
class _Row:
    """A row on its way: first read, then with a problem or without."""

    name: str
    label: str
    group: str
    raw: RawRow
    candidate: Candidate | None = None  # None: it could not be read
    problem: Rejection | None = None

    def judged(self, text: str, why: Rejection = _NOTHING) -> Judged:
        """What is known of every row that was read; of one that stays there is more to say."""
        lengths, levels = (), ()  # type: tuple[tuple[int, ...], tuple[str, ...]]
        if self.candidate:
            lengths = tuple(map(len, self.candidate.answers))
            levels = tuple([one.speech_level for one in self.candidate.assessed])
        place = self.name, self.label, self.group, self.raw.file, self.raw.line
        return Judged(*place, *why, text, lengths=lengths, levels=levels)


@dataclass
class Judge:
    """`Judge(work)(name, raw)`, `Judge(work).each(batch)`; holds what is made once per process."""

    work: Work
    filters: list[Filter] = field(init=False)
    held_out: PromptIndex = field(init=False)

    def __post_init__(self) -> None:
        self.filters = choose_filters(self.work.filters)
        self.held_out = PromptIndex(self.work.evaluation_prompts)
        self._before = tuple(name for name in self.work.repairs if name not in AFTER_ASSESSMENT)
        if self.work.rules.personal_data == "mask":
            self._before += ("personal_data",)
        self._after = tuple(name for name in self.work.repairs if name in AFTER_ASSESSMENT)

    def __call__(self, name: str, raw: RawRow) -> Judged:
        return self.each([(name, raw)])[0]

    def each(self, batch: Sequence[tuple[str, RawRow]]) -> list[Judged]:
        """What becomes of each row, in order. Step by step and not row by row, which takes a fifth less time: what a step
        works with stays in the processor's nearest memory.
        """
        rows = self._rows(batch)
        read = [row for row in rows if row.candidate]
        candidates = [row.candidate for row in rows if row.candidate]
        for row, problem in zip(read, first_rejections(candidates, self.work.rules, self.filters), strict=True):
            row.problem = problem
        self._hold_out([row for row in read if not row.problem])
        kept = [self._repaired_afterwards(row.candidate) for row in read if row.candidate and not row.problem]
        texts = [json.dumps(one.to_row(), ensure_ascii=False) for one in kept]
        keys = [duplicate_key(one.messages) for one in kept]
        asked = [_said(one, "user") for one in kept]
        questions = [sketch("\n".join(each)) for each in asked]
        answers = [sketch("\n".join(_said(one, "assistant"))) for one in kept]
        words = [topic_words(each[0]) if self.work.with_topics else b"" for each in asked]
        made = zip(kept, texts, keys, questions, answers, words, strict=True)
        return [
            row.judged(entry(row.problem, row.label, row.raw), row.problem) if row.problem else self._kept(row, *next(made))
            for row in rows
        ]

    def _rows(self, batch: Sequence[tuple[str, RawRow]]) -> list[_Row]:
        """Read and repaired, as far as they can be."""
        rows = []
        for name, raw in batch:
            source = self.work.sources[name]
            label = label_of(raw, name, source)
            group = source.group if source.group != "auto" else group_of(label, self.work.groups)
            found = _messages(raw, label, group, source)
            if isinstance(found, Rejection):
                rows.append(_Row(name, label, group, raw, problem=found))
            else:
                messages, changed = repair(found, self._before)
                conversation = Conversation(messages, label, group, content_id(messages), changed)
                rows.append(_Row(name, label, group, raw, Candidate(conversation, raw.file, raw.line)))
        return rows

    def _kept(
        self, row: _Row, kept: Conversation, text: str, key: bytes, question: Sketch, answer: Sketch, words: bytes
    ) -> Judged:
        """A row that stays."""
        repaired, masked = self._shown(row.raw, self.work.sources[row.name], kept) if kept.repairs else (("", ""), ())
        scores = [one.score for one in row.candidate.assessed] if row.candidate else []
        return row.judged(text)._replace(
            id=kept.id,
            key=key,
            score=sum(scores) / len(scores) if scores else 1.0,
            repairs=kept.repairs,
            repaired=repaired,
            masked=masked,
            question_sketch=question,
            answer_sketch=answer,
            words=words,
        )

    def _repaired_afterwards(self, candidate: Candidate) -> Conversation:
        """With the repairs that lean on what the filters found."""
        row = candidate.conversation
        if not self._after:
            return row
        faults = [one.faults for one in candidate.assessed] or None
        messages, changed = repair(row.messages, self._after, faults)
        if not changed:
            return row
        return replace(row, messages=messages, id=content_id(messages), repairs=(*row.repairs, *changed))

    def _shown(self, raw: RawRow, source: SourceArgs, kept: Conversation) -> tuple[tuple[str, str], tuple[str, ...]]:
        """What the report shows of a repaired row: a message before and after, and the kinds of what was masked."""
        messages = adapt(raw.value, source.adapter, source.columns)
        before = [message["content"] for message in messages if isinstance(message, dict)]
        after = [message["content"] for message in kept.messages]
        masked = tuple(one.kind for text in before for one in find(text)) if "personal_data" in kept.repairs else ()
        changed = [(mask(one), other) for one, other in zip(before, after, strict=True) if one != other]
        return changed[0] if changed else ("", ""), masked

    def _hold_out(self, rows: Sequence[_Row]) -> None:
        """Drop those with a question too near to an evaluation prompt."""
        for row in rows:
            for question in row.candidate.questions if row.candidate else ():
                prompt, similarity = self.held_out.nearest(question, OVERLAP_THRESHOLD)
                if prompt and not row.problem:
                    row.problem = Rejection(
                        "evaluation_overlap", f"{similarity:.2f} like the evaluation prompt {prompt[:80]!r}"
                    )


def _messages(raw: RawRow, label: str, group: str, source: SourceArgs) -> list[Message] | Rejection:
    if raw.problem:
        return Rejection("broken_row", raw.problem)
    messages = adapt(raw.value, source.adapter, source.columns)
    if not isinstance(messages, Rejection) and not group:
        return Rejection("broken_row", f"source {label!r} stands in no group; add it under `groups` in the recipe")
    return messages


def _said(conversation: Conversation, role: str) -> list[str]:
    return [message["content"] for message in conversation.messages if message["role"] == role]


def label_of(raw: RawRow, name: str, source: SourceArgs) -> str:
    """The row's own `source` where the group hangs on that, else the recipe's name for the file."""
    own = raw.value.get(source.columns.get("source", "source")) if isinstance(raw.value, dict) else None
    return own if source.group == "auto" and isinstance(own, str) and own else name


def group_of(source: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    """The group that lists `source`, or "".

    >>> group_of("koalpaca", {"instruction": ("kullm_v2", "koalpaca")})
    'instruction'
    """
    return next((group for group, names in groups.items() if source in names), "")


_judge: Judge | None = None  # this process's own


def start(work: Work) -> None:
    """Get a process ready."""
    global _judge
    _judge = Judge(work)


def judge_batch(batch: Sequence[tuple[str, RawRow]]) -> list[Judged]:
    """(name of the source, row) → Judged, in order."""
    assert _judge, "start(work) comes first"
    return _judge.each(batch)
