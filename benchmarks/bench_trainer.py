"""A model with random weights and rows of given lengths in our SFT trainer: what bench_batching.py and bench_memory.py time.

Speed and memory do not depend on what the weights and tokens are, so nothing has to be prepared or downloaded.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from typing import Any

TRAINED_SHARE = 0.8


def small_llama(hidden: int = 256, layers: int = 4, vocabulary: int = 4_096) -> Any:
    """A Llama config in SOLAR's proportions (3.5 times wider MLP, four queries to a key)."""
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=hidden, intermediate_size=hidden * 7 // 2, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=2, vocab_size=vocabulary, max_position_embeddings=4_096,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def random_rows(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> Any:
    """Rows of random tokens; the last TRAINED_SHARE of each carries loss."""
    from datasets import Dataset

    rng = random.Random(seed)
    ids = [[rng.randrange(3, vocabulary) for _ in range(length)] for length in lengths]
    first = [length - max(1, round(length * TRAINED_SHARE)) for length in lengths]
    labels = [[-100] * start + row[start:] for row, start in zip(ids, first, strict=True)]
    return Dataset.from_dict({"input_ids": ids, "labels": labels, "length": list(lengths)})


def random_pairs(count: int, length: int, vocabulary: int) -> Any:
    """Preference pairs of random tokens, a third of each the prompt."""
    from datasets import Dataset

    rng = random.Random(0)
    third = length // 3

    def draw(tokens: int) -> list[list[int]]:
        return [[rng.randrange(3, vocabulary) for _ in range(tokens)] for _ in range(count)]

    sides = {"prompt_ids": draw(third), "chosen_ids": draw(length - third), "rejected_ids": draw(length - third)}
    return Dataset.from_dict({**sides, "length": [length] * count, "id": [str(n) for n in range(count)]})


def plain_tokenizer() -> Any:
    """Three special tokens: the rows are numbers already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def make_trainer(
    config: Any,
    model_args: Any,
    rows: Any,
    training: dict[str, Any],
    callbacks: Sequence[Any] = (),
    penalty: float = 1.0,
    model: Any = None,
) -> Any:
    """Our SFT trainer as scripts/run_sft.py builds it, on `model` or on `config` with random weights. `penalty`: distils it."""
    import torch
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig

    from align_ko.models.load import best_dtype, lora_config
    from align_ko.process import keep_freed_memory
    from align_ko.recipe import DistillArgs
    from align_ko.training.distillation import sft_trainer
    from align_ko.training.prepare import training_config

    keep_freed_memory()
    torch.manual_seed(0)
    common: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(),
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
    }
    common |= {"disable_tqdm": True, "logging_strategy": "no"}
    model = model or AutoModelForCausalLM.from_config(config, dtype=best_dtype(model_args.dtype))
    return sft_trainer(
        DistillArgs(repetition_penalty=penalty),
        {},
        {},
        model=model,
        args=training_config(SFTConfig, {**common, **training}, model_args.dtype),
        train_dataset=rows,
        processing_class=plain_tokenizer(),
        peft_config=lora_config(model_args),
        callbacks=list(callbacks),
    )
