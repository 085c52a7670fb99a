"""Is the plan's memory right? Peak memory of real training steps on this CPU, compared with the plan.

    python benchmarks/bench_memory.py                # make bench-memory
    python benchmarks/bench_memory.py --only lora    # settings whose name holds a word

Each setting trains in a process of its own: three steps, every row of the same length, a model with random weights (peak memory
does not depend on them). Measured is the process's highest resident memory. Target: within 15 %.

`load_adapter` loads an adapter and its base for inference: resident memory added at the peak against the size of the weights in
their dtype. Target: at most 1.15 times.
"""

from __future__ import annotations

import tempfile
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import run_script
from bench_apart import hand_back, measure_apart

TARGET = 0.15
DISTILLING = "distilling"  # in the name of a setting: repetition_penalty 1.05 is trained in
# hidden size, layers, vocabulary of a small Llama (0: the quickstart's Gemma); LoRA r (0: full); rows, tokens; checkpointing
SETTINGS: dict[str, tuple[int, int, int, int, int, int, bool]] = {
    "quickstart, LoRA r 32": (0, 0, 0, 32, 8, 400, False),
    "quickstart, LoRA r 32, checkpointing": (0, 0, 0, 32, 8, 400, True),
    "quickstart, full": (0, 0, 0, 0, 4, 400, False),
    "Llama 512 × 12, LoRA r 16": (512, 12, 32_000, 16, 8, 512, False),
    "Llama 512 × 12, LoRA r 16, checkpointing": (512, 12, 32_000, 16, 8, 512, True),
    "Llama 1024 × 8, full": (1024, 8, 32_000, 0, 4, 512, False),
    # not among those that the plan's one constant for CPUs was fitted to
    "check: Llama 768 × 10, LoRA r 8": (768, 10, 16_000, 8, 4, 600, False),
    "check: quickstart, LoRA r 64, checkpointing": (0, 0, 0, 64, 2, 900, True),
    "check: quickstart, LoRA r 32, distilling": (0, 0, 0, 32, 4, 300, False),
    "check: Llama 512 × 12, LoRA r 16, distilling": (512, 12, 32_000, 16, 2, 512, True),
}
LOAD_ADAPTER, LOAD_TARGET = "load_adapter", 1.15


def main(only: str = "", setting: str = "", adapter: str = "") -> None:
    """Compare planned and measured peak memory.

    Args:
        only: settings whose name holds this.
        setting: measure this one in this process, as JSON.
        adapter: measure the loading of this adapter folder in this process, as JSON; with a setting, make the folder.
    """
    if adapter:
        return hand_back(make_adapter(adapter) if setting else measure_loading(adapter))
    if setting:
        return hand_back(measure(setting))
    table = Table("setting", "planned GiB", "measured GiB", "planned / measured", f"within {TARGET:.0%}")
    for name in (name for name in SETTINGS if only in name):
        real = measure_apart(__file__, name, "--setting", name)
        planned = plan(name)
        ratio = planned / real
        table.add_row(name, f"{planned:.2f}", f"{real:.2f}", f"{ratio:.2f}", "yes" if abs(ratio - 1) <= TARGET else "no")
    console = Console(width=118)
    if table.row_count:
        console.print(table)
    if only in LOAD_ADAPTER:
        with tempfile.TemporaryDirectory() as place:  # processes apart: a child's peak begins with its parent's size
            weights = measure_apart(__file__, LOAD_ADAPTER, "--setting", LOAD_ADAPTER, "--adapter", f"{place}/adapter")
            added = measure_apart(__file__, LOAD_ADAPTER, "--adapter", f"{place}/adapter")
        verdict = "yes" if added / weights <= LOAD_TARGET else "no"
        console.print(
            f"{LOAD_ADAPTER}: weights {weights:.2f} GiB in bfloat16, {added:.2f} GiB added at the peak, "
            f"{added / weights:.2f} times (at most {LOAD_TARGET}: {verdict})"
        )


def _model(name: str) -> tuple[Any, Any]:
    """Config and ModelArgs of a setting."""
    from align_ko.planning.model_shape import load_config
    from align_ko.recipe import ModelArgs
    from bench_trainer import small_llama

    hidden, layers, vocabulary, rank, *_ = SETTINGS[name]
    config = small_llama(hidden, layers, vocabulary) if hidden else load_config("quickstart", "recipes/quickstart/sft.yaml")
    return config, ModelArgs("random", lora_r=rank or 1, lora_alpha=2 * (rank or 1), lora_dropout=0.0, use_peft=bool(rank))


def plan(name: str) -> float:
    """Planned peak, GiB."""
    import torch

    from align_ko.models.load import best_dtype
    from align_ko.planning.memory import GIB, Setting, plan_memory
    from align_ko.planning.model_shape import count_parameters, trace_activations
    from bench_trainer import TRAINED_SHARE

    config, model = _model(name)
    *_, rows, tokens, checkpointing = SETTINGS[name]
    half = best_dtype() == torch.bfloat16
    number = "bfloat16" if half else "float32"
    traced = trace_activations(config, model, rows, tokens, dtype=number, mixed=half, checkpointing=checkpointing)
    distilled = DISTILLING in name
    setting = Setting(rows, tokens, TRAINED_SHARE, dtype="bfloat16" if half else "float32", device="cpu", distilled=distilled)
    return sum(plan_memory(count_parameters(config, model), config, setting, traced)) / GIB


def measure(name: str) -> float:
    """Peak resident memory of three steps, GiB."""
    from align_ko.process import peak_memory_gib
    from bench_trainer import make_trainer, random_rows

    config, model = _model(name)
    *_, rows, tokens, checkpointing = SETTINGS[name]
    training = {
        "per_device_train_batch_size": rows,
        "gradient_checkpointing": checkpointing,
        "max_steps": 3,
        "max_length": None,
    }
    penalty = 1.05 if DISTILLING in name else 1.0
    make_trainer(config, model, random_rows([tokens] * 3 * rows, config.vocab_size), training, penalty=penalty).train()
    return peak_memory_gib()


def make_adapter(folder: str) -> float:
    """Save a base of random bfloat16 weights and an adapter on it; returns the base's size in GiB."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    from bench_trainer import small_llama

    model = LlamaForCausalLM(small_llama(1_536, 12, 32_000)).to(torch.bfloat16)
    model.save_pretrained(f"{folder}-base")
    base = LlamaForCausalLM.from_pretrained(f"{folder}-base", dtype=torch.bfloat16)
    get_peft_model(base, LoraConfig(r=16, target_modules="all-linear")).save_pretrained(folder)
    return sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 2**30


def measure_loading(adapter: str) -> float:
    """GiB that `load_weights` adds to this process's resident memory at its highest."""
    import psutil
    import torch

    from align_ko.models.load import load_weights
    from align_ko.process import keep_freed_memory, peak_memory_gib

    keep_freed_memory()  # as evaluate.py and build_preferences.py do
    before: float = psutil.Process().memory_info().rss / 2**30
    load_weights(adapter, torch.bfloat16)
    return peak_memory_gib() - before


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
