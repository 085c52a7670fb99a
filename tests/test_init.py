"""`align-ko init`: a project whose recipes, commands and schemas work from its own folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from align_ko import cli, recipe
from align_ko.recipe import keys, load_recipe, record
from align_ko.recipe.load import check_inputs
from align_ko.recipe.schema import RECIPES

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/sft.yaml"))
FURTHER = {"distill": "sft", "own_answers": "evaluate", "rounds": "align"}


@pytest.fixture
def project(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    cli.run(["init", "mine", "--model", request.param])
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("project", MODELS, indirect=True)
def test_recipes_and_commands_work_from_the_project(project):
    files = sorted(project.glob("recipes/*/*.yaml"))
    assert len(files) >= 8
    for file in files:
        stage = FURTHER.get(file.stem, file.stem)
        read = load_recipe(RECIPES[stage], [str(file)])
        for item in read.inputs():  # what no stage writes is there
            if item.value.startswith(("recipes/", "accelerate_configs/")):
                assert Path(item.value).exists(), f"{file.name}: {item.key}"
        first = file.read_text(encoding="utf-8").splitlines()[0]
        schema = json.loads((file.parent / first.removeprefix("# yaml-language-server: $schema=")).read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
        assert schema["description"] == RECIPES[stage].__doc__.strip().replace("\n    ", "\n")
    commands = re.search(r"```bash\n(.*?)```", (project / "README.md").read_text(encoding="utf-8"), re.S)[1].splitlines()
    assert len(commands) >= 6
    for words in map(shlex.split, commands):
        assert words[0] in ("align-ko", "accelerate", "python")
        if words[0] == "accelerate":
            assert words[words.index("--config_file") + 2 :][:2] == ["-m", "align_ko.cli"] and Path(words[4]).is_file()
            words = words[words.index("-m") + 1 :]
        if words[0] in ("align-ko", "align_ko.cli"):
            assert words[1] in cli.COMMANDS
        assert all(Path(word).is_file() for word in words if word.startswith("recipes/"))
    everything = "\n".join(file.read_text(encoding="utf-8") for file in project.rglob("*.*") if file.suffix in (".md", ".yaml"))
    assert not re.search(r"scripts/\w+\.py|benchmarks/\w+\.py|^(make|source) |\]\(\.", everything, re.M)


@pytest.mark.parametrize("project", ["quickstart"], indirect=True)
def test_the_quickstart_s_first_stages_run_from_the_project(project):
    subprocess.run([sys.executable, "recipes/quickstart/data/spoil.py"], check=True, capture_output=True)
    check_inputs(load_recipe(recipe.DataRecipe, ["recipes/quickstart/data.yaml"]))
    assert (project / ".gitignore").read_text(encoding="utf-8").startswith("/data/\n/outputs/\n")
    assert not list(project.rglob("ablation.yaml")) and not list(project.rglob("handbook"))  # of a checkout's benchmarks/


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for folder, problem in {"mine": "is not empty", "file": "is a file"}.items():
        with pytest.raises(SystemExit) as ended:
            cli.run(["init", str(tmp_path / folder)])
        assert ended.value.code == 2 and problem in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_misspelt_model_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.run(["init", str(tmp_path / "mine"), "--model", "qwen8b"])
    assert capsys.readouterr().err.endswith("quickstart, qwen2_5_1_5b, qwen3_8b, solar; did you mean 'qwen3_8b'?\n")
    assert not (tmp_path / "mine").exists()


def test_without_trl_the_other_schemas_are_written(tmp_path, monkeypatch, capsys):
    caches = (keys.keys_of, record.config_fields, record._classes)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(record.importlib.util, "find_spec", lambda name: None)
    cli.run(["init", str(tmp_path / "mine"), "--model", "quickstart"])
    written = {path.stem for path in (tmp_path / "mine/schemas").iterdir()}
    assert {"data", "preferences", "evaluate"} <= written and "sft" not in written
    assert "no schemas/sft.json: trl is not installed" in capsys.readouterr().err
    assert not (tmp_path / "mine/recipes/quickstart/sft.yaml").read_text(encoding="utf-8").startswith("# yaml-language")


def test_schema_command(tmp_path, capsys):
    cli.run(["schema", "dpo"])
    assert "beta" in json.loads(capsys.readouterr().out)["properties"]["training"]["properties"]
    with pytest.raises(SystemExit):
        cli.run(["schema", "evalute"])
    assert capsys.readouterr().err.endswith("did you mean 'evaluate'?\n")
