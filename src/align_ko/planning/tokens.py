"""Tokens of every row of a data file: counted with the tokenizer where it is at hand, else estimated from characters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.planning.batches import Row
from align_ko.planning.reference_lengths import TOKENS_A_CHARACTER, TOKENS_A_TURN, reference_rows
from align_ko.records import read_conversations

COUNTED_ROWS = 1_000
"""Rows that are tokenised one by one; beyond them the tokens a character of these hold for the rest (a plan takes seconds)."""


@dataclass(frozen=True)
class Lengths:
    """The rows of a file, what is over max_length left out as training does, and how they were counted."""

    rows: list[Row]
    too_long: int
    how: str
    real_file: bool = True

    @property
    def trained_share(self) -> float:
        return sum(row.trained for row in self.rows) / max(1, sum(row.real for row in self.rows))


def sft_lengths(file: str, tokenizer: Any, max_length: int | None) -> Lengths:
    """Lengths of curated conversations; a file that is not there is replaced by the table of reference_lengths.py."""
    if not Path(file).is_file():
        made = [Row(row.tokens, row.tokens, row.trained) for row in reference_rows()]
        return _without_long(made, max_length, f"{file} is not there: assumed lengths of 191,641 rows instead", False)

    def really(row: dict[str, Any]) -> Row:
        from align_ko.chat_format import IGNORE, conversation_ids

        encoded = conversation_ids(tokenizer, row["messages"])
        tokens = len(encoded.input_ids)
        return Row(tokens, tokens, sum(label != IGNORE for label in encoded.labels))

    def roughly(row: dict[str, Any], ratio: float) -> Row:
        asked, said = ([m["content"] for m in row["messages"] if (m["role"] == "assistant") == answer] for answer in (0, 1))
        trained = round(sum(map(len, said)) * ratio) + len(said)
        tokens = trained + round(sum(map(len, asked)) * ratio) + (TOKENS_A_TURN - 1) * len(said) + 1
        return Row(tokens, tokens, trained)

    return _lengths(file, tokenizer, max_length, really, roughly)


def pair_lengths(file: str, tokenizer: Any, max_length: int | None) -> Lengths:
    """Lengths of preference pairs; UserError where the file is not there (nothing stands for it)."""

    def made(prompt: int, chosen: int, rejected: int) -> Row:
        return Row(prompt + max(chosen, rejected), 2 * prompt + chosen + rejected, chosen + rejected, sequences=2)

    def really(row: dict[str, Any]) -> Row:
        from align_ko.chat_format import answer_ids, prompt_ids

        sides = (len(answer_ids(tokenizer, row["prompt"], row[side][0]["content"])) for side in ("chosen", "rejected"))
        return made(len(prompt_ids(tokenizer, row["prompt"])), *sides)

    def roughly(row: dict[str, Any], ratio: float) -> Row:
        prompt = round(sum(len(message["content"]) for message in row["prompt"]) * ratio) + TOKENS_A_TURN
        return made(prompt, *(round(len(row[side][0]["content"]) * ratio) + 1 for side in ("chosen", "rejected")))

    return _lengths(file, tokenizer, max_length, really, roughly)


def _lengths(
    file: str,
    tokenizer: Any,
    max_length: int | None,
    really: Callable[[dict[str, Any]], Row],
    roughly: Callable[[dict[str, Any], float], Row],
) -> Lengths:
    rows: Iterator[dict[str, Any]] = read_conversations(file)
    try:
        if tokenizer is None:
            ratio, made = TOKENS_A_CHARACTER, []
            how = f"estimated, {TOKENS_A_CHARACTER} tokens a character as SOLAR's on polite Korean: no tokenizer is at hand"
        else:
            head = list(itertools.islice(rows, COUNTED_ROWS))
            made = [really(row) for row in head]
            # from two ratios, the tokens that grow with the characters follow without knowing the template's marks
            low, high = (sum(roughly(row, ratio).real for row in head) for ratio in (1.0, 2.0))
            ratio = 1 + (sum(row.real for row in made) - low) / max(1, high - low)
            how = f"counted with the model's tokenizer ({ratio:.2f} tokens a character)"
        rest = [roughly(row, ratio) for row in rows]
    except (KeyError, TypeError, IndexError):
        raise UserError(
            "a row has not the fields of this stage", file=file, expected="the output of the stage before"
        ) from None
    if tokenizer is not None and rest:
        how += f", beyond {COUNTED_ROWS} rows estimated from characters"
    return _without_long(made + rest, max_length, how, True)


def _without_long(rows: list[Row], max_length: int | None, how: str, real_file: bool) -> Lengths:
    kept = [row for row in rows if max_length is None or row.longest <= max_length]
    return Lengths(kept, len(rows) - len(kept), how, real_file)
