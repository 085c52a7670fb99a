"""Are the same rows kept by an engine as on one machine, how fast, and with how much memory?

    taskset -c 0,1 python benchmarks/bench_engine.py --rows 20000
    taskset -c 0,1 python benchmarks/bench_engine.py --rows 200000 --files 10 --engines datatrove    # 2 million rows

The rows are those of bench_curation.py, a file for each seed; the recipe is SOLAR's. Prints a table of all engines: seconds,
rows a second, CPU seconds (Ray's workers are not counted), peak memory of all processes and of the largest one, and what of
train, eval, preferences and rejected rows (by line and reason) differs from the first engine's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import run_script
from align_ko.records import read_jsonl
from curation_bench.generate import DATASET, cached
from curation_bench.runs import run_ours
from curation_bench.units import ROOT

FILES = ("train.jsonl", "eval.jsonl", "preferences.jsonl")


def main(rows: int = 20_000, files: int = 1, engines: tuple[str, ...] = ("local", "datatrove", "ray"), tasks: int = 0) -> None:
    """Build the rows, curate them by each engine, compare.

    Args:
        rows: of each file.
        files: how many, each with a seed of its own.
        engines: the first one is what the others are compared with.
        tasks: parts of an engine's work; 0: by size.
    """
    folder = ROOT / f"outputs/bench/engine-{rows}-{files}"
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(42, 42 + files):
        link = folder / f"{seed}.json"
        link.unlink(missing_ok=True)
        link.symlink_to(cached(ROOT / "outputs/bench", rows, seed) / DATASET)
    table = Table(
        "engine", "seconds", "rows/s", "CPU s", "peak GiB", "of one", *(name.removesuffix(".jsonl") for name in FILES)
    )
    table.add_column("rejected")
    for engine in engines:
        out = ROOT / f"outputs/bench-engine/{engine}"
        shutil.rmtree(out, ignore_errors=True)
        use = run_ours(folder, out, path=folder, engine=engine, tasks=tasks)
        seconds = json.loads((out / "sft/report.json").read_text(encoding="utf-8"))["steps"]
        print(engine, {step["step"]: step["seconds"] for step in seconds}, flush=True)
        equal, differ = compared(ROOT / f"outputs/bench-engine/{engines[0]}/sft", out / "sft")
        numbers = (
            f"{rows * files / use.seconds:,.0f}",
            f"{use.cpu_seconds:.1f}",
            f"{use.peak_gib:.2f}",
            f"{use.largest_gib:.2f}",
        )
        table.add_row(engine, f"{use.seconds:.1f}", *numbers, *equal, differ)
    Console(width=130).print(table)


def compared(first: Path, other: Path) -> tuple[list[str], str]:
    """Whether each of FILES is equal to the byte, and how many rejected rows differ."""
    equal = ["equal" if (first / name).read_bytes() == (other / name).read_bytes() else "differ" for name in FILES]
    rejected = (read_jsonl(folder / "rejected.jsonl") for folder in (first, other))
    one, two = ({(row["file"], row["line"], row["reason"]) for row in rows} for rows in rejected)
    return equal, f"{len(one ^ two)} of {len(one):,} differ"


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
