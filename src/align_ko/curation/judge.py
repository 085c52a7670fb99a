"""One raw row → what becomes of it. This is the part of curation that worker processes share.

Nothing is remembered from one row to the next, so the outcome is the same whatever the number of processes. What hangs on
other rows (duplicates, the mixture) is decided afterwards, in curate.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from align_ko.curation.adapters import Rejection, adapt
from align_ko.curation.duplicates import OVERLAP_THRESHOLD, PromptIndex, duplicate_key
from align_ko.curation.filters import Candidate, Filter, Rules, choose_filters, first_rejection
from align_ko.curation.near_duplicates import sketch
from align_ko.curation.personal_data import find, mask
from align_ko.curation.repairs import AFTER_ASSESSMENT, repair
from align_ko.curation.selection import topic_words
from align_ko.curation.sources import RawRow
from align_ko.recipe import SourceArgs
from align_ko.records import Assessment, Conversation, content_id


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
    question_sketch: bytes = b""
    answer_sketch: bytes = b""
    words: bytes = b""  # of the question, for its topic


@dataclass
class Judge:
    """`Judge(work)(name, raw)`; holds what is made once per process."""

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
        source = self.work.sources[name]
        label = label_of(raw, name, source)
        group = source.group if source.group != "auto" else group_of(label, self.work.groups)
        found = self._conversation(raw, label, group, source)
        if isinstance(found, Rejection):
            return rejected(name, label, group, raw, found)
        row = Candidate(found, raw.file, raw.line)
        problem = first_rejection(row, self.work.rules, self.filters) or self._overlap(row)
        assessments: list[Assessment] = row.__dict__.get("assessments", [])  # only if a filter asked
        lengths, levels = tuple(map(len, row.answers)), tuple(one.speech_level for one in assessments)
        if problem:
            return rejected(name, label, group, raw, problem)._replace(lengths=lengths, levels=levels)
        kept = self._repaired_afterwards(found, assessments)
        repaired, masked = self._shown(raw, source, kept) if kept.repairs else (("", ""), ())
        questions, answers = ([m["content"] for m in kept.messages if m["role"] == role] for role in ("user", "assistant"))
        return Judged(
            name,
            label,
            group,
            raw.file,
            raw.line,
            "",
            "",
            json.dumps(kept.to_row(), ensure_ascii=False),
            id=kept.id,
            key=duplicate_key(kept.messages),
            score=sum(one.score for one in assessments) / len(assessments) if assessments else 1.0,
            lengths=lengths,
            levels=levels,
            repairs=kept.repairs,
            repaired=repaired,
            masked=masked,
            question_sketch=sketch("\n".join(questions)),
            answer_sketch=sketch("\n".join(answers)),
            words=topic_words(questions[0]) if self.work.with_topics else b"",
        )

    def _conversation(self, raw: RawRow, label: str, group: str, source: SourceArgs) -> Conversation | Rejection:
        if raw.problem:
            return Rejection("broken_row", raw.problem)
        messages = adapt(raw.value, source.adapter, source.columns)
        if isinstance(messages, Rejection):
            return messages
        if not group:
            return Rejection("broken_row", f"source {label!r} stands in no group; add it under `groups` in the recipe")
        messages, changed = repair(messages, self._before)
        return Conversation(messages, label, group, content_id(messages), changed)

    def _repaired_afterwards(self, row: Conversation, assessments: Sequence[Assessment]) -> Conversation:
        """With the repairs that lean on what the filters found."""
        if not self._after:
            return row
        faults = [one.faults for one in assessments] if assessments else None
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

    def _overlap(self, row: Candidate) -> Rejection | None:
        for question in row.questions:
            prompt, similarity = self.held_out.nearest(question)
            if similarity >= OVERLAP_THRESHOLD:
                return Rejection("evaluation_overlap", f"{similarity:.2f} like the evaluation prompt {prompt[:80]!r}")
        return None


def rejected(name: str, label: str, group: str, raw: RawRow, why: Rejection) -> Judged:
    """A row that falls, with its entry for rejected.jsonl."""
    return Judged(name, label, group, raw.file, raw.line, why.reason, why.detail, entry(why, label, raw))


def entry(why: Rejection, source: str, raw: RawRow) -> str:
    """A line of rejected.jsonl."""
    row = {**why._asdict(), "source": source, "file": raw.file, "line": raw.line, "row": raw.value}
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written


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
