"""Measures of several models side by side: in the terminal, as Markdown, and answers for a reader."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from align_ko.evaluation.scores import GREEDY_SETTING
from align_ko.records import last_user_text, read_jsonl
from align_ko.report.evaluation_table import COLUMNS

HEADS = ("natural %", "loops", "filler", "unfin.", "chars", "distinct", "collapse", "relevant", "chrF", "NLL")
Line = tuple[str, Mapping[str, Any], str]  # name, measures, a last word


def cells(measures: Mapping[str, Any]) -> list[str]:
    """The ten measures as text, in the order of HEADS: shares in %, collapse as a share, NLL in nats per token."""

    def percent(name: str) -> str:
        return f"{100 * measures[name]:.1f}"

    interval = ""
    if "natural_low" in measures:
        interval = f" ({100 * measures['natural_low']:.0f}-{100 * measures['natural_high']:.0f})"
    return [
        percent("natural") + interval,
        *(percent(name) for name in ("loops", "filler", "unfinished")),
        f"{measures['median_characters']:,.0f}",
        percent("distinct"),
        f"{measures['collapse']:.3f}",
        percent("relevant"),
        "-" if measures["chrf"] is None else f"{measures['chrf']:.1f}",
        "-" if measures["reference_nll"] is None else f"{measures['reference_nll']:.3f}",
    ]


def markdown(lines: Iterable[Line], first: str = "model", last: str = "") -> str:
    """A Markdown table; the column `last` only where it has a name."""
    heads = [first, *HEADS, *([last] if last else [])]
    rows = [[name, *cells(measures), *([word] if last else [])] for name, measures, word in lines]
    rule = ["---", *["---:"] * len(HEADS), *(["---"] if last else [])]
    return table_lines([heads, rule, *rows])


def table_lines(rows: Iterable[Sequence[str]]) -> str:
    """Rows of a Markdown table, its heads and its rule among them; a bar in a cell does not end it."""
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def show(lines: Iterable[Line], title: str, console: Console, last: str = "") -> None:
    """The same table in the terminal, of 80 columns too; last words below it."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", overflow="fold", min_width=5)
    for head in COLUMNS:
        table.add_column(head, justify="right", no_wrap=True)
    notes = []
    for name, measures, word in lines:
        table.add_row(name, *cells(measures))
        notes += [f"{name}: {word}"] if last and word else []
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True, markup=False, highlight=False)


def answers_to_read(responses: Path, model: str, count: int = 20, seed: int = 0) -> str:
    """`count` random greedy answers of one model as Markdown, the same ones for the same file and seed."""
    rows = [
        row
        for row in read_jsonl(responses)
        if (row["model"], row["setting"]) == (model, GREEDY_SETTING) and row["kind"] == "heldout"
    ]
    drawn = random.Random(seed).sample(rows, min(count, len(rows)))
    return "".join(_answer(number, row) for number, row in enumerate(drawn, 1))


def _answer(number: int, row: Mapping[str, Any]) -> str:
    codes = ", ".join(dict.fromkeys(fault["code"] for fault in row["faults"]))
    said = row["response"].strip().replace("\n", "\n> ")
    return f"**{number}. {_line(last_user_text(row['prompt']))}** ({codes or 'natural'})\n\n> {said}\n\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def spread(values: Sequence[float]) -> str:
    """`84.0 (82.4 to 86.3)`, or one number for one value."""
    mean = sum(values) / len(values)
    return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ({min(values):.1f} to {max(values):.1f})"
