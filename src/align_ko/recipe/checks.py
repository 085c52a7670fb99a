"""Values that fit their type and still cannot work, each told with the file and line of its key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from align_ko.errors import UserError, nearest
from align_ko.recipe.fields import (
    AblationRecipe,
    DataRecipe,
    DpoRecipe,
    EvaluateRecipe,
    ExportRecipe,
    PreferencesRecipe,
    SftRecipe,
)
from align_ko.recipe.losses import loss_problems
from align_ko.recipe.preferences import SYNTHETIC_FAULTS
from align_ko.recipe.training import distill_problem, gate_problem
from align_ko.recipe.values import error_at
from align_ko.recipe.yaml_lines import Items, Node, Place, Table

_Test = Callable[[Any], bool]
_POSITIVE: tuple[_Test, str] = (lambda value: value > 0, "a number above 0")
_NOT_NEGATIVE: tuple[_Test, str] = (lambda value: value >= 0, "0 or more")
_ONE_OR_MORE: tuple[_Test, str] = (lambda value: value >= 1, "1 or more")
_SHARE: tuple[_Test, str] = (lambda value: 0 <= value <= 1, "a share from 0 to 1")
_BELOW_ONE: tuple[_Test, str] = (lambda value: 0 <= value < 1, "a share from 0 up to, but not including, 1")

# Keys as fnmatch patterns; a key that is null is not checked.
RANGES: dict[str, tuple[_Test, str]] = {
    "training.learning_rate": _POSITIVE,
    "training.num_train_epochs": _POSITIVE,
    "training.max_steps": (lambda value: value == -1 or value >= 1, "1 or more, or -1 for whole epochs"),
    "training.per_device_*_batch_size": _ONE_OR_MORE,
    "training.gradient_accumulation_steps": _ONE_OR_MORE,
    "training.[!m]*_steps": _NOT_NEGATIVE,
    "training.save_total_limit": _ONE_OR_MORE,
    "training.weight_decay": _NOT_NEGATIVE,
    "training.max_grad_norm": _NOT_NEGATIVE,
    "training.max_length": _ONE_OR_MORE,
    "training.beta": _POSITIVE,
    "training.loss_weights[[]*": _NOT_NEGATIVE,
    "training.label_smoothing*": _BELOW_ONE,
    "training.ld_alpha": _SHARE,
    "*model.lora_r": _ONE_OR_MORE,
    "*model.lora_alpha": _ONE_OR_MORE,
    "*model.lora_dropout": _BELOW_ONE,
    "early_stopping.patience": _ONE_OR_MORE,
    "early_stopping.min_rise": _NOT_NEGATIVE,
    "gate.prompts": _NOT_NEGATIVE,
    "gate.max_new_tokens": _ONE_OR_MORE,
    "gate.batch_size": _ONE_OR_MORE,
    "gate.max_seconds": _POSITIVE,
    "gate.stop_margin": _SHARE,
    "weights.*": _NOT_NEGATIVE,
    "max_samples": _ONE_OR_MORE,
    "lengths.*": _NOT_NEGATIVE,
    "eval_share": _BELOW_ONE,
    "preference_share": _BELOW_ONE,
    "max_broken_share": _SHARE,
    "num_proc": _NOT_NEGATIVE,
    "refusal_share": _SHARE,
    "off_topic_words": _ONE_OR_MORE,
    "near_duplicates.*": _POSITIVE,
    "max_prompts": _NOT_NEGATIVE,
    "first_prompt": _NOT_NEGATIVE,
    "gate.max_prompts": _NOT_NEGATIVE,
    "rounds": _ONE_OR_MORE,
    "distill.passes": _ONE_OR_MORE,
    "min_pairs": _ONE_OR_MORE,
    "min_gain": _NOT_NEGATIVE,
    "interpolation": (lambda value: 0 < value <= 1, "a share above 0, up to 1"),
    "gate.max_collapse": _SHARE,
    "gate.min_relevant": _SHARE,
    "gate.min_distinct": _SHARE,
    "gate.max_nll_rise": _NOT_NEGATIVE,
    "sampling_prompts": _NOT_NEGATIVE,
    "*.temperature": _NOT_NEGATIVE,
    "*.top_p": (lambda value: 0 < value <= 1, "a share above 0, up to 1"),
    "*.repetition_penalty": _POSITIVE,
    "candidates.*.samples": _ONE_OR_MORE,
    "endpoint.concurrency": _ONE_OR_MORE,
    "endpoint.timeout": _POSITIVE,
    "endpoint.max_retries": _NOT_NEGATIVE,
    "grid.temperature[[]*": _POSITIVE,
    "grid.top_p[[]*": (lambda value: 0 < value <= 1, "a share above 0, up to 1"),
    "grid.repetition_penalty[[]*": _POSITIVE,
    "grid.prompts": _NOT_NEGATIVE,
    "generation.max_new_tokens": _ONE_OR_MORE,
    "generation.batch_size": _ONE_OR_MORE,
    "pairing.loop_periods": _ONE_OR_MORE,
    "pairing.rejected_samples": _NOT_NEGATIVE,
    "pairing.length_tolerance": _NOT_NEGATIVE,
    "pairing.eval_share": _BELOW_ONE,
    "pairing.max_similarity": _SHARE,
    "pairing.max_collapse": _SHARE,
    "pairing.min_*": _SHARE,
    "pairing.*_share": _SHARE,
    "judges.weights.*": _NOT_NEGATIVE,
    "judges.*.batch_size": _ONE_OR_MORE,
    "judges.*.max_length": _ONE_OR_MORE,
    "judges.llm.concurrency": _ONE_OR_MORE,
    "judges.llm.top": _ONE_OR_MORE,
    "judges.llm.max_tokens": _ONE_OR_MORE,
    "judges.llm.timeout": _POSITIVE,
    "judges.llm.max_retries": _NOT_NEGATIVE,
}
GROUPS = ("instruction", "dialogue", "knowledge")


def remember_places(recipe: Any, tree: Table) -> None:
    """Keep with the recipe where each key was written, for messages that come later."""
    object.__setattr__(recipe, "_tree", tree)  # the dataclass is frozen; a replaced copy only loses the line numbers


def place_of(recipe: Any, path: str) -> Place:
    """File and line of a dotted key, or of the nearest mapping above it that was written."""
    node: Node | None = getattr(recipe, "_tree", None)
    place, rest = node.place if node else Place(), path
    while rest and node is not None:
        step: Node | None = None
        if isinstance(node, Table):
            # The name of a source may hold a dot, so the longest key that fits is taken.
            names = [name for name in node.entries if rest == name or rest.startswith((f"{name}.", f"{name}["))]
            if names:
                name = max(names, key=len)
                step, rest = node.entries[name], rest[len(name) :].removeprefix(".")
        elif isinstance(node, Items) and (match := re.match(r"\[(\d+)\]\.?", rest)):
            step, rest = node.items[int(match[1])], rest[match.end() :]
        if step is None:
            break
        node, place = step, step.place
    return place


def recipe_error(recipe: Any, path: str, problem: str, expected: str | None = None, close: str | None = None) -> UserError:
    """A UserError about the dotted key `path` of a loaded recipe, with its file and line."""
    return error_at(place_of(recipe, path), path, problem, expected, close)


def check_values(recipe: Any) -> None:
    """Raise a UserError for the first value that cannot work."""
    for path, value in _leaves(recipe, ""):
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        for pattern, (fits, expected) in RANGES.items():
            if fnmatchcase(path, pattern) and not fits(value):
                raise recipe_error(recipe, path, f"{value} cannot work", expected)
    if isinstance(recipe, DataRecipe):
        _check_mixture(recipe)
    if isinstance(recipe, SftRecipe | DpoRecipe):
        _check_training(recipe)
    if isinstance(recipe, PreferencesRecipe):
        _check_candidates(recipe)
        _check_pairs(recipe)
    if isinstance(recipe, DpoRecipe):
        for key, problem, wanted, close in loss_problems(recipe.training):
            raise recipe_error(recipe, f"training.{key}", problem, wanted, close)
    if isinstance(recipe, AblationRecipe):
        _check_settings(recipe)
    if isinstance(recipe, ExportRecipe) and recipe.interpolation < 1 and not recipe.interpolate_from:
        problem = f"{recipe.interpolation:g} does nothing without a checkpoint to go back to"
        raise recipe_error(recipe, "interpolation", problem, "'interpolate_from: outputs/…/sft' beside it")
    if isinstance(recipe, EvaluateRecipe) and not recipe.models:
        raise recipe_error(recipe, "models", "no model to evaluate", "'name: checkpoint'")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def _check_mixture(recipe: DataRecipe) -> None:
    if not recipe.sources:
        raise recipe_error(recipe, "sources", "no source to read", "'name: {path: …}'")
    for key in ("groups", "weights", "lengths"):
        for name in getattr(recipe, key):
            if name not in GROUPS:
                expected = None if nearest(name, GROUPS) else "one of " + ", ".join(GROUPS)
                raise recipe_error(recipe, f"{key}.{name}", "unknown group", expected, nearest(name, GROUPS))
    if sum(recipe.weights.values()) <= 0:
        raise recipe_error(recipe, "weights", "the weights sum to 0", "at least one weight above 0")
    if recipe.eval_share + recipe.preference_share >= 1:
        problem = f"with eval_share ({recipe.eval_share:g}) no row is left to train on"
        raise recipe_error(recipe, "preference_share", problem, f"less than {1 - recipe.eval_share:g}")
    for name, bounds in recipe.lengths.items():
        for side in ("question", "answer"):
            low, high = getattr(bounds, f"min_{side}"), getattr(bounds, f"max_{side}")
            if high < low:
                problem = f"{high} cannot work"
                raise recipe_error(recipe, f"lengths.{name}.max_{side}", problem, f"min_{side} ({low}) or more")


def _check_candidates(recipe: PreferencesRecipe) -> None:
    if "greedy" in recipe.candidates:
        raise recipe_error(recipe, "candidates.greedy", "this name is taken: greedy is always drawn", "another name")
    for name, setting in recipe.candidates.items():
        if setting.temperature == 0 and setting.samples > 1:
            problem = f"{setting.samples} answers without sampling are all the same"
            raise recipe_error(recipe, f"candidates.{name}.samples", problem, "1, or a temperature above 0")


def _check_settings(recipe: AblationRecipe) -> None:
    for name, setting in recipe.settings.items():
        if not re.fullmatch(r"[\w.-]+", name) or name in ("start", "start-merged", "chosen"):
            raise recipe_error(recipe, f"settings.{name}", "cannot be a folder's name here", "another name")
        if setting.stage == "sft" and recipe.sft is None:
            raise recipe_error(recipe, f"settings.{name}.stage", "there is no SFT recipe to start from", "'sft: {recipe: …}'")
    if not recipe.settings or not recipe.seeds:
        raise recipe_error(recipe, "settings", "nothing to compare", "at least one setting and one seed")


def _check_training(recipe: SftRecipe | DpoRecipe) -> None:
    """What TRL or transformers would only say after half a minute, and without the line."""
    training = recipe.training
    if not training.get("output_dir"):
        raise recipe_error(recipe, "training.output_dir", "this key is missing", "the folder for the checkpoint")
    attention = (recipe.model.attn_implementation or "") if recipe.model else ""
    for key in ("packing", "padding_free") if isinstance(recipe, SftRecipe) else ():
        if training.get(key) and "flash" not in attention:
            expected = f"model.attn_implementation: flash_attention_2, or train_sampling_strategy: group_by_length and no {key}"
            raise recipe_error(recipe, f"training.{key}", "packed rows attend to each other without FlashAttention", expected)
    if training.get("packing") and (strategy := training.get("packing_strategy", "bfd")) != "bfd":
        raise recipe_error(recipe, "training.packing_strategy", f"'{strategy}' cuts conversations in two", "bfd")
    if found := gate_problem(recipe.gate, training):
        raise recipe_error(recipe, *found)
    if isinstance(recipe, SftRecipe) and (wrong := distill_problem(recipe.distill, recipe.model.use_peft, training)):
        raise recipe_error(recipe, *wrong)
    losses, weights = training.get("loss_type"), training.get("loss_weights")
    if weights is not None and len(weights) != (count := len(losses) if isinstance(losses, list) else 1):
        problem = f"{len(weights)} weights for {count} losses"
        raise recipe_error(recipe, "training.loss_weights", problem, "one weight for each loss_type")
    saves, evaluates = training.get("save_strategy", "steps"), training.get("eval_strategy", "no")
    if not training.get("load_best_model_at_end") or saves == "best":
        return
    key = "training.load_best_model_at_end"
    if saves != evaluates:
        problem = f"save_strategy is {saves} and eval_strategy is {evaluates}"
        raise recipe_error(recipe, key, problem, "the same for both, or every best model is lost")
    save_steps = training.get("save_steps", 500)
    eval_steps = training.get("eval_steps") or training.get("logging_steps", 10)
    if saves == "steps" and eval_steps >= 1 and save_steps % eval_steps:
        raise recipe_error(
            recipe, "training.save_steps", f"{save_steps} cannot work", f"a multiple of eval_steps ({eval_steps})"
        )


def _check_pairs(recipe: PreferencesRecipe) -> None:
    weights, pairing = recipe.judges.weights, recipe.pairing
    if not any(getattr(weights, item.name) for item in dataclasses.fields(weights)):
        raise recipe_error(recipe, "judges.weights", "all weights are 0", "at least one judge with a weight above 0")
    for judge, key in (("reward_model", "reward_model.model_name_or_path"), ("llm", "llm.model")):
        if getattr(weights, judge) and not getattr(getattr(recipe.judges, judge), key.rpartition(".")[2]):
            problem = f"this key is missing, and judges.weights.{judge} is {getattr(weights, judge)}"
            raise recipe_error(recipe, f"judges.{key}", problem, "the model that judges")
    if pairing.synthetic_share + pairing.curated_share >= 1:
        problem = f"synthetic_share and curated_share are {pairing.synthetic_share + pairing.curated_share:g} together"
        raise recipe_error(recipe, "pairing.synthetic_share", problem, "less than 1: the rest comes from real failures")
    for number, name in enumerate(pairing.synthetic_faults):
        if name not in SYNTHETIC_FAULTS:
            close = nearest(name, SYNTHETIC_FAULTS)
            expected = None if close else "one of " + ", ".join(SYNTHETIC_FAULTS)
            raise recipe_error(recipe, f"pairing.synthetic_faults[{number}]", f"unknown fault '{name}'", expected, close)
