"""Weights computed in float32, one module at a time, and rounded once: a small delta added in bfloat16 is mostly lost, and the
whole base in float32 takes twice its memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from transformers import PreTrainedModel

from align_ko.errors import UserError


def attach_adapter(model: PreTrainedModel, adapter: str, is_trainable: bool = False) -> PeftModel:
    """`model` with the adapter of a folder beside its weights. UserError where the adapter does not fit. Without PEFT's
    low_cpu_mem_usage, which would round a float32 adapter to the dtype of a bfloat16 base."""
    _fit_embeddings(model, Path(adapter))
    try:
        return PeftModel.from_pretrained(model, adapter, is_trainable=is_trainable, torch_device=str(model.device))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"the adapter does not fit its base {model.name_or_path}: {reason[-1] if reason else type(error).__name__}",
            file=Path(adapter) / "adapter_config.json",
            key="base_model_name_or_path",
            expected="the model that it was trained on",
        ) from None


@torch.no_grad()
def merge_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """`model` with a folder's adapter merged into it, in place, each module in float32. UserError where it does not fit."""
    dtypes = {name: weight.dtype for name, weight in model.named_parameters(remove_duplicate=False)}
    adapted: Any = attach_adapter(model, adapter)
    if adapted.active_peft_config.is_prompt_learning:
        problem = f"a {adapted.peft_type.value} adapter cannot be merged into weights"
        raise UserError(problem, file=Path(adapter) / "adapter_config.json", key="peft_type", expected="LORA")
    for module in list(adapted.modules()):
        if not isinstance(module, BaseTunerLayer) or hasattr(module, "unload_and_optionally_merge_module"):
            continue  # the latter are merged below, by PEFT, in the dtype that they have
        before = {name: weight.data for name, weight in module.get_base_layer().named_parameters()}
        module.float()
        module.merge()
        for name, weight in module.get_base_layer().named_parameters():
            if (old := before.get(name)) is not None and old.dtype != weight.dtype:
                # into the old memory: a page that was mapped from the weight file is replaced, not joined by another
                weight.data = old.copy_(weight.data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All adapters are already merged|Input and output embeddings are no longer tied")
        merged: PreTrainedModel = adapted.merge_and_unload()
    for name, weight in merged.named_parameters(remove_duplicate=False):  # modules_to_save come in float32
        weight.data = weight.data.to(dtypes.get(name, merged.dtype))
    return merged


def _fit_embeddings(model: PreTrainedModel, adapter: Path) -> None:
    """Give the base the vocabulary that the adapter was saved with, and a head of its own where only one end is adapted."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    ends = [name for name, module in model.named_modules() if module in (embedding, head)]
    file, rows, adapted = adapter / "adapter_model.safetensors", 0, False
    if not file.is_file():
        raise UserError(f"{adapter} has no adapter_model.safetensors", expected="an adapter saved as safetensors")
    with safe_open(file, "pt") as saved:
        for key in saved.keys():  # noqa: SIM118  not a dict
            if any(f".{end}." in key for end in ends):
                adapted = adapted or "lora_" in key
                if "lora_" not in key or "lora_B" in key or "lora_embedding_A" in key:
                    rows = saved.get_slice(key).get_shape()[1 if "lora_embedding_A" in key else 0]
    if rows and rows != embedding.weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    head = model.get_output_embeddings()
    if adapted and head is not None and head.weight is model.get_input_embeddings().weight:
        # merged into the shared weight, the delta of one end would act on the other too
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


@torch.no_grad()
def interpolate(end: PreTrainedModel, start: PreTrainedModel, share: float, spherical: bool = False) -> None:
    """Move `end`'s weights, in place, to start + share × (end − start); start 1.0, end 2.0, share 0.8 → 1.8. Keeps most of what
    training gained and gives back most of what it cost (WiSE-FT, arXiv:2109.01903; for RLHF arXiv:2309.06256). `spherical`: on
    the arc between the two directions of each weight (SLERP). UserError where the two differ in shape."""
    weights, before = dict(end.named_parameters()), dict(start.named_parameters())
    for name in sorted(weights.keys() | before.keys()):
        shapes = [" × ".join(map(str, model[name].shape)) if name in model else "nothing" for model in (before, weights)]
        if shapes[0] != shapes[1]:
            problem = f"the two models differ in shape, first at {name}: {shapes[0]} and {shapes[1]}"
            raise UserError(problem, key="interpolate_from", expected="a checkpoint of the same base model")
    for name, weight in weights.items():
        weight.copy_((slerp if spherical else torch.lerp)(before[name].float(), weight.float(), share))


def slerp(start: torch.Tensor, end: torch.Tensor, share: float) -> torch.Tensor:
    """The point `share` of the way along the arc; [1, 0], [0, 2], 0.5 → [.707, 1.414]. A line where both point the same way."""
    lengths = start.norm() * end.norm()
    angle = torch.acos((torch.dot(start.flatten(), end.flatten()) / lengths).clamp(-1, 1))
    if not lengths or (sine := torch.sin(angle)) < 1e-4:
        return torch.lerp(start, end, share)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / sine
