"""gpu_check.py: its parts on a tiny shape, and what becomes of one that fails, hangs or cannot run."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gpu_check import PARTS, missing, run_part, table

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/gpu_check.py"


@pytest.mark.slow
def test_every_part_runs_on_a_tiny_shape(tmp_path):
    out = tmp_path / "check.json"
    command = [sys.executable, str(SCRIPT), "--tiny", "--output", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = {part["part"]: part for part in json.loads(out.read_text())["parts"]}
    skipped = {name: part["skipped"] for name, part in parts.items() if "skipped" in part}
    assert len(parts) == 8 and set(skipped.values()) <= {"liger_kernel is not installed"}
    assert all(part["seconds"] > 0 for name, part in parts.items() if "SFT, " in name and name not in skipped)
    assert [line.split(":")[0] for line in parts["generation"]["told"]] == ["batch 2", "batch 4"]
    assert "; 0 of 4,096 weights" in parts["merge in bfloat16"]["told"][0]
    assert all(line.endswith("at most 0.0e+00 apart") for line in parts["SFT and DPO as on the CPU"]["told"])


def test_a_part_that_fails_or_hangs_is_told_and_the_next_runs():
    def fails(tiny):
        raise torch.OutOfMemoryError("CUDA out of memory\nmore")

    def hangs(tiny):
        time.sleep(30)

    told = [run_part("x", part, 1, {}, tiny=True) for part in (fails, hangs, lambda tiny: {"seconds": 2.0})]
    assert told == [
        {"part": "x", "failed": "OutOfMemoryError: CUDA out of memory"},
        {"part": "x", "skipped": "stopped after its 1 s"},
        {"part": "x", "seconds": 2.0},
    ]


def test_without_a_gpu_or_a_package_a_part_is_skipped_with_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert missing((), tiny=False).startswith("no GPU that torch ")
    assert missing(("no_such_package",), tiny=True) == "no_such_package is not installed"
    assert missing((), tiny=True) == ""


def test_the_table_says_whether_the_plan_is_near_enough():
    rows = [
        {"part": "a", "gib": 20.0, "planned_gib": 23.9, "seconds": 4.0, "planned_seconds": 5.0, "told": ["1 token a second"]},
        {"part": "b", "skipped": "no GPU"},
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(table(rows, "CPU"))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.getvalue().splitlines() if "│" in line]
    assert lines[:4] == [
        ["a", "20.00 GiB", "23.90 GiB", "yes"],
        ["", "4.00 s a step", "5.00 s a step", "no (1.25)"],
        ["", "1 token a second", "", ""],
        ["b", "skipped: no GPU", "", ""],
    ]


def test_the_time_boxes_are_ten_minutes_together():
    assert sum(seconds for seconds, *_ in PARTS.values()) <= 600
