"""How likely a model finds the reference answers: content that form alone cannot fake."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from align_ko.chat_format import IGNORE, conversation_ids
from align_ko.records import PromptRow


@torch.inference_mode()
def reference_nats(model: Any, tokenizer: Any, questions: list[PromptRow], batch_size: int = 8) -> tuple[float, int]:
    """Negative log-likelihood in nats of the reference answers (eos included), and how many tokens they have; 0, 0 without any.

    Right padding is harmless here: attention is causal and padded labels are ignored.
    """
    encoded = [
        conversation_ids(tokenizer, [*q.prompt, {"role": "assistant", "content": q.reference}], last_only=True)
        for q in questions
        if q.reference
    ]
    encoded.sort(key=lambda row: len(row.input_ids))
    total, tokens = 0.0, 0
    for start in range(0, len(encoded), batch_size):
        rows = encoded[start : start + batch_size]
        width = max(len(row.input_ids) for row in rows)
        pad = int(tokenizer.pad_token_id or 0)
        ids = torch.tensor([row.input_ids + [pad] * (width - len(row.input_ids)) for row in rows], device=model.device)
        labels = torch.tensor([row.labels + [IGNORE] * (width - len(row.labels)) for row in rows])
        mask = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows])
        logits = model(input_ids=ids, attention_mask=mask.to(model.device)).logits[:, :-1].float()
        target = labels[:, 1:].to(model.device)
        total += float(cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1), reduction="sum"))
        tokens += int((target != IGNORE).sum())
    return total, tokens
