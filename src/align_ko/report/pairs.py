"""What the pairs look like, before anything is trained on them: report.json, report.md, report.html and a terminal table."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from align_ko.korean import measure
from align_ko.preferences.guards import main_fault
from align_ko.records import PreferencePair, atomic_write, last_user_text, write_json
from align_ko.report.pairs_advice import advise

EXAMPLES = 30
_STEP = 0.2  # of the length gap's histogram


def split(pairs: list[PreferencePair], eval_share: float) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Train and eval by the pairs' hashes, at least one pair in eval; pairs of one prompt stay on one side."""
    ordered = sorted(pairs, key=lambda pair: pair.id)
    apart = {str(pair.prompt) for pair in ordered[: max(1, round(len(ordered) * eval_share))]}
    train = [pair for pair in ordered if str(pair.prompt) not in apart]
    return train or ordered, [pair for pair in ordered if str(pair.prompt) in apart]


def gap_of(pair: PreferencePair) -> float:
    """How much longer the chosen side is, as a share of the longer one, from -1 to 1.

    A chosen side of 90 characters beside 120 → -0.25.
    """
    chosen, rejected = len(pair.chosen[0]["content"]), len(pair.rejected[0]["content"])
    return (chosen - rejected) / max(chosen, rejected, 1)


def summarize(pairs: list[PreferencePair], dropped: Counter[str], prompts: int) -> dict[str, Any]:
    """The numbers of the report."""
    chosen, rejected = ([side[0]["content"] for side in sides] for sides in _sides(pairs))
    lengths = {"chosen": list(map(len, chosen)), "rejected": list(map(len, rejected))}
    means = {side: round(mean(values), 1) for side, values in lengths.items()}
    # the SFT term and the guard see prompts, so the measures do: two pairs of one prompt are one voice
    measures = measure([last_user_text(pair.prompt) for pair in pairs], chosen)
    gaps = Counter(min(int((gap_of(pair) + 1) / _STEP + 1e-9), round(2 / _STEP) - 1) for pair in pairs)
    summary: dict[str, Any] = {
        "prompts": prompts,
        "pairs": len(pairs),
        "origin": dict(Counter(pair.origin for pair in pairs).most_common()),
        "rejected_for": dict(Counter(map(main_fault, pairs)).most_common()),
        "rejected_faults": dict(Counter(fault for pair in pairs for fault in pair.rejected_faults).most_common()),
        "origin_and_fault": [
            {"origin": origin, "fault": fault, "pairs": count}
            for (origin, fault), count in Counter((pair.origin, main_fault(pair)) for pair in pairs).most_common()
        ],
        "chosen_by": dict(Counter(pair.chosen_by for pair in pairs).most_common()),
        "rejected_by": dict(Counter(pair.rejected_by for pair in pairs).most_common()),
        "rejected_unfinished": sum(not pair.rejected_finished for pair in pairs),
        "median_characters": {side: median(values) for side, values in lengths.items()},
        "mean_characters": means,
        "mean_length_gap": round(means["chosen"] - means["rejected"], 1),
        "length_gap_share": round(means["chosen"] / max(means["rejected"], 1) - 1, 4),
        "length_gaps": [[round(-1 + _STEP * place, 1), gaps.get(place, 0)] for place in range(round(2 / _STEP))],
        "off_policy_share": round(sum(pair.chosen_by == "reference" for pair in pairs) / len(pairs), 4),
        "mean_scores": {
            "chosen": round(mean(pair.chosen_score for pair in pairs), 3),
            "rejected": round(mean(pair.rejected_score for pair in pairs), 3),
        },
        "chosen": {name: round(value, 4) for name, value in asdict(measures).items()},
        "dropped": dict(dropped.most_common()),
    }
    return {**summary, "advice": advise(summary)}


def _sides(pairs: list[PreferencePair]) -> Iterable[list[Any]]:
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def examples(pairs: list[PreferencePair], count: int = EXAMPLES) -> list[PreferencePair]:
    """Random pairs to read, the same ones for the same pairs."""
    ordered = sorted(pairs, key=lambda pair: pair.id)
    return random.Random(len(ordered)).sample(ordered, min(count, len(ordered)))


def write_report(
    folder: Path, pairs: list[PreferencePair], dropped: Counter[str], prompts: int, recipe: str = ""
) -> dict[str, Any]:
    """Write report.json, report.md and report.html; returns the numbers."""
    from align_ko.report.pairs_html import write_html

    summary = summarize(pairs, dropped, prompts)
    write_json(folder / "report.json", summary)
    shown = examples(pairs)
    with atomic_write(folder / "report.md") as out:
        out.write(_markdown(summary, shown))
    write_html(folder / "report.html", summary, shown, recipe)
    return summary


def _markdown(summary: dict[str, Any], shown: list[PreferencePair]) -> str:
    lines = ["# Preference pairs", "", f"{summary['pairs']} pairs from {summary['prompts']} prompts.", "", "## Advice", ""]
    lines += [f"- `{r['key']}: {r['value']}`: {r['because']} (rule: {r['rule']})" for r in summary["advice"]]
    lines += ["", "## Numbers", ""]
    lines += [f"- {key}: {value}" for key, value in summary.items() if key != "advice"]
    lines += ["", f"## {len(shown)} pairs to read"]
    for pair in shown:
        lines += ["", f"### {_quoted(last_user_text(pair.prompt))}", "", f"{pair.origin}; rejected for {pair.rejected_faults}"]
        lines += ["", f"**chosen** ({pair.chosen_by}, {pair.chosen_score}): {_quoted(pair.chosen[0]['content'])}"]
        lines += ["", f"**rejected** ({pair.rejected_by}, {pair.rejected_score}): {_quoted(pair.rejected[0]['content'])}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """On one line, so that no answer can open a heading or a code block of the report."""
    return " ⏎ ".join(part for part in text.splitlines() if part.strip())


def print_report(summary: dict[str, Any], pairs: list[PreferencePair], console: Console | None = None) -> None:
    """The numbers as a table, the advice, and one pair to read."""
    table = Table(title=f"{summary['pairs']} pairs from {summary['prompts']} prompts", show_header=False)
    for key in ("origin", "chosen_by", "rejected_for", "median_characters", "chosen", "dropped"):
        value = summary[key]
        table.add_row(key, ", ".join(f"{escape(str(name))} {count}" for name, count in value.items()))
    console = console or Console()
    console.print(table)
    for rule in summary["advice"]:
        console.print(f"advice {rule['key']}: {rule['value']}  ({rule['because']})", markup=False, highlight=False)
    pair = pairs[0]
    console.print(f"질문   {pair.prompt[-1]['content']}", markup=False)
    console.print(f"선택   {pair.chosen[0]['content']}", style="green", markup=False)
    console.print(f"거부   {pair.rejected[0]['content']}", style="red", markup=False)
