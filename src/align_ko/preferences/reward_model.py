"""A reward model's raw scores: any sequence-classification model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.generation.relevance import Question
from align_ko.models.load import best_dtype
from align_ko.models.source import ModelSource, model_source, weights_hash
from align_ko.recipe import RewardModelArgs
from align_ko.records import Message
from align_ko.stores import Store, row_key


def reward_scores(questions: Sequence[Question], args: RewardModelArgs, file: Path) -> list[float]:
    """One raw score per (prompt, answer), longest first in batches that are stored in `file` as they are done; the model is
    loaded only where one is missing. UserError for a model that cannot be a reward model."""
    source = model_source(args.model_name_or_path)
    tokenizer = source.load(AutoTokenizer)
    weights, dtype = weights_hash(source), str(best_dtype(args.dtype))
    encoded = [_encode(tokenizer, *question, args.max_length) for question in questions]
    keys = [row_key(ids=ids, weights=weights, dtype=dtype) for ids in encoded]
    store = Store(file).load(keys)
    missing = {key: ids for key, ids in zip(keys, encoded, strict=True) if key not in store}
    if missing:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = _load(source, args, tokenizer)
        order = sorted(missing, key=lambda key: -len(missing[key]))
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            for key, score in zip(batch, _forward(model, tokenizer, [missing[key] for key in batch]), strict=True):
                store.add(key, score=score)
    return [float(store[key]["score"]) for key in keys]


def _load(source: ModelSource, args: RewardModelArgs, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    model = source.load(AutoModelForSequenceClassification, dtype=best_dtype(args.dtype)).eval()
    if model.config.num_labels > 2:
        problem = f"{args.model_name_or_path} has {model.config.num_labels} labels"
        expected = "a model with one label, or two of which the second is the good one"
        raise UserError(problem, key="judges.reward_model.model_name_or_path", expected=expected)
    model.config.pad_token_id = tokenizer.pad_token_id  # decoders are scored at the last token that is not this
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _encode(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: str, max_length: int) -> list[int]:
    """Ids in the model's own chat format, or question and answer as its pair of texts; the beginning of long ones is cut."""
    if tokenizer.chat_template:
        messages: list[Message] = [*prompt, {"role": "assistant", "content": answer}]
        ids = prompt_ids(tokenizer, messages, add_generation_prompt=False)
    else:
        ids = tokenizer("\n\n".join(message["content"] for message in prompt), answer)["input_ids"]
    return list(ids)[-max_length:]


@torch.inference_mode()
def _forward(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> list[float]:
    """Scores of a right-padded batch: the one label's logit, or of two labels the second's less the first's."""
    batch = tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt").to(model.device)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()  # (B, labels)
    scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    return [round(value, 6) for value in scores.tolist()]
