"""What made a folder: recipe, command, commit, versions, hashes of inputs. One manifest.json in every output folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from align_ko.errors import output_folders
from align_ko.process import HOLDER_FILE, peak_memory_gib
from align_ko.records import write_json

PACKAGES = "torch transformers trl peft accelerate deepspeed datasets tokenizers kiwipiepy bitsandbytes".split()
MANIFEST_FILE = "manifest.json"
MARKER = "align_ko_whole.json"  # of training/checkpoints.py, the last file of a checkpoint
RUN_FILE = "training_run.json"  # of training/run_record.py; `finished` is null until the result is complete
WEIGHT_FILES = (
    "config.json", "*.safetensors*", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack",
    "adapter_config.json", "adapter",
)  # fmt: skip
MODEL_FILES = ("config.json", "adapter_config.json")  # a model's folder has one of them
RESULT_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", "align_ko_format.json")
WHOLE_HASH_UP_TO = 2**30  # bytes; of a larger weight file the size and both ends are hashed
SECRET_KEYS = frozenset(
    "hub_token push_to_hub_token hf_token token access_token auth_token api_key apikey wandb_api_key x_api_key openai_api_key "
    "secret_key client_secret authorization password passwd secret".split()
)
"""Recipe keys whose values are never written. Other keys that end alike (`eos_token`, `pad_token`) are ordinary values."""
_SECRET_IN_TEXT = re.compile(
    rf"(?<!\w)(?<!\w-)({'|'.join(sorted(SECRET_KEYS)).replace('_', '[_-]')})(['\"]?\s*[:=]\s*['\"]?)[^\s,'\"}}]+", re.IGNORECASE
)
_SECRET_IN_URL = re.compile(
    r"(?<=://)[^/\s@]+(?=@)|(?<=[?&])([^=&\s]*(?:key|token|secret|passw|auth|sig)[^=&\s]*=)[^&\s]+", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"\b(hf_\w{20,}|sk-[\w-]{20,})")


@dataclass(frozen=True)
class Input:
    """A file or a local model folder that a stage reads, hashed when the stage starts (see recipe/load.py)."""

    key: str  # "data.train_file"
    path: str
    digest: str
    is_model: bool = False


def holds_model(folder: Path) -> bool:
    """Whether a full model or an adapter lies in `folder`."""
    return any((folder / name).is_file() for name in MODEL_FILES)


def file_hash(path: str | Path) -> str:
    status = Path(path).stat()
    return _hash(str(Path(path).resolve()), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _hash(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_mark(path: Path) -> str:
    """A hash of a file; of one over WHOLE_HASH_UP_TO bytes, of its size and both ends."""
    if (size := path.stat().st_size) <= WHOLE_HASH_UP_TO:
        return file_hash(path)
    with path.open("rb") as file:
        head = file.read(1 << 20)
        file.seek(-(1 << 20), os.SEEK_END)
        return hashlib.sha256(head + file.read() + str(size).encode()).hexdigest()


def weights_marks(folder: str) -> dict[str, str]:
    """Names of the weight files in a model folder → a hash that changes with them; `{}` for a hub id."""
    return {path.name: file_mark(path) for path in sorted(Path(folder).glob("*.safetensors"))}


def result_marks(folder: str | Path) -> dict[str, str]:
    """The files of a saved model, those in `adapter/` too, with their hashes: for the manifest, under `files`."""
    root = Path(folder)
    paths = sorted(path for place in ("", "adapter/") for name in RESULT_FILES for path in root.glob(place + name))
    return {path.relative_to(root).as_posix(): file_mark(path) for path in paths}


def wrong_files(folder: str | Path, marks: Mapping[str, str]) -> dict[str, str]:
    """`{"optimizer.pt": "optimizer.pt is missing"}`: files that are missing or have another mark; an empty mark asks for
    presence."""
    wrong = {}
    for name, mark in marks.items():
        path = Path(folder) / name
        if not path.is_file():
            wrong[name] = f"{name} is missing"
        elif mark and file_mark(path) != mark:
            wrong[name] = f"{name} has other bytes than when it was written"
    return wrong


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What a stage wrote into `folder`; {} where it has no manifest."""
    file = Path(folder) / MANIFEST_FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def result_problem(folder: str | Path) -> str:
    """The first file of a finished stage that is not as its manifest says; empty where all are, or where there is none."""
    place = Path(folder)
    inner = place.name == "adapter" and not (place / MANIFEST_FILE).is_file()  # of a merged result, whose manifest is above
    root = place.parent if inner else place
    marks = read_manifest(root).get("files") or {}
    marks = {name: mark for name, mark in marks.items() if not inner or name.startswith("adapter/")}
    return next(iter(wrong_files(root, marks).values()), "")


def write_manifest(folder: str | Path, recipe: object, inputs: Sequence[Input], **facts: object) -> dict[str, Any]:
    """Write `manifest.json` with the stage's other `facts`, and return it; secrets are masked and the home folder is `~`."""
    manifest: dict[str, Any] = masked(
        {
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": masked_command([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "recipe": asdict(recipe) if is_dataclass(recipe) and not isinstance(recipe, type) else recipe,
            "git_commit": _git_commit(),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "python": platform.python_version(),
            "machine": _machine(),
            **_used(),
            **input_digests(inputs),
            **facts,
        }
    )
    write_json(Path(folder) / MANIFEST_FILE, manifest)
    return manifest


def input_digests(inputs: Sequence[Input]) -> dict[str, dict[str, str]]:
    """`{"inputs": {"data/train.jsonl": "9f2c…"}, "models": {"outputs/sft": "77ab…"}}`, as a manifest contains them."""
    return {
        "inputs": {each.path: each.digest for each in inputs if not each.is_model},
        "models": {each.path: each.digest for each in inputs if each.is_model},
    }


def masked(value: object) -> Any:
    """The same tree, secrets masked and the home folder as `~`: `{"hub_token": "hf_a", "eos_token": "</s>"}` → "***" and
    "</s>"."""
    if isinstance(value, dict):
        return {
            masked(key): "***" if item and is_secret(str(key)) and isinstance(item, str) else masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    home = str(Path.home())
    if isinstance(value, str):
        value = mask_text(value)
    if isinstance(value, str) and len(home) > 1:
        return "~" if value == home else value.replace(home + os.sep, "~" + os.sep)
    return value


def masked_command(words: Sequence[str]) -> list[str]:
    """Command-line words with secrets masked: `--training.hub_token hf_a`, `--training.hub-token=hf_b`, `{hub_token: hf_c}`"""
    after_secret = [False, *(word.startswith("--") and is_secret(word) for word in words)]
    pairs = zip(words, after_secret, strict=False)
    return ["***" if secret else _SECRET_IN_TEXT.sub(r"\1\2***", mask_text(word)) for word, secret in pairs]


def mask_text(text: str) -> str:
    """Without what an address carries and the keys of well-known services: `http://me:word@host/v1?api-key=abc&size=2` →
    `http://***@host/v1?api-key=***&size=2`"""
    return _SECRET_VALUE.sub("***", _SECRET_IN_URL.sub(r"\1***", text))


def secrets_of(tree: object) -> list[str]:
    """The keys of a tree under which there is a secret, and the values that are one: Authorization, sk-abc…"""
    if not isinstance(tree, dict):
        return []
    here = [key for key, value in tree.items() if value and (is_secret(str(key)) or str(value) != mask_text(str(value)))]
    return [*here, *(name for key, value in tree.items() if key not in here for name in secrets_of(value))]


def is_secret(name: str) -> bool:
    """Whether a key or flag is a secret's: `training.hub_token`, `--training.hub-token`."""
    return name.lower().replace("-", "_").rpartition(".")[2].lstrip("_") in SECRET_KEYS


def parent_facts(path: str) -> dict[str, str | None] | None:
    """Folder, stage and manifest hash of the stage that made a model folder; None where it has no manifest."""
    if not (manifest := read_manifest(path)):
        return None
    made = {"stage": manifest.get("stage"), "made_at": manifest.get("made_at")}
    return {"folder": path, **made, "manifest_sha256": file_hash(Path(path) / MANIFEST_FILE)}


def is_unfinished(folder: str | Path) -> bool:
    """Whether training was begun in `folder` and its result is not complete."""
    file = Path(folder) / RUN_FILE
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("finished") is None


def is_finished(folder: str | Path) -> bool:
    """Whether `folder` contains a stage's manifest and no unfinished training run."""
    return (Path(folder) / MANIFEST_FILE).is_file() and not is_unfinished(folder)


def is_half_written(folder: str | Path) -> bool:
    """Whether a stage has begun to replace its files in `folder` and has not come to its manifest, which it writes last. A
    folder that no stage has locked, such as one with rows of the user's own, needs none."""
    return (Path(folder) / HOLDER_FILE).is_file() and not (Path(folder) / MANIFEST_FILE).is_file()


def what_is_whole() -> str:
    """What an interrupted stage says of its output folder, if it replaces all files together or continues from checkpoints."""
    if not output_folders:
        return "nothing was written"
    folder = output_folders[-1]
    if is_unfinished(folder):
        whole = sorted(folder.glob(f"checkpoint-*/{MARKER}"), key=lambda path: int(path.parent.name.partition("-")[2]))
        if not whole:
            return "no checkpoint is whole yet: the same command starts from the beginning"
        return f"{whole[-1].parent} is whole, the same command continues from there"
    files = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {"rejected.jsonl"}
    if not (files and is_half_written(folder)):
        return "nothing was written, the files of an earlier run are as they were"
    return (
        f"the files in {folder} are not all of one run, and later stages refuse them; the same command makes all of them again"
    )


def remove_manifest(folder: str | Path) -> None:
    """To be called before the first file is replaced: until the next manifest, later stages refuse what is there."""
    (Path(folder) / MANIFEST_FILE).unlink(missing_ok=True)


def foreign_weights(folder: str | Path) -> str:
    """A weight file in a folder in which no stage of ours was begun; empty where there is none."""
    if any((Path(folder) / name).is_file() for name in (RUN_FILE, MANIFEST_FILE, HOLDER_FILE)):
        return ""
    return next((path.name for pattern in WEIGHT_FILES for path in Path(folder).glob(pattern)), "")


def _machine() -> dict[str, object]:
    machine: dict[str, object] = {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")  # stages without a model never load it, and need not for this
    if torch is not None and torch.cuda.is_available():
        machine["gpus"] = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        machine["processes"] = processes
    return machine


def _used() -> dict[str, float]:
    """What this command took so far: seconds, and the peaks of its memory and of its GPU's. One that continued an interrupted
    run counts itself alone."""
    seconds = round(time.time() - psutil.Process().create_time(), 1)
    used = {"seconds": seconds, "peak_memory_gib": peak_memory_gib()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peaks = [torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count())]
        used["peak_gpu_gib"] = max(peaks) / 2**30
    return used


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    command, folder = ["git", "rev-parse", "HEAD"], Path(__file__).parent
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip() or None
