"""Mistakes of a user and faults of a disk, reported in one line with exit code 2; text of any origin made fit to print."""

from __future__ import annotations

import difflib
import errno
import importlib.util
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


class UserError(Exception):
    """A mistake in a recipe, data, a path or the hardware; scripts print it without a traceback and exit 2.

    >>> print(UserError("unknown key", file="sft.yaml", line=7, key="lr", nearest="learning_rate"))
    sft.yaml:7: lr: unknown key; did you mean 'learning_rate'?
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        key: str | None = None,
        expected: str | None = None,
        nearest: str | None = None,
    ) -> None:
        place = "" if file is None else f"{file}:{line}: " if line else f"{file}: "
        text = place + (f"{key}: " if key else "") + problem
        if expected:
            text += f"; expected {expected}"
        if nearest:
            text += f"; did you mean '{nearest}'?"
        super().__init__(text)


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Control and zero-width characters by name, which a reader sees and no terminal obeys: a zero-width space → [U+200B]"""
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", writable(text))


def writable(text: str) -> str:
    """Half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


class NothingToDo(UserError):
    """A stage ran to its end and had nothing to make; a result, not a failure."""


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The valid choice most like `word` (learnin_rate → learning_rate), or None when nothing is close."""
    return next(iter(difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)), None)


def is_first_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` started, which prints for all."""
    return (os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0") == "0"


def warn(text: str) -> None:
    """Print a warning, once for all processes."""
    if is_first_process():
        print(f"warning: {visible(text)}", file=sys.stderr, flush=True)


# import name → the extra of setup.cfg that installs it
EXTRAS = {
    **dict.fromkeys(
        "accelerate bitsandbytes datasets evaluate huggingface_hub matplotlib peft prompt_toolkit sacrebleu safetensors "
        "tokenizers torch transformers trl".split(),
        "train",
    ),
    **dict.fromkeys(["cyllama", "go_template", "llama_cpp", "sentencepiece", "xllamacpp"], "gguf"),
    "deepspeed": "deepspeed", "datatrove": "datatrove", "loguru": "datatrove", "ray": "ray", "openai": "endpoint",
    "nicegui": "web", "gguf": "quickstart", "flash_attn": "gpu", "liger_kernel": "gpu", "optuna": "sweep",
}  # fmt: skip


def missing_package(name: str, key: str | None = None) -> UserError:
    """`trl is not installed; expected pip install 'align-ko[train]'`; `key`: the recipe's that asks for it."""
    extra = EXTRAS.get(name)
    return UserError(f"{name} is not installed", key=key, expected=f"pip install '{f'align-ko[{extra}]' if extra else name}'")


LONGEST = 2000  # characters of a message
output_folders: list[Path] = []
"""What this command writes to; process.lock_folder adds to it."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
            errno.ELOOP, errno.EMFILE)  # fmt: skip


def disk_fault(error: BaseException | None) -> str | None:
    """A fault of files or disks in one line; None for any other error. torch and safetensors wrap the system's error or only
    quote its number, and a failed write names no file: then the output folder with the least room is named."""
    while error is not None:
        number, name = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
        if number is None and (number := _quoted_fault(str(error))) and output_folders:
            name = output_folders[-1] if number in _REFUSED else None
        if number in _REFUSED and name is not None:
            return f"{name}: {os.strerror(number)}"
        if number in _FULL:
            folders = (
                [Path(os.fsdecode(name))] if isinstance(name, str | bytes) else [*output_folders, Path(tempfile.gettempdir())]
            )
            disks = {folder: _disk(folder) for folder in folders}
            room = {folder: shutil.disk_usage(disk) for folder, disk in disks.items()}
            place = min(room, key=lambda folder: room[folder].free)
            free, total = (size / 2**30 for size in (room[place].free, room[place].total))
            return f"{place}: {os.strerror(number)}; the disk {disks[place]} has {free:.1f} of {total:.1f} GiB free"
        error = error.__cause__ or error.__context__
    return None


def _quoted_fault(text: str) -> int | None:
    """The system's error number in a message of safetensors or torch."""
    if quoted := re.search(r"\(os error (\d+)\)", text):
        return int(quoted[1])
    if quoted := re.search("inline_container.* strerror: (.+)", text):
        return next((number for number in (*_REFUSED, *_FULL) if os.strerror(number) == quoted[1].strip()), None)
    if re.search("PytorchStreamWriter failed|inline_container.*unexpected pos", text):
        return errno.ENOSPC
    return errno.ENOENT if re.match("Parent directory .* does not exist", text) else None


def _disk(path: Path) -> Path:
    """Where the file system of `path` is mounted."""
    path = path.resolve()
    return next(folder for folder in (path, *path.parents) if folder.is_mount() or folder == folder.parent)


def _message(error: Exception, saved: str | Callable[[], str]) -> str | None:
    """What a user reads of an error; None where a traceback says more."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        absent = name in EXTRAS and not importlib.util.find_spec(name)  # otherwise it is broken
        return str(missing_package(name)) if absent else None
    fault = disk_fault(error)
    return fault and f"{fault}; {saved if isinstance(saved, str) else saved()}"


RESTART = 128 + signal.SIGTERM
"""Exit code after SIGTERM: what was finished is saved, and the same command goes on from there."""


def run_script(
    main: Callable[[], None],
    interrupted: str | Callable[[], str] = "what was finished is saved, the same command continues from there",
) -> None:
    """Run a script's main: a user's mistake, a missing extra or a fault of a disk exits 2 after one line, Ctrl-C 130, SIGTERM
    143 (RESTART)."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(RESTART))
    try:
        main()
    except Exception as error:
        if (message := _message(error, interrupted)) is None:
            raise
        if is_first_process() or not isinstance(error, UserError):
            if len(message) > LONGEST:  # it quotes a row or a key
                message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"
            print(f"error: {visible(message)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if is_first_process():
            print(f"interrupted; {interrupted if isinstance(interrupted, str) else interrupted()}", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
