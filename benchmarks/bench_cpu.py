"""How many real tokens a second training takes in on this CPU: TRL's SFTTrainer with its defaults, and ours.

    python benchmarks/bench_cpu.py

All train the quickstart's model on the quickstart's rows with the same LoRA, each in a process of its own, in one run. Real
tokens are those of the rows, not padding; the first step (warming up) is not timed. TRL loads a model that is named by its
path in float32; the second line gives it the model in the number format that ours uses. The third is ours without seam 5 of
training/seams.py. Target: 2.5 times TRL's defaults.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import run_script
from bench_apart import hand_back, measure_apart

ROOT = Path(__file__).parents[1]
WAYS = {
    "trl": "TRL, its defaults",
    "trl_dtype": "TRL, number format as ours",
    "ours_cast": "align_ko, PEFT casting inputs",
    "ours": "align_ko, quickstart recipe",
}
TARGET = 2.5


def main(steps: int = 8, batch_size: int = 8, rows: str = "", way: str = "") -> None:
    """Compare training speed on the CPU.

    Args:
        steps: timed steps, after one that warms up.
        batch_size: rows a step.
        rows: curated rows; empty means the recipe's train file.
        way: only this one (trl, trl_dtype, ours_cast, ours), as JSON.
    """
    if way:
        return hand_back(train(way, steps, batch_size, rows))
    results = {}
    for name, label in WAYS.items():
        print(f"{label}: {steps + 1} steps of {batch_size} rows…", flush=True)
        flags = [f"--steps={steps}", f"--batch-size={batch_size}", f"--rows={rows}", f"--way={name}"]
        results[name] = measure_apart(__file__, label, *flags)
    show(results)


def train(way: str, steps: int, batch_size: int, rows_file: str) -> dict[str, float]:
    """Numbers of `steps` steps after the first."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from align_ko.models.load import load_base, load_tokenizer, lora_config
    from align_ko.models.source import resolve_model_path
    from align_ko.process import keep_freed_memory, peak_memory_gib
    from align_ko.recipe import SftRecipe, load_recipe
    from align_ko.records import read_conversations
    from align_ko.training.prepare import tokenize_conversations, training_config
    from align_ko.training.seams import AlignSFTTrainer, UncastAdapterInputs

    recipe = load_recipe(SftRecipe, [str(ROOT / "recipes/quickstart/sft.yaml")])
    path = recipe.model.model_name_or_path
    tokenizer = load_tokenizer(path, recipe.data.chat_template)
    rows = list(read_conversations(rows_file or ROOT / recipe.data.train_file))
    ours = way.startswith("ours")
    parts = recipe.training.get("gradient_accumulation_steps", 1) if ours else 1  # batches that make one step
    common = {"output_dir": tempfile.mkdtemp(), "max_steps": steps + 1, "per_device_train_batch_size": batch_size // parts}
    common |= {"save_strategy": "no", "eval_strategy": "no", "report_to": "none", "disable_tqdm": True}
    times: list[tuple[float, float]] = []  # clock and processor time at the end of each step
    sizes: list[int] = []  # real tokens of each batch, in the order of the steps (they are fetched ahead)

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            times.append((time.perf_counter(), time.process_time()))

    shared: Any = {"processing_class": tokenizer, "peft_config": lora_config(recipe.model), "callbacks": [Clock()]}
    if ours:
        keep_freed_memory()
        data, _ = tokenize_conversations(tokenizer, rows, recipe.training.get("max_length"))
        config = training_config(SFTConfig, {**recipe.training, **common}, recipe.model.dtype)
        trainer = AlignSFTTrainer(model=load_base(recipe.model, tokenizer), args=config, train_dataset=data, **shared)
    else:
        model = resolve_model_path(path) if way == "trl" else load_base(recipe.model, tokenizer)
        data = Dataset.from_list([{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows])
        trainer = SFTTrainer(model=model, args=SFTConfig(**common, use_cpu=True), train_dataset=data, **shared)
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(examples)
        sizes.append(int(batch["attention_mask"].sum()))
        return batch

    trainer.data_collator = counted
    super(UncastAdapterInputs, trainer).train() if way == "ours_cast" else trainer.train()
    seconds, busy = (last - first for first, last in zip(times[0], times[-1], strict=True))
    real = sum(sizes[parts : parts * (steps + 1)])
    numbers = {"s a step": seconds / steps, "tokens a step": real / steps, "tokens/s": real / seconds}
    return {**numbers, "cores busy": busy / seconds, "peak GiB": peak_memory_gib()}


def show(results: dict[str, dict[str, float]]) -> None:
    table = Table("training on the CPU", *results["ours"])
    for name, row in results.items():
        table.add_row(WAYS[name], *(f"{value:.0f}" if "token" in key else f"{value:.2f}" for key, value in row.items()))
    Console(width=100).print(table)
    ratios = {name: results["ours"]["tokens/s"] / results[name]["tokens/s"] for name in ("trl", "trl_dtype")}
    print(f"ratio {ratios['trl']:.2f} (target {TARGET}); {ratios['trl_dtype']:.2f} with the number format the same")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
