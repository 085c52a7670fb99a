"""The report on preference pairs, read before training on them: report.json, report.html and tables in the terminal."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from align_ko.errors import visible
from align_ko.korean import assess
from align_ko.preferences.build import PairSummary
from align_ko.records import Assessment, PreferencePair, last_user_text, write_json, write_text
from align_ko.report.korean import load_yaml
from align_ko.report.page import bars, render

EXAMPLES = 30
FEW_PAIRS = 1000
LENGTH_GAP = 0.2
OFF_POLICY = 0.5
GENERIC = 0.03


class Advice(NamedTuple):
    """A field of dpo.yaml's `training` with the numbers and the rule behind it, in English and in Korean."""

    key: str
    value: str
    because: str
    rule: str
    because_ko: str
    rule_ko: str


def write_report(folder: Path, summary: PairSummary, pairs: Sequence[PreferencePair], recipe: str = "") -> None:
    """Write report.json and report.html; `pairs` are those to draw examples from."""
    write_json(folder / "report.json", {**summary, "advice": [advice._asdict() for advice in advise(summary)]})
    write_text(folder / "report.html", render_html(summary, examples(pairs), recipe))


def show(summary: PairSummary, pairs: Sequence[PreferencePair], console: Console) -> None:
    """Print the numbers as a table, the advice, and one pair to read."""
    table = Table(title=f"{summary['pairs']} pairs from {summary['prompts']} prompts", show_header=False)
    for key in ("origin", "chosen_by", "rejected_for", "median_characters", "chosen", "dropped"):
        table.add_row(key, ", ".join(f"{escape(visible(name))} {count}" for name, count in summary[key].items()))
    console.print(table)
    for advice in advise(summary):
        console.print(f"advice {advice.key}: {advice.value}  ({advice.because})", markup=False, highlight=False)
    pair = pairs[0]
    for name, messages, style in (("질문", pair.prompt, None), ("선택", pair.chosen, "green"), ("거부", pair.rejected, "red")):
        console.print(f"{name}   {visible(messages[-1]['content'])}", style=style, markup=False)


def examples(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """Random pairs to read, the same ones for the same pairs."""
    ordered = sorted(pairs, key=lambda pair: pair.id)
    return random.Random(len(ordered)).sample(ordered, min(EXAMPLES, len(ordered)))


def advise(summary: PairSummary) -> list[Advice]:
    """Which loss the pairs call for: `sigmoid_norm`, the ablation's winner (docs/experiments.md), but `sigmoid` with `ld_alpha`
    where chosen sides are more than a fifth shorter on average; the SFT term below 1,000 pairs or with a collapse above .03;
    without it WPO's `use_weighting` where the model did not write more than half of the chosen sides."""
    pairs, lengths, gap = summary["pairs"], summary["mean_characters"], summary["length_gap_share"]
    collapse, curated = summary["chosen"]["collapse"], summary["off_policy_share"]
    with_sft, shorter = pairs < FEW_PAIRS or collapse > GENERIC, gap < -LENGTH_GAP
    loss = "sigmoid" if shorter else "sigmoid_norm"
    values = {"loss_type": f"[{loss}, sft]" if with_sft else f"[{loss}]"}
    if with_sft:
        values["loss_weights"] = "[1.0, 1.0]"
    values |= {"ld_alpha": "0.5"} if shorter else {"beta": "5.0"}
    if curated > OFF_POLICY and not with_sft:  # TRL cannot weigh beside the sft term (loss_problems)
        values["use_weighting"] = "true"
    chosen, rejected = lengths["chosen"], lengths["rejected"]
    numbers = {
        "pairs": pairs, "collapse": collapse, "curated": curated, "few": FEW_PAIRS, "generic": GENERIC, "gap": LENGTH_GAP,
        "off_policy": OFF_POLICY, "length_ko": f"평균 길이는 선택 {chosen:.0f}자, 거부 {rejected:.0f}자입니다.",
        "length": f"chosen {chosen:.0f}, rejected {rejected:.0f} characters on average ({gap:+.0%})",
    }  # fmt: skip
    texts = load_yaml("advice.yaml")
    return [
        Advice(key, value, **{name: text.format(**numbers) for name, text in texts[key].items()})
        for key, value in values.items()
    ]


def render_html(summary: PairSummary, pairs: Sequence[PreferencePair], recipe: str = "") -> str:
    """The whole page. `pairs`: those to read."""
    return render(
        "pairs.html.jinja",
        summary=summary,
        advice=advise(summary),
        charts={name: bars(summary[name]) for name in ("origin", "rejected_for", "chosen_by", "rejected_by", "dropped")},
        by_origin={(row["origin"], row["fault"]): row["pairs"] for row in summary["origin_and_fault"]},
        gaps=bars({str(low): count for low, count in summary["length_gaps"]}),
        cards=[_assessed(pair) for pair in pairs],
        recipe=recipe,
    )


def _assessed(pair: PreferencePair) -> tuple[PreferencePair, Assessment, Assessment]:
    question, chosen, rejected = last_user_text(pair.prompt), pair.chosen[0]["content"], pair.rejected[0]["content"]
    return pair, assess(chosen, question), assess(rejected, question, pair.rejected_finished)
