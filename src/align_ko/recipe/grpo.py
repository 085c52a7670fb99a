"""The recipe of GRPO: what an answer earns, and what is drawn and trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, field
from typing import Annotated, Any

from align_ko.recipe import fields
from align_ko.recipe.record import InputPath, Problem, Recipe, TrlConfig, config_fields, record, unknown_name
from align_ko.recipe.training import GateArgs, Resume, StartModelArgs, TrainData, training_problems

GRPO_LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
NOT_READ = (
    "use_vllm", "use_transformers_continuous_batching", "top_k", "min_p", "repetition_penalty", "generation_kwargs",
    "chat_template_kwargs", "cache_implementation",
)  # fmt: skip
"""Options of TRL's own generation, in whose place generation/local.py draws the rollouts."""


@record
class RewardArgs:
    """What an answer earns: the weight of each reward; TRL adds them up, 0 leaves one out."""

    naturalness: fields.NotNegative = 1.0
    """The judge's score of form, 0 to 1; 0 for an answer with a fault, as every one is that did not end."""
    reference: fields.NotNegative = 1.0
    """Closeness to the row's reference, 0 to 1: the judge `reference` of the preference pairs. Not counted without one."""
    variety: fields.NotNegative = 0.0
    """The judge `variety` of the preference pairs, 0 to 1: words that do not come again."""
    length: fields.NotNegative = 0.5
    """1 within the window of `shortest` to `longest`, falling to 0 for an empty answer and one twice as long as `longest`. Not
    counted without a reference."""
    shortest: fields.Positive = 0.5
    """Of the reference's characters."""
    longest: fields.Positive = 1.5
    """Of the reference's characters."""
    repetition: fields.NotNegative = 0.0
    """TRL's get_repetition_penalty_reward, 0 to -1: the share of runs of three tokens that come again."""

    @property
    def weights(self) -> dict[str, float]:
        """Of the rewards that are asked for."""
        names = ("naturalness", "reference", "variety", "length", "repetition")
        return {name: weight for name, weight in asdict(self).items() if name in names and weight}

    def problems(self) -> Iterator[Problem]:
        if not self.weights:
            yield Problem("rewards", "every weight is 0, so every answer earns the same", "naturalness: 1.0, for instance")
        if self.shortest >= self.longest:
            yield Problem("rewards.shortest", f"{self.shortest:g} is not below longest ({self.longest:g})", "a lower share")


@record
class GrpoRecipe(Recipe):
    """Online RL: GRPO from the SFT or DPO checkpoint, with the judge as reward."""

    model_name_or_path: fields.Text
    """The start: an adapter folder (trained on, its frozen copy is the reference) or a full model."""
    data: TrainData
    """Prompt rows, as curation's preferences.jsonl has them: the last answer of a row is its reference."""
    training: Annotated[dict[str, Any], TrlConfig("GRPOConfig")]
    """Any field of TRL's GRPOConfig but those of its own generation."""
    rewards: RewardArgs
    greedy_rollout: fields.YesNo = True
    """One answer of each group is the greedy one, the only one that a user will see; false: all are sampled."""
    max_prompt_length: fields.AtLeastOne = 512
    """Tokens; longer prompts are left out."""
    model: StartModelArgs | None = None
    """Number format and quantisation; for a full model as start also the new adapter."""
    merge_adapter: fields.YesNo = False
    """Also merge the adapter: the output folder is then a plain transformers model (the adapter stays in adapter/)."""
    gate: GateArgs = field(default_factory=GateArgs)
    resume: Resume = "auto"
    """As in an SFT recipe. auto: go on, never repeat, refuse what changed. replace: start a changed run over. fresh: start
    over. force: go on."""

    def problems(self) -> Iterator[Problem]:
        training, known = self.training, config_fields("GRPOConfig")
        yield from training_problems(training)
        yield from self.gate.problems(training)
        yield from self.rewards.problems()
        for key in NOT_READ:
            if training.get(key, known[key].default) != known[key].default:
                yield Problem(f"training.{key}", "the rollouts are not drawn by TRL, which alone reads it", "no such key")
        if "reward_weights" in training:
            yield Problem("training.reward_weights", "the weights are those of `rewards`", "no such key")
        if (loss := training.get("loss_type", GRPO_LOSSES[0])) not in GRPO_LOSSES:
            yield unknown_name("training.loss_type", f"'{loss}' is no loss", str(loss), GRPO_LOSSES)
        group, parts = self.option("num_generations"), self.option("gradient_accumulation_steps")
        rows = self.option("per_device_train_batch_size") * int(os.environ.get("WORLD_SIZE", 1))
        drawn = training.get("generation_batch_size") or rows * (training.get("steps_per_generation") or parts)
        if drawn % group:
            expected = "per_device_train_batch_size × gradient_accumulation_steps a multiple of it"
            yield Problem("training.num_generations", f"{drawn} answers at once are no whole groups of {group}", expected)
        period = drawn // rows * self.option("num_iterations")  # micro-batches trained on the answers of one drawing
        saves = training.get("save_strategy", "steps") == "steps" and self.option("save_steps")
        if saves and saves >= 1 and saves * parts % period:
            problem = f"a checkpoint every {saves} steps would part answers that are trained on together"
            yield Problem("training.save_steps", problem, f"a multiple of {-(-period // parts)}")

    def option(self, name: str) -> Any:
        """A training option, or TRL's default."""
        value = self.training.get(name)
        return config_fields("GRPOConfig")[name].default if value is None else value

    def inputs(self) -> Iterator[InputPath]:
        yield InputPath("model_name_or_path", self.model_name_or_path, "model", "run_sft sft")
        for key in ("train_file", "eval_file"):
            yield InputPath(f"data.{key}", getattr(self.data, key), "rows", "build_sft_data data")
        yield InputPath("data.chat_template", self.data.chat_template, "template")
        yield from self.gate.inputs()
