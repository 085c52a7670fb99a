"""The evaluation in the terminal: one line per model and decoding, and one sentence that says what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from align_ko.evaluation.scores import GREEDY_SETTING
from align_ko.report.tables import short

COLUMNS = (
    "natural\n(95 %)", "loops", "fil-\nler", "un-\nfin-\nished", "chars",
    "dis-\ntinct", "col-\nlapse", "rele-\nvant", "chrF", "NLL",
)  # fmt: skip


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Print the table, what each decoding setting means, and the closing sentence."""
    results = sorted(summary["results"], key=lambda result: result["setting"] != GREEDY_SETTING)
    if not results:
        console.print("No held-out answers to show.", highlight=False)
        return
    table = Table(
        title="Held-out prompts (shares in %, chars: median)", title_justify="left",
        box=SIMPLE_HEAD, padding=0, show_edge=False,  # the box puts one space between columns: the line fits 80
    )  # fmt: skip
    table.add_column("model", overflow="fold", min_width=5)
    table.add_column("decod-\ning", overflow="fold", min_width=6)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for number, result in enumerate(results):
        greedy = result["setting"] == GREEDY_SETTING
        last = greedy and number + 1 < len(results) and results[number + 1]["setting"] != GREEDY_SETTING
        table.add_row(*map(escape, _cells(result)), style="bold" if greedy else None, end_section=last)
    console.print(table)
    for setting, decoding in dict.fromkeys((r["setting"], r["decoding"]) for r in results):
        if setting != GREEDY_SETTING:
            console.print(f"{short(setting)}: {decoding}", style="dim", markup=False, highlight=False)
    for line in closing(summary):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _cells(result: Mapping[str, Any]) -> list[str]:
    low, high = f"{100 * result['natural_low']:.0f}", f"{100 * result['natural_high']:.0f}"
    shares = [_percent(result[name]) for name in ("loops", "filler", "unfinished")]
    return [
        result["model"],
        short(result["setting"]),
        f"{_percent(result['natural'])} ({low}-{high})",
        *shares,
        f"{result['median_characters']:,.0f}",
        _percent(result["distinct"]),
        f"{result['collapse']:.2f}",
        _percent(result["relevant"]),
        "-" if result["chrf"] is None else f"{result['chrf']:.1f}",
        "-" if result["reference_nll"] is None else f"{result['reference_nll']:.2f}",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def closing(summary: Mapping[str, Any]) -> list[str]:
    """The outcome in plain words, and how much weight the numbers bear.

    `greedy: base 0 % → sft 55 % → dpo 88 % natural; gap to the best sampling setting 3 → 33 → 2 points.`
    """
    greedy = [result for result in summary["results"] if result["setting"] == GREEDY_SETTING]
    gaps: Mapping[str, Any] = summary["decoding_gap"]
    lines = []
    if greedy:
        sentence = "greedy: " + " → ".join(f"{r['model']} {_percent(r['natural'])} %" for r in greedy) + " natural"
        if gaps:
            named = [(model, f"{gap['points']:.0f}".replace("-0", "0")) for model, gap in gaps.items()]
            whole = [model for model, _ in named] == [result["model"] for result in greedy]
            told = " → ".join(points if whole else f"{model} {points}" for model, points in named)
            sentence += f"; gap to the best sampling setting {told} points"
            fewer = {gap["prompts"] for gap in gaps.values()}
            if fewer != {result["n"] for result in greedy}:
                sentence += f" (over the {'/'.join(map(str, sorted(fewer)))} prompts that both answered)"
        lines.append(sentence + ".")
    if summary["small_sample"]:
        counts = "/".join(str(n) for n in sorted({result["n"] for result in summary["results"]}))
        half = max(50 * (r["natural_high"] - r["natural_low"]) for r in summary["results"])
        lines.append(
            f"{counts} prompts is few: a share is known to within about ±{half:.0f} points (95 % Wilson interval in brackets)."
        )
    return lines
