"""Disk that a run's output folder takes: checkpoints with their optimizer, the adapter or model that comes out, merged weights.

On one GPU or under DDP. Tokenizers, logs and the rows as token ids (16 bytes a token of SFT, removed at the end) are left out.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from align_ko.planning.memory import Setting, trained_bytes
from align_ko.planning.model_shape import Parameters
from align_ko.planning.settings import RunSettings


@dataclass(frozen=True)
class Disk:
    """Bytes. `count`: the most checkpoints that are there at once, the one being written included; None where the steps are not
    known and none is ever removed, which leaves them out of `total`."""

    folder: str
    free: int
    checkpoint: int
    count: int | None
    result: int
    merged: int
    total: int


def plan_disk(run: RunSettings, parameters: Parameters, setting: Setting, merged: bool, steps: int | None) -> Disk:
    """`merged`: the adapter is merged into a whole model beside it. A kept copy of the start is a part of DPO's checkpoints."""
    folder = Path(run.training["output_dir"])
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    each, moments = trained_bytes(setting, full=parameters.adapter == 0)
    base = parameters.base * setting.weight_bytes
    result = parameters.adapter * each or base
    optimizer = 0 if run.value("save_only_model") else parameters.trained * moments
    checkpoint = result + optimizer + (result if setting.reference == "adapter" else 0)
    written, limit = _saves(run, steps), run.value("save_total_limit") or 0
    kept = written
    if limit > 0:  # the best and the last stay, whatever the limit
        least = 1 if run.training.get("load_best_model_at_end") is False else 2
        most = max(limit, least)
        kept = most if written is None else min(written, most)
    count = None if kept is None else kept + 1 if written is None else min(written, kept + 1)
    merged_bytes = base if merged and parameters.adapter else 0
    starts = base if run.merges_start else 0
    # the last checkpoint is written before an older one goes, and that before the result is saved
    total = starts + max((count or 0) * checkpoint, (kept or 0) * checkpoint + result + merged_bytes)
    return Disk(str(folder), shutil.disk_usage(place).free, checkpoint, count, result, merged_bytes + starts, total)


def _saves(run: RunSettings, steps: int | None) -> int | None:
    """How many checkpoints a run writes; None where that hangs on its steps and these are not known."""
    strategy = str(run.value("save_strategy"))
    if strategy == "no":
        return 0
    if strategy == "epoch":
        return math.ceil(float(run.value("num_train_epochs")))
    if steps is None:
        return None
    if strategy == "best":
        return run.evaluations(steps)
    every = float(run.value("save_steps"))
    return math.ceil(steps / (every if every >= 1 else max(1, math.ceil(every * steps))))  # and one at the end
