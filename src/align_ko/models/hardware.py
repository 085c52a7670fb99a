"""Will it fit? Asked before anything is downloaded or loaded."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import torch

from align_ko.errors import UserError
from align_ko.process import machine_memory_gib

CPU_LIMIT = 2e9  # parameters; above it a CPU run takes days and is always a mistake
_SIZE_IN_NAME = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)


def parameter_count(path: str) -> float | None:
    """Parameters of a local model folder (from its safetensors sizes or config), or the size in a hub id's name.

    >>> parameter_count("upstage/SOLAR-10.7B-v1.0")
    10700000000.0
    """
    folder = Path(path)
    if folder.is_dir():
        config = folder / "config.json"
        if not config.is_file():
            return None
        from accelerate import init_empty_weights
        from transformers import AutoConfig, AutoModelForCausalLM

        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        return float(sum(p.numel() for p in model.parameters()))
    found = _SIZE_IN_NAME.search(path.rsplit("/", 1)[-1])
    if not found:
        return None
    return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6)


def needed_gib(parameters: float, load_in_4bit: bool) -> float:
    """A rough floor for training with LoRA: weights (0.55 bytes each in NF4 with double quantisation, 2 in bfloat16) and a
    third on top for adapter, optimiser and activations with checkpointing."""
    return parameters * (0.55 if load_in_4bit else 2.0) * 1.33 / 2**30


def check_hardware(path: str, load_in_4bit: bool, use_cpu: bool = False) -> None:
    """UserError when a model is far too large for this machine and no accelerator is there.

    `training.use_cpu: true` in the recipe says that a CPU run is meant.
    """
    if torch.cuda.is_available() or use_cpu:
        return
    if hasattr(torch, "accelerator") and torch.accelerator.is_available():
        return
    parameters = parameter_count(path)
    if parameters is None or parameters <= CPU_LIMIT:
        return
    four_bit, bf16 = needed_gib(parameters, True), needed_gib(parameters, False)
    have = machine_memory_gib()
    raise UserError(
        f"no accelerator was found, and {path} ({parameters / 1e9:.1f} B parameters) needs at least {four_bit:.0f} GiB of GPU "
        f"memory in 4-bit or {bf16:.0f} GiB in bfloat16; this machine has {os.cpu_count()} cores, {have:.0f} GiB of main "
        f"memory and no GPU that torch {torch.__version__} can use. Nothing was downloaded. The recipe asks for "
        f"{'4-bit' if load_in_4bit else 'bfloat16'}",
        key="model.model_name_or_path",
        expected="a machine with such a GPU (and a CUDA build of torch), or a small model such as recipes/quickstart; "
        "--training.use_cpu true runs it on the CPU all the same",
    )


def read_base_of(path: str) -> str:
    """The base model of an adapter folder, else the path itself."""
    file = Path(path) / "adapter_config.json"
    if file.is_file():
        return str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    return path
