"""Will a model fit this machine? Checked before anything is downloaded or loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from align_ko.errors import UserError, missing_package
from align_ko.models.source import ModelSource, base_of, model_source, start_source
from align_ko.process import machine_memory_gib
from align_ko.recipe import ModelArgs, StartModelArgs

CPU_LIMIT = 2e9  # parameters; above it a CPU run takes days and is always a mistake
NF4_BYTES = 0.55  # of a parameter, with double quantisation
_SIZE_IN_NAME = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)


def parameter_count(path: str | ModelSource) -> float | None:
    """Parameters of a local model folder by its config, or by the size in a hub id's name (SOLAR-10.7B → 10.7e9), or None."""
    name = path if isinstance(path, str) else path.path
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            return None
        from transformers import AutoConfig, AutoModelForCausalLM

        source = model_source(path)
        config = source.load(AutoConfig)
        with torch.device("meta"):
            return float(AutoModelForCausalLM.from_config(config, trust_remote_code=source.may_run_code).num_parameters())
    size = _SIZE_IN_NAME.search(name.rsplit("/", 1)[-1])
    return float(size[1]) * (1e9 if size[2].lower() == "b" else 1e6) if size else None


LOGGERS = {"comet_ml": "comet_ml"} | {name: name for name in "wandb tensorboard mlflow clearml dvclive swanlab trackio".split()}
"""Values of report_to → the package that each needs."""


def check_packages(model: ModelArgs | None, training: Mapping[str, Any]) -> None:
    """UserError for a package or a GPU that a recipe's values need and that is not there."""
    report = training.get("report_to") or []
    needed = {"training.report_to": [LOGGERS.get(name, "") for name in ([report] if isinstance(report, str) else report)]}
    needed["training.use_liger_kernel"] = ["liger_kernel"] * bool(training.get("use_liger_kernel"))
    needed["model.load_in_4bit"] = ["bitsandbytes"] * bool(model and model.load_in_4bit)
    flash = bool(model and (model.attn_implementation or "").startswith("flash_attention"))
    needed["model.attn_implementation"] = ["flash_attn"] * (flash and not find_spec("kernels"))
    for key, packages in needed.items():
        for package in packages:
            if package and not find_spec(package):
                raise missing_package(package, key)
    if torch.cuda.is_available() or torch.accelerator.is_available():
        return
    halves = {
        "training.fp16": bool(training.get("fp16")),
        "model.dtype": bool(model and model.dtype == "float16"),
        "model.attn_implementation": flash,
    }
    for key, wanted in halves.items():
        if wanted:
            raise UserError(
                "this needs a GPU, and there is none", key=key, expected="bfloat16 or float32, and sdpa as attention"
            )


def checked_start(name: str, model: StartModelArgs | None, training: Mapping[str, Any]) -> tuple[ModelSource, ModelSource]:
    """The start of DPO or GRPO and the base below it, which fit this machine and its packages."""
    named = (model.model_name_or_path, model.model_revision, model.trust_remote_code) if model else ()
    start = start_source(name, *named)
    base = base_of(start)
    check_hardware(base, bool(model and model.load_in_4bit), bool(training.get("use_cpu")))
    check_packages(model, training)
    return start, base


def check_hardware(path: str | ModelSource, load_in_4bit: bool, use_cpu: bool = False) -> None:
    """UserError for a model far too large for a machine without an accelerator; `training.use_cpu: true` skips the check."""
    if use_cpu or torch.cuda.is_available() or torch.accelerator.is_available():
        return
    parameters = parameter_count(path)
    if parameters is None or parameters <= CPU_LIMIT:
        return
    # A rough floor for LoRA: weights, and a third on top for adapter, optimiser and activations with checkpointing
    four_bit, bf16 = (parameters * each * 1.33 / 2**30 for each in (NF4_BYTES, 2.0))
    name = path if isinstance(path, str) else path.path
    raise UserError(
        f"no accelerator was found, and {name} ({parameters / 1e9:.1f} B parameters) needs at least {four_bit:.0f} GiB of GPU "
        f"memory in 4-bit or {bf16:.0f} GiB in bfloat16; this machine has {os.cpu_count()} cores, "
        f"{machine_memory_gib():.0f} GiB of main memory and no GPU that torch {torch.__version__} can use. Nothing was "
        f"downloaded. The recipe asks for {'4-bit' if load_in_4bit else 'bfloat16'}",
        key="model.model_name_or_path",
        expected="a machine with such a GPU (and a CUDA build of torch), or a small model such as recipes/quickstart; "
        "--training.use_cpu true runs it on the CPU all the same",
    )
