"""Curated rows → token ids, through chat_format.py and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import IGNORE, FormatError, answer_ids, prompt_ids, training_rows
from align_ko.errors import UserError
from align_ko.records import Message


def tokenize_conversations(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[dict[str, Any]], max_length: int | None
) -> tuple[Dataset, list[str]]:
    """Rows with `messages` → columns `input_ids`, `labels`, `length`, `id`, `turns`; and the ids of rows left out as too long.

    `turns` is how many messages the row holds: all, unless the template needs a row for each answer (training_rows). A row
    over `max_length` tokens is left out whole: cutting it would cut its eos. UserError when a row cannot be tokenised the
    same way for training and inference.
    """
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "length": [], "id": [], "turns": []}
    too_long: list[str] = []
    for number, row in enumerate(rows, 1):
        try:
            encoded_rows = training_rows(tokenizer, row["messages"])
        except FormatError as error:
            raise UserError(f"row {number} (id {row.get('id')}): {error}") from None
        for messages, encoded in encoded_rows:
            if max_length is not None and len(encoded.input_ids) > max_length:
                too_long.append(row.get("id", str(number)))
                break  # the rows after it hold it whole and are longer
            columns["input_ids"].append(encoded.input_ids)
            columns["labels"].append(encoded.labels)
            columns["length"].append(len(encoded.input_ids))
            columns["id"].append(row.get("id", str(number)))
            columns["turns"].append(len(messages))
    return Dataset.from_dict(columns), too_long


def conversations_of(dataset: Dataset, rows: Iterable[dict[str, Any]]) -> dict[tuple[int, ...], list[Message]]:
    """The turns that each tokenised row holds, by its token ids: what the audit compares batches with."""
    by_id = {row["id"]: row["messages"] for row in rows}
    columns = zip(dataset["input_ids"], dataset["id"], dataset["turns"], strict=True)
    return {tuple(ids): by_id[key][:turns] for ids, key, turns in columns}


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[dict[str, Any]], max_length: int | None
) -> tuple[Dataset, list[str]]:
    """Preference rows → `prompt_ids`, `chosen_ids`, `rejected_ids`, `length`, `id`.

    The chosen side ends with eos. The rejected side does only if that answer really ended (`rejected_finished`): otherwise
    DPO would push down "stop here" for an answer whose fault was never to stop.
    """
    columns: dict[str, list[Any]] = {key: [] for key in ("prompt_ids", "chosen_ids", "rejected_ids", "length", "id")}
    too_long: list[str] = []
    for number, row in enumerate(rows, 1):
        try:
            prompt = prompt_ids(tokenizer, row["prompt"])
            chosen = answer_ids(tokenizer, row["prompt"], row["chosen"][0]["content"])
            rejected = answer_ids(
                tokenizer, row["prompt"], row["rejected"][0]["content"], finished=row.get("rejected_finished", True)
            )
        except FormatError as error:
            raise UserError(f"pair {number} (id {row.get('id')}): {error}") from None
        longest = len(prompt) + max(len(chosen), len(rejected))
        if max_length is not None and longest > max_length:
            too_long.append(row.get("id", str(number)))
            continue
        for key, value in zip(columns, (prompt, chosen, rejected, longest, row.get("id", str(number))), strict=True):
            columns[key].append(value)
    return Dataset.from_dict(columns), too_long


def supervised_share(dataset: Dataset) -> float:
    """Share of tokens that carry loss."""
    total = sum(dataset["length"])
    return sum(sum(label != IGNORE for label in row) for row in dataset["labels"]) / max(total, 1)
