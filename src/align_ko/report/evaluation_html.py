"""The evaluation as one self-contained HTML file for readers of Korean: nothing in it is loaded from elsewhere.

Everything that came from data goes through Jinja's autoescape; nothing is marked safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from align_ko.evaluation.scores import GREEDY_SETTING
from align_ko.records import Fault, atomic_write, last_user_text
from align_ko.report.answers import Answer, earlier_turns
from align_ko.report.page import FAULT_NAMES, render
from align_ko.report.plots import fault_bars, length_strips, natural_bars


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    faults = [Fault(**fault) for fault in row["faults"]]
    answer = Answer.of(row["response"], faults, row["finished"])
    return {**vars(answer), **{name: row[name] for name in ("setting", "natural", "relevant", "tokens")}}


def cards(rows: Iterable[Mapping[str, Any]], models: Sequence[str], settings: Sequence[str]) -> list[dict[str, Any]]:
    """One card per prompt, in the order of the rows: the question, and per model its answer under each setting."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        card = found.setdefault(
            row["prompt_id"],
            {
                "group": row.get("group") or "",
                "topic": row.get("topic") or "",
                "earlier": earlier_turns(row["prompt"]),
                "question": last_user_text(row["prompt"]),
                "reference": row.get("reference"),
                "answers": {},
            },
        )
        card["answers"][row["model"], row["setting"]] = _answer(row)
    for card in found.values():
        answers = card.pop("answers")
        card["columns"] = [
            {"model": model, "answers": [(setting, answers.get((model, setting))) for setting in settings]} for model in models
        ]
    return list(found.values())


def render_html(
    scored_rows: Iterable[Mapping[str, Any]], summary: Mapping[str, Any], about: Mapping[str, str] | None = None
) -> str:
    """The whole page. `about`: further facts for its end, e.g. {"모델 dpo": "outputs/quickstart/dpo"}."""
    rows = list(scored_rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    decodings = dict(sorted({row["setting"]: row["decoding"] for row in rows}.items(), key=lambda d: d[0] != GREEDY_SETTING))
    heldout, probes = ([row for row in rows if row["kind"] == kind] for kind in ("heldout", "probe"))
    all_cards = cards(heldout, models, list(decodings))
    return render(
        "evaluation.html.jinja",
        models=models,
        colour={model: f"m{place % 6}" for place, model in enumerate(models)},
        decodings=decodings,
        greedy=GREEDY_SETTING,
        results=summary["results"],
        headline=[result for result in summary["results"] if result["setting"] == GREEDY_SETTING],
        gaps=summary["decoding_gap"],
        small_sample=summary["small_sample"],
        natural_bars=natural_bars(summary),
        fault_bars=fault_bars(summary),
        lengths=length_strips(rows),
        probes=cards(probes, models, list(decodings)),
        cards=all_cards,
        groups=list(dict.fromkeys(card["group"] for card in all_cards if card["group"])),
        codes=[code for code in FAULT_NAMES if any(f["code"] == code for row in heldout for f in row["faults"])],
        about=about or {},
    )


def write_html(
    path: str | Path,
    scored_rows: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any],
    about: Mapping[str, str] | None = None,
) -> None:
    """Write `render_html(…)` to `path`, through a temporary file."""
    page = render_html(scored_rows, summary, about)
    with atomic_write(path) as out:
        out.write(page)
