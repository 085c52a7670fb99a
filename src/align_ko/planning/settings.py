"""What a plan is made for: the flags of `--plan`, and the run that a recipe describes, TRL's defaults filled in. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from align_ko.models.source import base_of, is_adapter, start_source
from align_ko.recipe import DpoRecipe, GrpoRecipe, ModelArgs, Recipe, SftRecipe, load_recipe, place_of, recipe_of
from align_ko.recipe.fields import ShareAboveZero
from align_ko.recipe.keys import lay_over, part_flags
from align_ko.recipe.record import MISSING, config_fields, record
from align_ko.recipe.yaml_lines import Tree

Reference = Literal["none", "adapter", "model"]


@record
class PlanFlags(Recipe):
    """The flags of `--plan`."""

    plan_gpu: str = "A100-80"
    """A name of planning/devices.py, or `this`: steps are timed on this machine."""
    plan_utilisation: ShareAboveZero | None = None
    """Share of the GPU's peak rate that a run of yours reached; null: assumed for each GPU (planning/devices.py)."""
    plan_json: str = ""


def take_plan_flags(words: Sequence[str]) -> tuple[PlanFlags, list[str]]:
    """The plan's flags, and the words without them: `r.yaml --plan --plan_gpu L40S` → `PlanFlags("L40S")`, `r.yaml`."""
    mine, rest = part_flags(words, lambda name: name == "plan" or name.startswith(("plan_", "plan-")))
    recipe = mine.pop("plan", [])  # `--plan r.yaml`
    own = [word for name, values in mine.items() for word in (f"--{name}", *values)]
    return recipe_of(lay_over(Tree({}, {}), PlanFlags, own), PlanFlags), [*recipe, *rest]


@dataclass(frozen=True)
class RunSettings:
    """One run. `reference`: what DPO's reference is kept as; `notes`: what had to be assumed; `distilled`: a knob is trained
    in, over whole distributions; `training`: the recipe's own mapping; `max_prompt`: GRPO's limit, in tokens."""

    stage: Literal["sft", "dpo", "grpo"]
    model: ModelArgs
    training: Mapping[str, Any]
    recipe_file: str | None
    reference: Reference
    reference_passes: int
    notes: tuple[str, ...] = ()
    distilled: bool = False
    merges_start: bool = False
    max_prompt: int = 0

    def value(self, name: str) -> Any:
        """A training option, or TRL's default for it."""
        if self.training.get(name) is not None:
            return self.training[name]
        default = config_fields(f"{self.stage.upper()}Config")[name].default
        return None if default is MISSING else default

    @property
    def batching(self) -> str:
        """A key of lengths.BATCHINGS."""
        if self.stage == "grpo":
            return "random"
        if self.stage == "sft" and self.value("packing"):
            return "packing"
        return "group_by_length" if self.value("train_sampling_strategy") == "group_by_length" else "random"

    @property
    def checkpointing(self) -> bool:
        """Under either name: transformers 5.23 calls it activation_checkpointing and still takes the old one."""
        newer = self.training.get("activation_checkpointing")
        return bool(self.value("gradient_checkpointing") if newer is None else newer)

    @property
    def pad_to_multiple_of(self) -> int:
        """1 where TRL pads to none: its `auto` does on Neuron only."""
        wanted = str(self.value("pad_to_multiple_of")).lower()
        return 1 if wanted in ("auto", "none", "null") else int(wanted)

    @property
    def max_length(self) -> int | None:
        if self.stage == "grpo":
            return self.max_prompt + int(self.value("max_completion_length"))
        return None if (limit := self.value("max_length")) is None else int(limit)

    @property
    def drawing(self) -> tuple[int, int]:
        """GRPO's: prompts that are answered at once on a device, and the micro-batches trained on their answers, in all."""
        parts = self.value("steps_per_generation") or self.value("gradient_accumulation_steps")
        rows = self.value("generation_batch_size") or self.value("per_device_train_batch_size") * parts
        together = rows // self.value("per_device_train_batch_size") * self.value("num_iterations")
        return max(1, rows // self.value("num_generations")), together

    @property
    def precomputed(self) -> bool:
        """Whether the reference's log-probabilities are computed once, before training."""
        return bool(self.training.get("precompute_ref_log_probs"))

    def evaluations(self, steps: int) -> int:
        strategy, epochs = str(self.value("eval_strategy")), float(self.value("num_train_epochs"))
        if strategy == "steps":
            every = self.value("eval_steps") or self.value("logging_steps")
            return int(steps // (every if every >= 1 else max(1, -(-every * steps // 1))))
        return int(-(-epochs // 1)) if strategy == "epoch" else 0


def run_settings(recipe: SftRecipe | DpoRecipe | GrpoRecipe) -> RunSettings:
    """From a loaded recipe. A start of DPO or GRPO that does not exist yet
    is planned as the `sft.yaml` beside its recipe makes it."""
    file = place_of(recipe, "").file
    if isinstance(recipe, SftRecipe):
        distilled = recipe.distill.wanted  # the teacher is the model without its adapter: one more forward pass
        model, merged = recipe.model, False
        if is_adapter(model.model_name_or_path):
            saved = _saved_adapter(Path(model.model_name_or_path), model)
            merged = distilled or recipe.merge_start or not model.use_peft  # a new adapter, on the same shapes
            model = replace(model, model_name_or_path=saved.model_name_or_path) if merged else saved
        passes = int(distilled)
        return RunSettings("sft", model, recipe.training, file, "none", passes, distilled=distilled, merges_start=merged)
    name, note, adapter = recipe.model_name_or_path, "", True
    start = Path(name)
    if recipe.model and start.is_dir():
        start_source(name, recipe.model.model_name_or_path, recipe.model.model_revision)
    own = replace(recipe.model, model_name_or_path=name) if recipe.model else ModelArgs(model_name_or_path=name)
    if (start / "adapter_config.json").is_file():
        model = _saved_adapter(start, recipe.model)
    elif (start / "config.json").is_file() or name == "quickstart":
        model, adapter = own, False
    elif (beside := Path(file or "").parent / "sft.yaml").is_file():
        sft = load_recipe(SftRecipe, [str(beside)])
        model, adapter = sft.model, not sft.merge_adapter
        if recipe.model:
            model = replace(model, load_in_4bit=own.load_in_4bit, dtype=own.dtype)
        note = f"{start} is not there yet: planned as {beside} will make it"
    else:
        model, note = own, f"{start} is not there yet: planned as an adapter with the recipe's own LoRA keys"
    notes = (note,) if note else ()
    if isinstance(recipe, GrpoRecipe):
        run = RunSettings("grpo", model, recipe.training, file, "none", 0, notes, max_prompt=recipe.max_prompt_length)
        before = int(run.value("gradient_accumulation_steps") % run.drawing[1] > 0)  # log-probabilities of before the last step
        run = replace(run, reference_passes=before + (run.value("beta") > 0))
        if not run.value("beta"):
            return run
    else:
        run = RunSettings("dpo", model, recipe.training, file, "none", 1, notes)
    if run.precomputed:
        return replace(run, reference_passes=0)
    return replace(run, reference="adapter" if adapter else "none" if model.use_peft else "model")


def _saved_adapter(folder: Path, base: ModelArgs | None) -> ModelArgs:
    """The shape of an adapter folder, its base loaded as the recipe says."""
    saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    source, targets = base_of(str(folder)), saved["target_modules"]
    return replace(
        base or ModelArgs(model_name_or_path=source.path), model_name_or_path=source.path, model_revision=source.revision,
        trust_remote_code=source.may_run_code, lora_r=saved["r"], lora_alpha=saved["lora_alpha"],
        lora_target_modules=tuple(targets) if isinstance(targets, list) else (targets,),
        use_dora=saved.get("use_dora", False), use_rslora=saved.get("use_rslora", False),
    )  # fmt: skip
