"""Memory per GPU by part: weights, adapter, gradients, optimiser, activations, LM head, reference, runtime. And disk."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from transformers import PretrainedConfig

from align_ko.models.load import best_dtype
from align_ko.planning.lengths import Lengths
from align_ko.planning.model_shape import Activations, Parameters, text_config, trace_activations
from align_ko.planning.settings import Reference, RunSettings

Sharding = Literal["one GPU", "ZeRO-2", "ZeRO-3"]
SHARDINGS: list[tuple[Sharding, int]] = [("one GPU", 1), ("ZeRO-2", 1), ("ZeRO-2", 2), ("ZeRO-2", 4), ("ZeRO-2", 8),
                                         ("ZeRO-3", 1), ("ZeRO-3", 2), ("ZeRO-3", 4), ("ZeRO-3", 8)]  # fmt: skip
GIB = 2**30
NF4_BYTES = 0.5 + 4 / 64  # 4 bits a weight and a float32 scale for every 64
NF4_NESTED_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # nested quantisation: that scale in a byte, a float32 for every 256 of them
# TRL's fused LM head computes tiles of 4,096 positions × these columns (trl/kernels/chunked_logprob.py, training/seams.py)
HEAD_TOKENS, HEAD_COLUMNS = 4_096, {"gpu": 32_768, "cpu": 4_096}
# GPU: CUDA context, cuBLAS workspaces and kernels, assumed. CPU: Python with torch, transformers, trl and peft and a first
# step's kernels, fitted on six settings of benchmarks/bench_memory.py; two more are the check (docs/plan.md)
RUNTIME = {"gpu": 0.8 * GIB, "cpu": 0.9 * GIB}
ALLOCATOR_SLACK = {"gpu": 1.05, "cpu": 1.0}  # what the allocator holds beyond what is in use; GPU: assumed, CPU: none was seen
ZERO3_LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters, which our configs leave at its default
BUCKET = 500_000_000  # DeepSpeed's reduce_bucket_size and allgather_bucket_size, the same


class Memory(NamedTuple):
    """Bytes on one device at the worst moment of training; `communication`: ZeRO-3's gathered weights, gradient buckets."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    reference: float
    communication: float
    runtime: float


@dataclass(frozen=True)
class Setting:
    """What decides the memory besides the model: number formats, batch, reference."""

    rows: int  # sequences in one micro-batch on one device: in DPO two for each pair
    tokens: int  # of the longest row
    trained_share: float  # of the positions, those that the LM head scores
    dtype: str = "bfloat16"
    four_bit: bool = False
    nested: bool = True
    optimizer: str = "adamw_torch_fused"
    reference: Reference = "none"
    device: Literal["gpu", "cpu"] = "gpu"
    distilled: bool = False  # student's and teacher's whole distributions are compared (distillation.py), without tiles

    @property
    def weight_bytes(self) -> int:
        return 4 if self.dtype == "float32" else 2


@dataclass(frozen=True)
class MemoryRow:
    """One way to spread the model over GPUs."""

    sharding: Sharding
    gpus: int
    checkpointing: bool
    rows: int
    tokens: int
    four_bit: bool
    gib: dict[str, float]
    total_gib: float


def run_setting(run: RunSettings, train: Lengths | None, on_this_machine: bool) -> Setting:
    """A run's, at the longest batch that can come."""
    on_cpu = bool(run.training.get("use_cpu")) or (on_this_machine and not torch.cuda.is_available())
    dtype: str = run.model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if not on_cpu or best_dtype() == torch.bfloat16 else "float32"
    rows, tokens = run.value("per_device_train_batch_size") * (2 if run.stage == "dpo" else 1), run.max_length or 1024
    if train and run.stage == "grpo":  # the longest prompt with the longest answer
        tokens = max((row.longest - row.trained for row in train.rows), default=0) + run.value("max_completion_length")
    elif train and run.batching != "packing":
        tokens = max((row.longest for row in train.rows), default=tokens)
    return Setting(
        rows, tokens, train.trained_share if train else 0.8, dtype, run.model.load_in_4bit, run.model.use_bnb_nested_quant,
        str(run.value("optim")), run.reference, "cpu" if on_cpu else "gpu", run.distilled,
    )  # fmt: skip


def memory_table(run: RunSettings, config: PretrainedConfig, parameters: Parameters, setting: Setting) -> list[MemoryRow]:
    """Every way to spread the model, with checkpointing and without."""
    rows, tokens, dtype = setting.rows, setting.tokens, setting.dtype
    mixed = bool(run.training.get("bf16", run.training.get("fp16", dtype != "float32")))
    table = []
    for checkpointing in (True, False):
        traced = trace_activations(config, run.model, rows, tokens, dtype=dtype, mixed=mixed, checkpointing=checkpointing)
        for sharding, gpus in SHARDINGS[:1] if setting.device == "cpu" else SHARDINGS:
            four_bit = setting.four_bit and sharding != "ZeRO-3"  # which cannot split 4-bit weights: bfloat16 is planned
            memory = plan_memory(parameters, config, replace(setting, four_bit=four_bit), traced, sharding, gpus)
            gib = {part: size / GIB for part, size in memory._asdict().items()}
            table.append(MemoryRow(sharding, gpus, checkpointing, rows, tokens, four_bit, gib, sum(memory) / GIB))
    return table


def weight_bytes(parameters: Parameters, setting: Setting) -> float:
    """Of the base model: in 4-bit the linear layers only; embeddings, head and norms keep their format."""
    quantised = parameters.linear + parameters.tower if setting.four_bit else 0
    nf4 = NF4_NESTED_BYTES if setting.nested else NF4_BYTES
    return quantised * nf4 + (parameters.base - quantised) * setting.weight_bytes


def trained_bytes(setting: Setting, full: bool, deepspeed: bool = False) -> tuple[int, int]:
    """Bytes of a trained weight and of its optimiser state (two moments in the weights' format, one byte each in 8 bits)."""
    # peft keeps an adapter in float32 beside half-precision weights; TRL makes a QLoRA adapter bfloat16, and so does DeepSpeed
    each = setting.weight_bytes if full else 2 if setting.four_bit or deepspeed else 4
    return each, 2 if "8bit" in setting.optimizer else 0 if setting.optimizer.startswith("sgd") else 2 * each


def head_bytes(parameters: Parameters, setting: Setting, hidden: int, vocabulary: int) -> float:
    """Workspace of TRL's fused head at its backward: one tile of logits, the scored positions, their gradient in float32."""
    scored = round(setting.rows * setting.tokens * setting.trained_share)
    if setting.distilled:
        # logits of both and the student's gradient twice (torch adds up the rows' ones), log-probabilities of both in float32;
        # of the row at hand its gradient in float32 and in the weights' format
        each, row = 4 * setting.weight_bytes + 2 * 4, 4 + setting.weight_bytes
        return float(vocabulary * scored * (each + row / setting.rows))
    on_gpu = setting.device == "gpu"
    columns = HEAD_COLUMNS[setting.device] if on_gpu else min(HEAD_COLUMNS[setting.device], vocabulary)
    # without Triton the steps of a tile are float32 tensors of their own, seven of them alive at the worst moment
    tile = min(scored, HEAD_TOKENS) * columns * (2 if on_gpu else 2 + 7 * 4)
    return tile + scored * hidden * (2 + 4 + 2) + (0 if parameters.adapter else vocabulary * hidden * 4)


def plan_memory(
    parameters: Parameters,
    config: PretrainedConfig,
    setting: Setting,
    activations: Activations,
    sharding: Sharding = "one GPU",
    gpus: int = 1,
) -> Memory:
    """Peak memory of one device. Under DDP every GPU is like one GPU, plus nothing that grows with their number."""
    trained, base = parameters.trained, weight_bytes(parameters, setting)
    deepspeed = sharding != "one GPU"
    each, moments = trained_bytes(setting, parameters.adapter == 0, deepspeed)
    adapter, communication = parameters.adapter * float(each), 0.0
    gradients, optimizer = trained * float(each), trained * float(moments)
    reference = {"none": 0.0, "adapter": adapter, "model": base}[setting.reference]
    if deepspeed:  # float32 copy of the trained weights and both moments, in equal parts
        gradients, optimizer = trained * 4 / gpus, trained * 12 / gpus
        communication = 2 * min(trained, BUCKET) * 2.0
    if sharding == "ZeRO-3":
        base, adapter, reference = base / gpus, adapter / gpus, reference / gpus
        communication += min(parameters.base, ZERO3_LIVE_PARAMETERS) * setting.weight_bytes
    text = text_config(config)
    moving = activations.peak + (parameters.largest_linear * 2 if setting.four_bit else 0)  # the layer in use, dequantised
    # the head's backward has all saved activations beside it; the layers' backward comes after the head has gone
    at_head = activations.saved + head_bytes(parameters, setting, text.hidden_size, text.vocab_size)
    slack = ALLOCATOR_SLACK[setting.device]
    layers, head = moving * slack, max(0.0, at_head - moving) * slack
    return Memory(base, adapter, gradients, optimizer, layers, head, reference, communication, RUNTIME[setting.device])


# -------------------- disk that a run's output folder takes: checkpoints with their optimizer, the adapter or model that comes
# out, merged weights. On one GPU or under DDP. Tokenizers, logs and the rows as token ids (16 bytes a token of SFT, removed at
# the end) are left out.


@dataclass(frozen=True)
class Disk:
    """Bytes. `count`: the most checkpoints that are there at once, the one being written included; None where the steps are not
    known and none is ever removed, which leaves them out of `total`."""

    folder: str
    free: int
    checkpoint: int
    count: int | None
    result: int
    merged: int
    total: int


def plan_disk(run: RunSettings, parameters: Parameters, setting: Setting, merged: bool, steps: int | None) -> Disk:
    """`merged`: the adapter is merged into a whole model beside it. A kept copy of the start is a part of DPO's checkpoints."""
    folder = Path(run.training["output_dir"])
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    each, moments = trained_bytes(setting, full=parameters.adapter == 0)
    base = parameters.base * setting.weight_bytes
    result = parameters.adapter * each or base
    optimizer = 0 if run.value("save_only_model") else parameters.trained * moments
    checkpoint = result + optimizer + (result if setting.reference == "adapter" else 0)
    written, limit = _saves(run, steps), run.value("save_total_limit") or 0
    kept = written
    if limit > 0:  # the best and the last stay, whatever the limit
        least = 1 if run.training.get("load_best_model_at_end") is False else 2
        most = max(limit, least)
        kept = most if written is None else min(written, most)
    count = None if kept is None else kept + 1 if written is None else min(written, kept + 1)
    merged_bytes = base if merged and parameters.adapter else 0
    starts = base if run.merges_start else 0
    # the last checkpoint is written before an older one goes, and that before the result is saved
    total = starts + max((count or 0) * checkpoint, (kept or 0) * checkpoint + result + merged_bytes)
    return Disk(str(folder), shutil.disk_usage(place).free, checkpoint, count, result, merged_bytes + starts, total)


def _saves(run: RunSettings, steps: int | None) -> int | None:
    """How many checkpoints a run writes; None where that hangs on its steps and these are not known."""
    strategy = str(run.value("save_strategy"))
    if strategy == "no":
        return 0
    if strategy == "epoch":
        return math.ceil(float(run.value("num_train_epochs")))
    if steps is None:
        return None
    if strategy == "best":
        return run.evaluations(steps)
    every = float(run.value("save_steps"))
    return math.ceil(steps / (every if every >= 1 else max(1, math.ceil(every * steps))))  # and one at the end
