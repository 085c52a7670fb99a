"""The report of an evaluation: report.html, summary.md for a pull request, one line per model and decoding in the terminal.

Charts are drawn as HTML and SVG by the templates rather than by matplotlib: labels are Korean (a machine may have no font for
them, a browser has), follow dark and light, and stay text that can be read out, searched and copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape

from align_ko.errors import visible
from align_ko.evaluation.scores import GREEDY_SETTING, Result, ScoredAnswer, Summary
from align_ko.evaluation.suites import SuiteResult
from align_ko.records import write_text
from align_ko.report.korean import FAULT_NAMES
from align_ko.report.page import both, render
from align_ko.report.tables import (
    MEASURE_LABELS,
    MEASURES,
    NOT_JUDGED,
    markdown_table,
    measure_cells,
    measures_table,
    say,
    share_text,
    short,
    terminal_table,
    verdict_lines,
)


def show(summary: Summary, console: Console) -> None:
    """Print the table, the knobs of each decoding setting, and the outcome in a sentence."""
    results = sorted(summary["results"], key=lambda result: result["setting"] != GREEDY_SETTING)
    if not results:
        console.print("No held-out answers to show.", highlight=False)
        return
    table = measures_table("Held-out prompts (shares in %, chars: median)", ("model", 5), ("decod-\ning", 6))
    for number, result in enumerate(results):
        greedy = result["setting"] == GREEDY_SETTING
        last = greedy and number + 1 < len(results) and results[number + 1]["setting"] != GREEDY_SETTING
        cells = [visible(result["model"]), short(result["setting"]), *measure_cells(result, with_verdicts=False)]
        table.add_row(*map(escape, cells), style="bold" if greedy else None, end_section=last)
    console.print(table)
    for setting, decoding in dict.fromkeys((result["setting"], result["decoding"]) for result in results):
        if setting != GREEDY_SETTING:
            console.print(f"{short(setting)}: {decoding}", style="dim", markup=False, highlight=False)
    if suites := _suites(summary):
        title = "Suites, greedy (shares in %; demands: what rules check; all met: by answer)"
        columns = ("suite", "model", "prompts", "natural\nin form\n(95 %)", "demands\nmet", "all met\n(95 %)")
        suite_table = terminal_table(title, columns, (0, 2, 0, 0), names=2)
        for one in suites:
            suite_table.add_row(*map(escape, suite_cells(one)))
        console.print(suite_table)
    for line in closing(summary):
        say(console, visible(line))


def closing(summary: Summary) -> list[str]:
    """The outcome in plain words, and how precise the numbers are.

    `greedy: base 0 % → sft 55 % → dpo 88 % natural in form; gap to the best sampling setting 3 → 33 → 2 points.`, then what the
    answers say: `relevant: base 80 % → sft 98 % → dpo 98 %`, `llm: not judged`, `reader: not judged`.
    """
    greedy, gaps, lines = _greedy(summary), summary["decoding_gap"], []
    if greedy:
        sentence = "greedy: " + " → ".join(f"{r['model']} {100 * r['natural']:.0f} %" for r in greedy) + " natural in form"
        if gaps:
            all_models = [*gaps] == [result["model"] for result in greedy]
            points = {model: f"{gap['points']:.0f}".replace("-0", "0") for model, gap in gaps.items()}
            listed = " → ".join(value if all_models else f"{model} {value}" for model, value in points.items())
            sentence += f"; gap to the best sampling setting {listed} points"
            fewer = {gap["prompts"] for gap in gaps.values()}
            if fewer != {result["n"] for result in greedy}:
                sentence += f" (over the {'/'.join(map(str, sorted(fewer)))} prompts that both answered)"
        lines.append(sentence + ".")
        relevant = [f"{r['model']} {100 * r['relevant']:.0f} %" for r in greedy if r["relevant"] is not None]
        lines.append(f"relevant: {' → '.join(relevant) or NOT_JUDGED}")
        lines += verdict_lines((f"{r['model']} {short(r['setting'])}", r) for r in summary["results"])
    lines += [f"best checkpoint of {run}: {why}" for run, why in summary.get("best_checkpoints", {}).items()]
    if summary["small_sample"]:
        counts = "/".join(map(str, sorted({result["n"] for result in summary["results"]})))
        half = max(50 * (r["natural_high"] - r["natural_low"]) for r in summary["results"])
        precision = f"a share is known to within about ±{half:.0f} points (95 % Wilson interval in brackets)"
        lines.append(f"{counts} prompts is few: {precision}.")
    return lines


def _suites(summary: Summary) -> list[SuiteResult]:
    """Lines of suites under greedy decoding; none for a single suite without demands, which the first table is about."""
    greedy = [one for one in summary.get("suites", []) if one["setting"] == GREEDY_SETTING]
    return greedy if len({one["suite"] for one in greedy}) > 1 or any(one["demands"] for one in greedy) else []


def suite_cells(one: SuiteResult) -> list[str]:
    """`instructions`, `dpo`, `160`, `88 (81-92)`, `71 % of 214`, `58 (50-66)`; `-` without demands."""
    form = share_text(one["natural"], one["natural_low"], one["natural_high"])
    cells = [visible(one["suite"]), visible(one["model"]), str(one["n"]), form]
    if one["met"] is None or one["all_met"] is None:
        return [*cells, "-", "-"]
    whole = share_text(one["all_met"], one["all_met_low"], one["all_met_high"])
    return [*cells, f"{100 * one['met']:.0f} % of {one['demands']}", whole]


def _greedy(summary: Summary) -> list[Result]:
    return [result for result in summary["results"] if result["setting"] == GREEDY_SETTING]


BINS = 64  # dots whose lengths are in the same bin are stacked
STRIP_HEIGHT = 76  # pixels of one row of dots
_STEP = 7.0  # pixels between two stacked dots, less where the stack would not fit


class PromptCard(NamedTuple):
    """One prompt (of `row`) with every model's answer under every setting."""

    row: ScoredAnswer
    answers: dict[tuple[str, str], ScoredAnswer]  # by model and setting


def write_html(
    path: str | Path, rows: Iterable[ScoredAnswer], summary: Summary, about: Mapping[str, str] | None = None
) -> None:
    write_text(path, render_html(rows, summary, about))


def markdown_summary(summary: Summary) -> str:
    """summary.md: the outcome in words, every line of measures and of suites, for a pull request."""
    results = sorted(summary["results"], key=lambda result: result["setting"] != GREEDY_SETTING)
    lines = [[result["model"], short(result["setting"]), str(result["n"]), *measure_cells(result)] for result in results]
    tables = [markdown_table(["model", "decoding", "prompts", *MEASURE_LABELS], lines)] if lines else []
    if suites := _suites(summary):
        header = ["suite", "model", "prompts", "natural in form (95 %)", "demands met", "all met (95 %)"]
        tables.append(markdown_table(header, map(suite_cells, suites)))
    return render("summary.md.jinja", outcome=closing(summary), tables=tables)


def render_html(scored_rows: Iterable[ScoredAnswer], summary: Summary, about: Mapping[str, str] | None = None) -> str:
    """The whole page. `about`: further facts for its end, e.g. {"모델 dpo": "outputs/quickstart/dpo"}."""
    rows = list(scored_rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    decodings = sorted({row["setting"]: row["decoding"] for row in rows}.items(), key=lambda one: one[0] != GREEDY_SETTING)
    cards: dict[str, dict[str, PromptCard]] = {"heldout": {}, "probe": {}}  # kind → prompt id → card
    for row in rows:
        card = cards[row["kind"]].setdefault(row["prompt_id"], PromptCard(row, {}))
        card.answers[row["model"], row["setting"]] = row
    codes = {fault["code"] for row in rows if row["kind"] == "heldout" for fault in row["faults"]}
    return render(
        "evaluation.html.jinja",
        models=models,
        colour={model: f"m{place % 6}" for place, model in enumerate(models)},
        decodings=dict(decodings),
        greedy=GREEDY_SETTING,
        measures=MEASURES,
        summary=summary,
        headline=_greedy(summary),
        suites=_suites(summary),
        not_judged=both("판정하지 않음", NOT_JUDGED),
        fault_bars=fault_bars(_greedy(summary)),
        strips=length_strips(rows),
        strip_height=STRIP_HEIGHT,
        probes=list(cards["probe"].values()),
        cards=list(cards["heldout"].values()),
        codes=[code for code in FAULT_NAMES if code in codes],
        about=about or {},
    )


def fault_bars(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Fault → model → share of its answers, the worst first; faults that no model shows are left out."""
    codes = list(results[0]["faults"]) if results else []
    shares = {code: {result["model"]: result["faults"][code] for result in results} for code in codes}
    worst = sorted(shares, key=lambda code: -max(shares[code].values()))
    return {code: shares[code] for code in worst if any(shares[code].values())}


class Strip(NamedTuple):
    """The lengths of one model's answers, without a model those of the references; x in percent, y in pixels."""

    model: str | None
    median: float
    median_x: float
    dots: list[tuple[float, float, bool]]  # x, y, natural


def length_strips(rows: Iterable[ScoredAnswer]) -> tuple[list[tuple[float, int]], list[Strip]]:
    """Ticks (x, characters), and one strip of dots per model (held-out, greedy) and one for the references."""
    lengths: dict[str | None, list[tuple[int, bool]]] = {}
    references: dict[str, int] = {}
    for row in rows:
        if row["kind"] == "heldout" and row["setting"] == GREEDY_SETTING:
            lengths.setdefault(row["model"], []).append((len(row["response"]), row["natural"]))
            if row["reference"]:
                references[row["prompt_id"]] = len(row["reference"])
    if references:
        lengths[None] = [(length, True) for length in references.values()]
    longest = max((length for values in lengths.values() for length, _ in values), default=0)
    # about five ticks at round numbers: 430 → 100, 1900 → 500
    step = next(size for power in count(1) for size in (10**power, 2 * 10**power, 5 * 10**power) if longest <= 5 * size)
    top = step * max(1, -(-longest // step))
    ticks = [(100 * value / top, value) for value in range(0, top + 1, step)]
    return ticks, [_strip(model, values, top) for model, values in lengths.items()]


def _strip(model: str | None, values: Sequence[tuple[int, bool]], top: int) -> Strip:
    bins: dict[int, list[tuple[int, bool]]] = {}
    for length, natural in sorted(values):
        bins.setdefault(length * BINS // top, []).append((length, natural))
    step = min(_STEP, (STRIP_HEIGHT - 10) / max(map(len, bins.values())))
    middle = median(length for length, _ in values)
    dots = [
        # the first on the line, the others above and below it in turn
        (round(100 * length / top, 2), round(STRIP_HEIGHT / 2 + step * ((n + 1) // 2) * (-1) ** n, 1), natural)
        for stack in bins.values()
        for n, (length, natural) in enumerate(stack)
    ]
    return Strip(model, middle, round(100 * middle / top, 2), dots)
