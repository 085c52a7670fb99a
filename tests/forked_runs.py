"""A process that has imported all a stage needs, and forks one run after another: 100 kills without 100 times the imports.

Reads lines `{"script": "run_sft", "argv": [...], "folder": "…", …}` and answers each with an `Ended`. What a run
printed lies in last.txt in its folder. The stages that align.py starts are forked, too.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    status: int  # exit code, -9 for a run that was killed
    seconds: float
    gone: float | None = None  # seconds after which the file `when_gone` was there no more
    left: tuple[str, ...] = ()  # command lines of processes of this run that live on


class ForkedRuns:
    """Starts that process; a context manager."""

    def __init__(self, **environment: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **environment}
        pipe = subprocess.PIPE
        self.server = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, env=environment)
        assert self.server.stdout.readline() == "ready\n"

    def __enter__(self) -> ForkedRuns:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.stdin.close()
        self.server.wait(timeout=60)

    def run(
        self,
        script: str,
        argv: list[str],
        folder: Path,
        kill_after: float | None = None,
        group: bool = False,
        when_gone: str = "",
        largest: int = 0,
    ) -> Ended:
        """`kill_after`: seconds, counted from the moment at which the file `when_gone` has vanished where there is one;
        `group`: with all its processes, as the kernel kills a container, or it alone, as `kill -9` does.
        `largest`: bytes of a file from which on its disk is full; what the run prints to stdout is lost then."""
        asked = {"script": script, "argv": argv, "folder": str(folder), "kill_after": kill_after, "group": group}
        self.server.stdin.write(json.dumps({**asked, "when_gone": when_gone, "largest": largest}) + "\n")
        self.server.stdin.flush()
        return Ended(**json.loads(self.server.stdout.readline()))


def run_once(
    script: str, argv: list[str], folder: str, kill_after: float | None, group: bool, when_gone: str, largest: int
) -> Ended:
    began = time.monotonic()
    child = fork(lambda: run_script(folder, script, argv, largest))
    watched, gone, over = Path(folder, when_gone) if when_gone else None, [], threading.Event()

    def kill() -> None:
        while watched and watched.exists() and not over.wait(0.002):
            pass
        if watched and not over.is_set():
            gone.append(time.monotonic() - began)
        if kill_after is not None and not over.wait(kill_after):
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(child, signal.SIGKILL)

    watcher = threading.Thread(target=kill)
    watcher.start()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - began
    over.set()
    watcher.join()
    end = time.monotonic() + 10
    while (left := living(child)) and time.monotonic() < end:
        time.sleep(0.05)
    return Ended(status, seconds, gone[0] if gone else None, tuple(left))


def living(group: int) -> list[str]:
    """Command lines of a process group's members."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def fork(act: Callable[[], None], new_group: bool = True) -> int:
    """A child that does it and ends as a process of its own would."""
    if child := os.fork():
        return child
    atexit._clear()
    code = 1
    try:
        if new_group:
            os.setsid()
        act()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_script(folder: str, script: str, argv: list[str], largest: int) -> None:
    os.chdir(folder)
    out = os.open("last.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_WRONLY) if largest else out, 1)
    os.dup2(out, 2)
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if script == "align":
        from align_ko.pipeline import stages

        stages.subprocess = SimpleNamespace(Popen=ForkedStage, TimeoutExpired=subprocess.TimeoutExpired)
    run_path(str(ROOT / f"scripts/{script}.py"), argv)


def run_path(path: str, argv: list[str]) -> None:
    sys.argv = [Path(path).name, *argv]
    runpy.run_path(path, run_name="__main__")


class ForkedStage:
    """What align.py needs of subprocess.Popen."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        def act() -> None:
            os.environ.update(env)
            run_path(command[1], command[2:])

        self.pid = fork(act, new_group=False)

    def wait(self, timeout: float | None = None) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def main() -> None:
    import peft  # noqa: F401
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # noqa: F401

    import align_ko.evaluation.run
    import align_ko.preferences.build
    import align_ko.training.finish
    import align_ko.training.seams  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(run_once(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
