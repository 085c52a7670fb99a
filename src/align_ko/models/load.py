"""Load tokenizer, model and adapter; choose the number format by hardware."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from align_ko.chat_format import FORMAT_FILE, adopt_turn_end, check_format, set_chat_template
from align_ko.chat_templates import OWN
from align_ko.errors import UserError, missing_package, nearest
from align_ko.manifest import read_manifest
from align_ko.models.export import save_model
from align_ko.models.merge import attach_adapter, interpolate, merge_adapter
from align_ko.models.source import ModelSource, base_of, is_adapter, model_source
from align_ko.recipe import GenerationArgs, ModelArgs

# Llama 3.1, Llama 3 and Qwen's coder have one of the second line
PADS = ("<pad>", "[PAD]", "<|pad|>",
        "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<|fim_pad|>", "<unk>")  # fmt: skip


def best_dtype(wanted: str = "auto") -> torch.dtype:
    """`auto`: bfloat16 on hardware that computes in it (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), else float32."""
    if wanted != "auto":
        return getattr(torch, wanted)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def training_source(args: ModelArgs) -> ModelSource:
    return model_source(args.model_name_or_path, args.model_revision, args.trust_remote_code)


def load_tokenizer(path: str | ModelSource, chat_template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer with the chat template that `chat_template` names (None keeps its own, if any; `tokenizer` insists on one),
    the eos that closes its answers, and a pad token other than eos: collators would mask every answer's eos with it."""
    source = model_source(path)
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
        vocabulary = tokenizer.get_vocab()
        spare = [token for token in (*PADS, tokenizer.unk_token) if token in vocabulary and token != tokenizer.eos_token]
        if not spare:
            problem = "this tokenizer has no token to pad with other than eos"
            raise UserError(problem, expected="a tokenizer with <pad>, [PAD] or <unk>")
        tokenizer.pad_token = spare[0]
    return tokenizer


def _check_saved_format(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    saved = folder / "generation_config.json"
    eos = json.loads(saved.read_text(encoding="utf-8")).get("eos_token_id") if saved.is_file() else None
    check_format(folder, tokenizer, eos)


def greedy_config(tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """Default decoding: greedy, no penalties, no sampling fields, stops at the tokenizer's eos."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(do_sample=False, use_cache=True, **ids)


def context_of(model: PreTrainedModel) -> int:
    """Tokens that its positions were made for; sys.maxsize where the config says nothing."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


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
    """The model to train, in the recipe's format and quantisation, decoding greedily; `source` replaces the one that `args`
    names."""
    model: PreTrainedModel = (source or training_source(args)).load(
        AutoModelForCausalLM,
        dtype=best_dtype(args.dtype),
        attn_implementation=args.attn_implementation,
        quantization_config=quantization(args),
        use_safetensors=True,
    )
    model.generation_config = greedy_config(tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50 repacks 4-bit weights on a CPU when they answer or are evaluated, and their backward then
            # returns 0: after the first look no layer below would learn
            module.support_avx512bf16_for_cpu = False
    return model


def lora_config(args: ModelArgs, source: ModelSource | None = None, model: PreTrainedModel | None = None) -> LoraConfig | None:
    """The new adapter, if one is wanted; it names the revision of its base (`source`). UserError for a target that `model`
    lacks: PEFT trains the others and says nothing."""
    if not args.use_peft:
        return None
    targets = list(args.lora_target_modules)
    # PEFT takes names as a list, and a regular expression (for whole module names) or `all-linear` as one text
    pattern = len(targets) == 1 and (targets[0] == "all-linear" or set(targets[0]) & set("*+?|()[]^$\\"))
    if model is not None and targets != ["all-linear"]:
        names = [name for name, _ in model.named_modules()]
        for target in targets:
            if not any(re.fullmatch(target, name) if pattern else f".{name}".endswith(f".{target}") for name in names):
                layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
                ends = sorted({name.rpartition(".")[2] for name in layers})
                problem = f"no module of {model.name_or_path} is called '{target}'"
                expected = f"some of {', '.join(ends)}, or all-linear"
                raise UserError(problem, key="model.lora_target_modules", expected=expected, nearest=nearest(target, ends))
    return LoraConfig(
        task_type="CAUSAL_LM",
        revision=source.revision if source else None,
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=targets[0] if pattern else targets,
        use_rslora=args.use_rslora,
        use_dora=args.use_dora,
    )


def load_checkpoint_tokenizer(path: str | ModelSource, chat_template: str = "default") -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint to decode with, its format checked; `chat_template` as in `load_for_inference`."""
    source = model_source(path)
    tokenizer = load_tokenizer(source)
    named = chat_template not in ("default", OWN) and not (Path(source.path) / FORMAT_FILE).is_file()
    if tokenizer.chat_template is None or named:
        set_chat_template(tokenizer, chat_template)
    _check_saved_format(Path(source.path), tokenizer)
    return tokenizer


def load_for_inference(
    path: str | ModelSource, dtype: str = "auto", chat_template: str = "default", merge: bool = True, load_in_4bit: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint to decode with: adapter merged (`merge=False`: beside its base), format checked, greedy. `load_in_4bit`:
    beside a base in 4 bits, as QLoRA trains it.

    `chat_template`: the default one is used only by a model that brings none (a base model); a family's name or a Jinja file by
    every model that was not trained here (Qwen3's own template would have it think first)."""
    source = model_source(path)
    tokenizer = load_checkpoint_tokenizer(source, chat_template)
    if load_in_4bit:
        model = load_base(_as_trained(source, dtype), tokenizer, base_of(source))
        model = attach_adapter(model, source.path).get_base_model() if is_adapter(source.path) else model
    else:
        device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
        model = load_weights(source, best_dtype(dtype), merge, device)
    model.generation_config = greedy_config(tokenizer)
    return model.eval(), tokenizer


def _as_trained(source: ModelSource, dtype: str) -> ModelArgs:
    """4 bits as the checkpoint's manifest says that it was trained on, else NF4, nested."""
    if not find_spec("bitsandbytes"):
        raise missing_package("bitsandbytes", "generation.load_in_4bit")
    model = (read_manifest(source.path).get("recipe") or {}).get("model") or {}
    kind = {key: model[key] for key in ("bnb_4bit_quant_type", "use_bnb_nested_quant") if key in model} | {"dtype": dtype}
    return ModelArgs(source.path, load_in_4bit=True, **kind)


def number_format(args: GenerationArgs) -> str:
    """What an answer depends on beside the weights: `torch.bfloat16`, `torch.bfloat16 on 4 bits`."""
    return f"{best_dtype(args.dtype)}{' on 4 bits' if args.load_in_4bit else ''}"


def load_weights(path: str | ModelSource, dtype: torch.dtype, merge: bool = True, device: str = "cpu") -> PreTrainedModel:
    """A checkpoint on `device`, without a copy in main memory; an adapter is merged, or with `merge=False` attached."""
    source = model_source(path)
    placed = {} if device == "cpu" else {"device_map": {"": device}}
    model: PreTrainedModel = base_of(source).load(AutoModelForCausalLM, dtype=dtype, use_safetensors=True, **placed)
    if not is_adapter(source.path):
        return model
    return merge_adapter(model, source.path) if merge else attach_adapter(model, source.path).get_base_model()


def load_interpolated(
    path: str | ModelSource, start: str | ModelSource, share: float, dtype: str, spherical: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The checkpoint at `path` taken back towards `start`, on the CPU, adapters merged; both are held in `dtype` meanwhile."""
    tokenizer = load_checkpoint_tokenizer(path)
    model = load_weights(path, best_dtype(dtype))
    interpolate(model, load_weights(start, best_dtype(dtype)), share, spherical)
    model.generation_config = greedy_config(tokenizer)
    return model.eval(), tokenizer


def load_mean(paths: Sequence[str | ModelSource], dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The mean of several checkpoints' weights, added up in float32 on the CPU (model soups, arXiv:2203.05482)."""
    tokenizer = load_checkpoint_tokenizer(paths[0])
    model = load_weights(paths[0], torch.float32)
    for count, path in enumerate(paths[1:], start=1):
        interpolate(model, load_weights(path, torch.float32), count / (count + 1))
    model.to(best_dtype(dtype))
    model.generation_config = greedy_config(tokenizer)
    return model.eval(), tokenizer


def merged_start(start: ModelSource, folder: Path, tokenizer: PreTrainedTokenizerBase, dtype: str) -> ModelSource:
    """The adapter folder `start` as a plain model in folder/start, which a new adapter can name as its base."""
    state, target = PartialState(), ModelSource(str(folder / "start"), trust_remote_code=start.trust_remote_code)
    with state.main_process_first():
        if state.is_main_process:
            model = load_weights(start, best_dtype(dtype))
            model.generation_config = greedy_config(tokenizer)
            save_model(Path(target.path), model, tokenizer, base_of(start))
    return target


def load_policy(
    path: str | ModelSource, args: ModelArgs | None
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, LoraConfig | None]:
    """The model that training goes on with, its tokenizer, and the new adapter to add. An adapter folder: its base, quantised
    as `args` says, the adapter trainable, and None. A full model: itself, with a new adapter if `args.use_peft`."""
    start = model_source(path, trust_remote_code=bool(args and args.trust_remote_code))
    tokenizer, base = load_tokenizer(start), base_of(start)
    _check_saved_format(Path(start.path), tokenizer)
    args = args or ModelArgs(base.path)
    model = load_base(args, tokenizer, base)
    if is_adapter(start.path):
        return attach_adapter(model, start.path, is_trainable=True), tokenizer, None
    return model, tokenizer, lora_config(args, base, model)
