"""The numbers of a curation run as tables, the same ones for the terminal, report.md and the dataset card.

`facts` is what `curate` gathers and report.json holds. The keys of `OPTIONAL` may be missing; their tables then are too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OPTIONAL = ("steps", "near_duplicates", "repairs", "personal_data", "selection", "scores", "answer_characters_by_group")

MAX_SOURCES = 15
"""Sources that get a line and a column of their own; a file whose rows name their own source may hold thousands."""
MAX_NAME = 60
"""Characters of a source's name that are shown."""


class Sheet(NamedTuple):
    """One table; `rows` hold text, and numbers as numbers."""

    title: str
    header: list[str]
    rows: list[list[Any]]


def by_source(facts: Mapping[str, Any]) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """(funnel, reasons) per source; of many sources the largest, and the rest as one.

    >>> facts = {"funnel": {f"s{n}": {"read": n} for n in range(1, 17)}, "reasons": {"s1": {"echo": 1}}}
    >>> [*by_source(facts)[0].items()][-1], by_source(facts)[1]["1 more"]
    (('1 more', {'read': 1}), {'echo': 1})
    """
    funnels = facts["funnel"]
    largest = set(sorted(funnels, key=lambda name: -funnels[name]["read"])[:MAX_SOURCES])
    labels: dict[str, list[str]] = {}  # shown name → the sources under it
    for name in sorted(funnels, key=lambda name: name not in largest):
        labels.setdefault(clip(name) if name in largest else f"{len(funnels) - MAX_SOURCES:,} more", []).append(name)
    return (
        {label: sum_of([funnels[name] for name in names]) for label, names in labels.items()},
        {label: sum_of([facts["reasons"].get(name, {}) for name in names]) for label, names in labels.items()},
    )


def sum_of(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The counts of all, key by key.

    >>> sum_of([{"read": 3, "taken": 1}, {"read": 4}])
    {'read': 7, 'taken': 1}
    """
    keys = dict.fromkeys(key for count in counts for key in count)
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}


def reason_counts(facts: Mapping[str, Any]) -> dict[str, int]:
    """Rows dropped for each reason, the most frequent first."""
    counts = sum_of(list(facts["reasons"].values()))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def score_rows(facts: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """`[("0.9-1.0", before, after), …]` from `{"before": {bin: rows}, "after": {bin: rows}}`."""
    scores = facts.get("scores") or {}
    before, after = scores.get("before", {}), scores.get("after", {})
    return [(name, before.get(name, 0), after.get(name, 0)) for name in sorted({*before, *after})]


def speech_level_rows(facts: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """`[("polite", before, after), …]`."""
    levels = facts["speech_levels"]
    names = dict.fromkeys([*levels["before"], *levels["after"]])
    return [(name, levels["before"].get(name, 0), levels["after"].get(name, 0)) for name in names]


def tables(facts: Mapping[str, Any]) -> list[Sheet]:
    """Every table there is something for."""
    funnels, reasons = by_source(facts)
    total = sum_of(list(funnels.values()))
    made = [
        Sheet(
            "Rows left after each stage",
            ["source", *total],
            [[name, *row.values()] for name, row in funnels.items()] + [["all", *total.values()]],
        ),
        Sheet(
            "Why rows were dropped",
            ["reason", *reasons, "all"],
            [
                [reason, *(dropped.get(reason, 0) for dropped in reasons.values()), count]
                for reason, count in reason_counts(facts).items()
            ],
        ),
        Sheet(
            "Mixture",
            ["group", "wanted", "available", "taken", "share"],
            [
                [row["group"], row["wanted"], row["available"], row["taken"], f"{row['share']:.1%}"]
                for row in facts["mixture"]["groups"]
            ],
        ),
        _lengths("Length of answers", facts["answer_characters"]),
        *(
            _lengths(f"Length of answers: {group}", rows)
            for group, rows in (facts.get("answer_characters_by_group") or {}).items()
        ),
        Sheet(
            "Speech level of answers (before: of the rows that got as far as being assessed)",
            ["level", "before", "after"],
            _shares(speech_level_rows(facts)),
        ),
        Sheet("Score of answers", ["score", "before", "after"], _shares(score_rows(facts))),
        _counts("Near-duplicates dropped", "alike in", _numbers(facts.get("near_duplicates"))),
        _counts("Repaired rows", "repair", _numbers(facts.get("repairs"))),
        _counts("Personal data masked", "kind", _numbers((facts.get("personal_data") or {}).get("masked")), "times"),
        Sheet(
            "Time",
            ["step", "rows", "seconds", "rows/s"],
            [[step["step"], step["rows"], step["seconds"], step["rows_per_second"]] for step in facts.get("steps") or ()],
        ),
    ]
    return [sheet for sheet in made if sheet.rows]


def selection_line(facts: Mapping[str, Any]) -> str:
    """How the rows of a group were chosen; "" where the run did not say.

    >>> selection_line({"selection": {"how": "quality", "score_before": 0.931, "score_after": 0.97}})
    'Chosen within each group by `quality`: mean score 0.931 before, 0.970 after.'
    """
    chosen = facts.get("selection")
    if not chosen:
        return ""
    line = f"Chosen within each group by `{chosen['how']}`"
    if chosen.get("score_before") is not None and chosen.get("score_after") is not None:
        line += f": mean score {chosen['score_before']:.3f} before, {chosen['score_after']:.3f} after"
    return line + "."


def summary(facts: Mapping[str, Any]) -> str:
    """The run in one sentence."""
    rows = facts["rows"]
    apart = f", {rows['preferences']:,} set apart for preference pairs" if rows["preferences"] else ""
    return (
        f"{rows['read']:,} rows read, {rows['kept']:,} kept, {rows['taken']:,} taken: "
        f"{rows['train']:,} to train on, {rows['eval']:,} for eval loss{apart}. "
        f"{facts['seconds']:g} s, {facts['rows_per_second']:,} rows/s."
    )


def cell(value: Any) -> str:
    """A value as a table shows it: 12345 → 12,345."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def clip(name: str) -> str:
    """A name on one line, and not longer than a table bears."""
    line = " ".join(name.split())
    return line if len(line) <= MAX_NAME else line[: MAX_NAME - 1] + "…"


def _lengths(title: str, rows: Sequence[Mapping[str, Any]]) -> Sheet:
    return Sheet(title, ["characters", "before", "after"], [[r["characters"], r["before"], r["after"]] for r in rows])


def _counts(title: str, name: str, counts: Mapping[str, int], unit: str = "rows") -> Sheet:
    return Sheet(title, [name, unit], [[key, count] for key, count in counts.items()])


def _numbers(found: Mapping[str, Any] | None) -> dict[str, int]:
    """Without what else stands there, such as examples."""
    return {key: count for key, count in (found or {}).items() if isinstance(count, int)}


def _shares(rows: Sequence[tuple[str, int, int]]) -> list[list[Any]]:
    before, after = max(sum(b for _, b, _ in rows), 1), max(sum(a for _, _, a in rows), 1)
    return [[name, f"{b:,} ({b / before:.1%})", f"{a:,} ({a / after:.1%})"] for name, b, a in rows]
