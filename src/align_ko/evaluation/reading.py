"""What a person says of answers: 2 would sign it, 1 partly, 0 no. The sample that is read blind, and where verdicts are kept.

An evaluation's output folder contains reader.jsonl, one row {key, verdict, …} per answer that was read (scripts/read.py). A key
is of question and answer, so a verdict counts for every model that gives the same answer, and for no other.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from align_ko.errors import UserError
from align_ko.evaluation.scores import GREEDY_SETTING, ScoredAnswer
from align_ko.records import Message, read_jsonl
from align_ko.stores import Store, row_key

READER_FILE = "reader.jsonl"


@dataclass
class ToRead:
    """A question and an answer, and who gave it: (folder of the evaluation, model)."""

    key: str
    prompt: list[Message]
    response: str
    given_by: list[tuple[Path, str]] = field(default_factory=list)


def answer_key(prompt: Sequence[Message], response: str) -> str:
    """What a verdict belongs to."""
    return row_key(prompt=[[message["role"], message["content"]] for message in prompt], response=response)


def answers_to_read(folders: Sequence[Path], prompts: int, seed: int, models: Collection[str] = ()) -> list[ToRead]:
    """The greedy answers of all models, or of `models`, to `prompts` of the held-out questions (0: all), in random order.

    Every model's answers to the same questions; equal answers once. The same seed gives the same order, and a larger number of
    questions contains the smaller one. UserError for a folder without answers and for a model that gave none.
    """
    if not folders:
        raise UserError("no evaluation is named", expected="output folders of evaluate.py")
    rows: list[tuple[Path, ScoredAnswer]] = []
    names: set[str] = set()
    for folder in folders:
        file = folder / "responses.jsonl"
        if not file.is_file():
            raise UserError("there are no answers here", file=file, expected="the output folder of evaluate.py")
        given = [row for row in read_jsonl(file) if (row["setting"], row["kind"]) == (GREEDY_SETTING, "heldout")]
        names.update(row["model"] for row in given)
        rows += [(folder, row) for row in given if not models or row["model"] in models]  # type: ignore[misc]
    if absent := [model for model in models if model not in names]:
        raise UserError(f"no greedy answer of {', '.join(absent)}", key="models", expected=", ".join(sorted(names)))
    questions = _shuffled({answer_key(row["prompt"], "") for _, row in rows}, seed)
    chosen = set(questions[: prompts or None])
    answers: dict[str, ToRead] = {}
    for folder, row in rows:
        if answer_key(row["prompt"], "") in chosen:
            key = answer_key(row["prompt"], row["response"])
            answers.setdefault(key, ToRead(key, row["prompt"], row["response"])).given_by.append((folder, row["model"]))
    return [answers[key] for key in _shuffled(answers, seed)]


def _shuffled(keys: Collection[str], seed: int) -> list[str]:
    """In an order that does not depend on the one in which files name them."""
    order = sorted(keys)
    random.Random(seed).shuffle(order)
    return order


def add_reader_verdicts(rows: Sequence[ScoredAnswer], file: Path) -> None:
    """Give every row `reader`: a list of one verdict, None where nobody has read the answer."""
    keys = [answer_key(row["prompt"], row["response"]) for row in rows]
    read = Store(file).load(keys)
    for row, key in zip(rows, keys, strict=True):
        row["reader"] = [int(read[key]["verdict"])] if key in read else None
