"""What the tasks of this folder do: a suite as their documents, and each answer judged as `align-ko evaluate` judges it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import mean

from datasets import Dataset

from align_ko.evaluation.suites import read_suites
from align_ko.korean import assess
from align_ko.korean.demands import unmet


def load(suite: str, **_: object) -> dict[str, Dataset]:
    """Prompts of one turn: the harness makes one user turn of a document."""
    rows = [row for row in read_suites([suite]) if len(row.prompt) == 1]
    documents = [
        {
            "question": row.prompt[0]["content"],
            "reference": row.reference or "",
            "demands": json.dumps(list(row.demands), ensure_ascii=False),  # their keys differ, which no table has room for
        }
        for row in rows
    ]
    return {"test": Dataset.from_list(documents)}


def process_results(doc: dict[str, str], results: Sequence[str]) -> dict[str, float | None]:
    judged = assess(results[0], doc["question"])
    found = {"natural": None if judged.outside else float(judged.natural), "score": judged.score}
    if demands := json.loads(doc["demands"]):
        missed = len(unmet(results[0], demands))
        found |= {"demands_met": 1 - missed / len(demands), "all_demands_met": float(not missed)}
    return found


def share(values: Sequence[float | None]) -> float:
    """The mean of what the judge is made for; None stands for code, tables and proofs."""
    return mean(value for value in values if value is not None)
