"""Begin, go on, refuse or leave alone: what the same command does in a folder where a run was begun before.

`training_run.json` in the output folder says what the run was begun with. It is written before the first step and marked
finished after the last file; a checkpoint counts when its marker says that all its files were written, and by this run.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.manifest import MANIFEST_FILE, RUN_FILE, file_hash, is_whole, weights_marks, without_private
from align_ko.records import write_json
from align_ko.training.checkpoints import broken_checkpoints, checkpoints, last_whole

# Keys that change neither the weights nor which of them are kept, as fnmatch patterns.
HARMLESS = (
    "resume", "merge_adapter", "data.train_file", "data.eval_file", "data.chat_template", "gate.prompts_file",
    "training.output_dir", "training.resume_from_checkpoint", "training.log*", "training.report_to", "training.run_name",
    "training.project", "training.trackio*", "training.disable_tqdm", "training.*hub*", "training.save_total_limit",
    "training.dataloader_*", "training.per_device_eval_batch_size", "training.eval_accumulation_steps",
    "training.include_*", "training.dataset_num_proc",
)  # fmt: skip
RESULTS = (  # what save_stage and the card write; a run that starts over removes them, or old and new would mix
    "adapter_config.json", "adapter_model*", "model*.safetensors*", "config.json", "align_ko_format.json",
    "align_ko_source.json", "adapter", "ref", "README.md", "curves.png", "greedy_gate", "training_args.bin",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What was decided. `checkpoint`: where to go on; None: from the start. `done`: nothing is to be done."""

    folder: str
    run_id: str
    checkpoint: str | None = None
    done: bool = False
    said: str = ""


def open_run(recipe: Any, config: Any, files: dict[str, str], start: str | None = None) -> Run:
    """Decide what to do in `config.output_dir`, and write the record of a run that begins.

    `files`: recipe key → file that is read (compared by content). `start`: the model folder that training starts from, where
    its weights must be the same. The first process decides for all. UserError when the run was begun with something else.
    """
    told: list[Any] = [None]
    if config.process_index == 0:
        try:
            told = [asdict(_decide(recipe, config, files, start))]
        except UserError as error:
            told = [str(error)]
    if config.world_size > 1:
        from accelerate.utils import broadcast_object_list

        told = broadcast_object_list(told)
    if isinstance(told[0], str):
        raise UserError(told[0])
    run = Run(**told[0])
    if run.said and config.process_index == 0:
        print(run.said, flush=True)
    return run


def finish_run(run: Run) -> None:
    """Mark the run finished, after all else is written. First process only."""
    file = Path(run.folder) / RUN_FILE
    record = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, {**record, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def _decide(recipe: Any, config: Any, files: dict[str, str], start: str | None) -> Run:
    folder, mode = Path(config.output_dir), recipe.resume
    named = str(config.resume_from_checkpoint or "")
    now = {
        "recipe": without_private(comparable(asdict(recipe))),
        "files": {key: file_hash(path) for key, path in files.items() if Path(path).is_file()},
        "start": weights_marks(start) if start else {},
        "processes": config.world_size,
    }
    file = folder / RUN_FILE
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    named_path = named if named.lower() not in ("", "true", "false", "none") else None
    if named_path and not (Path(named_path) / "trainer_state.json").is_file():
        raise UserError(
            f"{named_path} holds no checkpoint", key="training.resume_from_checkpoint", expected="true, or its folder"
        )
    if before is None:
        if mode == "auto" and (old := checkpoints(folder)) and not (folder / MANIFEST_FILE).is_file():
            raise UserError(
                f"{folder} holds {old[-1].name} of a run that left no record, so nobody can say what it was begun with",
                expected="--resume fresh to start over (removes it), "
                f"--training.resume_from_checkpoint {old[-1]} --resume force, or another training.output_dir",
            )
        return _begin(folder, now, config, named_path, "")
    if mode == "fresh" or named.lower() == "false":
        return _begin(folder, now, config, named_path, "starting over; ")
    changed = _changes(before, now)
    if changed and mode == "replace":
        return _begin(folder, now, config, named_path, f"starting over ({_few(changed)}); ")
    if changed and mode != "force":
        raise UserError(
            f"{folder}: this run was begun with something else: {_few(changed)}",
            expected="--resume fresh to start over (removes its checkpoints), --resume force to go on all the same, "
            "or another training.output_dir",
        )
    if is_whole(folder) and not changed and not named_path:
        said = f"{folder} is finished ({before['finished']}) and nothing has changed: nothing to do (--resume fresh repeats it)"
        return Run(str(folder), before["run_id"], done=True, said=said)
    return _go_on(folder, {**before, **now, "finished": None}, config, named_path)


def _begin(folder: Path, now: dict[str, Any], config: Any, named: str | None, said: str) -> Run:
    # The record goes first and the manifest last: killed in between, the folder is never taken for a run to go on with.
    (folder / RUN_FILE).unlink(missing_ok=True)
    kept = Path(named).resolve() if named else None
    for path in [path for path in checkpoints(folder) if path.resolve() != kept]:
        shutil.rmtree(path)
    for pattern in (*RESULTS, MANIFEST_FILE):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_id = uuid.uuid4().hex[:16]
    begun = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    write_json(folder / RUN_FILE, {"run_id": run_id, "begun": begun, "finished": None, **now})
    if named:
        return Run(str(folder), run_id, named, said=f"{said}going on from {named}")
    if config.save_strategy == "no":
        return Run(str(folder), run_id, said=f"{said}save_strategy is 'no': if this run is cut off, it starts afresh")
    return Run(str(folder), run_id, said=f"{said}from the start" if said else "")


def _go_on(folder: Path, record: dict[str, Any], config: Any, named: str | None) -> Run:
    run_id = record["run_id"]
    said = []
    for path in broken_checkpoints(folder, run_id):
        if named is None or path.resolve() != Path(named).resolve():
            said.append(f"{path.name} was not written to its end: removed")
            shutil.rmtree(path)
    write_json(folder / RUN_FILE, record)
    last = Path(named) if named else last_whole(folder, run_id)
    if last:
        said.append(f"going on from {last}")
    elif config.save_strategy == "no":
        said.append("an earlier start was cut off, and save_strategy is 'no', so there is no checkpoint: starting afresh")
    else:
        said.append("an earlier start was cut off before its first checkpoint: starting afresh")
    return Run(str(folder), run_id, str(last) if last else None, said="; ".join(said))


def comparable(tree: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted key, without what may change in the middle of a run and what is null.

    >>> comparable({"training": {"learning_rate": 1e-4, "logging_steps": 5, "seed": None}})
    {'training.learning_rate': 0.0001}
    """
    if any(fnmatchcase(path, pattern) for pattern in HARMLESS) or tree is None:
        return {}
    if isinstance(tree, dict):
        flat: dict[str, Any] = {}
        for key, value in tree.items():
            flat |= comparable(value, f"{path}.{key}" if path else str(key))
        return flat
    return {path: list(tree) if isinstance(tree, tuple) else tree}


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`["training.learning_rate 0.0001 → 0.0002", "data.train_file has another content"]`"""
    old, new = before["recipe"], json.loads(json.dumps(now["recipe"]))
    found = [f"{key} {_show(old.get(key))} → {_show(new.get(key))}" for key in {**old, **new} if old.get(key) != new.get(key)]
    was, is_now = before["files"], now["files"]
    found += [f"{key} has another content" for key in {**was, **is_now} if was.get(key) != is_now.get(key)]
    if before["start"] != now["start"]:
        found.append("model_name_or_path holds other weights")
    if before["processes"] != now["processes"]:
        found.append(f"processes {before['processes']} → {now['processes']}")
    return found


def _show(value: Any) -> str:
    return "(not set)" if value is None else str(value)


def _few(changed: list[str], most: int = 4) -> str:
    rest = len(changed) - most
    return ", ".join(changed[:most]) + (f" and {rest} more" if rest > 0 else "")
