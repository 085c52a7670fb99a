"""How likely a model finds the reference answers: content that form alone cannot fake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from align_ko.chat_format import IGNORE, EncodedConversation, conversation_ids
from align_ko.records import PromptRow


def encode_references(tokenizer: Any, rows: Sequence[PromptRow]) -> list[EncodedConversation]:
    """Prompts with their references, only the reference (eos included) supervised."""
    return [conversation_ids(tokenizer, row.messages, last_only=True) for row in rows if row.reference]


@torch.inference_mode()
def reference_losses(
    model: Any, encoded: Sequence[EncodedConversation], pad: int = 0, batch_size: int = 8
) -> Iterator[tuple[int, float, int]]:
    """(number, negative log-likelihood in nats, tokens) of each reference, batches of like lengths.

    Right padding is harmless here: attention is causal and padded labels are ignored.
    """
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number].input_ids))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        rows = [encoded[number] for number in numbers]
        width = max(len(row.input_ids) for row in rows)
        ids = torch.tensor([row.input_ids + [pad] * (width - len(row.input_ids)) for row in rows], device=model.device)
        labels = torch.tensor([row.labels + [IGNORE] * (width - len(row.labels)) for row in rows])
        mask = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows])
        logits = model(input_ids=ids, attention_mask=mask.to(model.device)).logits[:, :-1].float()
        target = labels[:, 1:].to(model.device)
        nats = cross_entropy(logits.transpose(1, 2), target, reduction="none").sum(-1)  # (B,)
        yield from zip(numbers, nats.tolist(), (target != IGNORE).sum(-1).tolist(), strict=True)
