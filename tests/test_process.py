"""The folder lock of every stage, and a package that imports where POSIX modules are missing."""

from __future__ import annotations

import errno
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from align_ko import process
from align_ko.errors import UserError, run_script
from align_ko.process import HOLDER_FILE, LOCK_FILE, check_unlocked, lock_folder, locked_folder, unlock_folder
from align_ko.records import TEMPORARY

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


def test_a_stage_ends_with_what_started_it(tmp_path):
    """Killed alone, align.py would leave a training run that nobody waits for; the next align.py finds the folder free."""
    align = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stage = hold(tmp_path, ALIGN_KO_STARTED_BY=f"{align.pid} {socket.gethostname()}")
    kill(align)
    lock_folder(tmp_path)
    assert stage.wait(20) == 1


def test_a_stage_on_another_machine_knows_nothing_of_what_started_it(tmp_path):
    stage = hold(tmp_path, ALIGN_KO_STARTED_BY="4194305 another-machine")
    time.sleep(2 * process.PATIENCE)
    assert stage.poll() is None
    kill(stage)


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
    with pytest.raises(UserError, match=r"file: is a file; expected another output folder"):
        lock_folder(tmp_path / "file")
    with pytest.raises(UserError, match=r"below: cannot write to it: Not a directory; expected another output folder"):
        lock_folder(tmp_path / "file" / "below")


TRAINING = "data: {train_file: rows.jsonl, eval_file: rows.jsonl}\ntraining: {output_dir: out}\n"
RECIPES = {
    "build_sft_data": "sources: {raw: {path: rows.jsonl, group: dialogue}}\noutput_dir: out\n",
    "run_sft": "model: {model_name_or_path: model}\n" + TRAINING,
    "run_dpo": "model_name_or_path: model\n" + TRAINING,
    "run_grpo": "model_name_or_path: model\nrewards: {}\n" + TRAINING,
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


# -------------------- faults of the world


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(pids: list[int]) -> bool:
    """Whether all of them end within some seconds."""
    for _ in range(200):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


WORKING = """
import os, sys, time
from pathlib import Path
from align_ko.workers import Workers
from align_ko.errors import run_script
from align_ko.process import lock_folder
from align_ko.records import atomic_write

def main():
    lock_folder(sys.argv[1])
    with Workers(2, os.getpid) as workers, atomic_write(Path(sys.argv[1]) / "train.jsonl") as out:
        out.write("half")
        for pid in workers.ordered_map(work, range(2)):
            print(pid, flush=True)
        print("all", flush=True)
        time.sleep(60)

def work(number):
    time.sleep(0.2)
    return os.getpid()

if __name__ == "__main__":
    run_script(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_workers_and_temporary_files_end_with_their_run(tmp_path, stop):
    script, folder = tmp_path / "run.py", tmp_path / "out"
    script.write_text(WORKING, encoding="utf-8")
    run = subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE, text=True)
    assert [line for line in iter(run.stdout.readline, "all\n")]
    workers = [child.pid for child in psutil.Process(run.pid).children(recursive=True)]
    assert len(workers) >= 2 and list(folder.glob(f".*{TEMPORARY}"))
    run.send_signal(stop)
    assert run.wait(20) == (143 if stop == signal.SIGTERM else -signal.SIGKILL)
    assert gone(workers)
    lock_folder(folder)  # the next run
    assert sorted(path.name for path in folder.iterdir()) == [LOCK_FILE, HOLDER_FILE]


def test_the_temporary_files_of_a_running_stage_stay(tmp_path):
    mine, theirs = tmp_path / "answers", tmp_path / "sft" / "greedy_gate"
    theirs_run = hold(tmp_path / "sft")
    for folder in (mine, theirs):
        (folder / f".tokens.x{TEMPORARY}").mkdir(parents=True)
        (folder / f".step.jsonl.x{TEMPORARY}").touch()
        (folder / f".tokens.x{TEMPORARY}" / "rows.arrow").touch()
    (mine / ".tmpT5nVIE").touch()  # of safetensors
    (tmp_path / ".of-somebody-else.tmp").touch()
    lock_folder(tmp_path)
    assert not any(mine.iterdir()) and (tmp_path / ".of-somebody-else.tmp").exists()
    assert len(list(theirs.iterdir())) == 2
    kill(theirs_run)
    unlock_folder(tmp_path)
    lock_folder(tmp_path)
    assert not list(tmp_path.rglob(f".*{TEMPORARY}"))


def told(capsys, problem):
    def main():
        raise problem

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_full_disk_is_named(tmp_path, capsys):
    lock_folder(tmp_path)
    room = r"; the disk /\S* has [\d.]+ of [\d.]+ GiB free; what was finished is saved, the same command continues from there\n"
    named = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "train.jsonl"))
    assert re.fullmatch(rf"error: {tmp_path}/train\.jsonl: No space left on device{room}", told(capsys, named))
    for quoted in (  # by the writers of checkpoints, which name no file
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/0"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 105152 vs 105044"),
    ):
        assert re.fullmatch(rf"error: \S+: No space left on device{room}", told(capsys, quoted))


@pytest.mark.parametrize(
    "act", [lambda path: (path / "x").read_text(), lambda path: path.mkdir(), lambda path: (path / "x").write_text("")]
)
def test_a_missing_folder_and_a_file_in_its_place_are_told(tmp_path, capsys, act):
    path = tmp_path / "out"
    path.touch()
    with pytest.raises(OSError, match="out") as error:
        act(path)
    assert told(capsys, error.value).startswith(f"error: {error.value.filename}: {error.value.strerror}; what was finished")


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ('Error while serializing: I/O error: Permission denied (os error 13) at path "out/.tmpT5nVIE"', errno.EACCES),
        ("[enforce fail at inline_container.cc:747] . open file failed with strerror: Permission denied", errno.EACCES),
        ("Parent directory out/checkpoint-1 does not exist.", errno.ENOENT),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path, capsys, said, number):
    """What safetensors and torch say in a folder that is read-only, or that somebody removed."""
    lock_folder(tmp_path)
    assert told(capsys, RuntimeError(said)).startswith(f"error: {tmp_path}: {os.strerror(number)}; what was finished is saved")


def test_other_errors_keep_their_traceback():
    for error in (RuntimeError("CUDA"), OSError("a model"), ConnectionResetError(errno.ECONNRESET, "reset")):
        with pytest.raises(type(error)):
            run_script(lambda error=error: (_ for _ in ()).throw(error))


def test_a_message_that_quotes_a_hundred_thousand_characters_is_cut(capsys):
    line = told(capsys, UserError("가" * 100_000, key="k", expected="a number"))
    assert len(line) < 2100 and line.startswith("error: k: 가") and line.endswith("가; expected a number\n")


def test_no_terminal_obeys_an_error_message(capsys):
    assert told(capsys, UserError("row '\x1b[2J\x07'")) == "error: row '[U+001B][2J[U+0007]'\n"
