"""The numbers of a curation run as tables, for the terminal and the dataset card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from align_ko.curation.facts import CurationFacts

MAX_SOURCES = 15
"""Sources with a line and a column of their own; a file whose rows name their own source may contain thousands."""
MAX_NAME = 60
"""Characters of a source's name that are shown."""


@dataclass(frozen=True)
class Sheet:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


def summary(facts: CurationFacts) -> str:
    """The run in one sentence."""
    rows = facts["rows"]
    apart = f", {rows['preferences']:,} set apart for preference pairs" if rows["preferences"] else ""
    return (
        f"{rows['read']:,} rows read, {rows['kept']:,} kept, {rows['taken']:,} taken: "
        f"{rows['train']:,} to train on, {rows['eval']:,} for eval loss{apart}. "
        f"{facts['seconds']:g} s, {facts['rows_per_second']:,} rows/s."
    )


def selection_line(facts: CurationFacts) -> str:
    """How the rows of a group were chosen."""
    how = facts["selection"]
    scores = f"{how['score_before']:.3f} before, {how['score_after']:.3f} after"
    return f"Chosen within each group by `{how['how']}`: mean score {scores}."


def tables(facts: CurationFacts) -> list[Sheet]:
    """The tables of the terminal and of the dataset card; empty ones are left out."""
    funnels, reasons = by_source(facts)
    total = sum_counts(list(funnels.values()))
    dropped = [
        [reason, *(counts.get(reason, 0) for counts in reasons.values()), count]
        for reason, count in reason_counts(facts).items()
    ]
    near = {side: count for side, count in facts["near_duplicates"].items() if side != "examples" and count}
    sheets = [
        Sheet(
            "Rows left after each stage",
            ["source", *total],
            [[name, *row.values()] for name, row in funnels.items()] + [["all", *total.values()]],
        ),
        Sheet("Why rows were dropped", ["reason", *reasons, "all"], dropped),
        Sheet(
            "Mixture",
            ["group", "wanted", "available", "taken", "share"],
            [[*list(row.values())[:-1], f"{row['share']:.1%}"] for row in facts["mixture"]["groups"]],
        ),
        Sheet("Length of answers", ["characters", "before", "after"], [[*row.values()] for row in facts["answer_characters"]]),
        Sheet("Near-duplicates dropped", ["similar in", "rows"], list(near.items())),
        Sheet("Repaired rows", ["repair", "rows"], list(facts["repairs"].items())),
        Sheet("Personal data masked", ["kind", "times"], list(facts["personal_data"]["masked"].items())),
        Sheet(
            "Time",
            ["step", "rows", "seconds", "rows/s"],
            [[step["step"], step["rows"], step["seconds"], step["rows_per_second"]] for step in facts["steps"]],
        ),
    ]
    return [sheet for sheet in sheets if sheet.rows]


def by_source(facts: CurationFacts) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """(funnel, reasons) per source; of many sources the largest, the rest summed up under `25 more`."""
    funnels = facts["funnel"]
    largest = set(sorted(funnels, key=lambda name: -funnels[name]["read"])[:MAX_SOURCES])
    labels: dict[str, list[str]] = {}  # shown name → its sources
    for name in sorted(funnels, key=lambda name: name not in largest):
        labels.setdefault(clip(name) if name in largest else f"{len(funnels) - MAX_SOURCES:,} more", []).append(name)
    return (
        {label: sum_counts([funnels[name] for name in names]) for label, names in labels.items()},
        {label: sum_counts([facts["reasons"].get(name, {}) for name in names]) for label, names in labels.items()},
    )


def sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The counts of all, key by key.

    >>> sum_counts([{"read": 3, "taken": 1}, {"read": 4}])
    {'read': 7, 'taken': 1}
    """
    keys = dict.fromkeys(key for count in counts for key in count)
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}


def reason_counts(facts: CurationFacts) -> dict[str, int]:
    """Rows dropped for each reason, the most frequent first."""
    counts = sum_counts(list(facts["reasons"].values()))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def clip(name: str) -> str:
    """A name on one line, cut at MAX_NAME characters."""
    line = " ".join(name.split())
    return line if len(line) <= MAX_NAME else line[: MAX_NAME - 1] + "…"
