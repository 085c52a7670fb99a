"""The report of an evaluation: report.html, one line per model and decoding in the terminal, and the grid of a decoding gap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from align_ko.evaluation.scores import GREEDY_SETTING, SPLITS, Result, ScoredAnswer, Summary
from align_ko.recipe import GridArgs
from align_ko.records import Fault, Message, atomic_write, last_user_text
from align_ko.report.marked_text import MarkedAnswer, earlier_turns
from align_ko.report.page import FAULT_NAMES, render
from align_ko.report.plots import fault_bars, length_strips, natural_bars
from align_ko.report.tables import MEASURES, markdown_table, measure_cells, measures_table, short


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
        cells = [result["model"], short(result["setting"]), *measure_cells(result)]
        table.add_row(*map(escape, cells), style="bold" if greedy else None, end_section=last)
    console.print(table)
    for setting, decoding in dict.fromkeys((result["setting"], result["decoding"]) for result in results):
        if setting != GREEDY_SETTING:
            console.print(f"{short(setting)}: {decoding}", style="dim", markup=False, highlight=False)
    for line in closing(summary):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def closing(summary: Summary) -> list[str]:
    """The outcome in plain words, and how precise the numbers are.

    `greedy: base 0 % → sft 55 % → dpo 88 % natural; gap to the best sampling setting 3 → 33 → 2 points.`
    """
    greedy, gaps, lines = _greedy(summary), summary["decoding_gap"], []
    if greedy:
        sentence = "greedy: " + " → ".join(f"{r['model']} {100 * r['natural']:.0f} %" for r in greedy) + " natural"
        if gaps:
            points = [(model, f"{gap['points']:.0f}".replace("-0", "0")) for model, gap in gaps.items()]
            all_models = [model for model, _ in points] == [result["model"] for result in greedy]
            listed = " → ".join(value if all_models else f"{model} {value}" for model, value in points)
            sentence += f"; gap to the best sampling setting {listed} points"
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


def _greedy(summary: Summary) -> list[Result]:
    return [result for result in summary["results"] if result["setting"] == GREEDY_SETTING]


def grid_table(summary: Summary, grid: GridArgs) -> str:
    """Markdown: one table per model, a row per temperature and penalty, a column per top_p, natural share in %.

    The best cell is bold. Below: greedy, and the gap in points, plain and with the cell chosen on other prompts
    (`cross_fitted` of each `decoding_gap`, see `cross_fitted_gap`).
    """
    shares = {(r["model"], r["setting"]): (r["natural"], r["n"]) for r in summary["results"]}
    text = ""
    for model, gap in summary["decoding_gap"].items():
        rows = []
        for t, r in product(grid.temperature, grid.repetition_penalty):
            names = [f"t{t:g}-p{p:g}-r{r:g}" for p in grid.top_p]
            cells = [(name, f"{100 * shares[model, name][0]:.1f}") for name in names]
            rows.append([f"{t:g}", f"{r:g}", *(f"**{cell}**" if name == gap["setting"] else cell for name, cell in cells)])
        header = ["temperature", "repetition_penalty", *(f"top_p {p:g}" for p in grid.top_p)]
        greedy, n = shares[model, GREEDY_SETTING]
        text += f"## {model}\n\n{markdown_table(header, rows, escape=str)}\n"
        text += f"greedy {100 * greedy:.1f} %, best cell {gap['setting']} {100 * gap['sampling']:.1f} %: "
        text += f"gap **{gap['points']:.1f} points** over {n} prompts"
        if "cross_fitted" in gap:  # one prompt has no other
            text += f", **{gap['cross_fitted']:.1f}** with the cell chosen on other prompts"
        text += ".\n\n"
    return text + (
        "Natural share in %. The best cell is chosen after the fact, and of settings that are all just as good as greedy one "
        "leads by chance. So the second gap: the cell that is best on one half of the prompts against greedy on the other "
        f"half, the mean of {SPLITS:,} splits.\n"
    )


# ------------------------------------------------------------------------------------------------------------ report.html


@dataclass(frozen=True)
class ModelAnswer:
    answer: MarkedAnswer
    natural: bool
    relevant: bool
    tokens: int


@dataclass(frozen=True)
class PromptCard:
    """One prompt with every model's answer under every setting."""

    group: str
    topic: str
    earlier: Sequence[Message]
    question: str
    reference: str | None
    answers: dict[tuple[str, str], ModelAnswer]  # by model and setting


def write_html(
    path: str | Path, rows: Iterable[ScoredAnswer], summary: Summary, about: Mapping[str, str] | None = None
) -> None:
    page = render_html(rows, summary, about)
    with atomic_write(path) as out:
        out.write(page)


def render_html(scored_rows: Iterable[ScoredAnswer], summary: Summary, about: Mapping[str, str] | None = None) -> str:
    """The whole page. `about`: further facts for its end, e.g. {"모델 dpo": "outputs/quickstart/dpo"}."""
    rows = list(scored_rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    decodings = sorted({row["setting"]: row["decoding"] for row in rows}.items(), key=lambda one: one[0] != GREEDY_SETTING)
    held_out, probes = ([row for row in rows if row["kind"] == kind] for kind in ("heldout", "probe"))
    cards = _cards(held_out)
    return render(
        "evaluation.html.jinja",
        models=models,
        colour={model: f"m{place % 6}" for place, model in enumerate(models)},
        decodings=dict(decodings),
        greedy=GREEDY_SETTING,
        measures=MEASURES,
        results=summary["results"],
        headline=_greedy(summary),
        gaps=summary["decoding_gap"],
        small_sample=summary["small_sample"],
        natural_bars=natural_bars(summary),
        fault_bars=fault_bars(_greedy(summary)),
        lengths=length_strips(rows),
        probes=_cards(probes),
        cards=cards,
        groups=list(dict.fromkeys(card.group for card in cards if card.group)),
        codes=[code for code in FAULT_NAMES if any(fault["code"] == code for row in held_out for fault in row["faults"])],
        about=about or {},
    )


def _cards(rows: Iterable[ScoredAnswer]) -> list[PromptCard]:
    """One card per prompt, in the order of the rows."""
    cards: dict[str, PromptCard] = {}
    for row in rows:
        prompt = row["prompt"]
        card = cards.setdefault(
            row["prompt_id"],
            PromptCard(row["group"], row["topic"], earlier_turns(prompt), last_user_text(prompt), row["reference"], {}),
        )
        answer = MarkedAnswer.of(row["response"], [Fault(**fault) for fault in row["faults"]], row["finished"])
        card.answers[row["model"], row["setting"]] = ModelAnswer(answer, row["natural"], row["relevant"], row["tokens"])
    return list(cards.values())
