"""TRL's config object from a recipe's `training:` mapping, with the defaults that the hardware decides."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from trl import DPOConfig, SFTConfig

from align_ko.errors import UserError
from align_ko.models.load import best_dtype
from align_ko.training.extension_locks import tell_of_locks

Config = TypeVar("Config", SFTConfig, DPOConfig)


def training_config(kind: type[Config], training: dict[str, Any], dtype: str = "auto") -> Config:
    """Build SFTConfig or DPOConfig. What the recipe states wins; where it is silent:

    bf16/fp16 by hardware, `use_cpu` without an accelerator, TensorBoard where it is installed, the best checkpoint instead of
    the last where both are saved, a push only of the finished result. Raises UserError for a value that TRL refuses, and for
    FSDP without an accelerator.
    """
    values = dict(training)
    number = best_dtype(dtype)
    if "bf16" not in values and "fp16" not in values:
        values["bf16"] = number == torch.bfloat16
        values["fp16"] = number == torch.float16
    zero = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if zero or values.get("deepspeed"):
        tell_of_locks()
    if not torch.cuda.is_available():
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not torch.accelerator.is_available():
            # accelerate 1.15 asks about FSDP only on MULTI_GPU and its like; without one Trainer takes DDP and says nothing
            raise UserError(
                "FSDP needs an accelerator and there is none: accelerate would train with DDP, the whole model in each process",
                key="--config_file",
                expected="accelerate_configs/ddp.yaml, or zero3.yaml, which splits the weights on a CPU too",
            )
        if zero:
            # accelerate 1.15 leaves DeepSpeed out when use_cpu is set, and without a named backend it takes every process
            # for the only one ("Num processes: 1": all data on each, all of them writing)
            values["use_cpu"] = False
            values.setdefault("ddp_backend", "gloo")
        else:
            values.setdefault("use_cpu", True)
        values.setdefault("dataloader_pin_memory", False)
    values.setdefault("report_to", "tensorboard" if find_spec("tensorboard") else "none")
    values.setdefault("hub_strategy", "end")
    if _best_can_be_kept(values):
        values.setdefault("load_best_model_at_end", True)
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{kind.__name__} refuses this: {error}", key="training") from None


def _best_can_be_kept(values: dict[str, Any]) -> bool:
    """Whether every evaluated step is saved too, which `load_best_model_at_end` needs."""
    saves, evaluates = values.get("save_strategy", "steps"), values.get("eval_strategy", "no")
    if saves == "best":
        return evaluates != "no"
    if saves != evaluates or saves == "no":
        return False
    save_steps = values.get("save_steps", 500)
    eval_steps = values.get("eval_steps") or values.get("logging_steps", 10)
    return bool(saves == "epoch" or save_steps == eval_steps or (eval_steps >= 1 and save_steps % eval_steps == 0))
