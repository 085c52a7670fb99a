"""A model's shape without its weights: its config, its parameters by part, and the activations of a training step.

Parameters are counted on the meta device; activations come from a forward and backward of the same code as in training under
PyTorch's FakeTensorMode. torch's MemTracker finds the same bytes but refuses frozen weights, that is every LoRA
(docs/experiments.md)."""

from __future__ import annotations

import copy
import json
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from align_ko.errors import UserError
from align_ko.models.quickstart import default_folder
from align_ko.models.source import ModelSource, model_source
from align_ko.recipe import ModelArgs

Number = TypeVar("Number", int, float)
CONFIG_FOLDER = "config"  # beside a recipe: config.json of the model it names, so that a plan needs no hub


def load_config(
    name: str, recipe_file: str | None, revision: str | None = None, trust_remote_code: bool = False
) -> PretrainedConfig:
    """The config of a model folder, of `quickstart`, of a `config/` beside the recipe or its neighbours if it names this model
    (`_name_or_path`, or `same_shape` for models of equal sizes), or of the hub cache. Never asks the hub; UserError with all
    these places when none has it."""
    folder = default_folder() if name == "quickstart" else Path(name)
    if (folder / "config.json").is_file():
        return model_source(str(folder), None, trust_remote_code).load(AutoConfig)
    beside = Path(recipe_file or ".").resolve().parent / CONFIG_FOLDER
    for file in (beside / "config.json", *sorted(beside.parent.parent.glob(f"*/{CONFIG_FOLDER}/config.json"))):
        if name in _models_of(file):
            return ModelSource(str(file.parent), None, trust_remote_code).load(AutoConfig)
    try:
        return model_source(name, revision, trust_remote_code).load(AutoConfig, local_files_only=True)
    except (OSError, ValueError, UserError) as error:
        if isinstance(error, UserError) and not isinstance(error.__context__, OSError):
            raise  # there is one, and it needs code of the model's own
        problem = f"no config.json of {name} is at hand (a plan asks no hub)"
        expected = f'a model folder, a model in the hub cache, or {beside / "config.json"} with "_name_or_path": "{name}"'
        raise UserError(problem, file=recipe_file, key="model.model_name_or_path", expected=expected) from None


def _models_of(file: Path) -> tuple[str, ...]:
    """The models that a config.json beside a recipe describes; none where the file is something else."""
    try:
        known = json.loads(file.read_text("utf-8"))
        return (known["_name_or_path"], *known.get("same_shape", ()))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def text_config(config: PretrainedConfig) -> Any:
    """The language model's config: nested in Gemma 3's, whose model has a vision tower too."""
    return config.get_text_config()


def layer_period(config: PretrainedConfig) -> int:
    """After how many layers the pattern of layers repeats: 1 in Llama, 6 in Gemma 3 (five sliding windows, one full)."""
    kinds = getattr(text_config(config), "layer_types", None) or [""]
    return next((size for size in range(1, len(kinds)) if all(a == b for a, b in zip(kinds, kinds[size:], strict=False))), 1)


def shallow(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same architecture with its first `layers` layers."""
    small = copy.deepcopy(config)
    text = text_config(small)
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    return small


def extrapolate(
    config: PretrainedConfig, first: int, measure: Callable[[PretrainedConfig], Sequence[Number]], whole_periods: bool = True
) -> list[Number]:
    """What `measure` returns for all layers, from `first` and `first + 1` periods of them: every further one adds the same.
    A model that is not deeper (or, with `whole_periods`, no multiple of its period deep) is measured whole."""
    period, layers = layer_period(config), text_config(config).num_hidden_layers
    if layers <= (first + 1) * period or (whole_periods and layers % period):
        return list(measure(config))
    less, more = (measure(shallow(config, period * count)) for count in (first, first + 1))
    return [a + (layers // period - first) * (b - a) for a, b in zip(less, more, strict=True)]


def build_model(
    config: PretrainedConfig, model: ModelArgs, dtype: torch.dtype, device: str = "meta", attention: str | None = "sdpa"
) -> Any:
    """The model with random weights and its adapter (`model.use_peft`); on the meta device shapes and dtypes, no memory."""
    config = copy.deepcopy(config)
    text_config(config).use_cache = False
    with torch.device(device):
        built: Any = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=attention, trust_remote_code=model.trust_remote_code
        )
        if model.use_peft:
            from peft import get_peft_model

            from align_ko.models.load import lora_config

            built = get_peft_model(built, lora_config(model), low_cpu_mem_usage=device == "meta")
    return built


def prepare_for_training(built: Any, checkpointing: bool) -> None:
    """Training mode, and checkpointing as TRL switches it on."""
    built.train()
    if checkpointing:
        built.gradient_checkpointing_enable({"use_reentrant": False})
        if hasattr(built, "peft_config"):
            built.enable_input_require_grads()


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters by part. 4-bit quantisation reaches `linear` and `tower`; text is computed in `linear` alone."""

    linear: int  # linear layers in the language model's blocks
    largest_linear: int
    embedding: int
    head: int  # 0 where the head shares the embedding's weights
    rest: int  # norms and biases
    trained: int  # the adapter's, or all of them in full fine-tuning
    adapter: int
    tower: int = 0  # linear layers outside the language model, as in a vision tower

    @property
    def base(self) -> int:
        return self.linear + self.tower + self.embedding + self.head + self.rest

    @property
    def trained_share(self) -> float:
        return self.trained / (self.base + self.adapter)


def count_parameters(config: PretrainedConfig, model: ModelArgs) -> Parameters:
    """From one and two periods of layers. SOLAR: base 10,731,524,096, adapter 251,658,240 (r 64 on 7 layers of 48 blocks)."""
    return Parameters(*extrapolate(config, 1, lambda shape: astuple(_count(build_model(shape, model, torch.bfloat16)))))


def _count(built: Any) -> Parameters:
    counts = dict.fromkeys((part.name for part in fields(Parameters)), 0)
    embedding, head = built.get_input_embeddings().weight, built.get_output_embeddings().weight
    text = {id(weight) for weight in _language_model(built).parameters()}
    linear = {id(module.weight) for module in built.modules() if isinstance(module, torch.nn.Linear)}
    for name, weight in built.named_parameters():  # a tied head is one parameter with its embedding
        size = weight.numel()
        counts["trained"] += size if weight.requires_grad else 0
        if "lora_" in name:
            part = "adapter"
        elif weight is embedding or weight is head:
            part = "embedding" if weight is embedding else "head"
        elif id(weight) in linear:
            part = "linear" if id(weight) in text else "tower"
            counts["largest_linear"] = max(counts["largest_linear"], size)
        else:
            part = "rest"
        counts[part] += size
    return Parameters(**counts)


def _language_model(built: Any) -> Any:
    """The layers that text passes through, without the LM head and without a vision tower."""
    backbone = (built.get_base_model() if hasattr(built, "get_base_model") else built).base_model
    return getattr(backbone, "language_model", backbone)


class Activations(NamedTuple):
    """Bytes of one micro-batch's forward and backward, without weights and their gradients."""

    saved: int  # alive between forward and backward
    peak: int  # the most that is alive at once in the layers, backward included


def trace_activations(
    config: PretrainedConfig, model: ModelArgs, rows: int, tokens: int, *, dtype: str, mixed: bool, checkpointing: bool
) -> Activations:
    """Activations of the layers for a batch of `rows` × `tokens`, without the LM head's (memory.py). `dtype`: of the weights;
    `mixed`: autocast to bfloat16. SDPA keeps on a CPU what FlashAttention keeps, never the matrix."""
    # two and three periods: the first layer's inputs need no gradient, so a single layer's backward is not like the others'
    return Activations(*extrapolate(config, 2, lambda shape: _trace(shape, model, rows, tokens, dtype, mixed, checkpointing)))


def _trace(
    config: PretrainedConfig, model: ModelArgs, rows: int, tokens: int, dtype: str, mixed: bool, checkpointing: bool
) -> Activations:
    from peft.helpers import disable_input_dtype_casting
    from torch._subclasses.fake_tensor import FakeTensorMode

    built = build_model(config, model, getattr(torch, dtype))
    if model.use_peft and model.load_in_4bit:  # as TRL does after loading
        for weight in built.parameters():
            weight.data = weight.data.to(torch.bfloat16) if weight.requires_grad else weight.data
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in built.modules():  # from meta to a fake CPU; it unties a tied head, which no layer notices
            for name, weight in module._parameters.items():
                if weight is not None:
                    empty = torch.empty_like(weight, device="cpu")
                    module._parameters[name] = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else torch.empty_like(buffer, device="cpu")
        prepare_for_training(built, checkpointing)
        for weight in built.parameters():  # as in the second of several accumulated batches: the gradients exist already
            weight.grad = torch.empty_like(weight) if weight.requires_grad else None
        known = [*built.parameters(), *built.buffers(), *(w.grad for w in built.parameters() if w.grad is not None)]
        live = _LiveBytes({tensor.untyped_storage()._cdata for tensor in known})
        # as in training/seams.py
        casting = disable_input_dtype_casting(built, active=True) if model.use_peft and mixed else nullcontext()
        ids, mask = torch.zeros(rows, tokens, dtype=torch.long), torch.ones(rows, tokens, dtype=torch.long)
        with casting, live, torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            hidden = _language_model(built)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            saved = live.now
            hidden.backward(torch.empty_like(hidden))
        return Activations(saved, live.peak)


class _LiveBytes(TorchDispatchMode):
    """Bytes of all storages made inside the mode that are still alive (`now`), and the most there ever were (`peak`)."""

    def __init__(self, ignored: set[int]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.ignored, self.alive = ignored, {}  # type: tuple[set[int], dict[int, object]]

    def __torch_dispatch__(
        self, func: Callable[..., object], types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.alive and key not in self.ignored:
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    self.alive[key] = weakref.ref(storage, partial(self.free, key, size))
        return out

    def free(self, key: int, size: int, _: object) -> None:
        del self.alive[key]
        self.now -= size
