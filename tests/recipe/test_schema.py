"""The JSON schemas of recipes: what an editor accepts is what load.py accepts."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from align_ko import recipe
from align_ko.recipe import Recipe
from align_ko.recipe.schema import RECIPES, recipe_schema

ROOT = Path(__file__).parents[2] / "recipes"
FURTHER = {"distill": "sft", "own_answers": "evaluate", "rounds": "align"}
VALIDATORS = {name: Draft202012Validator(recipe_schema(recipe_class)) for name, recipe_class in RECIPES.items()}
FREE = ("models", "sampling", "candidates", "sources", "groups", "lengths", "weights")  # whose keys are the user's own
FILES = [path for path in sorted(ROOT.rglob("*.yaml")) if FURTHER.get(path.stem, path.stem) in RECIPES]


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema, by which editors read: `yes` and `1_000` are text, `5e-7` is a number."""


Core.yaml_implicit_resolvers = {}
for kind, pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
}.items():
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"^(?:{pattern})$"), None)


def faults(stage, values):
    found = [error.context or [error] for error in VALIDATORS[stage].iter_errors(values)]  # of a union: what each member says
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for errors in found for error in errors]


def read(name):
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), Core)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_our_recipes_fit_their_schema(path):
    stage, values = FURTHER.get(path.stem, path.stem), read(path)
    assert faults(stage, values) == []
    fixed = [name for name, value in values.items() if isinstance(value, dict) and name not in FREE]
    for place in (values, *(values[name] for name in fixed)):
        name = next(iter(place), "recipe")
        place[f"{name}x"] = place.get(name)
        assert any(f"('{name}x' was unexpected)" in fault for fault in faults(stage, values))
        del place[f"{name}x"]


def test_every_recipe_has_one():
    stages = {item for item in vars(recipe).values() if isinstance(item, type) and issubclass(item, Recipe)} - {Recipe}
    assert set(RECIPES.values()) == stages and len(FILES) > 60
    for validator in VALIDATORS.values():
        Draft202012Validator.check_schema(validator.schema)


@pytest.mark.parametrize(
    ("stage", "file", "steps", "value", "message"),
    [
        ("sft", "quickstart/sft.yaml", ("training", "learnin_rate"), 1e-4, "'learnin_rate' was unexpected"),
        ("sft", "quickstart/sft.yaml", ("training", "learning_rate"), 0, "0 is less than or equal to"),
        ("sft", "quickstart/sft.yaml", ("training", "eval_strategy"), "epochs", "'epochs' is not one of ['no', 'steps'"),
        ("sft", "quickstart/sft.yaml", ("model", "dtype"), "int8", "'int8' is not one of ['auto', 'bfloat16'"),
        ("sft", "quickstart/sft.yaml", ("model", "lora_r"), 0, "0 is less than the minimum of 1"),
        ("sft", "quickstart/sft.yaml", ("data", "train_file"), None, "None is not of type 'string'"),
        ("dpo", "quickstart/dpo.yaml", ("training", "beta"), "5.0", "'5.0' is not of type 'number'"),
        ("evaluate", "quickstart/evaluate.yaml", ("sampling", "sampling_cool", "top_p"), 1.5, "1.5 is greater than"),
        ("data", "quickstart/data.yaml", ("sources", "koalpaca", "group"), "talk", "'talk' is not one of"),
        ("data", "quickstart/data.yaml", ("max_samples",), "100_000", "'100_000' is not of type 'integer'"),
        ("align", "quickstart/align.yaml", ("gate", "max_prompt"), 3, "'max_prompt' was unexpected"),
    ],
)
def test_a_mistake_is_named(stage, file, steps, value, message):
    values = read(file)
    place = values
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    assert any(message in fault for fault in faults(stage, values)), faults(stage, values)


def test_a_missing_key_is_named_unless_the_recipe_extends_another():
    values = read("quickstart/sft.yaml")
    for steps, name in {(): "training", ("data",): "eval_file", ("model",): "model_name_or_path"}.items():
        broken = copy.deepcopy(values)
        place = broken
        for step in steps:
            place = place[step]
        del place[name]
        assert faults("sft", broken) == [f"{'.'.join(steps)}: '{name}' is a required property"]
        assert faults("sft", broken | {"extends": "../solar/sft.yaml"}) == []
    without = read("quickstart/data.yaml")
    del without["sources"]["koalpaca"]["path"]
    assert faults("data", without) == ["sources.koalpaca: 'path' is a required property"]


def test_a_key_says_what_it_means():
    sft = VALIDATORS["sft"].schema
    rank = sft["$defs"]["ModelArgs"]["properties"]["lora_r"]
    assert rank == {"default": 64, "description": "Rank of the adapter's matrices.", "minimum": 1, "type": "integer"}
    rate = sft["properties"]["training"]["properties"]["learning_rate"]
    assert rate["description"] and rate["default"] > 0 and sft["properties"]["training"]["additionalProperties"] is False
    lengths = VALIDATORS["data"].schema["properties"]["lengths"]
    assert lengths["default"]["dialogue"]["min_question"] == 2  # made by a function, as JSON
    undescribed = [key for name in RECIPES for key, of_key in VALIDATORS[name].schema["properties"].items() if not of_key]
    assert undescribed == []
