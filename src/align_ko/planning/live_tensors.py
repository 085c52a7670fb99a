"""How much memory a training step's activations take, found by running the step on tensors that have shapes and no memory.

PyTorch's FakeTensorMode computes shapes and dtypes only, so SOLAR's layers run here in a second, with the same transformers
and PEFT code, the same autocast and the same checkpointing as in training: what autograd saves is seen, not estimated.
"""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any

from align_ko.planning.architecture import build_on_meta, repeat_of, shallow
from align_ko.recipe import ModelArgs


@dataclass(frozen=True)
class Activations:
    """Bytes of one micro-batch's forward and backward, weights and gradients of weights not counted."""

    saved: int
    """Alive between forward and backward."""
    peak: int
    """The most that is alive at once in the layers, backward included."""

    def grown(self, other: Activations, times: int) -> Activations:
        """With `times` more repeats of the layers that make `other` larger than this."""
        return Activations(self.saved + times * (other.saved - self.saved), self.peak + times * (other.peak - self.peak))


def trace_activations(
    config: Any, model: ModelArgs, rows: int, tokens: int, *, dtype: str, mixed: bool, checkpointing: bool
) -> Activations:
    """Activations of the layers for a batch of `rows` × `tokens`; the LM head is not in it (memory.py adds it).

    `dtype`: of the weights ("bfloat16", "float32"); `mixed`: autocast to bfloat16. Two depths are run and the rest is the same
    again: every further repeat of the layers adds the same bytes (a test compares with the whole depth). Attention is SDPA,
    which keeps on a CPU what FlashAttention keeps: queries, keys, values, the result and one number a row, never the matrix.
    """
    repeat, layers = repeat_of(config), config.num_hidden_layers
    if layers <= 3 * repeat or layers % repeat:
        return _traced(config, model, rows, tokens, dtype, mixed, checkpointing)
    # not one: the first layer's inputs need no gradient, so a single layer's backward is not like the others'
    two, three = (_traced(shallow(config, repeat * n), model, rows, tokens, dtype, mixed, checkpointing) for n in (2, 3))
    return two.grown(three, layers // repeat - 2)


def _traced(config: Any, model: ModelArgs, rows: int, tokens: int, dtype: str, mixed: bool, checkpointing: bool) -> Activations:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    built = build_on_meta(config, model, getattr(torch, dtype))
    if model.use_peft and model.load_in_4bit:  # as TRL does after loading
        for weight in built.parameters():
            weight.data = weight.data.to(torch.bfloat16) if weight.requires_grad else weight.data
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _fill_with_fakes(built)
        built.train()
        if checkpointing:
            built.gradient_checkpointing_enable({"use_reentrant": False})
            if model.use_peft:
                built.enable_input_require_grads()
        backbone = (built.get_base_model() if model.use_peft else built).base_model
        if model.use_peft and mixed:
            from peft.helpers import disable_input_dtype_casting

            casting: Any = disable_input_dtype_casting(built, active=True)  # as training/seams.py
        else:
            casting = warnings.catch_warnings()
        ids = torch.zeros(rows, tokens, dtype=torch.long)
        mask = torch.ones(rows, tokens, dtype=torch.long)
        known = [*built.parameters(), *built.buffers()]
        for weight in built.parameters():  # as in the second of several accumulated batches: the gradients are there already
            if weight.requires_grad:
                weight.grad = torch.empty_like(weight)
                known.append(weight.grad)
        live = _live_bytes({tensor.untyped_storage()._cdata for tensor in known})
        with casting, live, torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            hidden = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            saved = live.now
            hidden.backward(torch.empty_like(hidden))
        return Activations(saved, live.peak)


def _fill_with_fakes(built: Any) -> None:
    """Replace every meta parameter and buffer by a fake tensor on the CPU; shared ones stay shared."""
    import torch

    made: dict[int, Any] = {}
    for module in built.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                if id(weight) not in made:
                    empty = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
                    made[id(weight)] = torch.nn.Parameter(empty, requires_grad=weight.requires_grad)
                module._parameters[name] = made[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def _live_bytes(ignored: set[int]) -> Any:
    """A dispatch mode with `.now` and `.peak`: bytes of all storages made inside it that are still alive."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveBytes(TorchDispatchMode):
        now = peak = 0

        def __init__(self) -> None:
            super().__init__()
            self.alive: dict[int, Any] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for value in tree_leaves(out):
                if hasattr(value, "untyped_storage"):
                    storage = value.untyped_storage()
                    key = storage._cdata
                    if key not in self.alive and key not in ignored:
                        size = storage.nbytes()
                        self.now += size
                        self.peak = max(self.peak, self.now)
                        self.alive[key] = weakref.ref(storage, partial(self.freed, key, size))
            return out

        def freed(self, key: int, size: int, _: Any) -> None:
            del self.alive[key]
            self.now -= size

    return LiveBytes()
