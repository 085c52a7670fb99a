"""A model's shape without its weights: its config, its parameters by part, and the model itself on the meta device."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.recipe import ModelArgs

CONFIG_FOLDER = "config"  # beside a recipe: config.json of the model it names, so that a plan needs no hub


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters by part; `linear` is what 4-bit quantisation and LoRA reach: the linear layers in the blocks."""

    linear: int
    largest_linear: int
    embedding: int
    head: int
    """0 where the head shares the embedding's weights."""
    rest: int
    """Norms and biases."""
    trained: int
    """The adapter's, or all of them in full fine-tuning."""
    adapter: int

    @property
    def base(self) -> int:
        return self.linear + self.embedding + self.head + self.rest

    @property
    def trained_share(self) -> float:
        return self.trained / (self.base + self.adapter)


def load_config(name: str, recipe_file: str | None, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The transformers config of a model folder, of `quickstart`, or of the config.json beside the recipe.

    Never asks the hub: the folder, then `config/` beside the recipe where its `_name_or_path` is this model, then what the hub
    cache holds already. UserError with all three places when none has it.
    """
    from transformers import AutoConfig

    from align_ko.models.quickstart import default_folder
    from align_ko.models.source import ModelSource, model_source

    folder = default_folder() if name == "quickstart" else Path(name)
    if (folder / "config.json").is_file():
        return model_source(str(folder), None, trust_remote_code).load(AutoConfig)
    beside = Path(recipe_file or ".").parent / CONFIG_FOLDER
    if _names(beside) == name:
        return ModelSource(str(beside), None, trust_remote_code).load(AutoConfig)
    try:
        return model_source(name, revision, trust_remote_code).load(AutoConfig, local_files_only=True)
    except (OSError, ValueError):
        raise UserError(
            f"no config.json of {name} is at hand (a plan asks no hub)",
            file=recipe_file,
            key="model.model_name_or_path",
            expected=f'a model folder, a model in the hub cache, or {beside / "config.json"} with "_name_or_path": "{name}"',
        ) from None


def _names(folder: Path) -> str:
    """The model that a folder's config.json says it is of, or nothing."""
    file = folder / "config.json"
    return str(json.loads(file.read_text(encoding="utf-8")).get("_name_or_path", "")) if file.is_file() else ""


def repeat_of(config: Any) -> int:
    """After how many layers the pattern of layers repeats: 1 in Llama, 6 in Gemma 3 (five sliding windows, one full)."""
    kinds = getattr(config, "layer_types", None) or [""]
    return next((size for size in range(1, len(kinds)) if all(a == b for a, b in zip(kinds, kinds[size:], strict=False))), 1)


def shallow(config: Any, layers: int) -> Any:
    """The same architecture with its first `layers` layers."""
    small = copy.deepcopy(config)
    small.num_hidden_layers = layers
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[:layers]
    return small


def build_on_meta(config: Any, model: ModelArgs, dtype: Any) -> Any:
    """The model with its adapter (`model.use_peft`) on the meta device: shapes and dtypes, no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)
    config.use_cache = False
    with torch.device("meta"):
        built: Any = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=model.trust_remote_code
        )
        if model.use_peft:
            from peft import get_peft_model

            from align_ko.models.load import lora_config

            built = get_peft_model(built, lora_config(model), low_cpu_mem_usage=True)
    return built


def count_parameters(config: Any, model: ModelArgs) -> Parameters:
    """Count on the meta device, from one and two repeats of the layers (the rest are the same again).

    >>> # recipes/solar/sft.yaml: base 10_731_524_096, adapter 251_658_240 (r 64 on seven linear layers of 48 blocks)
    """
    import torch

    repeat, layers = repeat_of(config), config.num_hidden_layers
    if layers <= 2 * repeat or layers % repeat:
        return _counted(build_on_meta(config, model, torch.bfloat16))
    one, two = (_counted(build_on_meta(shallow(config, repeat * n), model, torch.bfloat16)) for n in (1, 2))
    times = layers // repeat - 1

    def grown(name: str) -> int:
        return int(getattr(one, name) + times * (getattr(two, name) - getattr(one, name)))

    names = ("linear", "embedding", "head", "rest", "trained", "adapter")
    return Parameters(**{name: grown(name) for name in names}, largest_linear=one.largest_linear)


def _counted(built: Any) -> Parameters:
    import torch

    parts = {"linear": 0, "embedding": 0, "head": 0, "rest": 0, "trained": 0, "adapter": 0}
    largest = 0
    embedding, head = built.get_input_embeddings().weight, built.get_output_embeddings().weight
    linear = {id(module.weight) for module in built.modules() if isinstance(module, torch.nn.Linear)}
    for name, weight in built.named_parameters():  # a tied head is one parameter with its embedding
        size = weight.numel()
        parts["trained"] += size if weight.requires_grad else 0
        if "lora_" in name:
            parts["adapter"] += size
        elif weight is embedding:
            parts["embedding"] += size
        elif weight is head:
            parts["head"] += size
        elif id(weight) in linear:
            parts["linear"] += size
            largest = max(largest, size)
        else:
            parts["rest"] += size
    return Parameters(**parts, largest_linear=largest)
