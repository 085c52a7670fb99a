"""Proof, before the first step, that the right tokens are trained: on real batches of the trainer's own data loader."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby, islice, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import IGNORE, prompt_ids, read_back, render, rewrites_history, stop_ids
from align_ko.errors import UserError, visible
from align_ko.records import ConversationRow, Message, PairRow
from align_ko.turns import is_trained

if TYPE_CHECKING:
    from datasets import Dataset

Batch = Mapping[str, torch.Tensor]
MOST_BATCHES = 8


class AuditError(UserError):
    """A batch that would train the wrong thing; names the row and the reason."""


@contextmanager
def _untouched_randomness() -> Iterator[None]:
    """Looking at batches must not change which batches training then sees."""
    pythons, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)


def audit_batches(
    batches: Iterable[Batch],
    tokenizer: PreTrainedTokenizerBase,
    conversations: Mapping[int, list[Message]],
    generation_eos: int | list[int] | None,
    rows: Iterable[ConversationRow] = (),
) -> dict[str, int]:
    """Check collated batches (`input_ids`, `labels`, `attention_mask`, each `(rows, tokens)`; without padding all rows in one,
    `(1, tokens)`, and `position_ids` instead of a mask) against their conversations, by the hash of a row's token ids
    (conversations_of); `rows` give the id of a faulty one. AuditError at the first fault, else the counts: rows, tokens,
    supervised, padding."""
    eos_ids = stop_ids(generation_eos)
    if tokenizer.eos_token_id not in eos_ids:
        stops = " or ".join(map(str, eos_ids)) or "nothing"
        raise AuditError(
            f"generation would stop at {stops}, but training teaches eos {tokenizer.eos_token_id}",
            key="generation_config.eos_token_id",
        )
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise AuditError("pad and eos are the same token, so eos may be masked and never learned", key="pad_token")
    counts = {"rows": 0, "tokens": 0, "supervised": 0, "padding": 0}
    with _untouched_randomness():
        for batch in islice(batches, MOST_BATCHES):
            for parts, padding in lines_of(batch):
                for ids, labels in parts:
                    messages = conversations.get(hash((tuple(ids), tuple(labels)))) or conversations.get(hash(tuple(ids)))
                    if messages is None:
                        raise AuditError(
                            f"a batch row is not the whole of any conversation, so it was cut or changed: "
                            f"…{tokenizer.decode(ids[-30:])!r}"
                        )
                    try:
                        _audit_row(ids, labels, messages, tokenizer)
                    except AuditError as error:
                        begin = len(messages)
                        row_id = next((row["id"] for row in rows if "id" in row and row["messages"][:begin] == messages), None)
                        if row_id is None:
                            raise
                        expected = f"the row mended, or --data.leave_out {row_id} to train without it"
                        raise AuditError(f"{error} (id {row_id})", key="data.train_file", expected=expected) from None
                    counts["rows"] += 1
                    counts["tokens"] += len(ids)
                    counts["supervised"] += sum(label != IGNORE for label in labels)
                if any(label != IGNORE for label in padding):
                    raise AuditError(f"padding is trained on, in {_name(conversations[hash(tuple(parts[-1][0]))])}")
                counts["padding"] += len(padding)
    if not counts["rows"]:
        raise AuditError("the training data loader gives no rows")
    return counts


def lines_of(batch: Batch) -> Iterator[tuple[list[tuple[list[int], list[int]]], list[int]]]:
    """Each line of a batch as its rows (ids, labels) and the labels of its padding. With a mask a line is one row; without, a
    row begins where the positions do: `position_ids` 0 1 2 0 1 0 0 → rows of three and two tokens, two of padding."""
    positions = batch["position_ids"] if "attention_mask" not in batch else None
    if positions is None:
        real = batch["attention_mask"].bool()
    else:  # TRL fills up with position 0, one after the other; a row of a single token does not exist
        follows = torch.nn.functional.pad(positions[:, 1:], (0, 1), value=0)
        real = (positions != 0) | (follows == 1)
    for line, mask in enumerate(real):
        starts = [] if positions is None else (positions[line][mask] == 0).nonzero().flatten().tolist()[1:]
        ids, labels = (batch[name][line] for name in ("input_ids", "labels"))
        pieces = (values[mask].tensor_split(starts) for values in (ids, labels))
        yield [(one.tolist(), other.tolist()) for one, other in zip(*pieces, strict=True)], labels[~mask].tolist()


def _audit_row(ids: list[int], labels: list[int], messages: list[Message], tokenizer: PreTrainedTokenizerBase) -> None:
    name = _name(messages)
    bos = tokenizer.bos_token_id
    if bos is not None and bos != tokenizer.eos_token_id:
        # as many as the template writes itself: one in ours, one a turn in Llama 2's, none in the tuned SOLAR's
        bare: list[Message] = [{**message, "content": "x"} for message in messages]
        expected, actual = render(tokenizer, bare).count(str(tokenizer.bos_token)), ids.count(bos)
        if (bos, bos) in pairwise(ids) or (expected == 1 and actual != 1):
            raise AuditError(f"{actual} bos tokens instead of one, in {name}")
        if actual != expected:
            raise AuditError(f"{actual} bos tokens instead of {expected}, in {name}")
    position = 0
    # where earlier answers are written in another way than asked for, each answer has a row of its own, as the last turn
    first = len(messages) - 1 if rewrites_history(tokenizer, messages) else 0
    for turn, message in enumerate(messages):
        if not is_trained(message) or turn < first:
            continue
        prompt = prompt_ids(tokenizer, messages[:turn])
        if ids[: len(prompt)] != prompt:
            raise AuditError(f"turn {turn}: training shows another prompt than inference will, in {name}")
        if any(label != IGNORE for label in labels[position : len(prompt)]):
            raise AuditError(f"turn {turn}: the prompt is trained on, in {name}")
        end = len(prompt)
        while end < len(ids) and labels[end] != IGNORE:
            if labels[end] != ids[end]:
                raise AuditError(f"turn {turn}: a label is not the token at its position, in {name}")
            end += 1
            if labels[end - 1] == tokenizer.eos_token_id:
                break
        answer = ids[len(prompt) : end]
        if not answer or answer[-1] != tokenizer.eos_token_id:
            raise AuditError(f"turn {turn}: the answer's closing {tokenizer.eos_token!r} is not trained, in {name}")
        text, content = tokenizer.decode(answer[:-1]), message["content"]
        parts = content, content.rpartition("</think>")[2]  # Qwen3's template leaves out what an answer thinks before it
        if text.strip() not in {form.strip() for part in parts for form in (part, read_back(tokenizer, part))}:
            raise AuditError(f"turn {turn}: trained on {text[-40:]!r}, not on the whole answer, in {name}")
        position = end
    if any(label != IGNORE for label in labels[position:]):
        raise AuditError(f"something after the last answer is trained on, in {name}")


def audit_pairs(
    batches: Iterable[Batch], tokenizer: PreTrainedTokenizerBase, pairs: Mapping[str, PairRow], dataset: Dataset
) -> dict[str, int]:
    """Check collated preference batches, `input_ids` and `completion_mask` `(2 × pairs, tokens)`, chosen rows first, against
    `pairs` by id and the tokenised `dataset`. AuditError, or how many pairs there were and how many rejected sides were left
    open."""
    by_hash = {
        hash(tuple(row["prompt_ids"] + row[f"{side}_ids"])): (side, pairs[row["id"]])
        for row in dataset
        for side in ("chosen", "rejected")
    }
    counts = {"pairs": 0, "open": 0}
    with _untouched_randomness():
        for batch in islice(batches, MOST_BATCHES):
            half = len(batch["input_ids"]) // 2
            rows = zip(batch["input_ids"], batch["completion_mask"], batch["attention_mask"], strict=True)
            for position, (ids, scored, mask) in enumerate(rows):
                real = ids[mask.bool()].tolist()
                side = "chosen" if position < half else "rejected"
                known_side, pair = by_hash.get(hash(tuple(real)), ("", None))
                if pair is None or known_side != side:
                    raise AuditError(f"a {side} row is not the whole of any pair: …{tokenizer.decode(real[-30:])!r}")
                name = _name(pair["prompt"])
                prompt = prompt_ids(tokenizer, pair["prompt"])
                if real[: len(prompt)] != prompt:
                    raise AuditError(f"training shows another prompt than inference will, in {name}")
                answers = _answers_in(real, pair["prompt"], pair["chosen"] if side == "chosen" else pair["rejected"], tokenizer)
                if scored.nonzero().flatten().tolist() != answers:
                    raise AuditError(f"the scored part is not exactly the answer, in {name}")
                open_end = side == "rejected" and not pair.get("rejected_finished", True)
                if (real[-1] == tokenizer.eos_token_id) == open_end:
                    fault = "is closed by eos though it never ended" if open_end else "lacks its eos"
                    raise AuditError(f"the {side} side {fault}, in {name}")
                counts["open"] += open_end
            counts["pairs"] += half
    return counts


def _answers_in(ids: list[int], prompt: list[Message], side: list[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The places in `ids` of the side's answers: each from the end of its own prompt to the first eos, or to the end."""
    places: list[int] = []
    for turn, message in enumerate(side):
        if is_trained(message):
            start = len(prompt_ids(tokenizer, [*prompt, *side[:turn]]))
            eos = next((n for n in range(start, len(ids)) if ids[n] == tokenizer.eos_token_id), len(ids) - 1)
            places += range(start, eos + 1)
    return places


def _name(messages: list[Message]) -> str:
    return f"the row that begins {messages[0]['content'][:40]!r}"


def show_example(ids: list[int], labels: list[int], tokenizer: PreTrainedTokenizerBase) -> None:
    """Print one row, what is trained on in green, the rest dim."""
    text = Text()
    for trained, run in groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORE):
        text.append(visible(tokenizer.decode([token for token, _ in run])), style="bold green" if trained else "dim")
    console = Console()
    console.print("One training row. Green is trained on, the rest is only read:", style="bold")
    console.print(text)
