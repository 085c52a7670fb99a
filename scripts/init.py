"""Start a project: the recipes of a model, accelerate configs, schemas for the editor and a README with the commands.

    align-ko init my-project --model qwen3_8b
    align-ko init my-project --model quickstart

Paths in recipes are relative to the folder that commands run in, which is the project's. A recipe that others extend, and the
prompts that they name, are copied too. Nothing is written into a folder that is not empty.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Annotated

import tyro

from align_ko.commands import COMMAND_OF
from align_ko.errors import UserError, nearest, run_script, warn
from align_ko.recipe.schema import RECIPES, recipe_schema
from align_ko.sources import folder_of

FURTHER = {"distill": "sft", "own_answers": "evaluate", "rounds": "align"}  # recipes that are named otherwise than their stage
NAMED = re.compile(r"^(?!\s*#).*?\b(recipes/[\w./-]+\w)", re.M)  # a file that a recipe names outside its comments
GITIGNORE = "/data/\n/outputs/\n/.venv/\n"
README = """# {name}

Recipes of [align_ko](recipes/{model}/README.md) for {model}, to change as you like. All commands run in this folder.

```bash
{commands}
```

Your rows: `sources` in data.yaml. Each recipe begins with what it does and its command; `align-ko COMMAND --help` lists all
keys, and an editor with yaml-language-server completes them by `schemas/`. `align-ko plan RECIPE` estimates memory and hours.
"""


def files_of(model: str, root: Path) -> dict[str, Path]:
    """Path in the project → file: the folder of a model, those of the recipes that it extends, and what these name. Without
    recipes for benchmarks/, which only a checkout has."""
    found: dict[str, Path] = {}
    wanted = [f"recipes/{model}"]
    while wanted:
        place = root / wanted.pop().removeprefix("recipes/")
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            name = f"recipes/{file.relative_to(root).as_posix()}"
            if not file.is_file() or name in found or "__pycache__" in name:
                continue
            if file.suffix == ".yaml":
                text = file.read_text(encoding="utf-8")
                if re.search(r"^#.*benchmarks/(ablate|compare)", text, re.M):
                    continue
                parent = re.search(r"^extends: \.\./(\w+)/", text, re.M)
                wanted += [*NAMED.findall(text), *([f"recipes/{parent[1]}"] if parent else [])]
            found[name] = file
    return found


def as_installed(text: str) -> str:
    """The commands of a checkout as those of an installation: `python scripts/run_sft.py` → `align-ko sft`. Lines with what
    only a checkout has (make, benchmarks/) go, and links to what is not in the project become text."""
    text = re.sub(r"^(?:make |source |.*(?:`make |python benchmarks/)).*\n", "", text, flags=re.M)
    text = re.sub(r"^```bash\n```\n", "", text, flags=re.M)
    text = re.sub(
        r"(accelerate launch[^\n`]*? )scripts/(\w+)\.py", lambda at: f"{at[1]}-m align_ko.cli {COMMAND_OF[at[2]]}", text
    )
    text = re.sub(r"(?:python )?scripts/(\w+)\.py", lambda at: f"align-ko {COMMAND_OF[at[1]]}", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)\s]+\)", r"\1", text)


def with_schema(name: str, text: str, schemas: dict[str, str]) -> str:
    """A recipe with the line by which an editor finds its schema."""
    stage = FURTHER.get(PurePosixPath(name).stem, PurePosixPath(name).stem)
    if not name.endswith(".yaml") or f"schemas/{stage}.json" not in schemas:
        return text
    return f"# yaml-language-server: $schema={os.path.relpath(f'schemas/{stage}.json', os.path.dirname(name))}\n{text}"


def schemas_of() -> dict[str, str]:
    """The schema of every recipe; of those that need TRL's fields only where TRL is installed."""
    schemas = {}
    for stage, recipe_class in RECIPES.items():
        try:
            schemas[f"schemas/{stage}.json"] = json.dumps(recipe_schema(recipe_class), ensure_ascii=False, indent=1) + "\n"
        except UserError as error:
            warn(f"no schemas/{stage}.json: {error}; then 'align-ko schema {stage} > schemas/{stage}.json'")
    return schemas


def main(folder: Annotated[Path, tyro.conf.Positional], /, model: str = "solar") -> None:
    """Write the recipes of a model into a new folder.

    Args:
        folder: The project; new or empty.
        model: A folder of recipes/: solar, qwen3_8b, llama3_1_8b, gemma3_4b, quickstart (no GPU), …
    """
    root = folder_of("recipes")
    models = sorted(path.name for path in root.iterdir() if (path / "sft.yaml").is_file())
    if model not in models:
        expected, close = f"one of {', '.join(models)}", nearest(model, models)
        raise UserError(f"there are no recipes for '{model}'", key="--model", expected=expected, nearest=close)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problem = f"{folder} is {'not empty' if folder.is_dir() else 'a file'}"
        raise UserError(problem, expected="a new folder, so that nothing is overwritten")
    sources = files_of(model, root)
    sources |= {f"accelerate_configs/{file.name}": file for file in sorted(folder_of("accelerate_configs").glob("*.yaml"))}
    texts = schemas_of()
    for name, file in sources.items():
        text = file.read_text(encoding="utf-8")
        texts[name] = with_schema(name, as_installed(text), texts) if file.suffix in (".yaml", ".md") else text
    shell = re.search(r"^```bash\n(.*?)^```", texts[f"recipes/{model}/README.md"], re.M | re.S)
    lines = shell[1].splitlines() if shell else []
    texts["README.md"] = README.format(name=folder.resolve().name, model=model, commands="\n".join(lines))
    texts[".gitignore"] = GITIGNORE
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    print(f"{folder}: {len(texts)} files for {model}\n\n  cd {folder}")
    print("\n".join(f"  {line}" for line in lines))


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
