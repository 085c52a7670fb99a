"""Recipe file and command line → the record of a stage, or one UserError that says what is wrong and where. Files and models
that it names are looked for before anything heavy is loaded, and hashed for manifests."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from align_ko import chat_templates
from align_ko.commands import command_line
from align_ko.errors import UserError, nearest
from align_ko.manifest import (
    MODEL_FILES,
    Input,
    file_hash,
    foreign_weights,
    holds_model,
    is_half_written,
    is_unfinished,
    result_problem,
)
from align_ko.models import quickstart as quickstart_model
from align_ko.models.source import folder_problem, weights_hash
from align_ko.recipe.fields import LARGEST
from align_ko.recipe.keys import choices_of, describe, lay_over, print_help, range_words, record_of, suggest, type_at
from align_ko.recipe.record import MISSING, InputPath, Recipe
from align_ko.recipe.yaml_lines import Place, Steps, Tree, dotted, read_recipe_file, text_of
from align_ko.sources import find_path, is_hub_id, local_files

R = TypeVar("R", bound=Recipe)
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "value_error")
_WANTED = {
    "dataset": "a file, a folder or a hub id such as nlpai-lab/kullm-v2",
    "model": "a model folder or a hub id such as owner/name",
    "template": f"one of {', '.join(chat_templates.names())}, '{chat_templates.OWN}' or a Jinja file",
    "file": "an existing file",
}
_FORMAT_FILES = (
    "align_ko_format.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja",
    "generation_config.json",
)  # fmt: skip
DATA_FILES = ("train.jsonl", "eval.jsonl", "preferences.jsonl", "responses.jsonl")  # of curation, pairs and evaluation


def load_recipe(recipe_class: type[R], argv: list[str] | None = None, description: str = "") -> R:
    """Read the recipe named first in `argv` (default: the command line), lay the flags after it over it, check it all. `--help`
    prints every key and ends the program. Relative paths stay relative to the current directory."""
    words = list(sys.argv[1:] if argv is None else argv)
    program = os.path.basename(sys.argv[0]) or "script.py"
    if "-h" in words or "--help" in words:
        named = [word for word in words[:1] if not word.startswith("-")]
        print_help(recipe_class, read_recipe_file(named[0]) if named else None, program, description)
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        raise UserError(
            "no recipe given" if not words else f"the recipe comes first, before {words[0]}",
            expected=f"'{program} RECIPE.yaml [--key value …]' ({program} --help lists the keys)",
        )
    tree = read_recipe_file(words[0])
    return recipe_of(lay_over(tree, recipe_class, words[1:]) if words[1:] else tree, recipe_class)


def recipe_from(recipe_class: type[R], **keys: object) -> R:
    """`recipe_from(ExportRecipe, model_name_or_path="outputs/dpo", output_dir="outputs/export")`, checked as a file is."""
    return recipe_of(Tree(text_of(keys), {}), recipe_class)


def recipe_of(tree: Tree, recipe_class: type[R]) -> R:
    """The recipe in `tree`, which it keeps for the places of later messages. UserError for the first mistake."""
    try:
        recipe = recipe_class(**tree.values)
    except ValidationError as error:
        raise _mistake(error, tree, recipe_class) from None
    twins = {item.value: str(find_path(item.value)) for item in recipe.inputs() if not item.value.isascii()}
    if renamed := {value: twin for value, twin in twins.items() if not Path(value).exists() and Path(twin).exists()}:
        return recipe_of(dataclasses.replace(tree, values=_replaced(tree.values, renamed)), recipe_class)
    _set_tree(recipe, tree)
    check_values(recipe)
    return recipe


def _replaced(value: object, new: Mapping[str, str]) -> object:
    """The values with file names as the disk has them (Unicode NFD or NFC)."""
    if isinstance(value, dict):
        return {key: _replaced(item, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, new) for item in value]
    return new.get(value, value) if isinstance(value, str) else value


def changed(recipe: R, **changes: object) -> R:
    """A copy with other values, which still knows where the rest was written."""
    copy = dataclasses.replace(recipe, **changes)  # type: ignore[type-var]
    _set_tree(copy, recipe.tree)
    return copy


def _set_tree(recipe: Recipe, tree: Tree | None) -> None:
    object.__setattr__(recipe, "tree", tree)  # the record is frozen


def check_values(recipe: Recipe) -> None:
    """Raise a UserError for the first combination of values that cannot work."""
    for problem in recipe.problems():
        raise recipe_error(recipe, *problem)
    for key, path in (*((item.key, item.value) for item in recipe.inputs()), _output(recipe)):
        if os.sep == "/" and (not path.isprintable() or ("\\" in path and not Path(path).exists())):
            written = f"{path!r} is written as Windows does; a backslash means something else here and in YAML"
            raise recipe_error(recipe, key, written, f"forward slashes: {_forward(path)}")
        if path[:1] in "“”‘’" and path and not Path(path).exists():
            raise recipe_error(
                recipe, key, f"{path} has typographic quotation marks, which YAML reads as part of it", '" or none'
            )


_ESCAPES = {ord(read): f"/{letter}" for read, letter in zip("\t\n\r\b\f\v\a\0", "tnrbfva0", strict=True)} | {ord("\\"): "/"}


def _forward(path: str) -> str:
    """`data\\mine\\rows.csv` → `data/mine/rows.csv`, also where YAML has read `\\t` as a tab."""
    return path.translate(_ESCAPES)


def place_of(recipe: Recipe, key: str) -> Place:
    """File and line of a dotted key, or of the nearest mapping above it that was written."""
    return recipe.tree.place_of(key) if recipe.tree else Place()


def recipe_error(recipe: Recipe, key: str, problem: str, expected: str | None = None, close: str | None = None) -> UserError:
    """A UserError about the dotted `key` of a loaded recipe, with its file and line."""
    return place_of(recipe, key).error(key, problem, expected, close)


def _mistake(error: ValidationError, tree: Tree, recipe_class: type[Recipe]) -> UserError:
    """pydantic's gravest error in our words: an unknown key before a wrong value before a missing key."""
    worst = min(error.errors(include_url=False), key=lambda item: (item["type"] not in _UNKNOWN, item["type"] == "missing"))
    problem = worst["type"]
    steps = _written_steps(worst["loc"], tree)
    if problem == "missing":
        steps = (*steps, worst["loc"][-1])
    key, wanted = dotted(steps), type_at(recipe_class, steps)
    place = tree.place_of(key)
    if problem in _UNKNOWN:
        owner = record_of(type_at(recipe_class, steps[:-1]))
        return place.error(key, "unknown key", *suggest(str(steps[-1]), owner, recipe_class))
    if problem == "missing":
        return place.error(key, "this key is missing", describe(wanted))
    value = tree.get(steps)
    if isinstance(value, dict | list):
        return place.error(key, f"a {'list' if isinstance(value, list) else 'mapping'} does not fit", describe(wanted))
    if not value:
        return place.error(key, "there is no value", describe(wanted))
    written = value if len(value) <= 60 else f"{value[:40]}… ({len(value)} characters)"
    if problem in _OUT_OF_RANGE:
        expected = str(worst["ctx"]["error"]) if problem == "value_error" else range_words(wanted)
        if problem == "less_than_equal" and worst["ctx"]["le"] == LARGEST:
            expected = f"at most {LARGEST}"
        return place.error(key, f"{written} cannot work", expected or describe(wanted))
    return place.error(key, f"'{written}' does not fit", describe(wanted), nearest(value, choices_of(wanted)))


def _written_steps(location: Steps, tree: Tree) -> Steps:
    """The keys and numbers of pydantic's location, without the names of union members that it adds."""
    steps: Steps = ()
    for step in location:
        if tree.get((*steps, step), MISSING) is not MISSING:
            steps = (*steps, step)
    return steps


# -------------------- files, folders and models that a stage reads


def check_inputs(recipe: Recipe) -> None:
    """Raise a UserError for the first file or model folder that the stage would read and that does not exist, or that is
    where the stage writes; and where it would write a model over one that is not ours."""
    for item in recipe.inputs():
        if problem := _missing(item.value, item.kind):
            raise recipe_error(recipe, item.key, problem, _how_to_get(recipe, item))
        _check_output(recipe, item)
    key, folder = _output(recipe)
    if (key.startswith("training") or "interpolate_from" in vars(recipe)) and (weights := foreign_weights(folder)):
        problem = f"{folder} contains {weights}, which no run of ours recorded: it would be overwritten"
        raise recipe_error(recipe, key, problem, "another folder")


def _check_output(recipe: Recipe, item: InputPath) -> None:
    """UserError where the stage's output folder contains the input, or a folder of data to read contains the output."""
    key, folder = _output(recipe)
    source = Path(item.value).expanduser()
    is_folder = item.kind in ("dataset", "rows")
    read = [source, *local_files(item.value)] if is_folder else [source]
    if written := next((path for path in read if path.exists() and is_within(path, Path(folder))), None):
        problem = f"{folder} is or contains {written}, which the stage reads ({item.key}) and its own files could replace"
    elif is_folder and source.is_dir() and is_within(Path(folder), source):
        problem = f"{folder} is in {item.value}, and the stage reads all of that ({item.key}), its own files too"
    else:
        return
    raise recipe_error(recipe, key, problem, "a folder with nothing in it that the stage reads")


def _output(recipe: Recipe) -> tuple[str, str]:
    """Key and folder; "" for a recipe without one."""
    training = getattr(recipe, "training", None)
    return ("training.output_dir", training["output_dir"]) if training else ("output_dir", getattr(recipe, "output_dir", ""))


def is_within(path: Path, folder: Path) -> bool:
    """Whether `path` is `folder`, in it at any depth, or the same file as one in it, through links and in any spelling that the
    file system takes for the same name."""
    folder = folder if folder.exists() else Path(os.path.abspath(folder))  # x/../out, without x
    if not folder.exists():
        return False
    places = [place for start in (Path(os.path.abspath(path)), path.resolve()) for place in (start, *start.parents)]
    if any(place.exists() and place.samefile(folder) for place in places):
        return True
    return path.is_file() and folder.is_dir() and any(each.exists() and each.samefile(path) for each in folder.iterdir())


def hash_inputs(recipe: Recipe) -> tuple[Input, ...]:
    """Every file and local model folder that the stage reads, with a hash of its content; missing ones are left out. Manifests
    and the records of runs have this list."""
    inputs: list[Input] = []
    for key, value, kind, _ in recipe.inputs():
        path = Path(quickstart_model.default_folder() if kind == "model" and value == "quickstart" else value).expanduser()
        if kind == "model" and path.is_dir():
            inputs.append(Input(key, value, _model_digest(path), is_model=True))
        elif kind == "dataset" or (kind == "rows" and path.is_dir()):
            for file in local_files(value):
                name = file.relative_to(path) if path.is_dir() else file.name
                inputs.append(Input(f"{key}: {name}", str(file), file_hash(file)))
        elif kind != "model" and path.is_file():
            inputs.append(Input(key, value, file_hash(path)))
    return tuple(inputs)


def _model_digest(folder: Path) -> str:
    """Changes with the weights, also those of an adapter's base, and with all that decides how they are asked."""
    files = [folder / name for name in _FORMAT_FILES if (folder / name).is_file()]
    parts = [weights_hash(str(folder)), *(file_hash(file) for file in files)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _missing(value: str, kind: str) -> str | None:
    """What is wrong with an input, or None."""
    path = Path(value).expanduser()
    if kind == "template" and value in (*chat_templates.names(), chat_templates.OWN):
        return None
    if kind == "model" and value == "quickstart":
        ready = quickstart_model.is_ready(quickstart_model.default_folder())
        return None if ready else "the quickstart model was not prepared yet"
    if kind == "model" and path.is_dir():
        if problem := folder_problem(path):
            return problem
        if is_unfinished(path):
            return f"the run in {value} has not finished, and what lies there now is not its result"
        if problem := result_problem(path):
            return f"{value} is not what its run saved: {problem}"
        if any(path.glob("*.bin")) and not any(path.glob("*.safetensors")):
            return f"the weights in {value} are pickle files (*.bin), which can run code and are not loaded"
        if is_half_written(path):
            return f"{value} has no manifest.json: what was writing it did not come to its end"
        return None if holds_model(path) else f"the folder {value} holds no model ({' or '.join(MODEL_FILES)})"
    if kind in ("dataset", "rows") and path.is_dir():
        if (path / "manifest.json").is_file() and (path / DATA_FILES[0]).is_file():
            return f"{value} is what a stage wrote, with rows that it held out or dropped; name {path / DATA_FILES[0]}"
        return None if any(path.iterdir()) else f"the folder {value} is empty"
    if path.name in DATA_FILES and path.is_file() and is_half_written(path.parent):
        return f"{path.parent} has no manifest.json: what was writing it did not come to its end, its files may be of two runs"
    if path.is_file():
        return f"{value} is a file, not a model folder" if kind == "model" else None
    if path.is_dir():
        return f"{value} is a folder, not a file"
    if kind == "model":  # whose hub id may name a revision and lack an owner
        name = value.partition("@")[0]
        return None if is_hub_id(name if "/" in name else f"-/{name}") else f"there is no folder {value}"
    return None if kind == "dataset" and is_hub_id(value) else f"there is no file {value}"


def _how_to_get(recipe: Recipe, item: InputPath) -> str:
    if item.kind == "model" and item.value == "quickstart":
        return f"the output of '{command_line('prepare_model', 'quickstart')}' (run that first)"
    if not item.made_by:
        return _WANTED[item.kind]
    program, stage = item.made_by.split()
    # The recipe of that stage is usually in the same folder; where it is not, the command alone is named.
    sibling = Path(place_of(recipe, "").file or "").parent / f"{stage}.yaml"
    recipe_name = [str(sibling)] if sibling.is_file() else []
    command = command_line(program, *recipe_name, launch=program.startswith("run_"))
    # Curation writes this file only where rows are set apart, so running it again would not be enough.
    sets_apart = ", with preference_share above 0" if Path(item.value).name == "preferences.jsonl" else ""
    return f"the output of '{command}' (run that first{sets_apart})"
