"""What made this folder: recipe, command, commit, versions, input hashes. One manifest.json in every output folder."""

from __future__ import annotations

import hashlib
import json
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

PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "datasets", "tokenizers", "kiwipiepy", "bitsandbytes",
)  # fmt: skip
MANIFEST_FILE = "manifest.json"
RUN_FILE = "training_run.json"
"""Written by training/run_record.py when a run begins; its `finished` is null until the result lies in the folder."""
WHOLE_HASH_UP_TO = 2**30  # bytes; of a larger weight file the size and both ends are hashed
_SECRET = ("token", "password", "api_key", "secret")


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_marks(folder: str) -> dict[str, str]:
    """Names of the weight files in a model folder → a hash that changes with them; `{}` for a hub id."""
    return {path.name: _mark(path) for path in sorted(Path(folder).glob("*.safetensors"))}


def _mark(path: Path) -> str:
    size = path.stat().st_size
    if size <= WHOLE_HASH_UP_TO:
        return file_hash(path)
    with path.open("rb") as file:
        head = file.read(1 << 20)
        file.seek(-(1 << 20), os.SEEK_END)
        return hashlib.sha256(head + file.read() + str(size).encode()).hexdigest()


def write_manifest(folder: str | Path, recipe: Any, inputs: list[str], **facts: Any) -> dict[str, Any]:
    """Write `manifest.json` into `folder`, and return it. `inputs`: files read; `facts`: whatever else the stage knows
    (metrics, parent). Tokens are left out, and the home folder is written `~`."""
    manifest: dict[str, Any] = without_private(
        {
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "recipe": asdict(recipe) if is_dataclass(recipe) and not isinstance(recipe, type) else recipe,
            "git_commit": _git_commit(),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "python": platform.python_version(),
            "machine": _machine(),
            "inputs": {str(path): file_hash(path) for path in inputs if Path(path).is_file()},
            **facts,
        }
    )
    write_json(Path(folder) / MANIFEST_FILE, manifest)
    return manifest


def without_private(value: Any) -> Any:
    """The same tree with secrets masked and the home folder as `~`.

    >>> without_private({"hub_token": "hf_abc", "command": ["run_sft.py", "--training.hub_token", "hf_abc"]})
    {'hub_token': '***', 'command': ['run_sft.py', '--training.hub_token', '***']}
    """
    if isinstance(value, dict):
        return {
            without_private(key): "***" if item and _is_secret(str(key)) and isinstance(item, str) else without_private(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        kept: list[Any] = []
        for number, item in enumerate(value):
            flag = str(value[number - 1]) if number else ""
            hidden = isinstance(item, str) and flag.startswith("--") and "=" not in flag and _is_secret(flag)
            kept.append("***" if hidden else without_private(item))
        return kept
    if isinstance(value, str):
        flag, equals, _ = value.partition("=")
        if equals and flag.startswith("--") and _is_secret(flag):
            return f"{flag}=***"
        home = str(Path.home())
        if len(home) > 1 and (value == home or home + os.sep in value):
            return value.replace(home + os.sep, "~" + os.sep) if value != home else "~"
    return value


def _is_secret(name: str) -> bool:
    last = name.lower().replace("-", "_").rpartition(".")[2].lstrip("_")
    return any(last == word or last.endswith(f"_{word}") for word in _SECRET)


def parent_facts(path: str) -> dict[str, Any] | None:
    """The stage a model folder came from: its place, stage and the hash of its manifest. None where it has no manifest."""
    file = Path(path) / MANIFEST_FILE
    if not file.is_file():
        return None
    said = json.loads(file.read_text(encoding="utf-8"))
    return {"folder": path, "stage": said.get("stage"), "made_at": said.get("made_at"), "manifest_sha256": file_hash(file)}


def is_unfinished(folder: str | Path) -> bool:
    """Whether a training run was begun in `folder` and its result is not there (yet)."""
    file = Path(folder) / RUN_FILE
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("finished") is None


def is_whole(folder: str | Path) -> bool:
    """Whether a stage's manifest lies in `folder`, and no training run there is still short of its end."""
    return (Path(folder) / MANIFEST_FILE).is_file() and not is_unfinished(folder)


def _machine() -> dict[str, Any]:
    found: dict[str, Any] = {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")  # stages without a model never load it, and need not for this
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        found["processes"] = processes
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
