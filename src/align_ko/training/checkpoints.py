"""Checkpoints that can be trusted after SIGKILL, and trainers that resume from them to the same weights. transformers 5.23
writes a checkpoint under its final name and deletes older ones before it is complete; `ResumableTrainer` writes a marker as the
last file and rotates only then.

Its `enable_jit_checkpoint` is not used: each process saves when its own signal comes (others wait for ever), in the middle of a
step (the random state of another moment), and `train()` then returns as if the run had ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from transformers import TrainerCallback, TrainerControl
from transformers.trainer_utils import TrainOutput, rotate_checkpoints

from align_ko.errors import RESTART, is_first_process
from align_ko.manifest import MARKER, file_mark, what_is_whole, wrong_files
from align_ko.records import write_json

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn
    from transformers import Trainer as _Trainer
else:
    _Trainer = object  # a mixin beside TRL's trainers

_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoints(folder: str | Path) -> list[Path]:
    """`checkpoint-N` folders by step, complete or not."""
    steps = [(int(match[1]), path) for path in Path(folder).glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(steps)]


def mark_complete(checkpoint: str | Path, run_id: str) -> None:
    """Flush every file of a checkpoint to disk, then write the marker with their hashes."""
    folder, marks = Path(checkpoint), {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MARKER:
            with path.open("rb") as file:
                os.fsync(file.fileno())  # or a power cut could keep the marker and lose a file that it lists
            marks[path.relative_to(folder).as_posix()] = file_mark(path)
    write_json(folder / MARKER, {"run_id": run_id, "files": marks})


class Marker(TypedDict):
    """align_ko_whole.json"""

    run_id: str
    files: dict[str, str]  # name → hash


def read_marker(checkpoint: str | Path) -> Marker | None:
    """None for a checkpoint that was not written to its end, or whose removal was begun."""
    try:
        marker: Marker = json.loads((Path(checkpoint) / MARKER).read_text(encoding="utf-8"))
        return marker if marker["run_id"] and isinstance(marker["files"], dict) else None
    except (OSError, ValueError, KeyError):
        return None


def last_complete(folder: str | Path, run_id: str) -> Path | None:
    """The newest checkpoint that this run wrote to its end; its files may have been deleted or changed since."""
    runs = {path: marker["run_id"] for path in checkpoints(folder) if (marker := read_marker(path))}
    return next((path for path in reversed(runs) if runs[path] == run_id), None)


def half_written(folder: str | Path) -> list[Path]:
    return [path for path in checkpoints(folder) if read_marker(path) is None]


def damage(checkpoint: str | Path) -> dict[str, str]:
    """Name → what is wrong with it, for every file that was deleted or changed after the checkpoint was complete."""
    marker = read_marker(checkpoint)
    return wrong_files(checkpoint, marker["files"]) if marker else {}


def remove_folder(folder: Path) -> None:
    (folder / MARKER).unlink(missing_ok=True)  # first: half removed, a checkpoint must not pass for one that lost a file
    shutil.rmtree(folder)


class StopOnSigterm(TrainerCallback):
    """After SIGTERM (pre-emption, a time limit) to any process: all save a whole checkpoint at the end of the step and exit
    with the code that asks for a restart."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator, self.asked = accelerator, False
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True

    def _any_asked(self) -> bool:
        """Whether one of the processes was: what one saves, all have to, with the same step behind them."""
        if self.accelerator.num_processes == 1:
            return self.asked
        import torch

        mine = torch.tensor(int(self.asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(mine, "sum").item())

    def on_step_end(self, args: object, state: object, control: TrainerControl, **_: object) -> None:
        control.should_save |= self._any_asked()  # after the evaluation, if this step has one

    def on_save(self, *_: object, **__: object) -> None:
        if self._any_asked():  # so none leaves before the first process has written the marker
            if is_first_process():
                print(f"stopped by SIGTERM; {what_is_whole()}", flush=True)
            self.accelerator.end_training()
            raise SystemExit(RESTART)

    def leave(self) -> None:
        signal.signal(signal.SIGTERM, self._before)


class ResumableTrainer(_Trainer):
    """Mixin for a transformers Trainer: checkpoints with a marker, and exact resuming from them."""

    run_id = ""
    """Set by the script before `train()`; written into every marker."""
    weights_alone = False
    """Resume from a checkpoint's weights and step: a new optimizer, the learning rate of that step, other random numbers."""

    def train(self, *args: object, **kwargs: object) -> TrainOutput:
        stop = StopOnSigterm(self.accelerator)
        self.add_callback(stop)
        try:
            return super().train(*args, **kwargs)
        finally:
            stop.leave()
            self.remove_callback(stop)

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

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not checkpoint or not self.weights_alone:
            return super()._load_optimizer_and_scheduler(checkpoint)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step\(\).* before .*optimizer\.step")
            for _ in range(self.state.global_step):
                self.lr_scheduler.step()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(None if self.weights_alone else checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        super()._load_scaler(None if self.weights_alone else checkpoint)

    def _run_epoch(self, **kwargs: Any) -> None:
        """Two things that transformers 5.23 gets wrong when it resumes: a run whose last checkpoint was its end would train one
        step more; with several processes the sampler's epoch is not set below the skipping wrapper, so the rest of a later
        epoch would be in the first one's order, some rows twice, others never."""
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
