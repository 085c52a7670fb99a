"""Files, folders and models that a stage reads and that are not there, told before anything heavy is loaded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align_ko import chat_templates
from align_ko.errors import UserError
from align_ko.manifest import Input, file_hash, is_unfinished
from align_ko.models import quickstart as quickstart_model
from align_ko.models.source import weights_hash
from align_ko.recipe.checks import place_of, recipe_error
from align_ko.recipe.fields import (
    AblationRecipe,
    AlignRecipe,
    CompareRecipe,
    DataRecipe,
    DpoRecipe,
    EvaluateRecipe,
    ExportRecipe,
    PreferencesRecipe,
    SftRecipe,
)

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?", re.ASCII)  # a model's may name its revision
_DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".txt", ".jinja", ".gz")
_WANTED = {
    "dataset": "a file, a folder or a hub id such as nlpai-lab/kullm-v2",
    "model": "a model folder or a hub id such as owner/name",
    "template": f"one of {', '.join(chat_templates.names())}, '{chat_templates.OWN}' or a Jinja file",
    "file": "an existing file",
}
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_FORMAT_FILES = (
    "align_ko_format.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja",
    "generation_config.json",
)  # fmt: skip
_MODEL_FILES = ("config.json", "adapter_config.json")


def check_inputs(recipe: Any) -> None:
    """Raise a UserError for the first file or model folder that the stage would read and that is not there."""
    for path, value, kind, script in _inputs(recipe):
        problem = _missing(value, kind)
        if problem:
            raise recipe_error(recipe, path, problem, _how_to_get(recipe, value, script, kind))


def hash_inputs(recipe: Any) -> tuple[Input, ...]:
    """Every file and every local model folder that the stage reads, with a hash of its content; missing ones are left out.

    What `check_inputs` looks for, a manifest lists and a run's record compares is this one list.
    """
    inputs: list[Input] = []
    for key, value, kind, _ in _inputs(recipe):
        path = Path(quickstart_model.default_folder() if kind == "model" and value == "quickstart" else value).expanduser()
        if kind == "model" and path.is_dir():
            inputs.append(Input(key, value, _model_digest(path), is_model=True))
        elif kind == "dataset":
            inputs += [Input(f"{key}: {file.name}", str(file), file_hash(file)) for file in local_files(value)]
        elif kind != "model" and path.is_file():
            inputs.append(Input(key, value, file_hash(path)))
    return tuple(inputs)


def _model_digest(folder: Path) -> str:
    """Changes with the weights, also those of an adapter's base, and with all that decides how they are asked."""
    files = [folder / name for name in _FORMAT_FILES if (folder / name).is_file()]
    parts = [weights_hash(str(folder)), *(file_hash(file) for file in files)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def local_files(path: str) -> list[Path]:
    """The data files behind a path, sorted so that every machine reads them in the same order; none for a hub id."""
    root = Path(path).expanduser()
    if not root.exists():
        return []
    if root.is_file():
        return [root]
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    if not files:
        raise UserError("this folder contains no data file", file=path, expected=", ".join(SUFFIXES))
    return files


def _inputs(recipe: Any) -> Iterator[tuple[str, str, str, str]]:
    """(dotted key, value, what it is, the script that makes it) of all that a stage reads."""
    if isinstance(recipe, DataRecipe):
        for name, source in recipe.sources.items():
            yield f"sources.{name}.path", source.path, "dataset", ""
        if recipe.profanity_file:
            yield "profanity_file", recipe.profanity_file, "file", ""
    if isinstance(recipe, SftRecipe):
        yield "model.model_name_or_path", recipe.model.model_name_or_path, "model", ""
    if isinstance(recipe, DpoRecipe | PreferencesRecipe):
        yield "model_name_or_path", recipe.model_name_or_path, "model", "run_sft.py sft"
    if isinstance(recipe, PreferencesRecipe) and recipe.judges.weights.reward_model:
        yield "judges.reward_model.model_name_or_path", recipe.judges.reward_model.model_name_or_path, "model", ""
    if isinstance(recipe, ExportRecipe):
        yield "model_name_or_path", recipe.model_name_or_path, "model", "run_dpo.py dpo"
        if recipe.interpolate_from:
            yield "interpolate_from", recipe.interpolate_from, "model", "run_sft.py sft"
    if isinstance(recipe, EvaluateRecipe):
        for name, model in recipe.models.items():
            yield f"models.{name}", model, "model", _made_by(model)
    if isinstance(recipe, SftRecipe | DpoRecipe):
        script = "build_sft_data.py data" if isinstance(recipe, SftRecipe) else "build_preferences.py preferences"
        own = isinstance(recipe, SftRecipe) and recipe.distill.wanted  # trained on the model's own answers
        yield "data.train_file", recipe.data.train_file, "file", "evaluate.py own_answers" if own else script
        yield "data.eval_file", recipe.data.eval_file, "file", script
        yield "data.chat_template", recipe.data.chat_template, "template", ""
        if recipe.gate.prompts and recipe.gate.prompts_file:
            yield "gate.prompts_file", recipe.gate.prompts_file, "file", ""
    if isinstance(recipe, PreferencesRecipe | EvaluateRecipe):
        yield "prompts_file", recipe.prompts_file, "file", "build_sft_data.py data"
    for number, file in enumerate(getattr(recipe, "skip_prompts_files", ())):
        yield f"skip_prompts_files[{number}]", file, "file", ""
    if isinstance(recipe, EvaluateRecipe):
        yield "chat_template", recipe.chat_template, "template", ""
    if isinstance(recipe, AlignRecipe | AblationRecipe):
        if recipe.sft is None or isinstance(recipe, AblationRecipe):
            yield "start", recipe.start, "model", "run_sft.py sft"
        yield "gate.prompts_file", recipe.gate.prompts_file, "file", "build_sft_data.py data"
    if isinstance(recipe, AlignRecipe) and recipe.distill:
        for number, file in enumerate(recipe.distill.prompts_files):
            yield f"distill.prompts_files[{number}]", file, "file", "build_sft_data.py data"
    if isinstance(recipe, AblationRecipe):
        for key in ("train_file", "eval_file"):
            yield key, getattr(recipe, key), "file", "build_preferences.py preferences"
    if isinstance(recipe, CompareRecipe) and recipe.spoilt_key:
        yield "spoilt_key", recipe.spoilt_key, "file", ""
    for number, file in enumerate(getattr(recipe, "evaluation_files", ())):
        yield f"evaluation_files[{number}]", file, "file", ""


def _made_by(model: str) -> str:
    """The script that a checkpoint's folder is named after, or nothing for a base model."""
    name = Path(model).name
    return next((f"run_{stage}.py {stage}" for stage in ("dpo", "sft") if stage in name), "")


def _missing(value: str, kind: str) -> str | None:
    """What is wrong with an input, or None."""
    path = Path(value).expanduser()
    if kind == "template" and value in (*chat_templates.names(), chat_templates.OWN):
        return None
    if kind == "model" and value == "quickstart":
        ready = quickstart_model.is_ready(quickstart_model.default_folder())
        return None if ready else "the quickstart model was not prepared yet"
    if kind == "model" and path.is_dir():
        if is_unfinished(path):
            return f"the run in {value} has not finished, and what lies there now is not its result"
        found = any((path / name).is_file() for name in _MODEL_FILES)
        return None if found else f"the folder {value} holds no model ({' or '.join(_MODEL_FILES)})"
    if kind == "dataset" and path.is_dir():
        return None if any(path.iterdir()) else f"the folder {value} is empty"
    if path.is_file():
        return f"{value} is a file, not a model folder" if kind == "model" else None
    if path.is_dir():
        return f"{value} is a folder, not a file"
    if kind in ("model", "dataset") and _may_be_hub_id(value, kind):
        return None
    return f"there is no {'folder' if kind == 'model' else 'file'} {value}"


def _may_be_hub_id(value: str, kind: str) -> bool:
    """`owner/name`, or a bare name for a model; not where the first part is a folder here (outputs/sft)."""
    if not _HUB_ID.fullmatch(value) or value.lower().endswith(_DATA_SUFFIXES) or value.startswith("."):
        return False
    return not os.path.isdir(value.split("/")[0]) if "/" in value else kind == "model"


def _how_to_get(recipe: Any, value: str, script: str, kind: str) -> str:
    if kind == "model" and value == "quickstart":
        return "the output of 'python scripts/prepare_quickstart_model.py' (run that first)"
    if not script:
        return _WANTED[kind]
    program, stage = script.split()
    # The recipe of that stage usually lies beside this one; a folder without it gets the command alone.
    sibling = Path(place_of(recipe, "").file or "").parent / f"{stage}.yaml"
    recipe_name = f" {sibling}" if sibling.is_file() else ""
    launch = "accelerate launch" if program.startswith("run_") else "python"
    # Curation writes this file only where rows are set apart, so running it again would not be enough.
    sets_apart = ", with preference_share above 0" if Path(value).name == "preferences.jsonl" else ""
    return f"the output of '{launch} scripts/{program}{recipe_name}' (run that first{sets_apart})"
