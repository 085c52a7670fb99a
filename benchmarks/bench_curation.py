"""How fast and how well 191,641 rows are curated on two cores, with datatrove beside it on the same rows.

    python benchmarks/bench_curation.py                                       # make bench-curation
    python benchmarks/bench_curation.py --rows 5000 --datatrove /path/to/python

Builds the rows once (outputs/bench/, by a fingerprint of what they depend on), runs `build_sft_data.py` with the SOLAR
recipe and two processes on them, and prints time, memory and rows per second by step, and what share of the faulty rows
was dropped, for the right reason, and of the clean ones. Target: 90 s and 2 GB, everything included. Then datatrove's Gopher
filters and MinHash (see curation_bench/datatrove_run.py for its settings), where its environment is there.

What is like the user's file: one JSON array of {"messages", "source"}; the row counts by source; sentences that people
wrote, questions polite and plain, one turn and several, code and letters among the answers; faults of every kind that
curation looks for, 25 % of the rows, none of them marked. Each row has its own line, which the key needs.

What is not: 191,641 rows are put together from 950 conversations. A message asks two to seven things, a conversation goes
from one subject to the next, and shortened answers end early, so clean rows are near one another in words and subject
(every set of conversations is used once, so two clean rows share a part at most). Long answers are lists of short ones.
Faults are of equal size everywhere and pure; real ones overlap, and real data has faults that nobody thought of. So the
numbers say how fast the steps are and that they find what they know, not how good a real file gets. Lengths are assumed,
no statistics of the originals being at hand: answers are log-normal between 60 and 1,450 characters and come out with medians
of 346 (kullm_v2), 419 (koalpaca), 283 (kowiki_qa) and 108 a turn (smol_koreantalk, one to nine turns). Of the 143,731 clean
rows 1.6 % are 0.7 or more like another one in their answers and 0.1 % in their questions (Jaccard of 5 letters), next to none
0.8: a step that looks for near-duplicates at 0.7 rightly drops those, and they count as clean rows lost.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import UserError, run_script
from curation_bench.generate import DATASET, ROWS, cached, read_key
from curation_bench.process_tree import Usage
from curation_bench.runs import run_datatrove, run_ours
from curation_bench.scoring import Found, fate_of_personal_data, rejected_rows, score
from curation_bench.units import ROOT

TARGET_SECONDS, TARGET_GIB = 90, 2e9 / 2**30
console = Console(width=118)


def main(rows: int = ROWS, seed: int = 42, datatrove: Path = ROOT / ".venv-bench/bin/python", ours: bool = True) -> None:
    """Build the rows, curate them, compare.

    Args:
        rows: how many; fewer keep the proportions.
        seed: of the rows.
        datatrove: a Python that has datatrove; skipped where there is none.
        ours: also run our own curation.
    """
    begin = time.perf_counter()
    folder = cached(ROOT / "outputs/bench", rows, seed)
    size = (folder / DATASET).stat().st_size / 1e6
    print(f"{rows:,} rows, {size:.0f} MB, in {folder.relative_to(ROOT)}/ ({time.perf_counter() - begin:.0f} s)", flush=True)
    key = read_key(folder)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            if ours:
                show_ours(folder, Path(temporary) / "ours", rows, key)
            if datatrove.is_file():
                show_datatrove(datatrove, folder, Path(temporary) / "datatrove", rows, key)
            else:
                print(f"datatrove: skipped, there is no {datatrove} (make bench-curation installs it where it can)")
        except subprocess.CalledProcessError as error:
            raise UserError(f"{Path(error.cmd[1]).name} failed: {error.output.strip()[-1500:]}") from None


def show_ours(folder: Path, output: Path, rows: int, key: dict[int, dict[str, Any]]) -> None:
    usage = run_ours(folder, output)
    sft = output / "sft"
    facts = json.loads((sft / "report.json").read_text(encoding="utf-8"))
    show_use("align_ko", usage, rows, f"  (target {TARGET_SECONDS} s, {TARGET_GIB:.2f} GiB)")
    show_steps([(step["step"], step["seconds"], step["rows_per_second"]) for step in facts["steps"]])
    reasons = rejected_rows(sft / "rejected.jsonl")
    masked, unseen = fate_of_personal_data(key, reasons, [sft / "train.jsonl", sft / "eval.jsonl"])
    reasons |= dict.fromkeys(masked, "masked")
    judged = {number: entry for number, entry in key.items() if number not in unseen}
    show_found("What align_ko found", score(reasons, judged, rows - len(unseen)))
    if unseen:
        print(f"{len(unseen):,} rows with personal data are left out: neither dropped nor taken, so masked or not is unseen")


def show_datatrove(python: Path, folder: Path, output: Path, rows: int, key: dict[int, dict[str, Any]]) -> None:
    usage, result, left_out = run_datatrove(python, folder, output)
    show_use("datatrove", usage, rows, "")
    left = rows - left_out
    seen = {"gopher filters": left}
    left -= len(result["dropped"]["repetition"]) + len(result["dropped"]["quality"])
    show_steps([(step, seconds, seen.get(step, left) / seconds) for step, seconds in result["seconds"].items()])
    reasons = {int(number): step for step, dropped in result["dropped"].items() for number in dropped}
    for step, dropped in result["dropped"].items():
        clean = sum(int(number) not in key for number in dropped)
        print(f"{step}: {len(dropped):,} rows dropped, {clean:,} of them clean or the original of a copy")
    print(f"{left_out:,} rows were no conversation and not given to it")
    named = {number: "near_duplicate" if step == "minhash" else step for number, step in reasons.items()}
    show_found("What datatrove found", score(named, key, rows))


def show_use(name: str, usage: Usage, rows: int, target: str) -> None:
    peak = f"{usage.peak_gib:.2f} GiB at most in {usage.processes} processes"
    print(f"\n{name}: {usage.seconds:.1f} s, {rows / usage.seconds:,.0f} rows/s, {peak}{target}", flush=True)


def show_steps(steps: Sequence[tuple[str, float, float]]) -> None:
    table = Table("step", "seconds", "rows/s")
    for name, seconds, rate in steps:
        table.add_row(name, f"{seconds:.1f}", f"{rate:,.0f}")
    console.print(table)


def show_found(title: str, lines: Sequence[Found]) -> None:
    table = Table("kind", "rows", "dropped", "right reason", "reasons given", title=title, title_justify="left")
    for line in lines:
        table.add_row(line.kind, f"{line.rows:,}", f"{line.dropped:.1%}", f"{line.right:.1%}", line.reasons)
    console.print(table)


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
