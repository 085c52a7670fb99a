"""One raw row → what becomes of it. This is the part of curation that worker processes share.

Nothing is remembered from one row to the next, so the outcome is the same whatever the number of processes. What hangs on
other rows (duplicates, the mixture) is decided afterwards, in curate.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from align_ko.curation.adapters import Rejection, adapt
from align_ko.curation.duplicates import OVERLAP_THRESHOLD, PromptIndex, duplicate_key
from align_ko.curation.filters import Candidate, Filter, Rules, choose_filters, first_rejection
from align_ko.curation.sources import RawRow
from align_ko.recipe import SourceArgs
from align_ko.records import Conversation, content_id


@dataclass(frozen=True)
class Work:
    """All that a process has to know."""

    sources: Mapping[str, SourceArgs]
    groups: Mapping[str, tuple[str, ...]]
    rules: Rules
    filters: tuple[str, ...]
    evaluation_prompts: tuple[str, ...] = ()


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
    question: str = ""
    score: float = 1.0  # mean of its answers, 0 to 1
    lengths: tuple[int, ...] = ()  # characters of each answer
    levels: tuple[str, ...] = ()  # speech level of each answer, if any filter asked


@dataclass
class Judge:
    """`Judge(work)(name, raw)`; holds what is made once per process."""

    work: Work
    filters: list[Filter] = field(init=False)
    held_out: PromptIndex = field(init=False)

    def __post_init__(self) -> None:
        self.filters = choose_filters(self.work.filters)
        self.held_out = PromptIndex(self.work.evaluation_prompts)

    def __call__(self, name: str, raw: RawRow) -> Judged:
        source = self.work.sources[name]
        label = label_of(raw, name, source)
        group = source.group if source.group != "auto" else group_of(label, self.work.groups)
        found = self._conversation(raw, label, group, source)
        if isinstance(found, Rejection):
            return rejected(name, label, group, raw, found)
        row = Candidate(found, raw.file, raw.line)
        lengths = tuple(map(len, row.answers))
        problem = first_rejection(row, self.work.rules, self.filters) or self._overlap(row)
        assessments = row.__dict__.get("assessments", ())  # only if a filter asked
        levels = tuple(assessment.speech_level for assessment in assessments)
        if problem:
            return rejected(name, label, group, raw, problem)._replace(lengths=lengths, levels=levels)
        return Judged(
            name,
            label,
            group,
            raw.file,
            raw.line,
            "",
            "",
            json.dumps(found.to_row(), ensure_ascii=False),
            id=found.id,
            key=duplicate_key(found.messages),
            question=row.questions[0],
            score=sum(a.score for a in assessments) / len(assessments) if assessments else 1.0,
            lengths=lengths,
            levels=levels,
        )

    def _conversation(self, raw: RawRow, label: str, group: str, source: SourceArgs) -> Conversation | Rejection:
        if raw.problem:
            return Rejection("broken_row", raw.problem)
        messages = adapt(raw.value, source.adapter, source.columns)
        if isinstance(messages, Rejection):
            return messages
        if not group:
            return Rejection("broken_row", f"source {label!r} stands in no group; add it under `groups` in the recipe")
        return Conversation(messages, label, group, content_id(messages))

    def _overlap(self, row: Candidate) -> Rejection | None:
        for question in row.questions:
            prompt, similarity = self.held_out.nearest(question)
            if similarity >= OVERLAP_THRESHOLD:
                return Rejection("evaluation_overlap", f"{similarity:.2f} like the evaluation prompt {prompt[:80]!r}")
        return None


def rejected(name: str, label: str, group: str, raw: RawRow, why: Rejection) -> Judged:
    """A row that falls, with its entry for rejected.jsonl."""
    entry = {**why._asdict(), "source": label, "file": raw.file, "line": raw.line, "row": raw.value}
    text = json.dumps(entry, ensure_ascii=False, default=str)
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written
    return Judged(name, label, group, raw.file, raw.line, why.reason, why.detail, text)


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


_judge: Any = None  # this process's own


def start(work: Work) -> None:
    """Get a process ready."""
    global _judge
    _judge = Judge(work)


def judge_batch(batch: Sequence[tuple[str, RawRow]]) -> list[Judged]:
    """(name of the source, row) → Judged, in order."""
    return [_judge(name, raw) for name, raw in batch]
