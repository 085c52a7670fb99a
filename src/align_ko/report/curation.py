"""The report of a curation run: report.json, report.html, the dataset card and tables in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from align_ko.curation.facts import BeforeAfter, CurationFacts
from align_ko.records import atomic_write
from align_ko.report.curation_examples import dropped_card, duplicate_cards, kept_card, repair_card
from align_ko.report.curation_tables import by_source, reason_counts, selection_line, sum_counts, summary, tables
from align_ko.report.dataset_card import card_for
from align_ko.report.page import Bar, render
from align_ko.report.tables import cell, terminal_table, visible, writable

_IN_TERMINAL = ("Rows left after each stage", "Why rows were dropped", "Mixture", "Time")


def write_report(folder: Path, facts: CurationFacts) -> None:
    """Write report.json, report.html and README.md (the dataset card). All are rendered before the first is written."""
    card, text = card_for(folder, facts)
    pages = {
        "report.json": json.dumps(facts, ensure_ascii=False, indent=2, default=str) + "\n",
        "report.html": render_html(facts),
        card: text,
    }
    for name, page in pages.items():
        with atomic_write(folder / name) as out:
            out.write(writable(page))


def show(facts: CurationFacts, console: Console) -> None:
    """Print the most important tables."""
    for sheet in tables(facts):
        if sheet.title not in _IN_TERMINAL:
            continue
        table = terminal_table(sheet.title, (0, 0, 0, 1))
        # reasons by source do not fit: the terminal shows their sums
        columns = [0, len(sheet.header) - 1] if sheet.header[0] == "reason" else range(len(sheet.header))
        for place in columns:
            table.add_column(escape(sheet.header[place]), justify="right" if place else "left", overflow="fold")
        for row in sheet.rows:
            table.add_row(*(escape(writable(cell(row[place]))) for place in columns))
        console.print(table, "")
    repairs = ", ".join(f"{name} {count:,}" for name, count in facts["repairs"].items())
    lines = [f"Repaired rows: {repairs}."] * bool(repairs)
    for line in [*lines, facts["mixture"]["decision"], selection_line(facts), summary(facts)]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


# ------------------------------------------------------------------------------------------------------------ report.html


@dataclass(frozen=True)
class BarPair:
    name: str
    before: Bar
    after: Bar


@dataclass(frozen=True)
class FunnelBar:
    """One source's rows: `parts` are (stage, rows, share of those read)."""

    name: str
    read: int
    left: float
    parts: list[tuple[str, int, float]]


def render_html(facts: CurationFacts) -> str:
    """The whole page."""
    funnels, by_name = by_source(facts)
    total = sum_counts(list(funnels.values()))
    reasons = reason_counts(facts)
    read, most = max(facts["rows"]["read"], 1), max(reasons.values(), default=1)
    groups, steps = facts["mixture"]["groups"], facts["steps"]
    dropped = facts["dropped_examples"]
    bins = {"": facts["answer_characters"]} | facts["answer_characters_by_group"]
    return render(
        "curation.html.jinja",
        facts=facts,
        funnels={visible(name): row for name, row in funnels.items()},
        total=total,
        bars=[funnel_bar("전체", total), *(funnel_bar(visible(name), row) for name, row in funnels.items())],
        reasons=[
            (code, Bar(count, count / read, 100 * count / most), [counts.get(code, 0) for counts in by_name.values()])
            for code, count in reasons.items()
        ],
        widest=max((max(row["wanted"], row["available"]) for row in groups), default=0) or 1,
        lengths={
            group: bar_pairs([(row["characters"], row["before"], row["after"]) for row in rows]) for group, rows in bins.items()
        },
        levels=bar_pairs(before_after(facts["speech_levels"])),
        scores=bar_pairs(sorted(before_after(facts["scores"]))),
        repairs=[repair_card(example) for example in facts["repair_examples"]],
        near=[(pair["side"], pair["similarity"], *duplicate_cards(pair)) for pair in facts["near_duplicates"]["examples"]],
        kept=[kept_card(row) for row in facts["kept_examples"]],
        dropped=[
            (code, reasons.get(code, 0), [dropped_card(row) for row in dropped[code]])
            for code in sorted(dropped, key=lambda code: -reasons.get(code, 0))
        ],
        slowest=max((step["seconds"] for step in steps), default=0) or 1,
    )


def funnel_bar(name: str, row: Mapping[str, int]) -> FunnelBar:
    """One source's rows: taken, kept but not taken, and what each stage dropped.

    >>> funnel_bar("a", {"read": 10, "valid": 9, "length": 9, "unseen": 9, "taken": 5}).parts
    [('taken', 5, 0.5), ('spare', 4, 0.4), ('valid', 1, 0.1)]
    """
    stages = [stage for stage in row if stage != "taken"]
    taken, last, read = row["taken"], row[stages[-1]], max(row["read"], 1)
    counts = {"taken": min(taken, last), "spare": max(last - taken, 0)}
    counts |= {here: row[before] - row[here] for before, here in pairwise(stages)}
    return FunnelBar(name, row["read"], last / read, [(s, count, count / read) for s, count in counts.items() if count > 0])


def before_after(counts: BeforeAfter) -> list[tuple[str, int, int]]:
    """`[("polite", before, after), …]`."""
    names = dict.fromkeys([*counts["before"], *counts["after"]])
    return [(name, counts["before"].get(name, 0), counts["after"].get(name, 0)) for name in names]


def bar_pairs(rows: Sequence[tuple[str, int, int]]) -> list[BarPair]:
    """Before and after as shares of their own sums, so that their shapes can be compared.

    >>> bar_pairs([("0-9", 3, 0), ("10-49", 1, 2)])[1].after
    Bar(count=2, share=1.0, width=100.0)
    """
    befores, afters = sum(row[1] for row in rows) or 1, sum(row[2] for row in rows) or 1
    longest = max((max(row[1] / befores, row[2] / afters) for row in rows), default=0) or 1

    def bar(count: int, total: int) -> Bar:
        return Bar(count, count / total, round(100 * count / total / longest, 1))

    return [BarPair(name, bar(before, befores), bar(after, afters)) for name, before, after in rows]
