"""Load tokenizer, model and adapter; choose the number format by hardware; merge and save."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from align_ko.chat_format import FORMAT_FILE, adopt_turn_end, check_format, set_chat_template
from align_ko.chat_templates import OWN
from align_ko.errors import UserError
from align_ko.models.merge import attach_adapter, interpolate, merge_adapter
from align_ko.models.source import ModelSource, base_of, is_adapter, model_source
from align_ko.recipe import ModelArgs


def best_dtype(wanted: str = "auto") -> torch.dtype:
    """`auto`: bfloat16 on hardware that computes in it (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), else float32."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def training_source(args: ModelArgs) -> ModelSource:
    """The model that a recipe's `model:` block names."""
    return model_source(args.model_name_or_path, args.model_revision, args.trust_remote_code)


def load_tokenizer(
    path: str | ModelSource, chat_template: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer, with the chat template that `chat_template` names, the eos that closes its answers, and a pad token that
    is not that eos. None keeps the template that the tokenizer brings, if any; `tokenizer` insists on one.

    pad == eos would mask the eos of every answer in common collators, so the model would never learn to stop.
    """
    source = model_source(path, trust_remote_code=trust_remote_code)
    tokenizer: PreTrainedTokenizerBase = source.load(AutoTokenizer)
    if hasattr(tokenizer, "legacy"):
        # transformers 5.23 reads LlamaTokenizer's `legacy` (SOLAR has it) and forgets to save it: reloaded, our own
        # checkpoint would split text after each special token in another way than it was trained with
        tokenizer.init_kwargs["legacy"] = tokenizer.legacy
    if chat_template is not None:
        set_chat_template(tokenizer, chat_template)
    elif tokenizer.chat_template is not None:
        adopt_turn_end(tokenizer)
    if tokenizer.eos_token is None:
        raise UserError(f"the tokenizer of {source.path} has no eos token", expected="a tokenizer that can end an answer")
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = _spare_pad_token(tokenizer)
    return tokenizer


def _spare_pad_token(tokenizer: Any) -> str:
    family = ("<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<|fim_pad|>")  # Llama 3.1, Llama 3, Qwen's coder
    for token in ("<pad>", "[PAD]", "<|pad|>", *family, "<unk>", tokenizer.unk_token):
        if token and token in tokenizer.get_vocab() and token != tokenizer.eos_token:
            return str(token)
    raise UserError("this tokenizer has no token to pad with other than eos", expected="a tokenizer with <pad>, [PAD] or <unk>")


def greedy_config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Default decoding: greedy, no penalties, no sampling fields, stops at the tokenizer's eos."""
    return GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )


def quantization(args: ModelArgs) -> BitsAndBytesConfig | None:
    if not args.load_in_4bit:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=args.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=args.use_bnb_nested_quant,
        bnb_4bit_compute_dtype=best_dtype(args.dtype),
    )


def load_base(args: ModelArgs, tokenizer: PreTrainedTokenizerBase, source: ModelSource | None = None) -> PreTrainedModel:
    """The model to train, in the recipe's number format and quantisation, decoding set to greedy.

    `source`: what to load where it is not what `args` names (DPO loads its start).
    """
    model: PreTrainedModel = (source or training_source(args)).load(
        AutoModelForCausalLM,
        dtype=best_dtype(args.dtype),
        attn_implementation=args.attn_implementation,
        quantization_config=quantization(args),
        use_safetensors=True,
    )
    model.generation_config = greedy_config(model, tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    return model


def lora_config(args: ModelArgs, source: ModelSource | None = None) -> LoraConfig | None:
    """The new adapter, if one is wanted; it names the revision of its base (`source`)."""
    if not args.use_peft:
        return None
    return LoraConfig(
        task_type="CAUSAL_LM",
        revision=source.revision if source else None,
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=_targets(args.lora_target_modules),
        use_rslora=args.use_rslora,
        use_dora=args.use_dora,
    )


def _targets(names: tuple[str, ...]) -> list[str] | str:
    """PEFT takes names as a list, and a regular expression (for whole module names) or `all-linear` as one text."""
    if len(names) == 1 and (names[0] == "all-linear" or set(names[0]) & set("*+?|()[]^$\\")):
        return names[0]
    return list(names)


def load_checkpoint_tokenizer(path: str | ModelSource, chat_template: str = "default") -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint to decode with, its format checked; `chat_template` as in `load_for_inference`."""
    source = model_source(path)
    tokenizer = load_tokenizer(source)
    named = chat_template not in ("default", OWN) and not (Path(source.path) / FORMAT_FILE).is_file()
    if tokenizer.chat_template is None or named:
        set_chat_template(tokenizer, chat_template)
    check_saved_format(source.path, tokenizer)
    return tokenizer


def check_saved_format(path: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """`check_format` with the eos that the checkpoint's own generation_config.json stops at (None where there is none)."""
    saved = Path(path) / "generation_config.json"
    check_format(Path(path), tokenizer, json.loads(saved.read_text()).get("eos_token_id") if saved.is_file() else None)


def load_for_inference(
    path: str | ModelSource, dtype: str = "auto", chat_template: str = "default", merge: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint to decode with: adapter merged, format checked, greedy.

    `chat_template`: the default one is used only by a model that brings none (a base model); a family's name or a Jinja file
    by every model that was not trained here (Qwen3's own template would have it think first). `merge=False` keeps the adapter
    beside its base, as plain `AutoModelForCausalLM.from_pretrained` loads the folder.
    """
    source = model_source(path)
    tokenizer = load_checkpoint_tokenizer(source, chat_template)
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    model = load_weights(source, best_dtype(dtype), merge, device)
    model.generation_config = greedy_config(model, tokenizer)
    return model.eval(), tokenizer


def load_weights(path: str | ModelSource, dtype: torch.dtype, merge: bool = True, device: str = "cpu") -> PreTrainedModel:
    """A checkpoint on `device`, without a copy in main memory; an adapter is merged, or with `merge=False` attached."""
    source = model_source(path)
    placed = {} if device == "cpu" else {"device_map": {"": device}}
    model: PreTrainedModel = base_of(source).load(AutoModelForCausalLM, dtype=dtype, use_safetensors=True, **placed)
    if not is_adapter(source.path):
        return model
    if merge:
        return merge_adapter(model, source.path)
    beside: PreTrainedModel = attach_adapter(model, source.path).get_base_model()
    return beside


def load_interpolated(
    path: str | ModelSource, start: str | ModelSource, share: float, dtype: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The checkpoint at `path` taken back towards `start`, on the CPU, adapters merged; both are held in `dtype` meanwhile."""
    tokenizer = load_checkpoint_tokenizer(path)
    model = load_weights(path, best_dtype(dtype))
    interpolate(model, load_weights(start, best_dtype(dtype)), share)
    model.generation_config = greedy_config(model, tokenizer)
    return model.eval(), tokenizer


def load_policy(
    path: str | ModelSource, args: ModelArgs | None
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, LoraConfig | None]:
    """The model DPO trains, from an SFT checkpoint, its tokenizer, and the new adapter to add (None when there is one already).

    An adapter folder: its base (quantised as `args` says), the adapter trainable. A full model: itself, with a new adapter if
    `args.use_peft`. The chat format is the checkpoint's own and is checked.
    """
    start = model_source(path, trust_remote_code=bool(args and args.trust_remote_code))
    tokenizer = load_tokenizer(start)
    check_saved_format(start.path, tokenizer)
    base = base_of(start)
    args = replace(args, model_name_or_path=base.path) if args else ModelArgs(base.path)
    model = load_base(args, tokenizer, base)
    if is_adapter(start.path):
        return attach_adapter(model, start.path, is_trainable=True), tokenizer, None
    return model, tokenizer, lora_config(args, base)
