"""What the answers of each model are worth: every row assessed, then one line of measures per model and decoding.

Pure text, no torch: a responses.jsonl can be scored again on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import sqrt
from statistics import mean, median
from typing import Any

from align_ko.evaluation.chrf import chrf
from align_ko.korean import FAULT_CODES, assess, is_relevant, measure
from align_ko.records import last_user_text

Row = dict[str, Any]

GREEDY = "greedy"
"""The setting every model is judged by; all others are sampling."""

SMALL = 200
"""Below this many prompts the report warns that small differences may be chance."""

_Z95 = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share. Unlike p ± 2·se it stays honest at 0 and 1.

    >>> [round(bound, 3) for bound in wilson(0, 60)]
    [0.0, 0.06]
    """
    if n == 0:
        return 0.0, 1.0
    share, square = successes / n, _Z95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = _Z95 / (1 + square / n) * sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def score_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Each row with `natural, score, faults, speech_level, relevant` added; the rows given are left alone."""
    scored = []
    for row in rows:
        asked = last_user_text(row["prompt"])
        verdict = assess(row["response"], prompt=asked, finished=row["finished"])
        scored.append(
            {
                **row,
                "natural": verdict.natural,
                "score": verdict.score,
                "faults": [asdict(fault) for fault in verdict.faults],
                "speech_level": verdict.speech_level,
                "relevant": is_relevant(asked, row["response"]),
            }
        )
    return scored


def summarise(scored_rows: Iterable[Mapping[str, Any]], reference_nll: Mapping[str, float | None] | None = None) -> Row:
    """`{"results": [one per model and setting], "decoding_gap": {model: …}, "small_sample": bool}`, held-out rows only.

    Shares are 0..1, chrF 0..100, the gap in percentage points (positive: sampling does better than greedy).
    Models stand in the order in which they first appear; of each model's settings, greedy first.
    """
    groups: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in scored_rows:
        if row["kind"] == "heldout":
            groups.setdefault(row["model"], {}).setdefault(row["setting"], []).append(row)
    results, gaps = [], {}
    for model, settings in groups.items():
        names = sorted(settings, key=lambda setting: setting != GREEDY)  # stable: the others keep their order
        nll = (reference_nll or {}).get(model)
        results += [{"model": model, "setting": name, **_measures(settings[name], nll)} for name in names]
        gap = _decoding_gap(settings)
        if gap:
            gaps[model] = gap
    return {
        "results": results,
        "decoding_gap": gaps,
        "interval": "95 % Wilson",
        "small_sample": any(result["n"] < SMALL for result in results),
    }


def _measures(rows: Sequence[Mapping[str, Any]], reference_nll: float | None) -> Row:
    """One line of the table. Nothing here looks at the order of rows."""
    n = len(rows)
    natural = sum(row["natural"] for row in rows)
    low, high = wilson(natural, n)
    codes = [{fault["code"] for fault in row["faults"]} for row in rows]
    faults = {code: sum(code in found for found in codes) / n for code in FAULT_CODES}
    answers = [row["response"] for row in rows]
    # two conversations that end in the same words ("더 알려 주세요") are still different prompts
    of_set = measure(["\n".join(message["content"] for message in row["prompt"]) for row in rows], answers)
    referenced = [row for row in rows if row.get("reference")]
    lengths = [len(answer) for answer in answers]
    return {
        "decoding": rows[0]["decoding"],
        "n": n,
        "natural": natural / n,
        "natural_low": low,
        "natural_high": high,
        "score": mean(row["score"] for row in rows),
        "loops": faults["repetition"],
        "filler": faults["filler"],
        "unfinished": faults["unfinished"],
        "finished": sum(row["finished"] for row in rows) / n,
        "distinct": of_set.distinct,
        "collapse": of_set.collapse,
        "relevant": sum(row["relevant"] for row in rows) / n,
        "mean_characters": mean(lengths),
        "median_characters": median(lengths),
        "median_tokens": median(row["tokens"] for row in rows),
        "chrf": chrf([row["response"] for row in referenced], [row["reference"] for row in referenced]) if referenced else None,
        "reference_nll": reference_nll,
        "faults": faults,
    }


def _decoding_gap(settings: Mapping[str, Sequence[Mapping[str, Any]]]) -> Row | None:
    """The sampling setting that does best, against greedy on the same prompts."""
    greedy = {row["prompt_id"]: row["natural"] for row in settings.get(GREEDY, ())}
    best: Row | None = None
    for name, rows in settings.items():
        shared = [row for row in rows if row["prompt_id"] in greedy]
        if name == GREEDY or not shared:
            continue
        sampled = mean(float(row["natural"]) for row in shared)
        if best is None or sampled > best["sampling"]:
            plain = mean(float(greedy[row["prompt_id"]]) for row in shared)
            points = round(100 * (sampled - plain), 4)
            best = {"setting": name, "prompts": len(shared), "greedy": plain, "sampling": sampled, "points": points}
    return best
