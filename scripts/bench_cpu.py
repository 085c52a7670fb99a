"""How many real tokens a second training takes in on this CPU: TRL's SFTTrainer with its defaults, and ours.

    python scripts/bench_cpu.py
    python scripts/bench_cpu.py --steps 10

Both train the quickstart's model on the quickstart's rows with the same LoRA, each in a process of its own, in one run.
Real tokens are those of the rows, not padding. The first step (warming up) is not timed. Target: at least 2.5 times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import UserError, run_script

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes/quickstart/sft.yaml"
TARGET = 2.5


def main(steps: int = 6, batch_size: int = 8, rows: str = "", way: Literal["trl", "ours"] | None = None) -> None:
    """Compare training speed on the CPU.

    Args:
        steps: timed steps, after one that warms up.
        batch_size: rows a step.
        rows: curated rows; empty means the recipe's train file.
        way: run only this one and print its numbers as JSON.
    """
    if way:
        return print("RESULT " + json.dumps(train(way, steps, batch_size, rows)))
    results = {}
    for name in ("trl", "ours"):
        flags = ["--steps", str(steps), "--batch-size", str(batch_size), "--rows", rows, "--way", name]
        print(f"{name}: {steps + 1} steps of {batch_size} rows…", flush=True)
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error"}
        done = subprocess.run([sys.executable, __file__, *flags], env=environment, capture_output=True, text=True, check=False)
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        if done.returncode or line is None:
            raise UserError(f"the {name} run failed: {(done.stderr or done.stdout).strip()[-600:]}")
        results[name] = json.loads(line.removeprefix("RESULT "))
    show(results)


def train(way: str, steps: int, batch_size: int, rows_file: str) -> dict[str, float]:
    """Numbers of `steps` steps after the first."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from align_ko.modeling import load_base, load_tokenizer, lora_config
    from align_ko.process_memory import keep_freed_memory, peak_memory_gib
    from align_ko.recipe import SftRecipe
    from align_ko.recipe_loading import load_recipe
    from align_ko.records import read_jsonl
    from align_ko.training.arguments import training_config
    from align_ko.training.tokenized import tokenize_conversations
    from align_ko.training.trl_seams import AlignSFTTrainer

    recipe = load_recipe(SftRecipe, [str(RECIPE)])
    tokenizer = load_tokenizer(recipe.model.model_name_or_path, recipe.data.chat_template)
    rows: list[dict[str, Any]] = list(read_jsonl(rows_file or ROOT / recipe.data.train_file))
    model, lora = load_base(recipe.model, tokenizer), lora_config(recipe.model)
    parts = recipe.training.get("gradient_accumulation_steps", 1) if way == "ours" else 1  # batches that make one step
    common = {"output_dir": tempfile.mkdtemp(), "max_steps": steps + 1, "per_device_train_batch_size": batch_size // parts}
    common |= {"save_strategy": "no", "eval_strategy": "no", "report_to": "none", "disable_tqdm": True}
    times: list[tuple[float, float]] = []  # clock and processor time at the end of each step
    sizes: list[int] = []  # real tokens of each batch, in the order of the steps (they are fetched ahead)

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            times.append((time.perf_counter(), time.process_time()))

    if way == "trl":  # SFTConfig as it comes: gradient checkpointing, bfloat16, every row as prompt and completion
        pairs = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]
        trainer = SFTTrainer(model=model, args=SFTConfig(**common, use_cpu=True), train_dataset=Dataset.from_list(pairs),
                             processing_class=tokenizer, peft_config=lora, callbacks=[Clock()])  # fmt: skip
    else:
        keep_freed_memory()
        dataset, _ = tokenize_conversations(tokenizer, rows, recipe.training.get("max_length"))
        config = training_config(SFTConfig, {**recipe.training, **common}, recipe.model.dtype)
        trainer = AlignSFTTrainer(model=model, args=config, train_dataset=dataset, processing_class=tokenizer,
                                  peft_config=lora, callbacks=[Clock()])  # fmt: skip
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(examples)
        sizes.append(int(batch["attention_mask"].sum()))
        return batch

    trainer.data_collator = counted
    trainer.train()
    seconds, busy = (last - first for first, last in zip(times[0], times[-1], strict=True))
    real = sum(sizes[parts : parts * (steps + 1)])
    numbers = {"seconds": seconds / steps, "tokens": real / steps, "rate": real / seconds, "memory": peak_memory_gib()}
    return {**numbers, "cores": busy / seconds, "threads": torch.get_num_threads()}


def show(results: dict[str, dict[str, float]]) -> None:
    table = Table(title=f"Training on {int(results['ours']['threads'])} CPU threads, real tokens a second")
    for column in ("", "s a step", "tokens a step", "tokens/s", "cores busy", "peak GiB"):
        table.add_column(column, justify="right" if column else "left")
    for name, label in (("trl", "TRL 1.16, its defaults"), ("ours", "align_ko, recipes/quickstart/sft.yaml")):
        n = results[name]
        table.add_row(label, f"{n['seconds']:.2f}", f"{n['tokens']:.0f}", f"{n['rate']:.0f}", f"{n['cores']:.2f}",
                      f"{n['memory']:.2f}")  # fmt: skip
    Console().print(table)
    print(f"ratio {results['ours']['rate'] / results['trl']['rate']:.2f} (target: at least {TARGET})")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
