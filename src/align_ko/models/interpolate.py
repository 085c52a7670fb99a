"""Between two checkpoints of one base model: start + share × (end − start), weight by weight.

Training moves weights further than its gain needs, and earlier knowledge pays for it. A straight line back towards the start
keeps most of the gain at a fraction of that price (WiSE-FT, arXiv:2109.01903; for RLHF arXiv:2309.06256). Its effect on the
quickstart's rounds is in docs/experiments.md.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from align_ko.errors import UserError


@torch.no_grad()
def interpolate(end: PreTrainedModel, start: PreTrainedModel, share: float) -> None:
    """Move `end`'s weights, in place, to start + share × (end − start). UserError where the two differ in shape.

    Start 1.0, end 2.0, share 0.8 → 1.8. One tensor at a time in float32: the way between two neighbouring bfloat16 numbers
    cannot be shortened in bfloat16. A head tied to its embedding is one weight and moves once.
    """
    weights, before = dict(end.named_parameters()), dict(start.named_parameters())
    shapes = [{name: tuple(weight.shape) for name, weight in model.items()} for model in (before, weights)]
    differing = sorted(name for name in weights.keys() | before.keys() if shapes[0].get(name) != shapes[1].get(name))
    if differing:
        name = differing[0]
        raise UserError(
            f"the two models differ in shape, first at {name}: {shapes[0].get(name)} and {shapes[1].get(name)}",
            key="interpolate_from",
            expected="a checkpoint of the same base model",
        )
    for name, weight in weights.items():
        weight.copy_(torch.lerp(before[name].float(), weight.float(), share))
