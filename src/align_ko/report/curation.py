"""The report of a curation run: report.json, report.html, tables in the terminal, and README.md, the dataset card that tells
`datasets` and the hub what the folder contains: train and eval, not rejected.jsonl and the reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml
from rich.console import Console
from rich.markup import escape

from align_ko import reasons
from align_ko.commands import command_line
from align_ko.curation.facts import CurationFacts
from align_ko.errors import visible, writable
from align_ko.records import write_text
from align_ko.report.curation_examples import chat, dropped_card, duplicate_chats, repair_texts
from align_ko.report.page import Bar, bars, render
from align_ko.report.tables import cell, clip, say, terminal_table

MAX_SOURCES = 15  # with a line and a column of their own; a file whose rows name their own source may contain thousands
MARK = "<!-- align_ko writes this file anew with the data, all but the part between the licence marks. -->"
LICENCE = ("<!-- licence: yours to fill in; kept when the file is written anew -->", "<!-- end of licence -->")

_IN_TERMINAL = ("Rows left after each stage", "Why rows were dropped", "Mixture", "Time")
_SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7}
_LICENCE_KEYS = ("license", "license_name", "license_link")  # as the hub spells them


def write_report(folder: Path, facts: CurationFacts) -> None:
    """Write report.json, report.html and README.md (the dataset card). All are rendered before the first is written."""
    readme = folder / "README.md"
    earlier = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    is_ours = not earlier or MARK in earlier  # another README.md is left alone
    pages = {
        "report.json": json.dumps(facts, ensure_ascii=False, indent=2, default=str) + "\n",
        "report.html": render_html(facts),
        "README.md" if is_ours else "dataset_card.md": dataset_card(facts, folder.resolve().name, earlier if is_ours else ""),
    }
    for name, page in pages.items():
        write_text(folder / name, writable(page))


def show(facts: CurationFacts, console: Console) -> None:
    for title, header, rows in tables(facts):
        if title not in _IN_TERMINAL:
            continue
        # reasons by source do not fit: the terminal shows their sums
        columns = [0, len(header) - 1] if header[0] == "reason" else range(len(header))
        table = terminal_table(title, [header[place] for place in columns], (0, 0, 0, 1))
        for row in rows:
            table.add_row(*(escape(visible(cell(row[place]))) for place in columns))
        console.print(table, "")
    repairs = ", ".join(f"{name} {count:,}" for name, count in facts["repairs"].items())
    lines = [f"Repaired rows: {repairs}."] * bool(repairs)
    for line in [*lines, facts["mixture"]["decision"], selection_line(facts), summary(facts)]:
        say(console, line)


def render_html(facts: CurationFacts) -> str:
    funnels, reasons_by_source = by_source(facts)
    reasons = reason_counts(facts)
    examples = sorted(facts["dropped_examples"].items(), key=lambda item: (-reasons.get(item[0], 0), item[0]))
    bins = {"": facts["answer_characters"]} | facts["answer_characters_by_group"]
    return render(
        "curation.html.jinja",
        facts=facts,
        funnels=funnels,
        total=sum_counts(list(funnels.values())),
        reasons=reasons,
        reasons_by_source=reasons_by_source,
        lengths={
            group: bar_pairs(*({row["characters"]: row[side] for row in rows} for side in ("before", "after")))
            for group, rows in bins.items()
        },
        levels=bar_pairs(facts["speech_levels"]["before"], facts["speech_levels"]["after"]),
        scores=bar_pairs(*(dict(sorted(facts["scores"][side].items())) for side in ("before", "after"))),
        repairs=[(example["repair"], *repair_texts(example)) for example in facts["repair_examples"]],
        near=[(pair, *duplicate_chats(pair)) for pair in facts["near_duplicates"]["examples"]],
        kept=[(row, chat(row["messages"])) for row in facts["kept_examples"]],
        dropped={code: [dropped_card(row) for row in rows] for code, rows in examples},
    )


def bar_pairs(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, list[Bar]]:
    """Name → its bars before and after, as shares of their own sums, so that their shapes can be compared."""
    names = dict.fromkeys([*before, *after])
    sides = [bars({name: counts.get(name, 0) for name in names}) for counts in (before, after)]
    longest = max((bar.share for side in sides for bar in side.values()), default=0) or 1
    return {name: [replace(side[name], width=round(100 * side[name].share / longest, 1)) for side in sides] for name in names}


class Sheet(NamedTuple):
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
    steps = [[step["step"], step["rows"], step["seconds"], step["rows_per_second"]] for step in facts["steps"]]
    left = [[name, *row.values()] for name, row in funnels.items()] + [["all", *total.values()]]
    groups = [[*list(row.values())[:-1], f"{row['share']:.1%}"] for row in facts["mixture"]["groups"]]
    sheets = [
        Sheet("Rows left after each stage", ["source", *total], left),
        Sheet("Why rows were dropped", ["reason", *reasons, "all"], dropped),
        Sheet("Mixture", ["group", "wanted", "available", "taken", "share"], groups),
        Sheet("Length of answers", ["characters", "before", "after"], [[*row.values()] for row in facts["answer_characters"]]),
        Sheet("Near-duplicates dropped", ["similar in", "rows"], list(near.items())),
        Sheet("Repaired rows", ["repair", "rows"], list(facts["repairs"].items())),
        Sheet("Personal data masked", ["kind", "times"], list(facts["personal_data"]["masked"].items())),
        Sheet("Time", ["step", "rows", "seconds", "rows/s"], steps),
    ]
    return [sheet for sheet in sheets if sheet.rows]


def by_source(facts: CurationFacts) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """(funnel, reasons) per source; of many sources the largest, the rest summed up under `25 more`."""
    funnels = facts["funnel"]
    largest = set(sorted(funnels, key=lambda name: -funnels[name]["read"])[:MAX_SOURCES])
    others = reasons.MORE_SOURCES.format(len(funnels) - MAX_SOURCES)
    labels: dict[str, list[str]] = {}  # shown name → its sources
    for name in sorted(funnels, key=lambda name: name not in largest):
        labels.setdefault(clip(name) if name in largest else others, []).append(name)
    return (
        {label: sum_counts([funnels[name] for name in names]) for label, names in labels.items()},
        {label: sum_counts([facts["reasons"].get(name, {}) for name in names]) for label, names in labels.items()},
    )


def sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The counts of all, key by key: `{"read": 3, "taken": 1}`, `{"read": 4}` → `{"read": 7, "taken": 1}`"""
    keys = dict.fromkeys(key for count in counts for key in count)
    return {key: sum(count.get(key, 0) for count in counts) for key in keys}


def reason_counts(facts: CurationFacts) -> dict[str, int]:
    """Rows dropped for each reason, the most frequent first."""
    counts = sum_counts(list(facts["reasons"].values()))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def dataset_card(facts: CurationFacts, name: str, earlier: str = "") -> str:
    """The card. `earlier`: the card it replaces, whose licence is kept."""
    start, end = earlier.find(LICENCE[0]), earlier.find(LICENCE[1])
    keys = {key: value for key, value in _read_front_matter(earlier).items() if key in _LICENCE_KEYS}
    known = keys if keys.get("license", "unknown") != "unknown" else {}
    splits = {split: facts["rows"][split] for split in ("train", "eval", "preferences")}
    return render(
        "dataset_card.md.jinja",
        facts=facts,
        name=name,
        mark=MARK,
        command=command_line("build_sft_data", facts["recipe"] or ""),
        summary=summary(facts),
        selection=selection_line(facts),
        about=yaml.safe_dump({"pretty_name": name}, allow_unicode=True),
        licence_keys=yaml.safe_dump(known, allow_unicode=True, sort_keys=False) if known else "",
        splits=splits,
        size=size_category(sum(splits.values())),
        licence=earlier[start : end + len(LICENCE[1])] if 0 <= start < end else "",
        licence_marks=LICENCE,
        sources=[[source, row["taken"], "FILL IN"] for source, row in by_source(facts)[0].items() if row["taken"]],
        sheets=tables(facts),
    )


def size_category(rows: int) -> str:
    """The hub's word for the size: 950 → n<1K, 1000 → 1K<n<10K"""
    return next((name for name, limit in _SIZES.items() if rows < limit), "10M<n<100M")


def _read_front_matter(card: str) -> dict[str, object]:
    if not card.startswith("---\n") or "\n---" not in card[4:]:
        return {}
    try:
        front = yaml.safe_load(card[4 : card.index("\n---", 4)])
    except yaml.YAMLError:  # edited by hand, and wrong
        return {}
    return front if isinstance(front, dict) else {}
