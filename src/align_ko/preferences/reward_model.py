"""A reward model's raw scores: any sequence-classification model of transformers, loaded here or on a server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.generation.endpoint import Body, Reply, complete_all
from align_ko.generation.relevance import Question
from align_ko.generation.requests import progress
from align_ko.models.load import best_dtype
from align_ko.models.source import ModelSource, model_source, weights_hash
from align_ko.recipe import RewardModelArgs
from align_ko.records import Message
from align_ko.stores import Store, row_key


def reward_scores(questions: Sequence[Question], args: RewardModelArgs, file: Path) -> list[float]:
    """One raw score per (prompt, answer), stored in `file` as they come; the model is loaded, or its server asked, only for
    those that are missing. UserError for a model that cannot be a reward model, and as `complete_all` raises it."""
    source = model_source(args.model_name_or_path)
    tokenizer = source.load(AutoTokenizer)
    encoded = [_encode(tokenizer, *question, args.max_length) for question in questions]
    served_as = args.model or args.model_name_or_path
    if args.base_url:
        facts = {"base_url": args.base_url, "model": served_as}
    else:
        facts = {"weights": weights_hash(source), "dtype": str(best_dtype(args.dtype))}
    keys = [row_key(ids=ids, **facts) for ids in encoded]
    store = Store(file).load(keys)
    missing = {key: ids for key, ids in zip(keys, encoded, strict=True) if key not in store}
    if missing and args.base_url:
        _ask(missing, args, served_as, store)
    elif missing:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = _load(source, args, tokenizer)
        order = sorted(missing, key=lambda key: -len(missing[key]))
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            for key, score in zip(batch, _forward(model, tokenizer, [missing[key] for key in batch]), strict=True):
                store.add(key, score=score)
    return [float(store[key]["score"]) for key in keys]


def _ask(missing: dict[str, list[int]], args: RewardModelArgs, name: str, store: Store) -> None:
    """Token ids travel, so that the server's template and special tokens do not count. `name`: of the model on the server."""
    keys = list(missing)

    def body(key: str) -> Body:
        # vLLM: entrypoints/pooling/base/protocol.py, CompletionRequestMixin.input and ClassifyRequestMixin.use_activation
        # (false: logits); SGLang: srt/managers/io_struct.py, EmbeddingReqInput.input_ids
        if args.server == "vllm":
            return {"model": name, "input": missing[key], "use_activation": False}
        return {"model": name, "input_ids": missing[key]}

    def save(index: int, reply: Reply) -> None:
        store.add(keys[index], score=float(reply.text))
        advance()

    with progress(len(keys), what="rewards") as advance:
        complete_all(args, [partial(body, key) for key in keys], save, "judges.reward_model", wanted="score")


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
