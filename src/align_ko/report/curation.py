"""The curation report: the same facts as report.json, report.md, report.html, the dataset card and terminal tables."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from align_ko.records import atomic_write
from align_ko.report.curation_html import render_html
from align_ko.report.curation_markdown import to_markdown
from align_ko.report.curation_rows import writable
from align_ko.report.curation_tables import cell, selection_line, summary, tables
from align_ko.report.dataset_card import card_for

STAGES: dict[str, tuple[str, ...]] = {
    "valid": ("broken_row", "roles", "empty"),
    "length": ("too_short", "too_long"),
    "natural": (),  # every reason that is named nowhere else
    "distinct": ("duplicate", "near_duplicate"),
    "unseen": ("evaluation_overlap",),
}
"""Funnel stage → the reasons for which a row falls there."""

BINS = (0, 10, 50, 100, 150, 300, 500, 800, 1500)
"""Lower edges of the length histogram; 150-500 is the strategy's sweet spot."""

_IN_TERMINAL = ("Rows left after each stage", "Why rows were dropped", "Mixture", "Time")


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


def write_reports(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write report.json, report.md, report.html and README.md (the dataset card), each whole or not at all."""
    card, text = card_for(folder, facts)
    made = {
        "report.json": json.dumps(facts, ensure_ascii=False, indent=2, default=str) + "\n",
        "report.md": to_markdown(facts),
        "report.html": render_html(facts),
        card: text,
    }
    for name, page in made.items():
        with atomic_write(folder / name) as out:
            out.write(writable(page))


def show(facts: Mapping[str, Any], console: Console) -> None:
    """The tables of the report in the terminal."""
    for sheet in tables(facts):
        if sheet.title not in _IN_TERMINAL:
            continue
        table = Table(title=sheet.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
        # reasons by source are for the page: a terminal has room for their sums only
        shown = [0, len(sheet.header) - 1] if sheet.header[0] == "reason" else range(len(sheet.header))
        for place in shown:
            table.add_column(escape(sheet.header[place]), justify="right" if place else "left", overflow="fold")
        for row in sheet.rows:
            table.add_row(*(escape(writable(cell(row[place]))) for place in shown))
        console.print(table, "")
    repairs = facts.get("repairs")
    lines = [
        "Repaired rows: " + ", ".join(f"{name} {count:,}" for name, count in repairs.items()) + "." if repairs else "",
        facts["mixture"]["decision"],
        selection_line(facts),
        summary(facts),
    ]
    for line in filter(None, lines):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
