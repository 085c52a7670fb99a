"""Floating-point operations of a run, and the hours they take on a named GPU at a stated utilisation.

Counted are the matrix products that are carried out, checkpointing's second forward included (so the utilisation is that of
the hardware), on every computed position, padding included. A multiply and an add are two operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from align_ko.planning.architecture import Parameters
from align_ko.planning.batches import Batch
from align_ko.planning.devices import Gpu

NF4_TRAFFIC = 0.5 + 2 + 2
"""Bytes that a 4-bit weight moves when its layer is used: read packed, written and read again in 16 bits."""


@dataclass(frozen=True)
class Method:
    """What is computed for every batch."""

    checkpointing: bool
    four_bit: bool = False
    flash: bool = False
    """FlashAttention leaves out the upper half of the attention matrix; SDPA with a padding mask computes it all."""
    reference_passes: int = 0
    """Forward passes of the DPO reference beside each policy batch."""


@dataclass(frozen=True)
class Work:
    """Operations, and how often all weights are passed through (what dequantising costs)."""

    operations: float
    weight_passes: int

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.weight_passes + other.weight_passes)

    def times(self, factor: float) -> Work:
        return Work(self.operations * factor, round(self.weight_passes * factor))


def train_work(batches: Iterable[Batch], config: Any, parameters: Parameters, method: Method) -> Work:
    """One epoch's training: forward, backward, recomputation, and the reference's forward passes."""
    operations, passes = 0.0, 0
    full = parameters.adapter == 0
    attend = _attention_of(config, method.flash)
    for batch in batches:
        weights, adapter, attention = _forward(batch, parameters, attend)
        head = 2.0 * batch.trained * config.hidden_size * config.vocab_size
        layers = weights + adapter + attention
        backward = weights * (2 if full else 1) + adapter * 2 + attention * 2
        head_backward = head * (3 if full else 2)  # the tile once more, the gradient of its input (and of its weights)
        operations += layers * (2 if method.checkpointing else 1) + backward + head + head_backward
        operations += (layers + head) * method.reference_passes
        passes += (3 if method.checkpointing else 2) + method.reference_passes
    return Work(operations, passes)


def forward_work(batches: Iterable[Batch], config: Any, parameters: Parameters, method: Method) -> Work:
    """Scoring only: an evaluation (in DPO by policy and reference), or the reference's log-probabilities beforehand."""
    operations, passes = 0.0, 0
    attend = _attention_of(config, method.flash)
    for batch in batches:
        head = 2.0 * batch.trained * config.hidden_size * config.vocab_size
        operations += (sum(_forward(batch, parameters, attend)) + head) * (1 + method.reference_passes)
        passes += 1 + method.reference_passes
    return Work(operations, passes)


def _forward(batch: Batch, parameters: Parameters, attend: Callable[[int], float]) -> tuple[float, float, float]:
    """Operations of the layers' weights, of the adapter, and of attention in one forward."""
    weights = 2.0 * batch.computed * parameters.linear
    adapter = 2.0 * batch.computed * parameters.adapter
    return weights, adapter, batch.sequences * attend(batch.width)


def _attention_of(config: Any, flash: bool) -> Callable[[int], float]:
    """Width of a sequence → operations of queries times keys and weights times values, in all layers."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers, kinds = config.num_hidden_layers, getattr(config, "layer_types", None) or []
    sliding = kinds.count("sliding_attention") if flash else 0  # SDPA masks the rest of the matrix and computes it
    window = getattr(config, "sliding_window", None) or 0
    each = 4.0 * config.num_attention_heads * head * (0.5 if flash else 1.0)

    def attend(width: int) -> float:
        return each * width * ((layers - sliding) * width + sliding * min(width, window))

    return attend


def seconds_on(gpu: Gpu, work: Work, parameters: Parameters, utilisation: float, four_bit: bool) -> float:
    """On one GPU; dequantising 4-bit weights is bound by memory and comes on top."""
    dequantising = work.weight_passes * parameters.linear * NF4_TRAFFIC / gpu.bandwidth if four_bit else 0.0
    return work.operations / (gpu.flops * utilisation) + dequantising
