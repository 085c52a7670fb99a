"""Fit the costs of faults and marks (align_ko.korean.score) on judged answers, and measure them with questions held out.

    python benchmarks/fit_score.py            # reads ../shared/data/judged_answers.jsonl.gz; reports if it is missing
    python benchmarks/fit_score.py --write    # puts the costs fitted on all questions into src/align_ko/korean/score.py

A logistic regression on pairs of answers to one question that the judge sets at least four points apart; no cost is under
zero. Codes in fewer than ten answers share one factor on -log(1 - weight). Six folds of questions: what is fitted on five is
tried on the sixth. A mark of a chat format at the end of an answer, which the judge did not see as one, is stripped first.
"""

from __future__ import annotations

import gzip
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from align_ko.korean import FAULT_CODES, WEIGHTS, Assessment, assess_each
from align_ko.korean import score as scoring
from align_ko.korean.leaks import template_leak
from align_ko.korean.naturalness import bounded
from align_ko.korean.prose import sentences
from align_ko.korean.score import COSTS, MARKS, counted, graded, marks

Row = dict[str, Any]
Array = np.ndarray[Any, np.dtype[np.float64]]
FOLDS = 6
APART = 4  # points of ten
EQUAL = 0.098  # answers whose scores are no further apart count as equally good: this makes 30 % of the held-out pairs ties
RARE = 10  # answers
RIDGE = 0.5
MOST = 8.0  # costs more than any score can lose: the data of a code is then a handful of answers


@dataclass(frozen=True)
class Args:
    data: Path = Path(__file__).resolve().parents[2] / "shared" / "data"
    """Folder with the judged answers."""
    write: bool = False
    """Put the costs into score.py."""


def zipped(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def spearman(pairs: Sequence[tuple[float, ...]]) -> float:
    def ranks(values: list[float]) -> list[float]:
        order = sorted(values)
        return [float(order.index(value)) for value in values]

    return statistics.correlation(ranks([p[0] for p in pairs]), ranks([p[1] for p in pairs]))


def without_end_mark(text: str) -> str:
    """`서울입니다.<|im_end|>` → `서울입니다.`"""
    text = text.rstrip()
    while (last := max(template_leak(text), key=lambda leak: leak.end, default=None)) and last.end == len(text) and last.start:
        text = text[: last.start].rstrip()
    return text


class Judged:
    """Judged answers, what `assess` says of them, and the pairs that the judge sets apart; bare code is left out."""

    def __init__(self, rows: Sequence[Row], strip: bool = True) -> None:
        texts = [without_end_mark(row["response"]) if strip else row["response"] for row in rows]
        assessed = assess_each(texts, [row["prompt"] for row in rows])
        texts = [text for text, one in zip(texts, assessed, strict=True) if not one.outside]
        rows = [row for row, one in zip(rows, assessed, strict=True) if not one.outside]
        self.assessed: list[Assessment] = [one for one in assessed if not one.outside]
        self.values = [
            marks(text, sentences(text), row["prompt"]) | counted([fault.code for fault in one.faults])
            for text, row, one in zip(texts, rows, self.assessed, strict=True)
        ]
        self.judge = np.array([float(row["judge_score"]) for row in rows])
        self.models = [row["model"] for row in rows]
        places = {question: place for place, question in enumerate(sorted({row["question_id"] for row in rows}))}
        self.folds = np.array([places[row["question_id"]] % FOLDS for row in rows])
        groups: dict[tuple[Any, Any], list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            groups[row["question_id"], row["turn"]].append(i)
        close = [(i, j) for own in groups.values() for i in own for j in own if self.judge[i] - self.judge[j] >= APART]
        self.pairs = np.array(close)

    def scores(self, costs: dict[str, float] = COSTS) -> Array:
        return np.array(
            [
                bounded(graded(values, costs), one.natural, values)
                for values, one in zip(self.values, self.assessed, strict=True)
            ]
        )

    def fit(self, folds: Sequence[int]) -> dict[str, float]:
        """The costs that the answers to the questions of these folds tell."""
        here = np.isin(self.folds, folds)
        seen = {code: sum(code in values for values, own in zip(self.values, here, strict=True) if own) for code in FAULT_CODES}
        often = [code for code in FAULT_CODES if seen[code] >= RARE]
        seldom = [code for code in FAULT_CODES if seen[code] < RARE]
        harm = {code: -log(1 - min(WEIGHTS[code], 0.95)) for code in FAULT_CODES}
        table = [
            [*(own.get(name, 0.0) for name in (*MARKS, *often)), sum(harm[code] * own.get(code, 0) for code in seldom)]
            for own in self.values
        ]
        values = np.array(table)
        pairs = self.pairs[here[self.pairs[:, 0]]]
        costs = regress(values[pairs[:, 1]] - values[pairs[:, 0]])
        told = dict(zip((*MARKS, *often), map(float, costs), strict=False))
        return {
            name: round(min(MOST, told.get(name, float(costs[-1]) * harm.get(name, 0.0))), 2) for name in (*MARKS, *FAULT_CODES)
        }

    def held_out(self) -> Array:
        """The score of each answer by costs fitted without its question."""
        found = np.zeros(len(self.values))
        for fold in range(FOLDS):
            found[self.folds == fold] = self.scores(self.fit([other for other in range(FOLDS) if other != fold]))[
                self.folds == fold
            ]
        return found

    def agreement(self, name: str, scores: Array, folds: Sequence[int] = range(FOLDS)) -> None:
        """One line: pairs with the better answer lower, equal pairs (also of those five points apart), Spearman over models."""
        pairs = self.pairs[np.isin(self.folds[self.pairs[:, 0]], folds)]
        gap = np.round(scores[pairs[:, 0]] - scores[pairs[:, 1]], 4)
        wide = gap[self.judge[pairs[:, 0]] - self.judge[pairs[:, 1]] > APART]
        by_model: dict[str, list[int]] = defaultdict(list)
        for i in np.flatnonzero(np.isin(self.folds, folds)).tolist():
            by_model[self.models[i]].append(i)
        means = [(float(self.judge[own].mean()), float(scores[own].mean())) for own in by_model.values()]
        shares = [(float(np.mean(some < -EQUAL)), float(np.mean(abs(some) <= EQUAL))) for some in (gap, wide)]
        print(
            f"judge: {name:<34} lower {shares[0][0]:6.2%}  equal {shares[0][1]:6.2%}   "
            f"5 apart: {shares[1][0]:6.2%}  {shares[1][1]:6.2%}   Spearman {spearman(means):.3f}"
        )


def regress(losses: Array) -> Array:
    """Newton steps on what the worse answer of each pair has more; a cost that would fall under zero stays at zero."""
    costs = np.full(losses.shape[1], 0.1)
    for _ in range(60):
        chance = 1 / (1 + np.exp(-losses @ costs))
        slope = losses.T @ (1 - chance) - RIDGE * costs
        free = (costs > 0) | (slope > 0)
        bend = (losses[:, free] * (chance * (1 - chance))[:, None]).T @ losses[:, free] + RIDGE * np.eye(int(free.sum()))
        step = np.zeros(len(costs))
        step[free] = np.linalg.solve(bend, slope[free])
        costs = np.maximum(0, costs + step)
        if abs(step).max() < 1e-6:
            break
    return costs


def report(rows: Sequence[Row]) -> Judged:
    """Print how the costs in use and held-out ones agree with the judge."""
    judged, raw = Judged(rows), Judged(rows, strip=False)
    print(f"judge: {len(judged.pairs)} pairs {APART} and more points apart; equal: scores at most {EQUAL} apart")
    raw.agreement("in use, end marks not stripped", raw.scores())
    judged.agreement("in use", judged.scores())
    found = judged.held_out()
    for fold in range(FOLDS):
        judged.agreement(f"  held out, fold {fold + 1}", found, [fold])
    judged.agreement("held out, all folds", found)
    return judged


def main(args: Args) -> None:
    """Fit, try, print."""
    if not (args.data / "judged_answers.jsonl.gz").is_file():
        print(f"no data: {args.data} is not here, so nothing can be fitted")
        return
    costs = report(zipped(args.data / "judged_answers.jsonl.gz")).fit(range(FOLDS))
    table = "COSTS: dict[str, float] = {\n" + "".join(f'    "{name}": {cost},\n' for name, cost in costs.items()) + "}\n"
    print(table, end="")
    if args.write:
        file = Path(str(scoring.__file__))
        file.write_text(re.sub(r"(?ms)^COSTS: .*?^}\n", table, file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Args))
