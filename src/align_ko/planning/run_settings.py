"""What a recipe says about a run, defaults of TRL filled in: the values that a plan needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from align_ko.models.source import base_of, check_start_base
from align_ko.recipe import DpoRecipe, ModelArgs, SftRecipe, load_recipe, place_of
from align_ko.recipe.trl_fields import NO_DEFAULT, config_fields


@dataclass(frozen=True)
class RunSettings:
    """One run. `reference` is what DPO's reference is kept as; `notes` say what had to be assumed; `distilled`: a knob
    is trained in, over whole distributions."""

    stage: Literal["sft", "dpo"]
    model: ModelArgs
    training: dict[str, Any]
    recipe_file: str | None
    reference: Literal["none", "adapter", "model"]
    reference_passes: int
    notes: tuple[str, ...]
    distilled: bool = False

    def value(self, name: str) -> Any:
        """A training option, or TRL's default for it."""
        if self.training.get(name) is not None:
            return self.training[name]
        default = config_fields("SFTConfig" if self.stage == "sft" else "DPOConfig")[name].default
        return None if default is NO_DEFAULT else default

    @property
    def way(self) -> str:
        """Of batches.WAYS."""
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
    def flash(self) -> bool:
        return "flash" in (self.model.attn_implementation or "")


def run_settings(recipe: SftRecipe | DpoRecipe) -> RunSettings:
    """From a loaded recipe. A DPO start that is not there yet is planned as the `sft.yaml` beside its recipe makes it."""
    file = place_of(recipe, "").file
    if isinstance(recipe, SftRecipe):
        distilled = recipe.distill.wanted  # the teacher is the model without its adapter: one more forward pass
        return RunSettings("sft", recipe.model, recipe.training, file, "none", int(distilled), (), distilled)
    precomputed = bool(recipe.training.get("precompute_ref_log_probs"))
    start, notes = Path(recipe.model_name_or_path), []
    if recipe.model:
        check_start_base(str(start), recipe.model.model_name_or_path)
    adapter: bool
    if (start / "adapter_config.json").is_file():
        model, adapter = _of_adapter(start, recipe.model), True
    elif (start / "config.json").is_file() or recipe.model_name_or_path == "quickstart":
        model, adapter = replace(recipe.model or ModelArgs(""), model_name_or_path=recipe.model_name_or_path), False
    else:
        beside = Path(file or "").parent / "sft.yaml"
        if beside.is_file():
            sft = load_recipe(SftRecipe, [str(beside)])
            model, adapter = sft.model, not sft.merge_adapter
            notes.append(f"{start} is not there yet: planned as {beside} will make it")
        else:
            model, adapter = replace(recipe.model or ModelArgs(""), model_name_or_path=recipe.model_name_or_path), True
            notes.append(f"{start} is not there yet: planned as an adapter with the recipe's own LoRA keys")
        if recipe.model:
            model = replace(model, load_in_4bit=recipe.model.load_in_4bit, dtype=recipe.model.dtype)
    reference: Literal["none", "adapter", "model"] = "none"
    if not precomputed and (adapter or not model.use_peft):
        reference = "adapter" if adapter else "model"
    return RunSettings("dpo", model, recipe.training, file, reference, 0 if precomputed else 1, tuple(notes))


def _of_adapter(folder: Path, base: ModelArgs | None) -> ModelArgs:
    """The shape of an adapter folder, its base loaded as the recipe says."""
    saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    source, targets = base_of(str(folder)), saved["target_modules"]
    return replace(
        base or ModelArgs(""),
        model_name_or_path=source.path,
        model_revision=source.revision,
        trust_remote_code=source.trust_remote_code,
        lora_r=saved["r"],
        lora_alpha=saved["lora_alpha"],
        lora_target_modules=tuple(targets) if isinstance(targets, list) else (targets,),
        use_dora=saved.get("use_dora", False),
        use_rslora=saved.get("use_rslora", False),
    )
