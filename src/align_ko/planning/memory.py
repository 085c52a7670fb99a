"""Memory per GPU by part: weights, adapter, gradients, optimiser, activations, LM head, reference, runtime."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from align_ko.planning.architecture import Parameters
from align_ko.planning.live_tensors import Activations

Sharding = Literal["one GPU", "ZeRO-2", "ZeRO-3"]
GIB = 2**30
NF4_BYTES = 0.5 + 4 / 64
NF4_NESTED_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""4 bits a weight and one scale for every 64: a float32, or with nested quantisation a byte and a float32 for every 256."""
HEAD_TOKENS = 4_096
HEAD_COLUMNS = {"gpu": 32_768, "cpu": 4_096}
"""TRL's fused LM head computes tiles of 4,096 positions × these columns (trl/kernels/chunked_logprob.py, trl_seams.py)."""
GPU_RUNTIME = 0.8 * GIB
"""CUDA context, cuBLAS workspaces and kernels: assumed."""
CPU_RUNTIME = 0.9 * GIB
"""Python with torch, transformers, trl and peft loaded and a first step's kernels: fitted on six settings of
benchmarks/bench_memory.py, two more are the check (docs/plan.md)."""
ALLOCATOR_SLACK = {"gpu": 1.05, "cpu": 1.0}
"""What the allocator holds beyond what is in use, on all that comes and goes. GPU: assumed. CPU: none was seen."""
ZERO3_LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters, which our configs leave at its default
BUCKET = 500_000_000  # DeepSpeed's reduce_bucket_size and allgather_bucket_size, the same


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the worst moment of training."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    reference: float
    communication: float
    """Gathered weights of ZeRO-3, buckets of gradients under way."""
    runtime: float

    @property
    def total(self) -> float:
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True)
class Setting:
    """What decides the memory besides the model: number formats, batch, reference."""

    rows: int
    """Sequences in one micro-batch on one device: in DPO two for each pair."""
    tokens: int
    """Of the longest row."""
    trained_share: float
    """Of the positions that the LM head scores."""
    weight_bytes: int = 2
    four_bit: bool = False
    nested: bool = True
    optimizer: str = "adamw_torch_fused"
    reference: Literal["none", "adapter", "model"] = "none"
    device: Literal["gpu", "cpu"] = "gpu"
    distilled: bool = False
    """Student's and teacher's distributions are compared (distillation.py): nothing of them comes in tiles."""


def weight_bytes(parameters: Parameters, setting: Setting) -> float:
    """Of the base model: in 4-bit the linear layers only; embeddings, head and norms keep their format."""
    if not setting.four_bit:
        return parameters.base * setting.weight_bytes
    nf4 = NF4_NESTED_BYTES if setting.nested else NF4_BYTES
    return parameters.linear * nf4 + (parameters.base - parameters.linear) * setting.weight_bytes


def optimizer_bytes_each(name: str, weight: int) -> float:
    """Bytes of optimiser state for each trained parameter of `weight` bytes; AdamW keeps two numbers in the weight's format."""
    if "8bit" in name:
        return 2
    if name.startswith("sgd"):
        return 0
    return 2 * weight


def head_bytes(parameters: Parameters, setting: Setting, hidden: int, vocabulary: int) -> float:
    """Workspace of TRL's fused head at its backward: one tile of logits, the scored positions, their gradient in float32."""
    scored = round(setting.rows * setting.tokens * setting.trained_share)
    if setting.distilled:
        # logits of both and the student's gradient twice (torch adds up the rows' ones), log-probabilities of both in float32;
        # of the row at hand its gradient in float32 and in the weights' format
        each, row = 4 * setting.weight_bytes + 2 * 4, 4 + setting.weight_bytes
        return float(vocabulary * scored * (each + row / setting.rows))
    tile = min(scored, HEAD_TOKENS) * min(HEAD_COLUMNS[setting.device], vocabulary if setting.device == "cpu" else 10**9)
    # without Triton the steps of a tile are float32 tensors of their own, seven of them alive at the worst moment
    each = 2 if setting.device == "gpu" else 2 + 7 * 4
    full = parameters.adapter == 0
    return tile * each + scored * hidden * (2 + 4 + 2) + (vocabulary * hidden * 4 if full else 0)


def plan_memory(
    parameters: Parameters,
    config: Any,
    setting: Setting,
    activations: Activations,
    sharding: Sharding = "one GPU",
    gpus: int = 1,
) -> Memory:
    """Peak memory of one device. Under DDP every GPU is like one GPU, plus nothing that grows with their number."""
    full = parameters.adapter == 0
    base = weight_bytes(parameters, setting)
    deepspeed = sharding != "one GPU"
    # peft keeps an adapter in float32 beside half-precision weights; TRL makes a QLoRA adapter bfloat16, and so does DeepSpeed
    format_ = setting.weight_bytes if full else 2 if setting.four_bit or deepspeed else 4
    adapter = parameters.adapter * float(format_)
    trained = parameters.trained
    gradients = trained * float(format_)
    optimizer = trained * optimizer_bytes_each(setting.optimizer, format_)
    communication = 0.0
    reference = {"none": 0.0, "adapter": adapter, "model": base}[setting.reference]
    if deepspeed:  # float32 copy of the trained weights and both moments, in equal parts
        gradients = trained * 4 / gpus
        optimizer = trained * 12 / gpus
        communication = 2 * min(trained, BUCKET) * 2.0
    if sharding == "ZeRO-3":
        base, adapter, reference = base / gpus, adapter / gpus, reference / gpus
        communication += min(parameters.base, ZERO3_LIVE_PARAMETERS) * setting.weight_bytes
    head = head_bytes(parameters, setting, config.hidden_size, config.vocab_size)
    moving = activations.peak
    if setting.four_bit:
        moving += parameters.largest_linear * 2  # the layer in use, dequantised
    # the head's backward has all saved activations beside it; the layers' backward comes after the head has gone
    at_head = activations.saved + head
    beyond = max(0.0, at_head - moving)
    on_gpu = setting.device == "gpu"
    slack = ALLOCATOR_SLACK[setting.device]
    return Memory(
        weights=base,
        adapter=adapter,
        gradients=gradients,
        optimizer=optimizer,
        activations=moving * slack,
        head=beyond * slack,
        reference=reference,
        communication=communication,
        runtime=GPU_RUNTIME if on_gpu else CPU_RUNTIME,
    )
