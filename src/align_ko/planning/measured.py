"""How long a training step takes on this machine, from timing steps of the model with random weights.

A model that is small enough is timed whole; of a larger one, one and two repeats of its layers, and the rest is the same again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from align_ko.planning.architecture import repeat_of, shallow
from align_ko.planning.batches import Batch
from align_ko.recipe import ModelArgs

WHOLE_UP_TO = 5e8  # parameters
QUANTILES = (0.1, 0.5, 0.9)  # of the batches' computed positions: the shapes that are timed


@dataclass(frozen=True)
class Pace:
    """Seconds of a micro-batch = start + each × computed positions; a forward alone takes `forward` of that."""

    start: float
    each: float
    forward: float

    def seconds(self, batches: Sequence[Batch]) -> float:
        return len(batches) * self.start + self.each * sum(batch.computed for batch in batches)


def measure_pace(
    config: Any, model: ModelArgs, batches: Sequence[Batch], training: dict[str, Any], parameters: int, steps: int = 3
) -> Pace:
    """Time micro-batches of three lengths (`steps` each after one that warms up), forward and backward and optimiser."""
    ordered = sorted(batches, key=lambda batch: batch.computed)
    picked = [ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] for share in QUANTILES]
    repeat, layers = repeat_of(config), config.num_hidden_layers
    if parameters <= WHOLE_UP_TO or layers <= 2 * repeat:
        times = _timed(config, model, picked, training, steps)
    else:
        one, two = (_timed(shallow(config, n * repeat), model, picked, training, steps) for n in (1, 2))
        more = layers // repeat - 1
        times = [
            tuple(a + more * (b - a) for a, b in zip(first, second, strict=True))
            for first, second in zip(one, two, strict=True)
        ]
    sizes = [batch.computed for batch in picked]
    mean_size, mean_time = sum(sizes) / len(sizes), sum(t for t, _ in times) / len(times)
    spread = sum((size - mean_size) ** 2 for size in sizes)
    each = (
        sum((size - mean_size) * (t - mean_time) for size, (t, _) in zip(sizes, times, strict=True)) / spread if spread else 0.0
    )
    if each <= 0:
        each = mean_time / mean_size
    forward = sum(f for _, f in times) / sum(t for t, _ in times)
    return Pace(mean_time - each * mean_size, each, forward)


def _timed(
    config: Any, model: ModelArgs, batches: Sequence[Batch], training: dict[str, Any], steps: int
) -> list[tuple[float, float]]:
    """(seconds of a training micro-batch, seconds of a forward) for each batch."""
    import torch
    from peft import get_peft_model
    from peft.helpers import disable_input_dtype_casting
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from align_ko.models.load import best_dtype, lora_config
    from align_ko.process import keep_freed_memory
    from align_ko.training.seams import score_supervised_positions_only

    keep_freed_memory()
    score_supervised_positions_only()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    number = best_dtype(model.dtype)
    built: Any = AutoModelForCausalLM.from_config(config, dtype=number, attn_implementation=model.attn_implementation)
    add_fused_lm_head(built)
    if model.use_peft:
        built = get_peft_model(built, lora_config(model))
    built.to(device).train()
    if training.get("gradient_checkpointing", True):
        built.gradient_checkpointing_enable({"use_reentrant": False})
        if model.use_peft:
            built.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], lr=1e-6)
    mixed = number != torch.float32

    def clock() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    results = []
    with disable_input_dtype_casting(built, active=mixed), torch.autocast(device, dtype=number, enabled=mixed):
        for batch in batches:
            ids = torch.randint(5, config.vocab_size - 1, (batch.sequences, batch.width), device=device)
            labels = ids.clone()
            labels[:, : batch.width - max(1, round(batch.trained / batch.sequences))] = -100
            values = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "fused_lm_head": True}
            both, scored = [], []
            for _ in range(steps + 1):
                begin = clock()
                built(**values).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                both.append(clock() - begin)
            with torch.no_grad():
                for _ in range(2):
                    begin = clock()
                    built(**values)
                    scored.append(clock() - begin)
            results.append((sorted(both[1:])[(len(both) - 1) // 2], scored[-1]))
    return results
