"""Begin, continue, refuse or skip: what a training command does in a folder that was used before. `training_run.json` records
what a run depends on; it is written just before the first step, and marked finished after the last file. A checkpoint counts
when its marker says that all its files were written, and by this run."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypedDict

from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments

from align_ko.chat_format import describe_format
from align_ko.errors import UserError
from align_ko.manifest import MANIFEST_FILE, RUN_FILE, WEIGHT_FILES, Input, is_finished, is_secret, result_problem
from align_ko.models.source import SOURCE_FILE, ModelSource
from align_ko.recipe import DpoRecipe, GrpoRecipe, SftRecipe, hash_inputs
from align_ko.recipe.keys import shown
from align_ko.recipe.yaml_lines import text_of
from align_ko.records import write_json
from align_ko.training.checkpoints import checkpoints, damage, half_written, last_complete, remove_folder

# Keys that change neither the weights nor which of them are kept, as fnmatch patterns. Files are compared by content and the
# chat template by the format's fingerprint, so their names do not matter.
HARMLESS = (
    "resume", "merge_adapter", "data.train_file", "data.eval_file", "data.chat_template", "gate.prompts_file",
    "training.output_dir", "training.resume_from_checkpoint", "training.log*", "training.report_to", "training.run_name",
    "training.project", "training.trackio*", "training.disable_tqdm", "training.*hub*", "training.save_total_limit",
    "training.dataloader_*", "training.per_device_eval_batch_size", "training.eval_accumulation_steps",
    "training.include_*", "training.dataset_num_proc",
)  # fmt: skip
NEEDED = ("*model*.safetensors*", "config.json", "adapter_config.json", "trainer_state.json", "global_step*")
"""Files of a checkpoint without which --resume weights cannot continue."""
RESULTS = (  # what training/finish.py and the card write; a run that starts over removes them, or old and new would mix
    "adapter_config.json", "adapter_model*", "model*.safetensors*", "config.json", "align_ko_format.json", SOURCE_FILE,
    "adapter", "rejected", "ref", "README.md", "curves.png", "greedy_gate", "training_args.bin", MANIFEST_FILE,
)  # fmt: skip


class RunRecord(TypedDict):
    """training_run.json. Its values are not masked, but secrets are left out."""

    run_id: str
    begun: str
    finished: str | None
    recipe: dict[str, object]  # dotted key → value, as `comparable` returns it
    inputs: dict[str, str]  # recipe key → content hash
    format: str  # fingerprint of the chat format
    revision: str | None  # commit of a base from the hub
    processes: int
    from_weights_alone: list[str]  # checkpoints that --resume weights continued from


@dataclass(frozen=True)
class Run:
    """What was decided. `checkpoint`: where to continue, None: from the start. `done`: nothing is to be done."""

    folder: str
    record: RunRecord
    checkpoint: str | None = None
    starts_over: bool = True
    done: bool = False
    message: str = ""
    inputs: tuple[Input, ...] = ()
    weights_alone: bool = False

    @property
    def run_id(self) -> str:
        return self.record["run_id"]


def open_run(
    recipe: SftRecipe | DpoRecipe | GrpoRecipe, config: TrainingArguments, tokenizer: PreTrainedTokenizerBase, base: ModelSource
) -> Run:
    """Decide what to do in `config.output_dir`, in the first process for all; changes nothing there. UserError when the run was
    begun with something else, or its result could not be pushed (`check_push`)."""
    check_push(recipe.training, base, recipe.merge_adapter)
    decided: list[Run | str | None] = [None]
    if config.process_index == 0:
        try:
            fingerprint = str(describe_format(tokenizer, tokenizer.eos_token_id)["fingerprint"])
            decided = [_decide(recipe, config, fingerprint, base.revision)]
        except UserError as error:
            decided = [str(error)]
    if config.world_size > 1:
        from accelerate.utils import broadcast_object_list

        decided = broadcast_object_list(decided)
    run = decided[0]
    if not isinstance(run, Run):
        raise UserError(str(run))
    if run.message and config.process_index == 0:
        print(run.message, flush=True)
    return run


def check_push(training: Mapping[str, object], base: ModelSource, merged: bool) -> None:
    """UserError before the run where its adapter would be pushed with the path of a local folder as its base."""
    if training.get("push_to_hub") and not merged and Path(base.path).is_dir():
        problem = f"an adapter on the hub has to name its base there, and {Path(base.path).name} is a folder on this machine"
        raise UserError(problem, key="training.push_to_hub", expected="a hub id as the model, or merge_adapter: true")


def run_training(trainer: Trainer, run: Run) -> None:
    """Begin the run, and train to its end, from its checkpoint where it has one."""
    trainer.run_id, trainer.weights_alone = run.run_id, run.weights_alone
    begin_run(run, trainer.args)
    trainer.train(resume_from_checkpoint=run.checkpoint)


def begin_run(run: Run, config: TrainingArguments) -> None:
    """Write the record and remove what the run replaces. Call just before `train()`: a run that was refused for its data or by
    the audit has then touched nothing, and the corrected command is no other run."""
    if config.process_index:
        return
    folder, file = Path(run.folder), Path(run.folder) / RUN_FILE
    if run.starts_over:
        if file.is_file():  # killed below, the folder must not pass for a finished one
            write_json(file, {**json.loads(file.read_text(encoding="utf-8")), "finished": None})
        outdated = [path for pattern in RESULTS for path in folder.glob(pattern)] + checkpoints(folder)
    else:
        outdated = half_written(folder)
    kept = Path(run.checkpoint).resolve() if run.checkpoint else None
    for path in outdated:
        if path.resolve() != kept:
            remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_json(file, run.record)


def finish_run(run: Run) -> None:
    """Mark the run finished, after all else is written. First process only."""
    write_json(Path(run.folder) / RUN_FILE, {**run.record, "finished": _now()})


def _decide(
    recipe: SftRecipe | DpoRecipe | GrpoRecipe, config: TrainingArguments, fingerprint: str, revision: str | None
) -> Run:
    folder, mode = Path(config.output_dir), recipe.resume
    inputs = hash_inputs(recipe)
    new: RunRecord = {
        "run_id": uuid.uuid4().hex[:16],
        "begun": _now(),
        "finished": None,
        "recipe": json.loads(json.dumps(comparable(asdict(recipe)))),
        "inputs": {each.key: each.digest for each in inputs},
        "format": fingerprint,
        "revision": revision,
        "processes": config.world_size,
        "from_weights_alone": [],
    }
    file = folder / RUN_FILE
    old: RunRecord | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    named = _named_checkpoint(config)
    unsaved = config.save_strategy == "no"
    if old is None and (weights := [path.name for pattern in WEIGHT_FILES for path in folder.glob(pattern)]):
        raise UserError(
            f"{folder} contains {weights[0]}, which no run of ours recorded: it would be overwritten",
            expected="another training.output_dir",
        )

    def start(message: str) -> Run:
        if named:
            message += f"continuing from {named}"
        elif unsaved:
            message += "save_strategy is 'no': if this run is interrupted, it starts from the beginning"
        elif message:
            message += "from the start"
        return Run(str(folder), new, named, message=message, inputs=inputs)

    if old is None:
        if there := checkpoints(folder):  # with --resume fresh too: nobody can say whose it is
            raise UserError(
                f"{folder} contains {there[-1].name} of a run that left no record, so nobody can say what it was begun with",
                expected=f"another training.output_dir (there, --training.resume_from_checkpoint {there[-1]} goes on from it)",
            )
        return start("")
    if mode == "fresh" or str(config.resume_from_checkpoint).lower() == "false":
        return start("starting over; ")
    changed = _changes(old, new)
    if changed and mode == "replace":
        return start(f"starting over ({_few(changed)}); ")
    if changed and mode != "force":
        raise UserError(
            f"{folder}: this run was begun with something else: {_few(changed)}",
            expected="--resume fresh to start over (removes its checkpoints), --resume force to continue all the same, "
            "or another training.output_dir",
        )
    messages = []
    if is_finished(folder) and not changed and not named:
        problem = result_problem(folder)
        if not problem:
            done = (
                f"{folder} is finished ({old['finished']}) and nothing has changed: nothing to do (--resume fresh repeats it)"
            )
            return Run(str(folder), old, done=True, message=done)
        messages = [f"{folder} was finished, but {problem}: it is saved again"]
    last = Path(named) if named else last_complete(folder, old["run_id"])
    if last:
        _check_checkpoint(last, mode == "weights")
    broken = [path for path in half_written(folder) if not last or path.resolve() != last.resolve()]
    messages += [f"{path.name} was not written to its end: removed" for path in broken]
    why = ", and save_strategy is 'no', so there is no checkpoint" if unsaved else " before its first checkpoint"
    alone = mode == "weights" and last is not None
    how = " by its weights alone, with a new optimizer" if alone else ""
    messages.append(f"continuing from {last}{how}" if last else f"an earlier start was interrupted{why}: starting afresh")
    alone_before = old.get("from_weights_alone", [])
    record: RunRecord = {**new, "run_id": old["run_id"], "begun": old["begun"]}
    record["from_weights_alone"] = [*alone_before, str(last)] if alone else alone_before
    checkpoint = str(last) if last else None
    return Run(str(folder), record, checkpoint, False, message="; ".join(messages), inputs=inputs, weights_alone=alone)


def _check_checkpoint(checkpoint: Path, weights_alone: bool) -> None:
    """UserError where a file was deleted or changed since the checkpoint was written, unless it is one that is not needed."""
    wrong = damage(checkpoint)
    needed = [name for name in wrong if any(fnmatchcase(name, pattern) for pattern in NEEDED)]
    if not wrong or (weights_alone and not needed):
        return
    ways = f"that file put back, or {checkpoint.name} moved elsewhere to continue from the one before"
    if not needed:
        ways = "--resume weights (continues from its weights and step, with a new optimizer), " + ways
    problem = f"the run cannot continue exactly: {wrong[(needed or list(wrong))[0]]}; nothing was removed"
    raise UserError(problem, file=checkpoint, expected=ways)


def _named_checkpoint(config: TrainingArguments) -> str | None:
    named = str(config.resume_from_checkpoint or "")
    if named.lower() in ("", "true", "false", "none"):
        return None
    if not (Path(named) / "trainer_state.json").is_file():
        raise UserError(f"{named} is not a checkpoint", key="training.resume_from_checkpoint", expected="true, or its folder")
    return named


def comparable(tree: object, path: str = "") -> dict[str, object]:
    """Leaves by dotted key, `{"training.learning_rate": 0.0001}`, without null, secrets and what may change in the middle of a
    run."""
    if tree is None or is_secret(path) or any(fnmatchcase(path, pattern) for pattern in HARMLESS):
        return {}
    if isinstance(tree, dict):
        flat: dict[str, object] = {}
        for key, value in tree.items():
            flat |= comparable(value, f"{path}.{key}" if path else str(key))
        return flat
    return {path: list(tree) if isinstance(tree, tuple) else tree}


def _changes(old: RunRecord, new: RunRecord) -> list[str]:
    """`["training.learning_rate 0.0001 → 0.0002", "data.train_file has another content"]`"""

    def change(name: str, *values: object) -> list[str]:
        before, now = ("(not set)" if value is None else shown(text_of(value)) for value in values)
        return [f"{name} {before} → {now}"] if before != now else []

    recipes, inputs = (old["recipe"], new["recipe"]), (old.get("inputs", {}), new["inputs"])
    changes = [each for key in recipes[0] | recipes[1] for each in change(key, *(values.get(key) for values in recipes))]
    changes += [f"{key} has another content" for key in inputs[0] | inputs[1] if inputs[0].get(key) != inputs[1].get(key)]
    changes += change("the chat format", old.get("format"), new["format"])
    changes += change("the base model's revision", old.get("revision"), new["revision"])
    return changes + change("processes", old["processes"], new["processes"])


def _few(changes: list[str], most: int = 4) -> str:
    rest = len(changes) - most
    return ", ".join(changes[:most]) + (f" and {rest} more" if rest > 0 else "")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
