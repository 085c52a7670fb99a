"""index.html of a project: every stage, in the order in which they build on each other, with its outcome, time and memory, and
the loss of a training run as a chart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from align_ko.errors import UserError
from align_ko.evaluation.scores import GREEDY_SETTING
from align_ko.manifest import MANIFEST_FILE
from align_ko.records import write_text
from align_ko.report.page import render

if TYPE_CHECKING:  # it imports torch
    from align_ko.training.overfitting import Evaluation

INDEX_FILE = "index.html"
SIGN = '<meta name="generator" content="align_ko">'  # in base.html.jinja
DEPTH = 4  # folders below the project's
TO_READ = ("report.html", "summary.md", "gap.md", "README.md", "report.json", "scores.json", MANIFEST_FILE)
"""Files of a stage that the page links, where they are there."""

Manifest = Mapping[str, Any]


class Point(NamedTuple):
    """An evaluation; `x` and `y` in percent of the chart, from its top left."""

    x: float
    y: float
    evaluation: Evaluation


class Curves(NamedTuple):
    """Lines as SVG points in percent of the chart; `low` and `high` are the losses at its bottom and top."""

    train: str
    held_out: str
    points: list[Point]
    low: float
    high: float
    first: int
    last: int


class Stage(NamedTuple):
    name: str  # its folder, below the project's or beside it
    manifest: Manifest
    links: dict[str, str]  # address → file name
    scores: Mapping[str, Any]  # scores.json, or nothing
    curves: Curves | None


def write_index(root: Path) -> Path:
    """Write index.html into `root`. UserError where no stage left a manifest, or another page has that name."""
    file = root / INDEX_FILE
    if file.is_file() and SIGN not in file.read_text(encoding="utf-8", errors="replace"):
        raise UserError("is a page of your own, and would be overwritten", file=file, expected="another folder")
    manifests = find_manifests(root)
    if not manifests:
        raise UserError("no stage left a manifest.json in it", file=root, expected="a folder of outputs, such as outputs/solar")
    write_text(file, render_index(root, manifests))
    return file


def render_index(root: Path, manifests: Mapping[Path, Manifest]) -> str:
    stages = [_stage(root, folder, manifests[folder]) for folder in in_order(root, manifests)]
    return render("index.html.jinja", title=root.resolve().name, stages=stages, greedy=GREEDY_SETTING)


def find_manifests(root: Path) -> dict[Path, Manifest]:
    """The stages below `root` and those whose results they read, wherever they are."""
    found: dict[Path, Manifest] = {}
    waiting = list(_folders(root.resolve()))
    while waiting:
        folder = waiting.pop()
        if folder not in found and (manifest := _manifest(folder)):
            found[folder] = manifest
            waiting += _read_by(manifest, root)
    return found


def in_order(root: Path, manifests: Mapping[Path, Manifest]) -> list[Path]:
    """A stage comes after those that it read, else the one made first is first."""
    by_time = sorted(manifests, key=lambda folder: str(manifests[folder].get("made_at")))
    graph = {folder: [each for each in _read_by(manifests[folder], root) if each in manifests] for folder in by_time}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError:  # one was made again from what it had led to
        return by_time


def _folders(root: Path) -> Iterator[Path]:
    for place, below, files in os.walk(root):
        deep = len(Path(place).relative_to(root).parts) >= DEPTH
        below[:] = [] if deep else [name for name in below if not name.startswith((".", "checkpoint-"))]
        if MANIFEST_FILE in files:
            yield Path(place)


def _manifest(folder: Path) -> Manifest | None:
    """None where another program wrote it."""
    manifest = _json(folder / MANIFEST_FILE)
    return manifest if isinstance(manifest.get("stage"), str) and "made_at" in manifest else None


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _read_by(manifest: Manifest, root: Path) -> list[Path]:
    """The folders that a stage read from. Paths are as its command got them, so from the project's folder or one above it."""
    bases = [Path.cwd(), root.resolve(), *root.resolve().parents]
    paths = [Path(name).expanduser() for name in [*manifest.get("inputs", {}), *manifest.get("models", {})]]
    found = []
    for path in paths:
        near = (place for base in bases for place in (base / path, (base / path).parent))
        found += [place.resolve() for place in near if (place / MANIFEST_FILE).is_file()][:1]
    return list(dict.fromkeys(found))


def _stage(root: Path, folder: Path, manifest: Manifest) -> Stage:
    here = root.resolve()
    names = [name for name in TO_READ if (folder / name).is_file()]
    links = {quote(Path(os.path.relpath(folder / name, here)).as_posix()): name for name in names}
    name = Path(os.path.relpath(folder, here)).as_posix().replace("../", "")
    return Stage(name, manifest, links, _json(folder / "scores.json"), loss_curves(folder, manifest))


# -------------------- the chart of a training run: its trainer's log, and its manifest's verdicts on overfitting


def loss_curves(folder: Path, manifest: Mapping[str, Any]) -> Curves | None:
    """None for a run without an evaluation of its loss, such as GRPO, and where all is of one step."""
    seen: list[Evaluation] = manifest.get("evaluations") or []
    if not seen or manifest.get("stage") == "grpo":
        return None
    held_out = [(int(each["step"]), float(each["eval_loss"])) for each in seen]
    train = [(int(entry["step"]), float(entry["loss"])) for entry in _log(folder) if "loss" in entry]
    steps, losses = zip(*held_out, *train, strict=True)
    first, last, low, high = min(steps), max(steps), min(losses), max(losses)
    if first == last:
        return None

    def place(step: int, loss: float) -> tuple[float, float]:
        x = (step - first) / (last - first)
        y = (high - loss) / (high - low) if high > low else 0.5
        return round(100 * x, 2), round(100 * y, 2)

    drawn, held = (" ".join(f"{x},{y}" for x, y in (place(*each) for each in line)) for line in (train, held_out))
    points = [Point(*place(*each), evaluation) for each, evaluation in zip(held_out, seen, strict=True)]
    return Curves(drawn, held, points, low, high, first, last)


def _log(folder: Path) -> list[dict[str, float]]:
    """What the trainer logged up to its last checkpoint; nothing where no checkpoint is left."""
    found = [file for file in folder.glob("checkpoint-*/trainer_state.json") if file.parent.name.rpartition("-")[2].isdigit()]
    last = max(found, key=lambda file: int(file.parent.name.rpartition("-")[2]), default=None)
    log: list[dict[str, float]] = json.loads(last.read_text(encoding="utf-8"))["log_history"] if last else []
    return log
