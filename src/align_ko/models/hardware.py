"""Will a model fit this machine? Checked before anything is downloaded or loaded."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from align_ko.errors import UserError
from align_ko.models.source import ModelSource, model_source
from align_ko.process import machine_memory_gib

CPU_LIMIT = 2e9  # parameters; above it a CPU run takes days and is always a mistake
_SIZE_IN_NAME = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)


def parameter_count(path: str | ModelSource) -> float | None:
    """Parameters of a local model folder (from its safetensors sizes or config), or the size in a hub id's name.

    >>> parameter_count("upstage/SOLAR-10.7B-v1.0")
    10700000000.0
    """
    name = path if isinstance(path, str) else path.path
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            return None
        from accelerate import init_empty_weights
        from transformers import AutoConfig, AutoModelForCausalLM

        source = model_source(path)
        config = source.load(AutoConfig)
        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=source.trust_remote_code)
        return float(sum(p.numel() for p in model.parameters()))
    size = _SIZE_IN_NAME.search(name.rsplit("/", 1)[-1])
    return float(size[1]) * (1e9 if size[2].lower() == "b" else 1e6) if size else None


def needed_gib(parameters: float, load_in_4bit: bool) -> float:
    """A rough floor for training with LoRA: weights (0.55 bytes each in NF4 with double quantisation, 2 in bfloat16) and a
    third on top for adapter, optimiser and activations with checkpointing."""
    return parameters * (0.55 if load_in_4bit else 2.0) * 1.33 / 2**30


def check_hardware(path: str | ModelSource, load_in_4bit: bool, use_cpu: bool = False) -> None:
    """UserError for a model far too large for a machine without an accelerator; `training.use_cpu: true` skips the check."""
    if torch.cuda.is_available() or use_cpu:
        return
    if hasattr(torch, "accelerator") and torch.accelerator.is_available():
        return
    parameters = parameter_count(path)
    if parameters is None or parameters <= CPU_LIMIT:
        return
    four_bit, bf16 = needed_gib(parameters, True), needed_gib(parameters, False)
    name = path if isinstance(path, str) else path.path
    memory = machine_memory_gib()
    raise UserError(
        f"no accelerator was found, and {name} ({parameters / 1e9:.1f} B parameters) needs at least {four_bit:.0f} GiB of GPU "
        f"memory in 4-bit or {bf16:.0f} GiB in bfloat16; this machine has {os.cpu_count()} cores, {memory:.0f} GiB of main "
        f"memory and no GPU that torch {torch.__version__} can use. Nothing was downloaded. The recipe asks for "
        f"{'4-bit' if load_in_4bit else 'bfloat16'}",
        key="model.model_name_or_path",
        expected="a machine with such a GPU (and a CUDA build of torch), or a small model such as recipes/quickstart; "
        "--training.use_cpu true runs it on the CPU all the same",
    )
