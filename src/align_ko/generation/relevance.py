"""Does an answer belong to its question? Pointwise mutual information per token, by any causal language model:

    (log p(answer | question) - log p(answer | an empty request)) / tokens of the answer, in nats

Likelihood alone prefers frequent phrases; what is left when the empty request is subtracted is what the question explains. It
tells an answer from another question's, and nothing about sense (docs/naturalness.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align_ko import reasons
from align_ko.chat_format import IGNORE, EncodedConversation, RefusedConversation, answer_ids, prompt_ids
from align_ko.generation.requests import progress
from align_ko.models.load import context_of, load_checkpoint_tokenizer, load_for_inference, number_format
from align_ko.models.source import ModelSource, weights_hash
from align_ko.recipe import GenerationArgs
from align_ko.records import Message
from align_ko.stores import Store, row_key

Question = tuple[list[Message], str]  # a prompt and an answer to it
TOKENS = 64
"""So many of an answer's first tokens are read; more bring nothing (docs/experiments.md)."""
K = TypeVar("K")
LEAST = 0.05
"""Nats per token under which an answer does not belong to its question: by the quickstart's SFT model none of 60 held-out
references (the lowest has 0.145) and 87 % of the references of other questions (docs/experiments.md)."""
_CHUNK = 64  # questions between two writes to the store


def relevance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], batch_size: int = 8
) -> list[float | None]:
    """The nats per token of each answer. 0 for an empty answer; None where the model's context ends before the answer begins,
    or its template refuses the conversation."""
    encoded = dict(enumerate(_encode(tokenizer, questions)))
    measured = _measure(model, int(tokenizer.pad_token_id or 0), encoded, batch_size)
    return [measured[number] for number in encoded]


def stored_relevance(
    questions: Sequence[Question],
    model: str | ModelSource,
    file: Path,
    generation: GenerationArgs | None = None,
    chat_template: str = "default",
    rank: int = 0,
) -> list[float | None]:
    """The same by the model at a path in the number format of `generation`, each value stored in `file`; the model is loaded
    only where one is missing."""
    generation = generation or GenerationArgs()
    tokenizer = load_checkpoint_tokenizer(model, chat_template)
    encoded = _encode(tokenizer, questions)
    known = {"weights": weights_hash(model), "dtype": number_format(generation)}
    keys = [row_key(asked=one.asked, unasked=one.unasked, answer=one.answer, **known) for one in encoded]
    store = Store(file, rank).load(keys)
    missing = {key: one for key, one in zip(keys, encoded, strict=True) if key not in store}
    if missing:
        order = sorted(missing, key=lambda key: len(missing[key].asked) + len(missing[key].answer))
        scorer, _ = load_for_inference(model, generation.dtype, chat_template, load_in_4bit=generation.load_in_4bit)
        with progress(len(order), rank == 0, "answers read beside their questions") as advance:
            for start in range(0, len(order), _CHUNK):
                chunk = {key: missing[key] for key in order[start : start + _CHUNK]}
                for key, value in _measure(scorer, int(tokenizer.pad_token_id or 0), chunk).items():
                    store.add(key, nats_per_token=value)
                    advance()
    return [store[key]["nats_per_token"] for key in keys]


def is_relevant(nats_per_token: float | None) -> bool:
    return nats_per_token is not None and nats_per_token >= LEAST


def describe_relevance(nats_per_token: float | None) -> str:
    """`0.71 nats a token by its question, at least 0.05 wanted`."""
    if nats_per_token is None:
        return f"no value by its question, at least {LEAST:g} wanted"
    return reasons.IRRELEVANT.format(nats_per_token, LEAST)


def why_unrelated(questions: Sequence[Question], model: str | ModelSource, file: Path) -> list[str]:
    """For curation: "" for an answer that belongs to its question, and where that cannot be told."""
    values = stored_relevance(questions, model, file)
    return ["" if nats is None or is_relevant(nats) else describe_relevance(nats) for nats in values]


class _Encoded(NamedTuple):
    asked: list[int]  # the prompt
    unasked: list[int]  # the empty request, one list for all
    answer: list[int]  # its first tokens, without eos


def _encode(tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]) -> list[_Encoded]:
    """Without `asked` where the template refuses the conversation."""
    unasked = prompt_ids(tokenizer, [{"role": "user", "content": ""}])
    encoded = []
    for prompt, answer in questions:
        try:
            said = answer_ids(tokenizer, prompt, answer, finished=False) if answer.strip() else []
            asked = prompt_ids(tokenizer, prompt)
        except RefusedConversation:
            said, asked = [], []
        encoded.append(_Encoded(asked, unasked, said[:TOKENS]))
    return encoded


def _measure(model: Any, pad: int, encoded: Mapping[K, _Encoded], batch_size: int = 8) -> dict[K, float | None]:
    context = context_of(model)
    room = {key: max(0, context - len(one.asked)) if one.asked else 0 for key, one in encoded.items()}
    measured: dict[K, float | None] = {key: None if not room[key] else 0.0 for key in encoded}
    keys = [key for key, one in encoded.items() if one.answer[: room[key]]]
    for sign, before in ((-1, 0), (1, 1)):
        rows = []
        for key in keys:
            ids, said = encoded[key][before], encoded[key].answer[: room[key]]
            rows.append(EncodedConversation(ids + said, [IGNORE] * len(ids) + said))
        for number, nats, tokens in answer_losses(model, rows, pad, batch_size):
            measured[keys[number]] = (measured[keys[number]] or 0.0) + sign * nats / tokens
    return measured


def mean_nll(losses: Sequence[tuple[float, int]]) -> float | None:
    """Nats per token of (nats, tokens) of several answers, over all their tokens; None without any."""
    tokens = sum(count for _, count in losses)
    return sum(nats for nats, _ in losses) / tokens if tokens else None


@torch.inference_mode()
def answer_losses(
    model: Any, encoded: Sequence[EncodedConversation], pad: int = 0, batch_size: int = 8
) -> Iterator[tuple[int, float, int]]:
    """(number, negative log-likelihood in nats, tokens) of the supervised tokens of each row, in batches of like lengths.

    Right padding is harmless here: attention is causal and padded labels are ignored.
    """
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number].input_ids))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        rows = [encoded[number] for number in numbers]
        padding = [max(len(row.input_ids) for row in rows) - len(row.input_ids) for row in rows]
        ids = [row.input_ids + [pad] * extra for row, extra in zip(rows, padding, strict=True)]
        labels = [row.labels + [IGNORE] * extra for row, extra in zip(rows, padding, strict=True)]
        mask = [[1] * len(row.input_ids) + [0] * extra for row, extra in zip(rows, padding, strict=True)]
        inputs, attended, target = (torch.tensor(values, device=model.device) for values in (ids, mask, labels))
        logits, target = model(input_ids=inputs, attention_mask=attended).logits[:, :-1].float(), target[:, 1:]
        likelihood = logits.gather(-1, target.clamp(min=0)[..., None])[..., 0] - logits.logsumexp(-1)  # (B, T - 1)
        nats = -(likelihood * (target != IGNORE)).sum(-1)  # (B,)
        yield from zip(numbers, nats.tolist(), (target != IGNORE).sum(-1).tolist(), strict=True)
