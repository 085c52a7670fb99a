"""Fit the weights of the mild marks (align_ko.korean.polish) on half of the judged questions and try them on the other half.

    python benchmarks/fit_marks.py            # reads ../shared/data/judged_answers.jsonl.gz; reports if it is missing

A logistic regression on pairs of answers to one question that the judge sets at least four points apart, weights of
zero and more. It prints, for both directions, the weights and how they and the rounded ones in use agree on unseen questions.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from align_ko.korean import assess
from align_ko.korean.naturalness import NATURAL_SCORE
from align_ko.korean.polish import MARK_WEIGHTS, grade, marks
from align_ko.korean.prose import sentences
from bench_korean import spearman, zipped

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Args:
    data: Path = Path(__file__).resolve().parents[2] / "shared" / "data"
    """Folder with the judged answers."""


def fit(differences: Array, ridge: float = 5.0) -> Array:
    """Newton steps, cut off at zero: a mark may cost nothing, but never earn anything."""
    weights = np.full(differences.shape[1], 0.1)
    for _ in range(300):
        chance = 1 / (1 + np.exp(-differences @ weights))
        slope = differences.T @ (1 - chance) - ridge * weights
        bend = (differences * (chance * (1 - chance))[:, None]).T @ differences + ridge * np.eye(len(weights))
        weights = np.maximum(0, weights + 0.3 * np.linalg.solve(bend, slope))
    return weights


def agreement(name: str, scores: Array, judge: Array, pairs: Array, models: list[str]) -> None:
    """One line: better answer scored lower, equal, Spearman over models."""
    gap = scores[pairs[:, 0]] - scores[pairs[:, 1]]
    by_model: dict[str, list[int]] = defaultdict(list)
    for i in map(int, np.unique(pairs)):
        by_model[models[i]].append(i)
    means: list[tuple[float, ...]] = [(float(judge[own].mean()), float(scores[own].mean())) for own in by_model.values()]
    print(f"{name:<34} lower {np.mean(gap < 0):6.2%}  equal {np.mean(gap == 0):6.2%}  Spearman {spearman(means):.3f}")


def main(args: Args) -> None:
    """Fit, try, print."""
    if not (args.data / "judged_answers.jsonl.gz").is_file():
        print(f"no data: {args.data} is not here, so nothing can be fitted")
        return
    rows = zipped(args.data / "judged_answers.jsonl.gz")
    found = [marks(row["response"], sentences(row["response"]), row["prompt"]) for row in rows]
    values = np.array([[each[name] for name in MARK_WEIGHTS] for each in found])
    natural = [assess(row["response"], row["prompt"]) for row in rows]
    score = np.array([each.score for each in natural])
    by_faults = score / np.array([grade(each) for each in found])  # without the marks, but for the floor at NATURAL_SCORE
    judge = np.array([float(row["judge_score"]) for row in rows])
    groups: dict[tuple[Any, Any], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row["question_id"], row["turn"]].append(i)
    pairs = np.array([(i, j) for own in groups.values() for i in own for j in own if judge[i] - judge[j] >= 4])
    models = [row["model"] for row in rows]
    odd = np.array([rows[i]["question_id"] % 2 == 1 for i in pairs[:, 0]])
    signs = -np.hstack([values, -np.log(np.maximum(by_faults, 0.05))[:, None]])
    total = sum(MARK_WEIGHTS.values())
    for name, here, there in (("odd", odd, ~odd), ("even", ~odd, odd)):
        fitted = fit(signs[pairs[here, 0]] - signs[pairs[here, 1]])[:-1]
        scaled = dict(zip(MARK_WEIGHTS, fitted / fitted.sum() * total, strict=True))
        print(f"fitted on {name} questions: " + ", ".join(f"{mark} {weight:.3f}" for mark, weight in scaled.items()))
        other = np.array([grade(each, scaled) for each in found])
        tried = np.where([each.natural for each in natural], np.maximum(NATURAL_SCORE, by_faults * other), by_faults * other)
        agreement("  these, on the other questions", np.round(tried, 4), judge, pairs[there], models)
        agreement("  the ones in use, on the same", score, judge, pairs[there], models)
        agreement("  faults alone, on the same", np.round(by_faults, 4), judge, pairs[there], models)


if __name__ == "__main__":
    main(tyro.cli(Args))
