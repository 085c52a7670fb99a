"""Every loss that the recipes and the ablation name: accepted with our own tokens and precomputed references, and worth at
the first step what its formula says where policy and reference are the same.
"""

from __future__ import annotations

import math
import re

import pytest
import torch
from test_training import dpo_trainer, first_loss, sft  # noqa: F401  (a fixture)

from align_ko.errors import UserError
from align_ko.recipe import DpoRecipe, TrainData, check_values
from align_ko.recipe.training import LOSSES

LN2 = math.log(2)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"loss_type": ["sigmoid"], "beta": 0.3}, LN2),
        ({"loss_type": ["sigmoid_norm"], "beta": 5.0}, LN2),
        ({"loss_type": ["sigmoid"], "ld_alpha": 0.5}, LN2),
        ({"loss_type": ["apo_zero"], "beta": 0.05}, 1.0),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_the_first_step_costs_what_the_formula_says(sft, tmp_path, options, value):  # noqa: F811
    trainer, _ = dpo_trainer(sft, tmp_path, precompute_ref_log_probs=True, max_steps=2, **options)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(value, abs=2e-4) and losses[1] < losses[0]


def chosen_nll(trainer) -> float:
    """Mean negative log-likelihood of the chosen answers' tokens in the first batch."""
    batch = next(iter(trainer.get_train_dataloader()))
    half = len(batch["input_ids"]) // 2
    scored = batch["completion_mask"][:half, 1:].bool()
    return -log_probs(trainer, batch)[0][:half][scored].mean().item()


def log_probs(trainer, batch):
    """Of each next token, `(rows, tokens - 1)`, and the log of the sum of squared probabilities there."""
    with torch.no_grad():
        model = trainer.model.get_base_model().eval()
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
    every = logits.log_softmax(-1)
    return every.gather(-1, batch["input_ids"][:, 1:, None])[..., 0], (2 * every).logsumexp(-1)


@pytest.mark.parametrize(("losses", "base"), [(["sigmoid", "sft"], LN2), (["sigmoid_norm", "sft"], LN2)])
def test_the_sft_term_is_the_chosen_sides_nll(sft, tmp_path, losses, base):  # noqa: F811
    trainer, _ = dpo_trainer(sft, tmp_path, precompute_ref_log_probs=True, loss_type=losses, loss_weights=[1.0, 0.5])
    assert first_loss(trainer) == pytest.approx(base + 0.5 * chosen_nll(trainer), abs=1e-3)


def test_wpo_weighs_each_pair_by_how_likely_it_is(sft, tmp_path):  # noqa: F811
    trainer, _ = dpo_trainer(
        sft, tmp_path, precompute_ref_log_probs=True, loss_type=["sigmoid"], use_weighting=True, max_steps=2
    )
    batch = next(iter(trainer.get_train_dataloader()))
    scored = batch["completion_mask"][:, 1:]
    said, squared = log_probs(trainer, batch)
    weights = (((said - squared) * scored).sum(1) / scored.sum(1)).exp()
    half = len(weights) // 2
    assert first_loss(trainer) == pytest.approx(LN2 * (weights[:half] * weights[half:]).mean().item(), rel=1e-3)
    trainer.train()


def test_canary_wpo_and_the_sft_term_do_not_go_together(sft, tmp_path):  # noqa: F811
    # TRL multiplies an expanded tensor in place; loss_problems refuses it. When this fails, TRL has mended it.
    trainer, _ = dpo_trainer(sft, tmp_path, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0], use_weighting=True)
    with pytest.raises(RuntimeError, match="single memory location"):
        first_loss(trainer)


# Keys that do not work together, told before anything is loaded ------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"loss_type": ["sigmod"]}, "loss_type: 'sigmod' is no loss; did you mean 'sigmoid'?"),
        (
            {"label_smoothing": 0.1},
            "label_smoothing: sigmoid does not read it, TRL would ignore it in silence; expected loss_type",
        ),
        ({"loss_type": ["sft"], "beta": 0.3}, "beta: sft does not read it"),
        ({"loss_type": ["sft"], "ld_alpha": 0.5}, "ld_alpha: sft does not read it"),
        ({"loss_type": ["sigmoid_norm", "sft"], "ld_alpha": 0.5}, "ld_alpha: sigmoid_norm divides by the whole length"),
        ({"loss_type": ["sigmoid", "sft"], "use_weighting": True}, "use_weighting: TRL cannot weigh pairs beside the sft term"),
        (
            {"ref_model_sync_steps": 64},
            "ref_model_sync_steps: TRL would ignore it in silence; expected it beside sync_ref_model",
        ),
        ({"precompute_ref_batch_size": 4}, "precompute_ref_batch_size: TRL would ignore it in silence"),
        ({"padding_free": True}, "padding_free: TRL's DPO ignores it"),
        ({"truncation_mode": "keep_end"}, "truncation_mode: nothing is truncated here"),
    ],
)
def test_what_trl_would_ignore_is_refused(training, said):
    recipe = DpoRecipe("sft", TrainData("a", "b"), {"output_dir": "o", **training})
    with pytest.raises(UserError) as caught:
        check_values(recipe)
    assert str(caught.value).startswith(f"training.{said}")


@pytest.mark.parametrize(
    "training",
    [
        {"loss_type": ["sigmoid", "sft"], "ld_alpha": 0.5, "loss_weights": [1.0, 1.0]},
        {"loss_type": ["apo_zero"], "beta": 0.05},
        {"loss_type": ["robust"], "label_smoothing": 0.1},
        {"loss_type": ["sigmoid"], "use_weighting": True, "label_smoothing": 0.0},
        {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 4},
        {"loss_type": ["sft"]},
    ],
)
def test_what_works_passes(training):
    check_values(DpoRecipe("sft", TrainData("a", "b"), {"output_dir": "o", **training}))


def test_our_list_of_losses_is_trls():
    import inspect

    from trl import DPOTrainer

    source = inspect.getsource(DPOTrainer._compute_loss)
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == set(LOSSES)
