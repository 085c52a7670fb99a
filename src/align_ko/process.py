"""The process that runs a stage: warnings it filters, memory it keeps, processes beside it, the folder that it locks. The lock
belongs to the kernel (flock; a byte range on Windows), so it is free as soon as its process has ended, however that was."""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import logging
import os
import platform
import re
import shlex
import shutil
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from align_ko.errors import UserError, is_first_process, output_folders, warn
from align_ko.records import TEMPORARY

# -------------------- warnings

# (message pattern, category) of warnings that transformers 5.23 and TRL 1.16 issue about their own internals
_KNOWN_WARNINGS = (
    (r".*is_gradient_checkpointing.*deprecated", FutureWarning),
    (r".*gradient_checkpointing.*deprecated", FutureWarning),
    (r".*use_cache.*", UserWarning),
)


def quiet_known_noise() -> None:
    """Filter warnings that appear on every start and that no user can act on. Call before torch, transformers or trl."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for pattern, category in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern, category=category)
    # bitsandbytes: an optional CPU kernel is missing; DeepSpeed: "Setting accelerator to CPU", whether it is used or not
    for name in ("bitsandbytes", "bitsandbytes.backends.cpu.ops", "DeepSpeed"):
        logging.getLogger(name).setLevel(logging.ERROR)


# -------------------- memory

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 32 * 2**20  # the highest mmap threshold that glibc accepts on 64 bit


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep freed blocks; True where that took effect. Else it maps each block over 32 MB afresh, and
    training on a CPU spends up to half its time in page faults (quickstart: 3.4 s a step, 1.9 s with this; same peak)."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def peak_memory_gib() -> float:
    """Highest resident memory of this process so far, in GiB."""
    try:
        import resource
    except ImportError:  # Windows
        return float(psutil.Process().memory_info().peak_wset) / 2**30
    kilo = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilo / 2**20 if platform.system() == "Linux" else kilo / 2**30


def machine_memory_gib() -> float:
    return float(psutil.virtual_memory().total) / 2**30


# -------------------- the processes of `accelerate launch`


@dataclass(frozen=True)
class Processes:
    """`rank` of `count`; `wait` returns when every process has called it, `leave` ends the connection between them."""

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None
    leave: Callable[[], None] = lambda: None


def launched_processes() -> Processes:
    """What `accelerate launch` started; a plain `python …` is one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # The usual limit is half an hour: one process may well have that much more to do than another.
    state = PartialState(cpu=cpu, timeout=timedelta(days=30))
    if state.num_processes != int(os.environ["WORLD_SIZE"]):  # then each would draw everything
        raise UserError(f"{os.environ['WORLD_SIZE']} processes were launched and cannot find each other: {state}")
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone, state.destroy_process_group)


@functools.cache
def end_with(parent: int) -> None:
    """End this process soon after process `parent`, which it works for, has ended, even killed: nobody else would."""
    if os.getpid() == parent:
        return

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            other = psutil.Process(parent)
            while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
                time.sleep(PATIENCE / 4)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# -------------------- the folder lock

LOCK_FILE = ".align_ko.lock"
HOLDER_FILE = ".align_ko.lock.json"  # beside it, because Windows lets nobody read a locked file
STARTED_BY = "ALIGN_KO_STARTED_BY"  # set by pipeline/stages.py for the stages that it starts, which end with it: "PID HOST"
PATIENCE = 1.0  # seconds; a killed command's stages and workers end within that
COMPILE_SECONDS = 600  # DeepSpeed's cpu_adam takes about four minutes on two cores
_OF_SAFETENSORS = r"\.tmp[A-Za-z0-9]{6}"  # its writer's file before it is renamed, as large as the weights
_held: dict[Path, FileLock] = {}


def command_name() -> str:
    """Script and recipe: `run_sft.py recipes/quickstart/sft.yaml`."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])


def lock_folder(folder: str | Path) -> None:
    """Lock `folder` until this process ends, and remove temporary files of killed runs; of several processes the first one
    does. UserError, naming the holder, when another run has it."""
    path = Path(folder)
    output_folders.append(path)
    pid, _, host = os.environ.get(STARTED_BY, "").partition(" ")
    if pid and host == socket.gethostname():
        end_with(int(pid))
    if not is_first_process() or path.resolve() in _held:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK_FILE, timeout=PATIENCE)
        lock.acquire()
        holder = {
            "name": command_name(),
            "pid": os.getpid(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "host": socket.gethostname(),
        }
        (path / HOLDER_FILE).write_text(json.dumps(holder, ensure_ascii=False), encoding="utf-8")
    except Timeout:
        raise _refusal(path) from None
    except OSError as error:
        problem = "is a file" if path.is_file() else f"cannot write to it: {error.strerror}"
        raise UserError(problem, file=path, expected="another output folder") from None
    _held[path.resolve()] = lock  # a lock without a reference is released
    for left in list(path.rglob(".*")):
        mine = left.name.endswith(TEMPORARY) or (left.is_file() and re.fullmatch(_OF_SAFETENSORS, left.name))
        if mine and not any(
            is_locked(above) for above in left.parents if path in above.parents
        ):  # another run may be writing it
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def temporary_folder(name: str) -> Path:
    """A new folder in this command's output folder, removed when the process ends or, if it is killed, by the next run."""
    place = output_folders[0] if output_folders else Path(tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=TEMPORARY, dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def unlock_folder(folder: str | Path) -> None:
    if lock := _held.pop(Path(folder).resolve(), None):
        lock.release()


def unlock_all_folders() -> None:
    """For a process that runs one script after another, as the tests do."""
    output_folders.clear()
    for path in list(_held):
        unlock_folder(path)


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[None]:
    """`lock_folder` for the length of a block."""
    lock_folder(folder)
    try:
        yield
    finally:
        unlock_folder(folder)


def check_unlocked(folder: str | Path) -> None:
    """UserError, naming the holder, when another run holds `folder`; takes no lock."""
    if is_locked(Path(folder), PATIENCE):
        raise _refusal(Path(folder))


def is_locked(folder: Path, patience: float = 0) -> bool:
    """Whether another run holds `folder`, and for longer than so many seconds."""
    if not (folder / LOCK_FILE).is_file() or folder.resolve() in _held:
        return False
    try:
        with FileLock(folder / LOCK_FILE, timeout=patience):
            return False
    except Timeout:
        return True


def prepare_compiling() -> None:
    """Before DeepSpeed compiles its extensions: quote torch's folder, which torch passes to the linker as it is (with a .venv
    below `my work` the linker `cannot find work/.venv/…`), and see to the lock files for which DeepSpeed waits without a
    message. A run killed while it compiled leaves one. Whoever compiles holds it open (torch/utils/file_baton.py), so one that
    nobody here holds is removed once it is too old for a compilation on another machine with the same home; else a warning."""
    from torch.utils import cpp_extension

    if cpp_extension.TORCH_LIB_PATH.startswith("/"):  # no Windows
        cpp_extension.TORCH_LIB_PATH = shlex.quote(cpp_extension.TORCH_LIB_PATH)
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
    for lock in sorted(Path(root).glob("**/lock")):
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:  # a compilation has just ended
            continue
        since = f"{age / 60:.0f} minutes" if age >= 120 else f"{age:.0f} s"
        if age > COMPILE_SECONDS and not _is_open(lock):
            lock.unlink(missing_ok=True)
            warn(
                f"{lock} was {since} old and held by nobody: a killed run had left it behind. Removed, or DeepSpeed would wait"
            )
            continue
        warn(
            f"{lock} is {since} old; another run may be compiling. As long as it is there DeepSpeed waits in silence. "
            f"If nothing is being compiled, remove it: rm '{lock}'"
        )


def _is_open(file: Path) -> bool:
    """Whether a process of this machine that we may look into holds `file` open."""
    file = file.resolve()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(Path(opened.path) == file for opened in process.open_files()):
                return True
    return False


def _refusal(folder: Path) -> UserError:
    again = "this command again when that run has ended, or another output folder"
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        holder = None
    here = holder and holder["host"] == socket.gethostname()
    if not holder or (here and not psutil.pid_exists(holder["pid"])):  # the new holder is about to write its name
        return UserError("another run is writing to this folder", file=folder, expected=again)
    where = f"pid {holder['pid']}" if here else f"pid {holder['pid']} on {holder['host']}"
    problem = f"{holder['name']} ({where}), started {holder['started']}, is writing to this folder"
    return UserError(problem, file=folder, expected=again)
