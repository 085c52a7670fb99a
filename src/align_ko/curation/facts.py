"""What a curation run reports: plain, typed values, counted while the rows pass. report.json contains them as they are."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any, TypedDict

from align_ko.curation.filters import choose_filters, filter_names
from align_ko.curation.judge import Judged
from align_ko.curation.select import GroupRows, Mixture
from align_ko.recipe import DataRecipe, place_of
from align_ko.records import ConversationRow

EXAMPLES_PER_REASON = 5
FUNNEL_STAGES: dict[str, tuple[str, ...]] = {
    "valid": ("broken_row", "roles", "empty"),
    "length": ("too_short", "too_long"),
    "natural": (),  # every reason not listed under another stage
    "distinct": ("duplicate", "near_duplicate"),
    "unseen": ("evaluation_overlap",),
}
"""Stage of the funnel → the reasons for which it drops rows."""
LENGTH_BINS = (0, 10, 50, 100, 150, 300, 500, 800, 1500)
"""Lower edges of the length histogram, in characters. Answers of 150 to 500 are what training wants most."""


class Step(TypedDict):
    step: str
    seconds: float
    rows: int
    rows_per_second: int


class LengthBin(TypedDict):
    characters: str
    before: int
    after: int


class BeforeAfter(TypedDict):
    before: dict[str, int]
    after: dict[str, int]


class MixtureFacts(TypedDict):
    groups: list[GroupRows]
    decision: str


class SelectionFacts(TypedDict):
    how: str
    score_before: float
    score_after: float


class DroppedRow(TypedDict):
    """A row of rejected.jsonl; `row` is whatever was read."""

    reason: str
    detail: str
    source: str
    file: str
    line: int
    row: object


class NearDuplicatePair(TypedDict):
    kept: ConversationRow
    dropped: ConversationRow
    side: str  # question or answer
    similarity: float


class NearDuplicateFacts(TypedDict):
    question: int
    answer: int
    examples: list[NearDuplicatePair]


class RepairExample(TypedDict):
    repair: str
    before: str
    after: str


class CurationFacts(TypedDict):
    recipe: str
    rows: dict[str, int]  # read, kept, taken, and those of each split
    seconds: float
    rows_per_second: int
    steps: list[Step]
    funnel: dict[str, dict[str, int]]  # source → stage → rows left
    reasons: dict[str, dict[str, int]]  # source → reason → rows dropped
    mixture: MixtureFacts
    selection: SelectionFacts
    answer_characters: list[LengthBin]
    answer_characters_by_group: dict[str, list[LengthBin]]
    speech_levels: BeforeAfter
    scores: BeforeAfter
    repairs: dict[str, int]
    repair_examples: list[RepairExample]
    personal_data: dict[str, dict[str, int]]  # "masked" → kind → places
    dropped_examples: dict[str, list[DroppedRow]]
    filters: list[str]
    near_duplicates: NearDuplicateFacts
    kept_examples: list[ConversationRow]
    notes: list[str]  # keys that nothing reads, an ending that most answers share


class Tally:
    """Counts rows as they are read and dropped, and the time of each step; `facts` is the sum of it."""

    def __init__(self, seed: int) -> None:
        self.read: Counter[str] = Counter()  # by source
        self.dropped: dict[str, Counter[str]] = defaultdict(Counter)  # by source and reason
        self.levels: Counter[str] = Counter()
        self.unread: dict[str, Counter[str]] = defaultdict(Counter)  # by source and key
        self.lengths: dict[str, Counter[int]] = defaultdict(Counter)  # by group
        self.examples: dict[str, list[DroppedRow]] = defaultdict(list)
        self.steps: list[Step] = []
        self._random = Random(seed)
        self._start = self._last_lap = time.perf_counter()

    def count_read(self, row: Judged) -> None:
        self.read[row.label] += 1
        if row.unread:
            self.unread[row.label].update(row.unread)
        lengths = self.lengths[row.group]
        for length in row.lengths:  # one or two: Counter.update takes several times as long
            lengths[length] += 1
        for level in row.levels:
            self.levels[level] += 1

    def count_dropped(self, row: Judged) -> None:
        self.dropped[row.label][row.reason] += 1
        examples = self.examples[row.reason]
        if len(examples) < EXAMPLES_PER_REASON:
            examples.append(json.loads(row.text))
        elif self._random.random() < 0.05:  # later rows get a chance too, so that examples come from the whole file
            examples[self._random.randrange(EXAMPLES_PER_REASON)] = json.loads(row.text)

    def counts(self) -> dict[str, Any]:
        """What was counted, as JSON has it; `add` takes it."""
        lengths = {group: list(counts.items()) for group, counts in self.lengths.items()}
        names = ("read", "dropped", "levels", "unread", "examples")
        return {"lengths": lengths, **{name: getattr(self, name) for name in names}}

    def add(self, counts: Mapping[str, Any]) -> None:
        """The counts of another part of the rows."""
        self.read.update(counts["read"])
        self.levels.update(counts["levels"])
        for name in ("dropped", "unread"):
            for label, some in counts[name].items():
                getattr(self, name)[label].update(some)
        for group, pairs in counts["lengths"].items():
            self.lengths[group].update(dict(pairs))
        for reason, rows in counts["examples"].items():
            self.examples[reason] = [*self.examples[reason], *rows][:EXAMPLES_PER_REASON]

    def lap(self, step: str, rows: int) -> None:
        """Record the seconds since the last lap and the rows processed."""
        now = time.perf_counter()
        seconds, self._last_lap = now - self._last_lap, now
        per_second = round(rows / max(seconds, 1e-3))
        self.steps.append({"step": step, "seconds": round(seconds, 2), "rows": rows, "rows_per_second": per_second})

    def facts(
        self,
        recipe: DataRecipe,
        mixture: Mixture,
        kept: Sequence[Judged],
        taken: Sequence[Judged],
        splits: Mapping[str, Sequence[Judged]],
        near_duplicates: NearDuplicateFacts,
        kept_examples: list[ConversationRow],
    ) -> CurationFacts:
        """`kept`: rows that passed every filter; `taken`: those the mixture chose; `splits`: train, eval and preferences."""
        read, seconds = self.read.total(), time.perf_counter() - self._start
        different = list({row.id: row for row in taken}.values())  # upsampling repeats rows
        taken_by_source = Counter(row.label for row in different)
        levels = _counts(level for row in taken for level in row.levels)
        filters = [check.__name__ for check in choose_filters(filter_names(recipe))]
        return {
            "recipe": str(place_of(recipe, "sources").file or ""),
            "rows": {"read": read, "kept": len(kept), "taken": len(taken)} | {name: len(rows) for name, rows in splits.items()},
            "seconds": round(seconds, 1),
            "rows_per_second": round(read / max(seconds, 1e-9)),
            "steps": self.steps,
            "funnel": {name: funnel(count, self.dropped[name], taken_by_source[name]) for name, count in self.read.items()},
            "reasons": {name: dict(self.dropped[name].most_common()) for name in self.read},
            "mixture": {"groups": mixture.table(), "decision": mixture.decision},
            "selection": {"how": recipe.selection, "score_before": _mean_score(kept), "score_after": _mean_score(different)},
            "answer_characters": histogram(sum(self.lengths.values(), Counter()), _lengths(taken)),
            "answer_characters_by_group": {
                group: histogram(self.lengths[group], _lengths(row for row in taken if row.group == group))
                for group in mixture.taken
                if group in self.lengths
            },
            "speech_levels": {"before": dict(self.levels.most_common()), "after": levels},
            "scores": {"before": _score_bins(kept), "after": _score_bins(different)},
            "repairs": _counts(name for row in different for name in row.repairs if name != "personal_data"),
            "repair_examples": _repair_examples(different),
            "personal_data": {"masked": _counts(kind for row in different for kind in row.masked)},
            "dropped_examples": dict(sorted(self.examples.items())),
            "filters": [
                *filters,
                "evaluation_overlap",
                "duplicate",
                *["unrelated"] * bool(recipe.off_topic_model),
                "near_duplicate",
            ],
            "near_duplicates": near_duplicates,
            "kept_examples": kept_examples,
            "notes": [],
        }


def funnel(read: int, dropped: Mapping[str, int], taken: int) -> dict[str, int]:
    """`{"read": 10, "valid": 9, "length": 9, "natural": 7, "distinct": 7, "unseen": 7, "taken": 5}`: rows left after each
    stage."""
    listed = {reason for reasons in FUNNEL_STAGES.values() for reason in reasons}
    left = {"read": read}
    for stage, reasons in FUNNEL_STAGES.items():
        read -= sum(dropped.get(reason, 0) for reason in reasons or set(dropped) - listed)
        left[stage] = read
    return left | {"taken": taken}


def histogram(before: Mapping[int, int], after: Mapping[int, int]) -> list[LengthBin]:
    """Answers per bin of lengths: `[{"characters": "0-9", "before": 12, "after": 0}, …]`."""
    bins: list[LengthBin] = []
    for low, high in pairwise([*LENGTH_BINS, sys.maxsize]):
        name = f"{low}-{high - 1}" if high < sys.maxsize else f"{low} and more"
        sums = [sum(n for length, n in counts.items() if low <= length < high) for counts in (before, after)]
        bins.append({"characters": name, "before": sums[0], "after": sums[1]})
    return bins


def _lengths(rows: Iterable[Judged]) -> Counter[int]:
    return Counter(length for row in rows for length in row.lengths)


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _repair_examples(rows: Iterable[Judged]) -> list[RepairExample]:
    """One row for each repair: the one with the smallest id, so that the order of the rows does not matter."""
    first: dict[str, Judged] = {}
    for row in rows:
        for name in row.repairs:
            first[name] = min(first.get(name, row), row, key=lambda one: one.id)
    return [{"repair": name, "before": row.repaired[0], "after": row.repaired[1]} for name, row in sorted(first.items())]


def _score_bins(rows: Iterable[Judged]) -> dict[str, int]:
    """Rows by score: `{"0.8-0.9": 12, "0.9-1.0": 871}`."""
    counts = Counter(min(int(row.score * 10), 9) for row in rows)
    return {f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}": counts[tenth] for tenth in sorted(counts)}


def _mean_score(rows: Sequence[Judged]) -> float:
    return round(sum(row.score for row in rows) / max(len(rows), 1), 4)
