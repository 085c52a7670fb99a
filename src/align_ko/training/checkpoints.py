"""Checkpoints that can be trusted after SIGKILL, and trainers that resume from them to the same weights.

transformers 5.23 writes a checkpoint file by file under its final name, and deletes older ones before the new one is known to
be complete. `ResumableTrainer` writes a marker as the last file and rotates only then.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import rotate_checkpoints

from align_ko.records import write_json

if TYPE_CHECKING:
    from torch import nn
    from transformers import Trainer as _Trainer
else:
    _Trainer = object  # a mixin beside TRL's trainers

MARKER = "align_ko_whole.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoints(folder: str | Path) -> list[Path]:
    """`checkpoint-N` folders by step, complete or not."""
    steps = [(int(match[1]), path) for path in Path(folder).glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(steps)]


def mark_complete(checkpoint: str | Path, run_id: str) -> None:
    """Flush every file of a checkpoint to disk, then write the marker with their sizes."""
    folder, sizes = Path(checkpoint), {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MARKER:
            with path.open("rb") as file:
                os.fsync(file.fileno())  # or a power cut could keep the marker and lose a file that it lists
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    write_json(folder / MARKER, {"run_id": run_id, "files": sizes})


def is_complete(checkpoint: str | Path, run_id: str) -> bool:
    """Whether this run wrote the complete checkpoint, and no file has changed its size since."""
    folder = Path(checkpoint)
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        sizes = marker["files"].items()
        return marker["run_id"] == run_id and all((folder / name).stat().st_size == size for name, size in sizes)
    except (OSError, ValueError, KeyError):
        return False


def last_complete(folder: str | Path, run_id: str) -> Path | None:
    return next((path for path in reversed(checkpoints(folder)) if is_complete(path, run_id)), None)


def broken_checkpoints(folder: str | Path, run_id: str) -> list[Path]:
    return [path for path in checkpoints(folder) if not is_complete(path, run_id)]


class ResumableTrainer(_Trainer):
    """Mixin for a transformers Trainer: checkpoints with a marker, and exact resuming from them."""

    run_id = ""
    """Set by the script before `train()`; written into every marker."""

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        args = self.args
        limit, args.save_total_limit = args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if not args.should_save:
            return
        mark_complete(Path(args.output_dir) / f"checkpoint-{self.state.global_step}", self.run_id)
        rotate_checkpoints(args.output_dir, limit, self.state.best_model_checkpoint)

    def _run_epoch(self, **kwargs: Any) -> None:
        """Two things that transformers 5.23 gets wrong when it resumes.

        A run whose last checkpoint was its end (all steps done, or stopped by a callback) would train one step more.
        With several processes the sampler's epoch is not set below the skipping wrapper, so the rest of a later epoch would be
        in the first epoch's order: some rows twice, others never.
        """
        state, control = self.state, self.control
        if control.should_training_stop or state.global_step >= state.max_steps:
            control.should_training_stop = True
            return
        sampler = kwargs["train_dataloader"]
        while hasattr(sampler, "batch_sampler"):
            sampler = sampler.batch_sampler
        rows: Any = getattr(sampler, "sampler", None)
        if hasattr(rows, "set_epoch"):
            rows.set_epoch(kwargs["epoch"])
        super()._run_epoch(**kwargs)
