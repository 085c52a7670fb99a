"""Every answer assessed, then one line of measures per model and decoding setting, and the gap between the settings.

Pure text, no torch: a responses.jsonl can be scored again on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from statistics import mean, median
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from align_ko.korean import FAULT_CODES, assess, measure
from align_ko.korean.demands import Demand, unmet
from align_ko.records import Message, last_user_text

if TYPE_CHECKING:
    from align_ko.evaluation.suites import SuiteResult

GREEDY_SETTING = "greedy"  # the setting that every model is judged by; all others are sampling
SMALL = 200  # below this many prompts the report warns that small differences may be chance
SPLITS = 1000  # of the prompts, for the cross-fitted gap
_Z95 = 1.959963984540054


class Answer(TypedDict):
    """One model's answer to one prompt under one setting."""

    model: str
    setting: str
    decoding: str
    kind: str  # heldout | probe
    prompt: list[Message]
    prompt_id: str
    group: str
    topic: str
    suite: NotRequired[str]
    demands: NotRequired[list[Demand]]
    """What a rule can check (korean/demands.py)."""
    reference: str | None
    response: str
    finished: bool
    tokens: int
    nats_per_token: NotRequired[float | None]
    """What the question explains of the answer (generation/relevance.py); left out where it was not measured."""
    relevant: NotRequired[bool]


class FaultRow(TypedDict):
    """A `Fault` as JSON."""

    code: str
    start: int
    end: int
    message: str


class ScoredAnswer(Answer):
    """A row of responses.jsonl."""

    natural: bool
    score: float
    faults: list[FaultRow]
    speech_level: str
    unmet: NotRequired[list[Demand]]
    """The demands that the answer does not meet; left out for a prompt without demands."""
    outside: NotRequired[str]
    """A kind of text that the judge is not made for."""
    llm: NotRequired[list[int] | None]
    """Two verdicts of a larger model, 0 to 2 (verdicts.py); None: not judged."""
    reader: NotRequired[list[int] | None]
    """One verdict of a person (verdicts.py)."""


class Verdicts(TypedDict):
    """What a judge of content says of one model's answers under one setting. Shares of the `judged` ones, 0..1."""

    judged: int
    signed: float
    """Verdict 2, in every reading."""
    signed_low: float
    signed_high: float
    partly: float
    """Verdict 1 in the lower reading."""
    split: float | None
    """Where two readings differ; None for a judge who reads once."""


class Form(TypedDict):
    """How many of some answers are natural in form. Shares are 0..1."""

    n: int
    natural: float
    """Of the answers that the judge is made for."""
    natural_low: float
    natural_high: float
    outside: int
    """Answers that it is not made for."""


class Result(Form):
    """A line of scores.json: one model under one setting. Shares are 0..1, chrF 0..100, reference NLL nats per token."""

    model: str
    setting: str
    decoding: str
    score: float
    loops: float
    filler: float
    unfinished: float
    finished: float
    distinct: float
    collapse: float
    relevant: float | None
    llm: NotRequired[Verdicts | None]
    reader: NotRequired[Verdicts | None]
    mean_characters: float
    median_characters: float
    median_tokens: float
    chrf: float | None
    reference_nll: float | None
    faults: dict[str, float]


class Gap(TypedDict):
    """The best sampling setting against greedy on the same prompts; `points` is positive where sampling does better."""

    setting: str
    prompts: int
    greedy: float
    sampling: float
    points: float
    cross_fitted: NotRequired[float]


class Summary(TypedDict):
    """scores.json, held-out rows only."""

    results: list[Result]
    suites: NotRequired[list[SuiteResult]]
    best_checkpoints: NotRequired[dict[str, str]]
    """Of each run of which several checkpoints were judged: the best one, and why (suites.py)."""
    decoding_gap: dict[str, Gap]
    interval: str
    small_sample: bool


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
    return max(0.0, centre - half) if successes else 0.0, min(1.0, centre + half) if successes < n else 1.0


def score_rows(rows: Iterable[Answer]) -> list[ScoredAnswer]:
    scored: list[ScoredAnswer] = []
    for row in rows:
        asked = last_user_text(row["prompt"]) or None
        assessment = assess(row["response"], prompt=asked, finished=row["finished"])
        judged: ScoredAnswer = {
            **row,
            "natural": assessment.natural,
            "score": assessment.score,
            "faults": [FaultRow(code=f.code, start=f.start, end=f.end, message=f.message) for f in assessment.faults],
            "speech_level": assessment.speech_level,
            "outside": assessment.outside,
        }
        if demands := row.get("demands"):
            judged["unmet"] = unmet(row["response"], demands)
        scored.append(judged)
    return scored


def summarise(scored_rows: Iterable[ScoredAnswer], reference_nll: Mapping[str, float | None] | None = None) -> Summary:
    """The measures of every model and setting: models as they first appear, of each one's settings greedy first."""
    groups: dict[str, dict[str, list[ScoredAnswer]]] = {}
    for row in scored_rows:
        if row["kind"] == "heldout":
            groups.setdefault(row["model"], {}).setdefault(row["setting"], []).append(row)
    results: list[Result] = []
    gaps: dict[str, Gap] = {}
    for model, settings in groups.items():
        names = sorted(settings, key=lambda setting: setting != GREEDY_SETTING)  # stable: the others keep their order
        nll = (reference_nll or {}).get(model)
        results += [_measure(settings[name], nll) for name in names]
        if gap := _decoding_gap(settings):
            gaps[model] = gap
    small = any(result["n"] < SMALL for result in results)
    return {"results": results, "decoding_gap": gaps, "interval": "95 % Wilson", "small_sample": small}


def form_of(rows: Sequence[ScoredAnswer]) -> Form:
    judged = [row["natural"] for row in rows if not row.get("outside")]
    natural, outside = sum(judged), len(rows) - len(judged)
    low, high = wilson(natural, len(judged))
    share = natural / max(len(judged), 1)
    return {"n": len(rows), "natural": share, "natural_low": low, "natural_high": high, "outside": outside}


def _measure(rows: Sequence[ScoredAnswer], reference_nll: float | None) -> Result:
    n = len(rows)
    codes = [{fault["code"] for fault in row["faults"]} for row in rows]
    faults = {code: sum(code in row for row in codes) / n for code in FAULT_CODES}
    answers = [row["response"] for row in rows]
    # two conversations that end in the same words ("더 알려 주세요") are still different prompts
    of_set = measure(["\n".join(message["content"] for message in row["prompt"]) for row in rows], answers)
    pairs = [(row["response"], reference) for row in rows if (reference := row.get("reference"))]
    lengths = [len(answer) for answer in answers]
    return {
        "model": rows[0]["model"],
        "setting": rows[0]["setting"],
        "decoding": rows[0]["decoding"],
        **form_of(rows),
        "score": mean(row["score"] for row in [row for row in rows if not row.get("outside")] or rows),
        "loops": faults["repetition"],
        "filler": faults["filler"],
        "unfinished": faults["unfinished"],
        "finished": sum(row["finished"] for row in rows) / n,
        "distinct": of_set.distinct,
        "collapse": of_set.collapse,
        "relevant": mean(float(row["relevant"]) for row in rows) if "relevant" in rows[0] else None,
        "llm": count_verdicts([row.get("llm") for row in rows]),
        "reader": count_verdicts([row.get("reader") for row in rows]),
        "mean_characters": mean(lengths),
        "median_characters": median(lengths),
        "median_tokens": median(row["tokens"] for row in rows),
        "chrf": chrf(*zip(*pairs, strict=True)) if pairs else None,
        "reference_nll": reference_nll,
        "faults": faults,
    }


def count_verdicts(readings: Iterable[Sequence[int] | None]) -> Verdicts | None:
    """Shares of the lower reading of each answer; None where no answer was judged.

    >>> counted = count_verdicts([[2, 2], [2, 1], [0, 0], None])
    >>> counted["judged"], [round(counted[key], 2) for key in ("signed", "partly", "split")]
    (3, [0.33, 0.33, 0.33])
    """
    judged = [reading for reading in readings if reading]
    if not judged:
        return None
    n, lower = len(judged), [min(reading) for reading in judged]
    low, high = wilson(lower.count(2), n)
    return {
        "judged": n,
        "signed": lower.count(2) / n,
        "signed_low": low,
        "signed_high": high,
        "partly": lower.count(1) / n,
        "split": mean(len(set(reading)) > 1 for reading in judged) if max(map(len, judged)) > 1 else None,
    }


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF2 (Popović 2015), 0..100: F-score of character n-grams, recall counted twice.

    >>> round(chrf(["abc"], ["abd"]), 2)
    38.89
    """
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(answers), [list(references)]).score)


def _decoding_gap(settings: Mapping[str, Sequence[ScoredAnswer]]) -> Gap | None:
    """The sampling setting that does best, against greedy on the same prompts."""
    greedy = {row["prompt_id"]: row["natural"] for row in settings.get(GREEDY_SETTING, ())}
    best: Gap | None = None
    for name, rows in settings.items():
        shared = [row for row in rows if row["prompt_id"] in greedy]
        if name == GREEDY_SETTING or not shared:
            continue
        sampled = mean(float(row["natural"]) for row in shared)
        if best is None or sampled > best["sampling"]:
            plain = mean(float(greedy[row["prompt_id"]]) for row in shared)
            points = round(100 * (sampled - plain), 4)
            best = {"setting": name, "prompts": len(shared), "greedy": plain, "sampling": sampled, "points": points}
    if best and (fitted := cross_fitted_gap(settings)) is not None:
        best["cross_fitted"] = fitted
    return best


def cross_fitted_gap(settings: Mapping[str, Sequence[ScoredAnswer]]) -> float | None:
    """The gap in points with the sampling setting chosen on one half of the prompts and measured on the other.

    The plain gap takes the largest of many shares on the prompts that it is measured on, so it is above zero even where no
    setting is better than greedy; this one has no such bias. The mean over both halves of `SPLITS` random splits, always the
    same ones; settings that are equally good on a half count with their mean. Only prompts that all settings answered count;
    None for fewer than two, or without greedy or sampled answers.
    """
    natural = {name: {row["prompt_id"]: row["natural"] for row in rows} for name, rows in settings.items()}
    prompts = sorted(set.intersection(*map(set, natural.values())))
    if GREEDY_SETTING not in natural or len(natural) < 2 or len(prompts) < 2:
        return None
    greedy = np.array([natural[GREEDY_SETTING][prompt] for prompt in prompts], dtype=float)
    others = [[natural[name][prompt] for prompt in prompts] for name in natural if name != GREEDY_SETTING]
    lead = np.array(others, dtype=float) - greedy  # settings × prompts
    return 100 * float(np.mean([_lead_elsewhere(lead, half) for half in _halves(len(prompts))]))


def _halves(n: int) -> Iterator[NDArray[np.bool_]]:
    draw = np.random.default_rng(0)
    for _ in range(SPLITS):
        half = np.zeros(n, dtype=bool)
        half[draw.permutation(n)[: n // 2]] = True
        yield half
        yield ~half


def _lead_elsewhere(lead: NDArray[np.float64], half: NDArray[np.bool_]) -> float:
    """The mean lead, on the other half, of the settings that lead most on `half`."""
    means = lead[:, half].mean(axis=1)
    best = np.isclose(means, means.max())
    return float(lead[best][:, ~half].mean())
