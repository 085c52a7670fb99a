"""Files, folders and models that a stage reads: missing ones reported before anything heavy is loaded, and their hashes."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from align_ko import chat_templates
from align_ko.errors import UserError
from align_ko.manifest import Input, file_hash, is_unfinished
from align_ko.models import quickstart as quickstart_model
from align_ko.models.source import weights_hash
from align_ko.recipe.load import place_of, recipe_error
from align_ko.recipe.record import InputPath, Recipe

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


def check_inputs(recipe: Recipe) -> None:
    """Raise a UserError for the first file or model folder that the stage would read and that does not exist."""
    for item in recipe.inputs():
        if problem := _missing(item.value, item.kind):
            raise recipe_error(recipe, item.key, problem, _how_to_get(recipe, item))


def hash_inputs(recipe: Recipe) -> tuple[Input, ...]:
    """Every file and every local model folder that the stage reads, with a hash of its content; missing ones are left out.

    What `check_inputs` looks for, a manifest lists and a run's record compares is this one list.
    """
    inputs: list[Input] = []
    for key, value, kind, _ in recipe.inputs():
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


def _how_to_get(recipe: Recipe, item: InputPath) -> str:
    if item.kind == "model" and item.value == "quickstart":
        return "the output of 'python scripts/prepare_quickstart_model.py' (run that first)"
    if not item.made_by:
        return _WANTED[item.kind]
    program, stage = item.made_by.split()
    # The recipe of that stage is usually in the same folder; where it is not, the command alone is named.
    sibling = Path(place_of(recipe, "").file or "").parent / f"{stage}.yaml"
    recipe_name = f" {sibling}" if sibling.is_file() else ""
    launch = "accelerate launch" if program.startswith("run_") else "python"
    # Curation writes this file only where rows are set apart, so running it again would not be enough.
    sets_apart = ", with preference_share above 0" if Path(item.value).name == "preferences.jsonl" else ""
    return f"the output of '{launch} scripts/{program}{recipe_name}' (run that first{sets_apart})"
