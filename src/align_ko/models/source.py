"""Where a model comes from: path, revision, permission to run its code. Written beside every checkpoint. Without torch."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from align_ko.commands import command_line
from align_ko.errors import UserError
from align_ko.manifest import file_hash, weights_marks
from align_ko.models import quickstart
from align_ko.records import write_json

SOURCE_FILE = "align_ko_source.json"
"""Beside every checkpoint saved here; never pushed, it may name local folders."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelSource:
    """A folder, or a hub id at a commit."""

    path: str
    revision: str | None = None
    """The commit that `requested_revision` resolved to; None for a folder."""
    trust_remote_code: bool = False
    """Permission that the user gives now; `may_run_code` adds what was given on this machine before."""
    requested_revision: str | None = None

    @property
    def may_run_code(self) -> bool:
        return self.trust_remote_code or ((key := _code_key(self)) is not None and _permission(key).is_file())

    def load(self, auto_class: Any, **options: Any) -> Any:
        """`auto_class.from_pretrained`. UserError where there are no weights, or code of the model's own that is not
        allowed."""
        from huggingface_hub.errors import StrictDataclassError

        if self.revision is not None:
            options["revision"] = self.revision
        allowed = self.may_run_code
        try:
            return auto_class.from_pretrained(self.path, trust_remote_code=allowed, **options)
        except OSError as error:
            if error.errno is not None:  # a disk, a connection
                raise
            first = str(error).strip().partition("\n")[0]
            raise UserError(f"{self.path} cannot be loaded: {first}", expected="a model saved as safetensors") from None
        except (ValueError, RuntimeError, StrictDataclassError) as error:
            if isinstance(error, RuntimeError) and "ignore_mismatched_sizes" not in str(error):
                raise
            if allowed or "trust_remote_code" not in str(error):
                reason = " ".join(str(error).split())
                if isinstance(error, RuntimeError):
                    reason = "its weights have other shapes than its config.json says"
                raise UserError(f"{self.path} cannot be loaded: {reason}", expected="a whole model of transformers") from None
            raise UserError(
                f"{self.path} needs the Python code that it brings, and code is only run with your permission",
                key="trust_remote_code",
                expected="'trust_remote_code: true' in the recipe (in training under 'model:'; chat.py: --trust-remote-code), "
                "after reading its .py files",
            ) from None


_READ_FILES = (
    "*config.json", "tokenizer.json", "*index.json", "manifest.json", "training_run.json", "align_ko_*.json", "*tokens*.json",
    "vocab.json", "*.safetensors",
)  # fmt: skip


def folder_problem(folder: str | Path) -> str | None:
    """What of a model's files cannot be read: JSON that is none, weights that are cut; a Git LFS pointer is both."""
    files = sorted(file for kind in _READ_FILES for file in Path(folder).glob(kind))
    marks = ((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    return next((problem for mark in marks if (problem := _file_problem(*mark))), None)


@lru_cache(1024)
def _file_problem(name: str, size: int, modified: int) -> str | None:
    file, pointer = Path(name), b"version https://git-lfs"
    with open(file, "rb") as opened:
        head = opened.read(len(pointer))
        if head == pointer:
            return f"{file} is a Git LFS pointer, not the file itself ('git lfs pull' gets it)"
        opened.seek(0)
        if file.suffix == ".json":
            try:
                value = json.load(opened)
            except (ValueError, RecursionError) as error:
                return f"{file} is not valid JSON: {error}"
            return None if isinstance(value, dict) else f"{file} is not a JSON object"
        length = int.from_bytes(opened.read(8), "little")  # safetensors: this, a header, then the weights without a gap
        try:
            header = json.loads(opened.read(length)) if length < size else None
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"] if header else [-1]
        except (ValueError, TypeError, KeyError, AttributeError):
            ends = [-1]
        return None if 8 + length + max(ends, default=0) == size else f"{file} is cut or is no safetensors file"


def _code_key(source: ModelSource) -> str | None:
    """A hash of the code that loading `source` runs: a hub commit, or a folder's *.py files and those its auto_map names."""
    folder = Path(source.path)
    if not folder.is_dir():
        parts = [source.path, source.revision] if source.revision else []
    else:
        configs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*config.json"))]
        maps = json.dumps([config["auto_map"] for config in configs if config.get("auto_map")], sort_keys=True)
        folders = [folder, *map(Path, sorted(set(re.findall(r'"([^"]+)--', maps))))]  # "folder--module.Class"
        parts = [maps, *(file_hash(file) for each in folders for file in sorted(each.glob("*.py")))] if maps != "[]" else []
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest() if parts else None


def _permission(key: str) -> Path:
    """The file whose presence allows this code: in the user's cache and not beside the model, which may come from anywhere."""
    return quickstart.cache_folder() / "allowed_code" / key


def model_source(path: str | ModelSource, revision: str | None = None, trust_remote_code: bool = False) -> ModelSource:
    """The source that a recipe names: a folder, `quickstart`, a hub id, or `hub-id@revision`. A hub id is resolved to a commit
    once, so that its tokenizer, config and weights are of one revision."""
    if isinstance(path, ModelSource):
        return path
    folder = resolve_model_path(path)
    if Path(folder).is_dir():
        if problem := folder_problem(folder):
            raise UserError(problem, expected="the files as they were saved")
        if revision:
            problem = f"{path} is a folder and has no revision {revision}"
            raise UserError(problem, key="model_revision", expected="null, or a hub id")
        return ModelSource(folder, None, trust_remote_code)
    name, _, in_name = path.partition("@")
    if revision and in_name and revision != in_name:
        raise UserError(f"{path} and revision {revision} contradict each other", key="model_revision", expected=in_name)
    requested = revision or in_name or None
    return ModelSource(name, _commit(name, requested), trust_remote_code, requested)


def check_named(name: str, key: str | None = None) -> None:
    """UserError where `name` is no folder and not written as a hub id either."""
    if name != "quickstart" and not Path(name).is_dir() and not re.fullmatch(r"\w[^/]*/[^/]+", name):
        raise UserError(f"there is no folder {name}", key=key, expected="a checkpoint folder or a hub id")


def resolve_model_path(name: str) -> str:
    """`quickstart` → the prepared Gemma folder; anything else unchanged. UserError when it was never prepared."""
    if name != "quickstart":
        return name
    folder = quickstart.default_folder()
    if not quickstart.is_ready(folder):
        raise UserError(
            f"the quickstart model is not in {folder}", expected=f"{command_line('prepare_model', 'quickstart')} first"
        )
    return str(folder)


def _commit(name: str, requested: str | None) -> str | None:
    """The commit of a hub id's revision, from the hub or, offline, from the cache; `requested` where neither has it."""
    if requested and _COMMIT.fullmatch(requested):
        return requested
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    for file in ("config.json", "adapter_config.json"):
        try:
            return Path(hf_hub_download(name, file, revision=requested)).parent.name
        except RevisionNotFoundError:
            problem = f"{name} has no revision {requested}"
            raise UserError(problem, key="model_revision", expected="a branch, a tag or a commit of it") from None
        except (OSError, ValueError, HfHubHTTPError):
            continue  # no such file, no network, not a hub id: the loader itself says what is missing
    return requested


def is_adapter(path: str | Path) -> bool:
    return (Path(path) / "adapter_config.json").is_file()


def base_of(path: str | ModelSource) -> ModelSource:
    """The model that an adapter is loaded on; any other model itself. adapter_config.json names it; our record adds the commit
    where it is about the same base. UserError when the base is a folder that is gone."""
    source = model_source(path)
    if not is_adapter(source.path):
        return source
    file = Path(source.path) / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    base, record = str(config.get("base_model_name_or_path") or ""), _read_record(source.path)
    if not base or Path(base).resolve() == Path(source.path).resolve():
        problem = "the adapter's base model is the adapter itself" if base else "the adapter names no base model"
        raise UserError(problem, file=file, key="base_model_name_or_path", expected="the model that it was trained on")
    if Path(base).is_absolute() and not Path(base).is_dir():
        problem = f"the adapter's base model {base} is not there"
        expected = f"the folder it was trained from (for the quickstart: {command_line('prepare_model', 'quickstart')})"
        raise UserError(problem, file=file, key="base_model_name_or_path", expected=expected)
    if record is not None and record.path == base:
        return replace(record, trust_remote_code=source.trust_remote_code)
    return model_source(base, None if Path(base).is_dir() else config.get("revision"), source.trust_remote_code)


def origin_of(path: str | ModelSource) -> ModelSource:
    """The model that training here began with: what the record of a whole checkpoint says, else `base_of`."""
    base = base_of(path)
    record = _read_record(base.path)
    return replace(record, trust_remote_code=base.may_run_code) if record else base


def write_source(folder: str | Path, base: ModelSource) -> None:
    """Record in `folder`, after its other files, what it was made from. A permission holds for its copy of the code too."""
    write_json(Path(folder) / SOURCE_FILE, asdict(base))
    if base.may_run_code:
        for key in filter(None, map(_code_key, (base, ModelSource(str(folder))))):
            with suppress(OSError):  # an unwritable cache: loading asks for the permission again
                _permission(key).parent.mkdir(parents=True, exist_ok=True)
                _permission(key).touch()


def _read_record(folder: str) -> ModelSource | None:
    file = Path(folder) / SOURCE_FILE
    if not file.is_file():
        return None
    record = json.loads(file.read_text(encoding="utf-8"))
    return ModelSource(**{field.name: record[field.name] for field in fields(ModelSource) if field.name in record})


def start_source(path: str, named: str = "", revision: str | None = None, trust_remote_code: bool = False) -> ModelSource:
    """The checkpoint that DPO starts from. UserError where `named` or `revision` (its `model:` block) is not its base's."""
    if not Path(resolve_model_path(path)).is_dir():
        return model_source(path, revision, trust_remote_code)
    start = model_source(path, None, trust_remote_code)
    base, origin = base_of(start), origin_of(start)
    wanted = Path(resolve_model_path(named).partition("@")[0]).resolve()
    expected = "no such key: DPO takes the base of its start"
    if named and not any(Path(place).resolve() == wanted for place in (start.path, base.path, origin.path)):
        problem = f"{named} is not the base of {path}, which was made from {origin.path}"
        raise UserError(problem, key="model.model_name_or_path", expected=expected)
    if revision and revision not in (base.revision, base.requested_revision, origin.revision, origin.requested_revision):
        problem = f"{path} was made from revision {origin.requested_revision or origin.revision or 'main'} of {origin.path}"
        raise UserError(problem, key="model.model_revision", expected=expected)
    return start


def weights_hash(path: str | ModelSource) -> str:
    """16 hex digits that change with a model's weights, config or code; an adapter's contain its base's. A hub id counts by its
    commit, so they are the same before and after the download."""
    source = model_source(path)
    folder = Path(source.path)
    if not folder.is_dir():
        parts = [f"{source.path}@{source.revision}"]
    else:
        files = [folder / "config.json", folder / "adapter_config.json", *sorted(folder.glob("*.py"))]
        parts = [*weights_marks(source.path).values(), *(file_hash(file) for file in files if file.is_file())]
        if is_adapter(folder):
            parts.append(weights_hash(base_of(source)))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
