"""The folder lock of every stage, and a package that imports where POSIX modules are missing."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from align_ko import process
from align_ko.errors import UserError
from align_ko.process import check_unlocked, lock_folder, locked_folder

ROOT = Path(__file__).parents[1]


def hold(folder: Path, more: str = "", **environment: str) -> subprocess.Popen[str]:
    """Another process that holds `folder` until it is killed."""
    code = "import sys; from align_ko.process import lock_folder; sys.argv = ['run_sft.py', 'sft.yaml']\n"
    code += f"lock_folder({str(folder)!r})\n{textwrap.dedent(more)}\nprint('held', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, env={**os.environ, **environment}
    )
    assert other.stdout.readline() == "held\n"
    return other


def kill(other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()


def test_a_second_run_is_told_whose_folder_it_is_until_that_run_is_dead(tmp_path):
    first = hold(tmp_path)
    started = r"started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, is writing to this folder"
    for refused in (lock_folder, check_unlocked):
        with pytest.raises(UserError, match=rf"{tmp_path}: run_sft\.py sft\.yaml \(pid {first.pid}\), {started}"):
            refused(tmp_path)
    kill(first)
    check_unlocked(tmp_path)
    lock_folder(tmp_path)


def test_a_killed_run_with_children_leaves_no_lock(tmp_path):
    """Forked data loaders may outlive a killed run for a moment; the lock must not."""
    more = """
        import os, time
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(1)
            os.write(write, b"x")
            time.sleep(20)
            os._exit(0)
        os.read(read, 1)
    """
    kill(hold(tmp_path, more))
    lock_folder(tmp_path)


def test_a_stage_left_behind_by_a_killed_run_is_called_that(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    first = hold(tmp_path, ALIGN_KO_STARTED_BY=f"{dead.pid} align.py align.yaml")
    with pytest.raises(UserError, match=rf"it is a stage that align\.py align\.yaml \(pid {dead.pid}\) left behind") as caught:
        lock_folder(tmp_path)
    assert f"'kill {first.pid}'" in str(caught.value)
    kill(first)


def test_the_name_of_a_dead_holder_is_not_given_for_the_new_one(tmp_path):
    first = hold(tmp_path)
    holder = tmp_path / process.HOLDER_FILE
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder.write_text(holder.read_text().replace(str(first.pid), str(dead.pid)))
    with pytest.raises(UserError, match="another run is writing to this folder"):
        lock_folder(tmp_path)
    kill(first)


def test_one_process_may_lock_its_folder_again(tmp_path):
    lock_folder(tmp_path)
    lock_folder(tmp_path)
    check_unlocked(tmp_path)
    with locked_folder(tmp_path / "other"):
        assert len(process._held) == 2
    assert list(process._held) == [tmp_path.resolve()]


def test_the_first_of_several_processes_holds_it_for_all(tmp_path, monkeypatch):
    first = hold(tmp_path)
    monkeypatch.setenv("RANK", "1")
    lock_folder(tmp_path)
    assert not process._held
    kill(first)


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to it: .*; expected another output folder"):
        lock_folder(tmp_path / "file")


TRAINING = "data: {train_file: rows.jsonl, eval_file: rows.jsonl}\ntraining: {output_dir: out}\n"
RECIPES = {
    "build_sft_data": "sources: {raw: {path: rows.jsonl, group: dialogue}}\noutput_dir: out\n",
    "run_sft": "model: {model_name_or_path: model}\n" + TRAINING,
    "run_dpo": "model_name_or_path: model\n" + TRAINING,
    "build_preferences": "model_name_or_path: model\nprompts_file: rows.jsonl\noutput_dir: out\n",
    "evaluate": "models: {sft: model}\nprompts_file: rows.jsonl\noutput_dir: out\n",
    "decoding_gap": "models: {sft: model}\nprompts_file: rows.jsonl\noutput_dir: out\n",
    "export": "model_name_or_path: model\noutput_dir: out\n",
    "align": "start: model\noutput_dir: out\npreferences: {recipe: build_preferences.yaml}\ndpo: {recipe: run_dpo.yaml}\n"
    "gate: {prompts_file: rows.jsonl}\n",
}


@pytest.mark.parametrize("script", RECIPES)
def test_every_stage_refuses_a_folder_in_use(script, llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(llama.folder, target_is_directory=True)
    Path("rows.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    for name, text in RECIPES.items():
        Path(f"{name}.yaml").write_text(text)
    first = hold(tmp_path / ("out/grid" if script == "decoding_gap" else "out"))
    monkeypatch.setattr(sys, "argv", [f"{script}.py", f"{script}.yaml"])
    with pytest.raises(UserError, match=rf"run_sft\.py sft\.yaml \(pid {first.pid}\)"):
        runpy.run_path(str(ROOT / f"scripts/{script}.py"))["main"]()
    kill(first)


def test_all_that_needs_no_torch_imports_without_posix_modules():
    """As on Windows: no fcntl, no resource, no os.sysconf, os.fork or os.getuid."""
    code = """
        import importlib, os, pkgutil, sys
        heavy = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed", "huggingface_hub")
        import filelock, psutil, numpy, concurrent.futures.process  # they have a branch of their own for Windows
        for name in ("fcntl", "resource", "pwd", "grp", *heavy):
            sys.modules[name] = None
        for name in ("sysconf", "fork", "getuid", "sched_getaffinity"):
            delattr(os, name)
        import align_ko
        imported = []
        for module in pkgutil.walk_packages(align_ko.__path__, "align_ko."):
            try:
                importlib.import_module(module.name)
                imported.append(module.name)
            except ModuleNotFoundError as error:
                if error.name.partition(".")[0] not in heavy:
                    raise
        from align_ko.process import machine_memory_gib
        assert machine_memory_gib() > 0
        print(len(imported))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0 and int(ran.stdout) > 50, ran.stderr


def test_posix_modules_stand_only_where_a_branch_guards_them():
    """The modules that need torch cannot be imported in that test, so their text is searched."""
    wanted = re.compile(r"^\s*(import|from) (fcntl|resource|pwd|grp)\b|os\.(sysconf|fork|getuid|killpg)\b", re.MULTILINE)
    found = [path.name for path in (ROOT / "src").rglob("*.py") if wanted.search(path.read_text(encoding="utf-8"))]
    assert found == ["process.py"]
