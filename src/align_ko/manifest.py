"""What made this folder: recipe, command, commit, versions, input hashes. One manifest.json in every output folder."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from align_ko.records import write_json

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "kiwipiepy", "bitsandbytes")


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: str | Path, recipe: Any, inputs: list[str], **facts: Any) -> None:
    """Write `manifest.json` into `folder`. `inputs`: files read; `facts`: whatever else the stage knows (metrics, parent)."""
    write_json(
        Path(folder) / "manifest.json",
        {
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "recipe": asdict(recipe) if is_dataclass(recipe) and not isinstance(recipe, type) else recipe,
            "git_commit": _git_commit(),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "python": platform.python_version(),
            "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
            "inputs": {str(path): file_hash(path) for path in inputs if Path(path).is_file()},
            **facts,
        },
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
