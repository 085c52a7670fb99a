"""Load tokenizer, model and adapter; choose the number format by hardware; merge and save."""

from __future__ import annotations

import hashlib
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
from align_ko.manifest import weights_marks
from align_ko.models import quickstart as quickstart_model
from align_ko.models.hardware import read_base_of
from align_ko.recipe import ModelArgs


def resolve_model_path(name: str) -> str:
    """`quickstart` → the prepared Gemma folder; anything else unchanged. UserError when it was never prepared."""
    if name != "quickstart":
        return name
    folder = quickstart_model.default_folder()
    if not quickstart_model.is_ready(folder):
        raise UserError(f"the quickstart model is not in {folder}", expected="python scripts/prepare_quickstart_model.py first")
    return str(folder)


def is_adapter(path: str | Path) -> bool:
    return (Path(path) / "adapter_config.json").is_file()


def best_dtype(wanted: str = "auto") -> torch.dtype:
    """`auto`: bfloat16 on hardware that computes in it (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), else float32."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def load_tokenizer(path: str, chat_template: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer, with the chat template that `chat_template` names, the eos that closes its answers, and a pad token that
    is not that eos. None keeps the template that the tokenizer brings, if any; `tokenizer` insists on one.

    pad == eos would mask the eos of every answer in common collators, so the model would never learn to stop.
    """
    tokenizer = AutoTokenizer.from_pretrained(resolve_model_path(path), trust_remote_code=trust_remote_code)
    if hasattr(tokenizer, "legacy"):
        # transformers 5.23 reads LlamaTokenizer's `legacy` (SOLAR has it) and forgets to save it: reloaded, our own
        # checkpoint would split text after each special token in another way than it was trained with
        tokenizer.init_kwargs["legacy"] = tokenizer.legacy
    if chat_template is not None:
        set_chat_template(tokenizer, chat_template)
    elif tokenizer.chat_template is not None:
        adopt_turn_end(tokenizer)
    if tokenizer.eos_token is None:
        raise UserError(f"the tokenizer of {path} has no eos token", expected="a tokenizer that can end an answer")
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = _spare_pad_token(tokenizer)
    return tokenizer


def _spare_pad_token(tokenizer: Any) -> str:
    for token in ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<|fim_pad|>", "<unk>", tokenizer.unk_token):
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


def load_base(args: ModelArgs, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The model to train, in the recipe's number format and quantisation, decoding set to greedy."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        resolve_model_path(args.model_name_or_path),
        revision=args.model_revision,
        trust_remote_code=args.trust_remote_code,
        dtype=best_dtype(args.dtype),
        attn_implementation=args.attn_implementation,
        quantization_config=quantization(args),
        use_safetensors=True,
    )
    model.generation_config = greedy_config(model, tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    return model


def lora_config(args: ModelArgs) -> LoraConfig | None:
    if not args.use_peft:
        return None
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=_targets(args.lora_target_modules),
        use_rslora=args.use_rslora,
        use_dora=args.use_dora,
    )


def load_checkpoint_tokenizer(path: str, chat_template: str = "default") -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint to decode with, its format checked; `chat_template` as in `load_for_inference`."""
    path = resolve_model_path(path)
    tokenizer = load_tokenizer(path)
    named = chat_template not in ("default", OWN) and not (Path(path) / FORMAT_FILE).is_file()
    if tokenizer.chat_template is None or named:
        set_chat_template(tokenizer, chat_template)
    check_saved_format(path, tokenizer)
    return tokenizer


def _targets(names: tuple[str, ...]) -> list[str] | str:
    """PEFT takes names as a list, and a regular expression (for whole module names) or `all-linear` as one text."""
    if len(names) == 1 and (names[0] == "all-linear" or set(names[0]) & set("*+?|()[]^$\\")):
        return names[0]
    return list(names)


def load_for_inference(
    path: str, dtype: str = "auto", chat_template: str = "default", merge: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint to decode with: adapter merged, format checked, greedy.

    `chat_template`: the default one is used only by a model that brings none (a base model); a family's name or a Jinja file
    by every model that was not trained here (Qwen3's own template would have it think first). `merge=False` keeps the adapter
    beside its base, exactly as plain `AutoModelForCausalLM.from_pretrained` loads the folder.
    """
    path = resolve_model_path(path)
    tokenizer = load_checkpoint_tokenizer(path, chat_template)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_weights(path, best_dtype(dtype), merge)
    model.generation_config = greedy_config(model, tokenizer)
    return model.to(device).eval(), tokenizer


def load_weights(path: str, dtype: torch.dtype, merge: bool = True) -> PreTrainedModel:
    """A checkpoint on the CPU; an adapter, whose base is checked, is merged unless told otherwise."""
    path = resolve_model_path(path)
    if is_adapter(path):
        check_adapter_base(path)
        if merge:
            return load_merged(path, dtype)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, use_safetensors=True)
    return model


def load_merged(adapter: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    """An adapter folder's base with the adapter merged into it.

    Merged in float32 and rounded once: a small delta added to a bfloat16 weight would mostly be lost.
    """
    base = AutoModelForCausalLM.from_pretrained(read_base_of(str(adapter)), dtype=torch.float32, use_safetensors=True)
    merged: Any = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
    return merged.to(dtype)


def check_saved_format(path: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """`check_format` with the eos that the checkpoint's own generation_config.json stops at (None where there is none)."""
    saved = Path(path) / "generation_config.json"
    check_format(Path(path), tokenizer, json.loads(saved.read_text()).get("eos_token_id") if saved.is_file() else None)


def load_policy(
    path: str, args: ModelArgs | None
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, LoraConfig | None]:
    """The model DPO trains, from an SFT checkpoint, its tokenizer, and the new adapter to add (None when there is one already).

    An adapter folder: its base (quantised as `args` says), the adapter trainable. A full model: itself, with a new adapter if
    `args.use_peft`. The chat format is the checkpoint's own and is checked.
    """
    path = resolve_model_path(path)
    tokenizer = load_tokenizer(path)
    check_saved_format(path, tokenizer)
    if is_adapter(path):
        check_adapter_base(path)
        base = read_base_of(path)
        wanted = replace(args, model_name_or_path=base) if args else ModelArgs(base)
        model = PeftModel.from_pretrained(load_base(wanted, tokenizer), path, is_trainable=True)
        return model, tokenizer, None
    wanted = replace(args, model_name_or_path=path) if args else ModelArgs(path)
    return load_base(wanted, tokenizer), tokenizer, lora_config(wanted)


def weights_hash(path: str) -> str:
    """A name for a checkpoint's weights that changes when they do: hash of its safetensors files (first 16 hex digits)."""
    marks = weights_marks(resolve_model_path(path))
    return hashlib.sha256("".join(marks.values()).encode()).hexdigest()[:16] if marks else path


def check_adapter_base(path: str) -> None:
    """UserError when the base model that an adapter folder names is gone."""
    file = Path(path) / "adapter_config.json"
    base = read_base_of(path)
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise UserError(
            f"the adapter's base model {base} is not there",
            file=file,
            key="base_model_name_or_path",
            expected="the folder it was trained from (for the quickstart: python scripts/prepare_quickstart_model.py)",
        )
