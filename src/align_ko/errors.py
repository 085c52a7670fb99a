"""Mistakes of a user, reported in one line with exit code 2."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
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


class NothingToDo(UserError):
    """A stage ran to its end and had nothing to make; a result, not a failure."""


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The valid choice most like `word`, or None when nothing is close.

    >>> nearest("learnin_rate", ["learning_rate", "lr_scheduler_type"])
    'learning_rate'
    """
    return next(iter(difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)), None)


def is_first_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` started, which prints for all."""
    return (os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0") == "0"


def warn(text: str) -> None:
    """Print a warning, once for all processes."""
    if is_first_process():
        print(f"warning: {text}", file=sys.stderr, flush=True)


# import name → the extra of setup.cfg that installs it
EXTRAS = {
    **dict.fromkeys(
        "accelerate bitsandbytes datasets evaluate huggingface_hub matplotlib peft sacrebleu safetensors tokenizers torch "
        "transformers trl".split(),
        "train",
    ),
    "deepspeed": "deepspeed", "openai": "endpoint", "gguf": "quickstart", "flash_attn": "gpu", "liger_kernel": "gpu",
}  # fmt: skip


def missing_package(name: str) -> UserError:
    """The error for a package of an extra that is not installed.

    >>> print(missing_package("trl"))
    trl is not installed; expected pip install 'align-ko[train]'
    """
    extra = EXTRAS.get(name)
    return UserError(f"{name} is not installed", expected=f"pip install '{f'align-ko[{extra}]' if extra else name}'")


def run_script(
    main: Callable[[], None], interrupted: str = "what was finished is saved, the same command continues from there"
) -> None:
    """Run a script's main: after one line, printed by the first process, a UserError or a missing extra exits 2, Ctrl-C 130."""
    try:
        main()
    except (UserError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):
            name = (error.name or "").partition(".")[0]
            if name not in EXTRAS or importlib.util.find_spec(name):  # broken, not absent: the traceback helps
                raise
            error = missing_package(name)
        if is_first_process():
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if is_first_process():
            print(f"interrupted; {interrupted}", file=sys.stderr)
        raise SystemExit(130) from None
