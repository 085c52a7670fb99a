"""What DPO's reference costs in memory: two models, one model with its adapter switched, or log-probabilities computed before.

    python benchmarks/bench_reference.py            # part of make bench-memory

Each way builds our DPO trainer in a process of its own, on a Llama of 0.28 B parameters with random weights. Measured is what
the process's resident memory grew by, from before the model to the built trainer, freed memory given back. Target: under 0.6
of two models.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import UserError, run_script
from bench_apart import hand_back, measure_apart

TARGET = 0.6
WAYS = {
    "two": "policy and reference model",
    "adapter": "one model, LoRA r 16 switched to its frozen copy",
    "precomputed": "one model, precompute_ref_log_probs",
}
HIDDEN, LAYERS, VOCABULARY = 1024, 16, 32_000


def main(way: str = "") -> None:
    """Compare the three ways.

    Args:
        way: measure this one in this process, as JSON.
    """
    if way:
        return hand_back(measure(way))
    grown: dict[str, float] = {}
    table = Table("DPO's reference", "GiB", "of two models", f"under {TARGET:g}")
    for name, words in WAYS.items():
        grown[name] = measure_apart(__file__, name, "--way", name)
        share = grown[name] / grown["two"]
        table.add_row(words, f"{grown[name]:.2f}", f"{share:.2f}", "" if name == "two" else "yes" if share < TARGET else "no")
    Console(width=118).print(table)


def measure(way: str) -> float:
    """GiB that the process grew by with model, trainer and reference."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig

    from align_ko.models.load import best_dtype
    from align_ko.training.prepare import training_config
    from align_ko.training.seams import AlignDPOTrainer
    from bench_trainer import plain_tokenizer, random_pairs, small_llama

    config = small_llama(HIDDEN, LAYERS, VOCABULARY)

    def build() -> Any:
        return AutoModelForCausalLM.from_config(config, dtype=best_dtype())

    pairs, tokenizer = random_pairs(8, 64, VOCABULARY), plain_tokenizer()
    before = _resident()
    policy = build()
    if way == "adapter":
        policy = get_peft_model(policy, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    values = {"output_dir": tempfile.mkdtemp(), "report_to": "none", "precompute_ref_log_probs": way == "precomputed"}
    values |= {"per_device_train_batch_size": 2, "gradient_checkpointing": True, "disable_tqdm": True}
    trainer = AlignDPOTrainer(
        model=policy,
        ref_model=build() if way == "two" else None,
        args=training_config(DPOConfig, values, "auto"),
        train_dataset=pairs,
        processing_class=tokenizer,
    )
    if (trainer.ref_model is not None) != (way == "two") or ("ref" in getattr(policy, "peft_config", {})) != (way == "adapter"):
        raise UserError(f"the reference is not held as {WAYS[way]}")  # TRL has changed: this would measure something else
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return (_resident() - before) / 2**30


def _resident() -> int:
    """Bytes of this process that are in memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
