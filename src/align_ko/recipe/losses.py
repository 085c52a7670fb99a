"""DPO's loss keys that do not work together. TRL 1.16 passes over most of these in silence, so we say them first.

Read in trl/trainer/dpo_trainer.py; tests/test_dpo_losses.py shows on a tiny model what works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from align_ko.errors import nearest
from align_ko.recipe.trl_fields import config_fields

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
LENGTH_NORMALISED = ("sigmoid_norm", "ipo")

# key → (the losses or the key that read it, in words); anywhere else TRL ignores the key
READ_BY_LOSSES: dict[str, tuple[str, ...]] = {
    "label_smoothing": ("robust", "exo_pair", "aot", "aot_unpaired"),
    "discopop_tau": ("discopop",),
    "beta": tuple(loss for loss in LOSSES if loss != "sft"),
    "ld_alpha": tuple(loss for loss in LOSSES if loss != "sft"),
}
READ_WITH: dict[str, tuple[str, Any]] = {
    "f_alpha_divergence_coef": ("f_divergence_type", "alpha_divergence"),
    "ref_model_mixup_alpha": ("sync_ref_model", True),
    "ref_model_sync_steps": ("sync_ref_model", True),
    "precompute_ref_batch_size": ("precompute_ref_log_probs", True),
}

Problem = tuple[str, str, str | None, str | None]  # key, what is wrong, expected, nearest choice


def loss_problems(training: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the loss keys of `training:`; nothing is yielded for a recipe that works.

    `{"loss_type": ["sigmoid"], "label_smoothing": 0.1}` → ("label_smoothing", "sigmoid does not read it: …", …)
    """
    stated = training.get("loss_type", ["sigmoid"])
    losses = [stated] if isinstance(stated, str) else list(stated)
    for loss in losses:
        if loss not in LOSSES:
            close = nearest(str(loss), LOSSES)
            yield "loss_type", f"'{loss}' is no loss", None if close else "one of " + ", ".join(LOSSES), close
    named = " and ".join(losses)
    for key, readers in READ_BY_LOSSES.items():
        if _is_set(training, key) and not set(losses) & set(readers):
            ignored = f"{named} does not read it, TRL would ignore it in silence"
            yield key, ignored, f"loss_type with {' or '.join(readers[:4])}", None
    for key, (other, value) in READ_WITH.items():
        if _is_set(training, key) and training.get(other) != value:
            written = str(value).lower() if isinstance(value, bool) else value
            yield key, "TRL would ignore it in silence", f"it beside {other}: {written}", None
    normalised = [loss for loss in losses if loss in LENGTH_NORMALISED]
    if training.get("ld_alpha") is not None and normalised:
        problem = f"{normalised[0]} divides by the whole length, which ld_alpha has already discounted"
        yield "ld_alpha", problem, "one of the two corrections of length", None
    if training.get("use_weighting") and "sft" in losses:
        yield "use_weighting", "TRL cannot weigh pairs beside the sft term", "loss_type without sft", None
    if training.get("padding_free"):
        yield "padding_free", "TRL's DPO ignores it", "false", None
    if _is_set(training, "truncation_mode"):
        yield "truncation_mode", "nothing is truncated here: pairs over max_length are left out whole", "no such key", None


def _is_set(training: Mapping[str, Any], key: str) -> bool:
    """Stated, and otherwise than TRL's default."""
    return key in training and training[key] != config_fields("DPOConfig")[key].default
