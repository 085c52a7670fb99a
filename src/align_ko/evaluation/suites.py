"""Suites: prompts read by name, a line of measures for each, and the best of a run's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from align_ko import reasons
from align_ko.errors import UserError
from align_ko.evaluation.scores import GREEDY_SETTING, Form, Result, ScoredAnswer, form_of, wilson
from align_ko.korean.demands import unmet
from align_ko.recipe import SUITES, suite_files
from align_ko.records import PromptRow, content_id, read_prompts


class SuiteResult(Form):
    """One suite under one model and setting: form, and the demands that rules check. Shares are 0..1."""

    suite: str
    model: str
    setting: str
    demands: int
    met: float | None
    """Of all demands; None where the suite has none."""
    all_met: float | None
    """Answers that meet all of theirs."""
    all_met_low: float
    all_met_high: float


def read_suites(names: str | Iterable[str], limit: int = 0) -> list[PromptRow]:
    """The prompts of suites and files, or of one, `limit` of each (0: all); one that two of them have is asked once.
    UserError for a demand that nothing checks, and where there is no prompt."""
    rows: dict[str, PromptRow] = {}
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        suite = name if name in SUITES else Path(name).stem
        files = (read_prompts(file, "prompts_file") for file in suite_files(name))
        for row in islice(chain.from_iterable(files), limit or None):
            unmet("", row.demands)
            taken = row.id in rows and rows[row.id].prompt != row.prompt
            row = replace(row, suite=suite, id=content_id(row.prompt) if taken else row.id)
            rows.setdefault(row.id, row)
    if not rows:
        raise UserError(f"there is no prompt in {', '.join(names)}", key="prompts_file")
    return list(rows.values())


def measure_suites(rows: Iterable[ScoredAnswer]) -> list[SuiteResult]:
    """In the order in which suites, models and settings first appear; without probes."""
    groups: dict[tuple[str, str, str], list[ScoredAnswer]] = {}
    for row in rows:
        if row["kind"] == "heldout":
            groups.setdefault((row.get("suite", ""), row["model"], row["setting"]), []).append(row)
    suites = list(dict.fromkeys(suite for suite, _, _ in groups))
    return [_measure(key, groups[key]) for key in sorted(groups, key=lambda key: suites.index(key[0]))]


def _measure(key: tuple[str, str, str], rows: Sequence[ScoredAnswer]) -> SuiteResult:
    asked = [row for row in rows if row.get("demands")]
    demands, missed = sum(len(row.get("demands", [])) for row in asked), sum(len(row.get("unmet", [])) for row in asked)
    whole = len([row for row in asked if not row.get("unmet")])
    whole_low, whole_high = wilson(whole, len(asked))
    suite, model, setting = key
    return {
        "suite": suite, "model": model, "setting": setting, **form_of(rows),
        "demands": demands, "met": 1 - missed / demands if demands else None,
        "all_met": whole / len(asked) if asked else None, "all_met_low": whole_low, "all_met_high": whole_high,
    }  # fmt: skip


def best_checkpoints(results: Iterable[Result], suites: Sequence[SuiteResult] = ()) -> dict[str, str]:
    """Run → the best of its checkpoints and why, where several were judged (`run/checkpoint-10` among the models).

    By greedy answers: the larger share natural in form, in whole percent; of equals, the one that meets more demands, then the
    one with more relevant answers, then the lower reference NLL, then the earlier.
    """
    runs: dict[str, list[Result]] = {}
    for result in results:
        run, _, step = result["model"].rpartition("/")
        if result["setting"] == GREEDY_SETTING and run and step.startswith("checkpoint-"):
            runs.setdefault(run, []).append(result)
    return {run: _best(found, suites) for run, found in runs.items() if len(found) > 1}


def _best(results: Sequence[Result], suites: Sequence[SuiteResult]) -> str:
    merits = {result["model"]: _merits(result, suites) for result in results}
    ranked = sorted(results, key=lambda result: [-value for value in merits[result["model"]].values()])  # stable: earlier first
    first, second = ranked[:2]
    best, next_best = merits[first["model"]], merits[second["model"]]
    step, rival = (result["model"].rpartition("/")[2] for result in (first, second))
    decided = next((name for name in best if best[name] != next_best[name]), "")
    if not decided:
        return reasons.AS_GOOD.format(step, rival)
    mine, other = (f"{-one[decided]:.3f}" if decided == "NLL" else f"{one[decided]:.0f} %" for one in (best, next_best))
    by_chance = decided == "natural in form" and first["natural_low"] <= second["natural"]
    return (reasons.BY_CHANCE if by_chance else reasons.BETTER).format(step, f"{decided} {mine}", rival, other)


def _merits(result: Result, suites: Sequence[SuiteResult]) -> dict[str, float]:
    """What decides between checkpoints, in this order, more being better."""
    mine = [one for one in suites if (one["model"], one["setting"]) == (result["model"], GREEDY_SETTING)]
    met = sum((one["met"] or 0) * one["demands"] for one in mine) / max(1, sum(one["demands"] for one in mine))
    shares = {"natural in form": result["natural"], "demands met": met, "relevant": result["relevant"] or 0}
    return {name: round(100 * share) for name, share in shares.items()} | {"NLL": -round(result["reference_nll"] or 0, 3)}
