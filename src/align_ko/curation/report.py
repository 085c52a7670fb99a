"""The curation report: the same facts as JSON, Markdown and terminal tables."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

STAGES: dict[str, tuple[str, ...]] = {
    "valid": ("broken_row", "roles", "empty"),
    "length": ("too_short", "too_long"),
    "natural": (),  # every reason that is named nowhere else
    "distinct": ("duplicate",),
    "unseen": ("evaluation_overlap",),
}
"""Funnel stage → the reasons for which a row falls there."""

BINS = (0, 10, 50, 100, 150, 300, 500, 800, 1500)
"""Lower edges of the length histogram; 150-500 is the strategy's sweet spot."""


def funnel(read: int, dropped: Mapping[str, int], taken: int) -> dict[str, int]:
    """Rows left after each stage.

    >>> funnel(10, {"broken_row": 1, "repetition": 2}, 5)
    {'read': 10, 'valid': 9, 'length': 9, 'natural': 7, 'distinct': 7, 'unseen': 7, 'taken': 5}
    """
    named = {reason for reasons in STAGES.values() for reason in reasons}
    left = {"read": read}
    for stage, reasons in STAGES.items():
        here = reasons or tuple(reason for reason in dropped if reason not in named)
        read -= sum(dropped.get(reason, 0) for reason in here)
        left[stage] = read
    return left | {"taken": taken}


def histograms(before: Mapping[int, int], after: Mapping[int, int]) -> list[dict[str, Any]]:
    """Answers per length bin: `[{"characters": "0-9", "before": 12, "after": 0}, …]`."""
    counted = [_binned(lengths) for lengths in (before, after)]
    labels = [f"{low}-{high - 1}" for low, high in pairwise(BINS)] + [f"{BINS[-1]} and more"]
    return [{"characters": label, "before": b, "after": a} for label, b, a in zip(labels, *counted, strict=True)]


def _binned(lengths: Mapping[int, int]) -> list[int]:
    counts = [0] * len(BINS)
    for length, count in lengths.items():
        counts[bisect_right(BINS, length) - 1] += count
    return counts


def _tables(facts: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """(title, header, rows) of every table, for Markdown and the terminal alike."""
    funnels = facts["funnel"]
    stages = list(next(iter(funnels.values())))
    total = [sum(row[stage] for row in funnels.values()) for stage in stages]
    reasons = {reason for dropped in facts["reasons"].values() for reason in dropped}
    counts = {reason: [dropped.get(reason, 0) for dropped in facts["reasons"].values()] for reason in reasons}
    by_count = sorted(counts, key=lambda reason: (-sum(counts[reason]), reason))
    levels = facts["speech_levels"]
    return [
        (
            "Rows left after each stage",
            ["source", *stages],
            [[name, *row.values()] for name, row in funnels.items()] + [["all", *total]],
        ),
        (
            "Why rows were dropped",
            ["reason", *funnels, "all"],
            [[reason, *counts[reason], sum(counts[reason])] for reason in by_count],
        ),
        (
            "Mixture",
            ["group", "wanted", "available", "taken", "share"],
            [[*list(row.values())[:-1], f"{row['share']:.1%}"] for row in facts["mixture"]["groups"]],
        ),
        (
            "Length of answers",
            ["characters", "before", "after"],
            [list(row.values()) for row in facts["answer_characters"]],
        ),
        (
            "Speech level of answers (before: of the rows that got as far as being assessed)",
            ["level", "before", "after"],
            [
                [level, _share(levels["before"], level), _share(levels["after"], level)]
                for level in dict.fromkeys([*levels["before"], *levels["after"]])
            ],
        ),
    ]


def _share(counts: Mapping[str, int], key: str) -> str:
    count = counts.get(key, 0)
    return f"{count:,} ({count / max(sum(counts.values()), 1):.1%})"


def summary(facts: Mapping[str, Any]) -> str:
    rows = facts["rows"]
    return (
        f"{rows['read']:,} rows read, {rows['kept']:,} kept, {rows['taken']:,} taken: "
        f"{rows['train']:,} to train on and {rows['eval']:,} for eval loss. "
        f"{facts['seconds']:g} s, {facts['rows_per_second']:,} rows/s."
    )


def show(facts: Mapping[str, Any], console: Console) -> None:
    """The tables of the report in the terminal."""
    for title, header, rows in _tables(facts)[:3]:
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
        # reasons by source are for the page: a terminal has room for their sums only
        shown = [0, len(header) - 1] if header[0] == "reason" else range(len(header))
        for place in shown:
            table.add_column(header[place], justify="right" if place else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(row[place]) for place in shown))
        console.print(table, "")
    console.print(facts["mixture"]["decision"], soft_wrap=True, highlight=False)
    console.print(summary(facts), soft_wrap=True, highlight=False)


def to_markdown(facts: Mapping[str, Any]) -> str:
    """The whole report, with examples."""
    parts = ["# Curation report", summary(facts)]
    for title, header, rows in _tables(facts):
        parts += [f"## {title}", _markdown_table(header, rows)]
        if title == "Mixture":
            parts.append(facts["mixture"]["decision"])
    parts.append(f"Filters in the order in which they ran: {', '.join(facts['filters'])}.")
    parts.append(f"## {len(facts['kept_examples'])} kept rows, drawn at random")
    for row in facts["kept_examples"]:
        parts.append(f"`{row['id']}` {row['source']}, {row['group']}\n\n{_conversation(row['messages'])}")
    parts.append("## Dropped rows, up to three per reason")
    for reason, rows in facts["dropped_examples"].items():
        parts.append(f"### {reason}")
        parts += [f"{row['file']}:{row['line']}: {row['detail']}\n\n{_raw(row['row'])}" for row in rows]
    return "\n\n".join(parts) + "\n"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
    for row in rows:
        cells = [_cell(value).replace("|", r"\|") for value in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _conversation(messages: Iterable[Mapping[str, str]]) -> str:
    """A quote block, one line per message."""
    return "\n".join(f"> **{m['role']}** {_one_line(m['content'])}  " for m in messages)


def _raw(row: Any) -> str:
    return f"> {_one_line(str(row))[:600]}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
