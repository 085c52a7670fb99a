"""How many of the computed positions are real tokens, and how many real tokens a second are trained, by way of batching.

    python benchmarks/bench_batching.py              # make bench-batching
    python benchmarks/bench_batching.py --rows 0     # the table of shares only, seconds

The shares are of 191,641 rows with the lengths of src/align_ko/planning/lengths.py (which says what in it is known, measured
and assumed), batches of 8, steps of 16, at the assumed spread and at one and a half times it. The drift is that of the mean row
length over the first 50 steps from the whole's, the worst of 20 seeds. Then the same rows (the same distribution at a quarter
of the lengths, so that it takes minutes on a CPU) train one after another in three ways with a small random model.
Targets: 97 % real tokens grouped, 99 % packed, drift below 10 %.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import run_script
from align_ko.planning.lengths import BATCHINGS, ROWS, Batch, Row, epoch_batches, real_share, reference_rows
from align_ko.process import quiet_known_noise

MAX_LENGTH, BATCH, STEP = 2_048, 8, 16
SEEDS = 20
TRAINED_WAYS = ("max_length", "random", "group_by_length")
console = Console(width=118)


def main(rows: int = 384, scale: int = 4, table_rows: int = ROWS) -> None:
    """Shares of real tokens, and tokens a second.

    Args:
        rows: rows that are trained in each way; 0: none.
        scale: lengths and max_length of the trained rows are divided by it.
        table_rows: rows behind the table of shares.
    """
    quiet_known_noise()
    for spread in (1.0, 1.5):
        show_shares(table_rows, spread)
    if rows:
        show_speed(rows, scale)


def show_shares(count: int, spread: float) -> None:
    made = reference_rows(count, spread)
    kept = [row for row in made if row.longest <= MAX_LENGTH]
    title = f"{len(kept):,} rows (spread × {spread}; {len(made) - len(kept):,} over {MAX_LENGTH:,} tokens left out)"
    table = Table(title, "real tokens", "padding", f"worst drift of {SEEDS} seeds, first 50 steps")
    for way, label in BATCHINGS.items():
        batches = epoch_batches(kept, way, BATCH, STEP, MAX_LENGTH)
        share = real_share(batches)
        table.add_row(label, f"{share:.1%}", f"{1 - share:.1%}", f"{worst_drift(kept, way):.1%}" if way in DRIFTING else "")
    console.print(table)


DRIFTING = ("random", "group_by_length")


def drift(batches: Sequence[Batch], micro_batches: int) -> float:
    """How far the mean tokens a row of the first batches are from the whole's: -0.04 is 4 % shorter."""
    first = batches[:micro_batches]
    mean = sum(b.real for b in first) / sum(b.sequences for b in first)
    return mean / (sum(b.real for b in batches) / sum(b.sequences for b in batches)) - 1


def worst_drift(rows: list[Row], way: str) -> float:
    """Largest |drift| of the first 50 steps over SEEDS seeds."""
    orders = (epoch_batches(rows, way, BATCH, STEP, MAX_LENGTH, seed) for seed in range(SEEDS))
    return max(abs(drift(batches, 50 * STEP // BATCH)) for batches in orders)


def show_speed(count: int, scale: int) -> None:
    lengths = [max(2, row.longest // scale) for row in reference_rows(2 * count) if row.longest <= MAX_LENGTH][:count]
    table = Table(f"training {count} rows, 1/{scale} of the lengths", "real tokens", "s", "real tokens/s", "× padded")
    speeds: list[float] = []
    for way in TRAINED_WAYS:
        console.print(f"training: {BATCHINGS[way]}…")
        real, computed, seconds = train(way, lengths, MAX_LENGTH // scale)
        speeds.append(real / seconds)
        table.add_row(
            BATCHINGS[way], f"{real / computed:.1%}", f"{seconds:.1f}", f"{speeds[-1]:.0f}", f"{speeds[-1] / speeds[0]:.2f}"
        )
    console.print(table)


def train(way: str, lengths: list[int], max_length: int) -> tuple[int, int, float]:
    """Real tokens, computed positions and seconds of one epoch, the first step (warming up) left out."""
    import torch
    from transformers import TrainerCallback

    from align_ko.recipe import ModelArgs
    from bench_trainer import make_trainer, random_rows, small_llama

    ends: list[float] = []
    sizes: list[tuple[int, int]] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    config = small_llama()
    training = {
        "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "max_length": None, "gradient_checkpointing": False,
        "train_sampling_strategy": "group_by_length" if way == "group_by_length" else "random",
    }  # fmt: skip
    model = ModelArgs("random", lora_r=16, lora_alpha=32, lora_dropout=0.0)
    trainer = make_trainer(config, model, random_rows(lengths, config.vocab_size), training, [Clock()])
    collate = trainer.data_collator

    def counted(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(examples)
        if way == "max_length":
            room = max_length - batch["input_ids"].shape[1]
            for key, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100)):
                batch[key] = torch.nn.functional.pad(batch[key], (0, room), value=fill)
        sizes.append((int(batch["attention_mask"].sum()), batch["input_ids"].numel()))
        return batch

    trainer.data_collator = counted
    trainer.train()
    real, computed = (sum(size[part] for size in sizes[1 : len(ends)]) for part in (0, 1))
    return real, computed, ends[-1] - ends[0]


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
