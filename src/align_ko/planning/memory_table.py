"""Memory of a recipe's run for every way to spread the model over GPUs, with checkpointing and without."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from align_ko.planning.architecture import Parameters
from align_ko.planning.live_tensors import trace_activations
from align_ko.planning.memory import Setting, Sharding, plan_memory
from align_ko.planning.run_settings import RunSettings
from align_ko.planning.tokens import Lengths

ZERO: tuple[Sharding, ...] = ("ZeRO-2", "ZeRO-3")
MEMORY_OPTIONS: list[tuple[Sharding, int]] = [("one GPU", 1), *((stage, gpus) for stage in ZERO for gpus in (1, 2, 4, 8))]


def memory_table(
    run: RunSettings, config: Any, parameters: Parameters, train: Lengths | None, on_this_machine: bool
) -> list[dict[str, Any]]:
    """Every way to spread the model, with checkpointing and without, at the longest batch that can come."""
    number, mixed, on_cpu = _formats(run, on_this_machine)
    max_length = run.value("max_length") or 1024
    longest = max((row.longest for row in train.rows), default=max_length) if train else max_length
    if run.way == "packing":
        longest = max_length
    sequences = run.value("per_device_train_batch_size") * (2 if run.stage == "dpo" else 1)
    setting = Setting(
        rows=sequences,
        tokens=longest,
        trained_share=train.trained_share if train else 0.8,
        weight_bytes=4 if number == "float32" else 2,
        four_bit=run.model.load_in_4bit,
        nested=run.model.use_bnb_nested_quant,
        optimizer=str(run.value("optim")),
        reference=run.reference,
        device="cpu" if on_cpu else "gpu",
        distilled=run.distilled,
    )
    made = []
    for checkpointing in (True, False):
        traced = trace_activations(
            config, run.model, sequences, longest, dtype=number, mixed=mixed, checkpointing=checkpointing
        )
        for sharding, gpus in MEMORY_OPTIONS if not on_cpu else MEMORY_OPTIONS[:1]:
            # ZeRO-3 cannot split 4-bit weights: that plan is for bfloat16
            asked = replace(setting, four_bit=setting.four_bit and sharding != "ZeRO-3")
            memory = plan_memory(parameters, config, asked, traced, sharding, gpus)
            parts = {part.name: getattr(memory, part.name) / 2**30 for part in fields(memory)}
            made.append(
                {
                    "sharding": sharding, "gpus": gpus, "checkpointing": checkpointing, "rows": sequences, "tokens": longest,
                    "four_bit": asked.four_bit, "gib": parts, "total_gib": memory.total / 2**30,
                }
            )  # fmt: skip
    return made


def _formats(run: RunSettings, on_this_machine: bool) -> tuple[str, bool, bool]:
    """(format of the weights, whether autocast is on, whether the run is on a CPU)."""
    import torch

    on_cpu = bool(run.training.get("use_cpu")) or (on_this_machine and not torch.cuda.is_available())
    number: str = run.model.dtype
    if number == "auto":
        from align_ko.models.load import best_dtype

        number = "bfloat16" if not on_cpu or best_dtype() == torch.bfloat16 else "float32"
    mixed = bool(run.training.get("bf16", run.training.get("fp16", number != "float32")))
    return number, mixed, on_cpu
