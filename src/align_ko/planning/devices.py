"""Operations of a run, and the time they take on a named GPU at a stated utilisation, or on this machine by timing steps.

A multiply and an add are two operations. Counted are matrix products on every computed position, padding and checkpointing's
second forward included (so the utilisation is that of the hardware)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import linear_regression
from typing import NamedTuple

from transformers import PretrainedConfig

from align_ko.errors import UserError, nearest
from align_ko.planning.lengths import Batch
from align_ko.planning.model_shape import Parameters, build_model, extrapolate, prepare_for_training, text_config
from align_ko.recipe import ModelArgs

FOUR_BIT_COST = 1.4
"""Time with 4-bit weights over that in bfloat16. Others measured, at 2,048 positions a micro-batch on an A100, 1.35 (7 B) and
1.40 (14 B, README of github.com/QwenLM/Qwen, "Profiling"); "LoRA is about 66 % faster" (Google Vertex AI, LoRA and QLoRA)."""
THIS = "this"  # the machine the plan runs on: its speed is measured, not looked up
TIMED_WHOLE_UP_TO = 5e8  # parameters
TIMED_QUANTILES = (0.1, 0.5, 0.9)  # of the batches' computed positions
TIMED_STEPS = 3


class Gpu(NamedTuple):
    """From the vendor's data sheet, written from memory where that could not be opened (L40S, RTX 4090: seen elsewhere).
    `reached`: the A100's from Qwen's table (see FOUR_BIT_COST: 0.46 for 7 B, 0.54 for 14 B, in bfloat16), the H100's such that
    it is 1.8 times as fast; of the others assumed, by how much they compute for each byte that they read."""

    name: str
    gib: float  # usable, a little under the label
    bandwidth: float  # bytes a second
    flops: float  # a second: dense bfloat16 with float32 accumulation; sheets that print the sparse rate are halved
    reached: float  # share of `flops`, in bfloat16


GPUS = {
    gpu.name: gpu
    for gpu in [
        Gpu("A100-40", 39.4, 1.555e12, 312e12, 0.5),  # NVIDIA A100 Tensor Core GPU data sheet
        Gpu("A100-80", 79.2, 2.039e12, 312e12, 0.5),  # the same, SXM
        Gpu("H100-80", 79.1, 3.35e12, 989e12, 0.28),  # NVIDIA H100 Tensor Core GPU data sheet, SXM
        Gpu("H200", 139.8, 4.8e12, 989e12, 0.28),  # NVIDIA H200 Tensor Core GPU data sheet
        Gpu("RTX4090", 23.5, 1.008e12, 165.2e12, 0.5),  # NVIDIA Ada GPU architecture white paper
        Gpu("RTX3090", 23.6, 0.936e12, 71e12, 0.5),  # NVIDIA Ampere GA102 white paper
        Gpu("L40S", 44.5, 0.864e12, 362e12, 0.28),  # NVIDIA L40S data sheet
    ]
}  # fmt: skip


def find_gpu(name: str) -> Gpu:
    """By name, case and spaces ignored. UserError with the nearest name."""
    wanted = name.lower().replace(" ", "").replace("_", "-")
    for gpu in GPUS.values():
        if wanted in (gpu.name.lower(), gpu.name.lower().replace("-", "")):
            return gpu
    close = nearest(name.upper(), [*GPUS, THIS])
    raise UserError(f"no GPU {name} in the table", key="--plan_gpu", expected=", ".join([*GPUS, THIS]), nearest=close)


@dataclass(frozen=True)
class Method:
    checkpointing: bool
    flash: bool = False  # FlashAttention leaves out the matrix's upper half; SDPA with a padding mask computes it all
    reference_passes: int = 0  # forward passes of DPO's reference beside each policy batch


def train_work(batches: Iterable[Batch], config: PretrainedConfig, parameters: Parameters, method: Method) -> float:
    """Operations of one epoch's training: forward, backward, recomputation, and the reference's forward passes."""
    operations = 0.0
    full, forward = parameters.adapter == 0, _forward(config, parameters, method)
    for batch in batches:
        weights, adapter, attention, head = forward(batch)
        layers = weights + adapter + attention
        operations += layers * (2 if method.checkpointing else 1) + weights * (2 if full else 1) + (adapter + attention) * 2
        operations += head * (4 if full else 3)  # backward: the tile once more, the gradient of its input (and of its weights)
        operations += (layers + head) * method.reference_passes
    return operations


def forward_work(batches: Sequence[Batch], config: PretrainedConfig, parameters: Parameters, method: Method) -> float:
    """Operations of scoring: evaluations (in DPO by policy and reference), or the reference's log-probabilities before it."""
    each, forward = 1 + method.reference_passes, _forward(config, parameters, method)
    return float(sum(sum(forward(batch)) for batch in batches) * each)


def _forward(config: PretrainedConfig, parameters: Parameters, method: Method) -> Callable[[Batch], tuple[float, ...]]:
    """A batch's operations in the layers' weights, the adapter, attention (queries × keys, weights × values), the LM head."""
    text = text_config(config)
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kinds, window = getattr(text, "layer_types", None) or [], getattr(text, "sliding_window", None) or 0
    sliding = kinds.count("sliding_attention") if method.flash else 0  # SDPA masks the rest of the matrix and computes it
    each = 4.0 * text.num_attention_heads * size * (0.5 if method.flash else 1.0)

    def forward(batch: Batch) -> tuple[float, ...]:
        seen = (text.num_hidden_layers - sliding) * batch.width + sliding * min(batch.width, window)
        weights, adapter = (2.0 * batch.computed * size for size in (parameters.linear, parameters.adapter))
        head = 2.0 * batch.trained * text.hidden_size * text.vocab_size
        return weights, adapter, batch.sequences * each * batch.width * seen, head

    return forward


def share_of_peak(gpu: Gpu, four_bit: bool, stated: float | None = None) -> float:
    """The one that the user states, as measured in a run of theirs; else the GPU's own, less what 4-bit weights cost."""
    return stated or gpu.reached / (FOUR_BIT_COST if four_bit else 1)


@dataclass(frozen=True)
class Pace:
    """Seconds of a micro-batch = start + each × computed positions; a forward alone takes `forward` of that."""

    start: float
    each: float
    forward: float

    def seconds(self, batches: Sequence[Batch]) -> float:
        return len(batches) * self.start + self.each * sum(batch.computed for batch in batches)


def measure_pace(
    config: PretrainedConfig, model: ModelArgs, batches: Sequence[Batch], checkpointing: bool, parameters: int
) -> Pace:
    """Time micro-batches of three lengths on this machine: forward, backward and optimiser, with random weights; of a model
    above TIMED_WHOLE_UP_TO, one and two periods of layers."""
    ordered = sorted(batches, key=lambda batch: batch.computed)
    picked = [ordered[round(share * (len(ordered) - 1))] for share in TIMED_QUANTILES]
    measure = partial(_time_steps, model=model, batches=picked, checkpointing=checkpointing)
    times = measure(config) if parameters <= TIMED_WHOLE_UP_TO else extrapolate(config, 1, measure, whole_periods=False)
    sizes, steps, forwards = [batch.computed for batch in picked], times[::2], times[1::2]
    each, start = linear_regression(sizes, steps) if len(set(sizes)) > 1 else (0.0, 0.0)
    if each <= 0:
        each, start = sum(steps) / sum(sizes), 0.0
    return Pace(start, each, sum(forwards) / sum(steps))


def measure_decoding(config: PretrainedConfig, model: ModelArgs, rows: Sequence[int], parameters: int) -> list[float]:
    """Seconds of a decoding step here, for each count of `rows` that are answered at once: a forward of two tokens a row, of
    which one is scored. What attention reads of the cache is not in it."""
    measure = partial(_time_steps, model=model, batches=[Batch(each, 2, 2 * each, each) for each in rows], checkpointing=False)
    times = measure(config) if parameters <= TIMED_WHOLE_UP_TO else extrapolate(config, 1, measure, whole_periods=False)
    return times[1::2]


def _time_steps(config: PretrainedConfig, model: ModelArgs, batches: Sequence[Batch], checkpointing: bool) -> list[float]:
    """Seconds of a training micro-batch and of a forward, for each batch; the median of TIMED_STEPS after one to warm up."""
    import torch
    from peft.helpers import disable_input_dtype_casting
    from trl.trainer.utils import add_fused_lm_head

    from align_ko.models.load import best_dtype
    from align_ko.process import keep_freed_memory
    from align_ko.training.seams import score_supervised_positions_only

    keep_freed_memory()
    score_supervised_positions_only()
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", best_dtype(model.dtype)
    built = build_model(config, model, dtype, device, model.attn_implementation)
    add_fused_lm_head(built.get_base_model() if model.use_peft else built)
    prepare_for_training(built, checkpointing)
    optimizer = torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], lr=1e-6)
    mixed = dtype != torch.float32

    def timed(step: Callable[[], None]) -> float:
        seconds = []
        for _ in range(TIMED_STEPS + 1):
            begin = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        return sorted(seconds[1:])[TIMED_STEPS // 2]

    def train() -> None:
        built(**values).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def score() -> None:
        built(**values)

    times = []
    with disable_input_dtype_casting(built, active=mixed), torch.autocast(device, dtype=dtype, enabled=mixed):
        for batch in batches:
            ids = torch.randint(5, text_config(config).vocab_size - 1, (batch.sequences, batch.width), device=device)
            labels = ids.clone()
            labels[:, : batch.width - max(1, round(batch.trained / batch.sequences))] = -100
            values = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "fused_lm_head": True}
            times += [timed(train), timed(score)]
    return times
