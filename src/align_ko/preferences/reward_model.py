"""A reward model's raw scores: any sequence-classification model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from align_ko.errors import UserError
from align_ko.models.load import best_dtype
from align_ko.models.source import model_source
from align_ko.preferences.kept_answers import Kept, key_of
from align_ko.recipe import RewardModelArgs
from align_ko.records import Message

Question = tuple[list[Message], str]  # a prompt and one answer to it


def reward_scores(questions: Sequence[Question], args: RewardModelArgs, kept_in: Path) -> list[float]:
    """One raw score per (prompt, answer), longest first in batches, each batch kept in `kept_in` as it is done.

    Nothing is loaded where all are kept already. UserError for a model that cannot be a reward model.
    """
    kept = Kept(kept_in)
    keys = [key_of(args.model_name_or_path, args.max_length, prompt, answer) for prompt, answer in questions]
    todo = {key: question for key, question in zip(keys, questions, strict=True) if key not in kept}
    if todo:
        model, tokenizer = _load(args)
        encoded = {key: _encode(tokenizer, *question, args.max_length) for key, question in todo.items()}
        order = sorted(encoded, key=lambda key: -len(encoded[key]))
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            for key, score in zip(batch, _forward(model, tokenizer, [encoded[key] for key in batch]), strict=True):
                kept.add(key, score=score)
    return [float(kept[key]["score"]) for key in keys]


def _load(args: RewardModelArgs) -> tuple[Any, Any]:
    source = model_source(args.model_name_or_path)
    tokenizer = source.load(AutoTokenizer)
    model = source.load(AutoModelForSequenceClassification, dtype=best_dtype(args.dtype)).eval()
    if model.config.num_labels > 2:
        raise UserError(
            f"{args.model_name_or_path} has {model.config.num_labels} labels",
            key="judges.reward_model.model_name_or_path",
            expected="a model with one label, or two of which the second is the good one",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id  # decoders are scored at the last token that is not this
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _encode(tokenizer: Any, prompt: list[Message], answer: str, max_length: int) -> list[int]:
    """Ids in the model's own chat format, or question and answer as its pair of texts; the beginning of long ones is cut."""
    if tokenizer.chat_template:
        messages = [*prompt, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    else:
        ids = tokenizer("\n\n".join(message["content"] for message in prompt), answer)["input_ids"]
    return list(ids)[-max_length:]


@torch.inference_mode()
def _forward(model: Any, tokenizer: Any, rows: list[list[int]]) -> list[float]:
    """Scores of a right-padded batch: the one label's logit, or of two labels the second's less the first's."""
    batch = tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt").to(model.device)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()  # (B, labels)
    scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    return [round(value, 6) for value in scores.tolist()]
