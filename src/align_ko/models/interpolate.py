"""Between two checkpoints of one base model: start + share × (end − start), weight by weight.

Training moves weights further than its gain needs, and what was known before pays for it. A straight line back towards the
start keeps most of the gain at a fraction of that price (WiSE-FT, arXiv:2109.01903; for RLHF arXiv:2309.06256). What it does
to the quickstart's rounds is in docs/experiments.md.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align_ko.errors import UserError
from align_ko.models.load import best_dtype, greedy_config, load_checkpoint_tokenizer, load_weights


@torch.no_grad()
def interpolate(end: PreTrainedModel, start: PreTrainedModel, share: float) -> None:
    """Move `end`'s weights, in place, to start + share × (end − start). UserError where the two are not of one shape.

    Start 1.0, end 2.0, share 0.8 → 1.8. A head tied to its embedding is one weight and moves once.
    """
    weights, before = dict(end.named_parameters()), dict(start.named_parameters())
    odd = sorted({name for name in weights.keys() | before.keys() if _shape(weights, name) != _shape(before, name)})
    if odd:
        raise UserError(
            f"the two models differ in shape, first at {odd[0]}: {_shape(before, odd[0])} and {_shape(weights, odd[0])}",
            key="interpolate_from",
            expected="a checkpoint of the same base model",
        )
    for name, weight in weights.items():
        # in float32: the way between two neighbouring bfloat16 numbers cannot be cut short
        weight.copy_(torch.lerp(before[name].float(), weight.float(), share))


def _shape(weights: dict[str, torch.nn.Parameter], name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None


def load_interpolated(path: str, start: str, share: float, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The checkpoint at `path` taken back towards `start`, on the CPU, adapters merged; both are held in float32 meanwhile.

    For 10.7 B parameters that is 80 GiB of main memory.
    """
    tokenizer = load_checkpoint_tokenizer(path)
    model = load_weights(path, torch.float32)
    interpolate(model, load_weights(start, torch.float32), share)
    model = model.to(best_dtype(dtype))
    model.generation_config = greedy_config(model, tokenizer)
    return model.eval(), tokenizer
