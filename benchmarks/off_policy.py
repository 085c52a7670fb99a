"""What a team without curation and without its own model's answers would train on: raw rows, and pairs by other writers.

The alignment-handbook trains DPO on UltraFeedback: answers of other models to a prompt, the better against a worse one.
Nothing of that kind can be had offline for these prompts. The nearest: the written answer as chosen; as rejected, a worse
copy of it by another hand where there is one (the spoilt rows), else the answer to another question of the same source.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_ko.adapters import Rejection, adapt
from align_ko.curation.curate import evaluation_prompts
from align_ko.overlap import PromptIndex, overlaps
from align_ko.preferences.pairing import Side, make_pair
from align_ko.recipe import DataRecipe
from align_ko.records import Message, PreferencePair, content_id, last_user_text, read_jsonl
from align_ko.sources import read_source

Place = tuple[str, int]  # file, line


@dataclass(frozen=True)
class RawConversation:
    messages: list[Message]
    source: str
    place: Place


def raw_conversations(recipe: DataRecipe) -> list[RawConversation]:
    """Every row of the sources that can be read as a conversation. No filter, no repair, no near-duplicate search.

    Left out: what nobody could train on (broken rows, empty or misplaced turns), and the prompts that models are judged by.
    """
    index = PromptIndex(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path))
    return [row for row in _readable(recipe) if not overlaps(last_user_text(row.messages), index)]


def _readable(recipe: DataRecipe) -> Iterator[RawConversation]:
    for name, source in recipe.sources.items():
        for raw in read_source(source.path, source.split):
            if raw.problem:
                continue
            messages = adapt(raw.value, source.adapter, source.columns)
            if not isinstance(messages, Rejection) and _is_conversation(messages):
                yield RawConversation(messages, name, (raw.file, raw.line))


def _is_conversation(messages: list[Message]) -> bool:
    """`[system] user assistant user assistant …`, nothing empty."""
    turns = messages[1:] if messages and messages[0]["role"] == "system" else messages
    roles = [message["role"] for message in turns]
    whole = roles == ["user", "assistant"] * (len(roles) // 2) and bool(roles)
    return whole and all(message["content"].strip() for message in messages)


def sft_rows(
    rows: list[RawConversation], seed: int, eval_share: float = 0.05
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(train, eval) by a random split."""
    shuffled = random.Random(seed).sample(rows, len(rows))
    made = [{"id": content_id(row.messages), "messages": row.messages, "source": row.source} for row in shuffled]
    held_out = max(1, round(len(made) * eval_share))
    return made[held_out:], made[:held_out]


def off_policy_pairs(rows: list[RawConversation], spoilt_key: str, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` preference rows whose two sides were written by others: spoilt copies first, then answers to other questions.

    `origin` says which: "spoilt_copy" or "other_answer".
    """
    rng = random.Random(seed)
    folder = Path(spoilt_key.removesuffix(".key.jsonl")) if spoilt_key else None
    by_place = {(str(Path(file)), line): row for row in rows for file, line in [row.place]}
    clean = [row for row in rows if folder is None or Path(row.place[0]).parent != folder]
    pairs = list(_spoilt_pairs(by_place, clean, folder, spoilt_key)) if folder else []
    rng.shuffle(pairs)
    used = {pair.prompt[-1]["content"] for pair in pairs}
    by_source: dict[str, list[RawConversation]] = defaultdict(list)
    for row in clean:
        by_source[row.source].append(row)
    for row in rng.sample(clean, len(clean)):
        others = by_source[row.source]
        if len(pairs) >= count:
            break
        if len(others) > 1 and row.messages[-2]["content"] not in used:
            other = rng.choice([item for item in rng.sample(others, min(5, len(others))) if item is not row])
            pairs.append(_pair(row, other.messages[-1]["content"], "other_answer"))
    chosen = pairs[:count]
    rng.shuffle(chosen)
    return [pair.to_row() for pair in chosen]


def _spoilt_pairs(
    by_place: dict[Place, RawConversation], clean: list[RawConversation], folder: Path, key: str
) -> Iterator[PreferencePair]:
    """Pairs of a clean row and its spoilt copy, where both can be read and their last answers differ."""
    clean_by_name = {(Path(row.place[0]).name, row.place[1]): row for row in clean}
    for entry in read_jsonl(key):
        spoilt = by_place.get((str(folder / entry["file"]), entry["line"]))
        row = clean_by_name.get((entry["file"], entry["clean_line"]))
        if spoilt and row and spoilt.messages[-1] != row.messages[-1]:
            yield _pair(row, spoilt.messages[-1]["content"], "spoilt_copy")


def _pair(row: RawConversation, rejected: str, origin: str) -> PreferencePair:
    chosen = Side(row.messages[-1]["content"], "reference", 1.0)
    return make_pair(content_id(row.messages), row.messages[:-1], origin, chosen, Side(rejected, origin, 0.0))
