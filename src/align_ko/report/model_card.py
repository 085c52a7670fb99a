"""README.md of a training run's folder: the model card, in Korean and in English. Only numbers, names and settings: no path
above the folder's own name, no prompt, no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from align_ko.records import TEMPORARY, write_text
from align_ko.report.page import render
from align_ko.sources import is_hub_id
from align_ko.training.gate import gate_rounds
from align_ko.training.overfitting import evaluations

_STAGE = {
    "sft": ("SFT(지도 미세 조정)", "supervised fine-tuning (SFT)"),
    "dpo": ("DPO(선호 최적화)", "preference optimisation (DPO)"),
    "grpo": ("GRPO(온라인 강화 학습)", "online reinforcement learning (GRPO)"),
    "distill": ("디코딩 설정 증류", "distillation of a decoding knob"),
}
_COLOURS = {"normal": "#2a9d57", "caution": "#e0a100", "overfit": "#c8342b", "": "#555555"}
_SETTINGS = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "lr_scheduler_type", "warmup_steps", "weight_decay", "max_length", "beta", "loss_type", "loss_weights", "seed",
    "num_generations", "max_completion_length", "temperature",
)  # fmt: skip
Log = Sequence[Mapping[str, Any]]
"""The trainer's log_history."""


def hub_id(base: str) -> str | None:
    """`base` where it names a model on the hub (upstage/SOLAR-10.7B-v1.0), None for a folder here (outputs/solar/sft)."""
    return base if is_hub_id(base) and base.split("/")[0] not in ("outputs", "data") else None


def write_card(folder: str | Path, manifest: Mapping[str, Any], log: Log, base: str) -> Path:
    """Write README.md and curves.png. `base`: the base model's id or folder."""
    place, stage, recipe = Path(folder), str(manifest["stage"]), manifest["recipe"]
    losses = evaluations(log, with_verdict=stage == "sft")
    merged = bool(recipe.get("merge_adapter")) or not manifest.get("adapter", True)
    data = ModelCardData(
        language="ko",
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        base_model=hub_id(base),
        model_name=place.resolve().name,
        tags=["align-ko", "korean", "trl", stage],
    )
    settings = {key: recipe["training"].get(key) for key in _SETTINGS}
    for part in ("distill",) if stage == "distill" else ("rewards",) if stage == "grpo" else ():
        settings |= {f"{part}.{key}": value for key, value in recipe[part].items()}
    text = render(
        "model_card.md.jinja",
        front_matter=data.to_yaml(),
        name=place.resolve().name,
        base=hub_id(base) or Path(base).name,
        stage=_STAGE[stage],
        merged=merged,
        pairs=stage == "dpo",
        manifest=manifest,
        packages=", ".join(f"{package} {version}" for package, version in list(manifest["packages"].items())[:5]),
        gpus=", ".join(manifest["machine"].get("gpus") or []),
        settings=[(key, _plain(value)) for key, value in settings.items() if value is not None],
        has_curves=draw_curves(place / "curves.png", log, losses),
        losses=losses,
        gate=gate_rounds(log),
    )
    ModelCard(text)  # what cannot be parsed must not be published
    write_text(place / "README.md", text)
    return place / "README.md"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw_curves(path: Path, log: Log, losses: Log) -> bool:
    """Write training and eval loss (of GRPO the reward), verdicts and the greedy share as a PNG; False (and no file) where
    nothing was logged. Labels are English: matplotlib has no Korean font of its own."""
    shown = "reward" if any("reward" in entry for entry in log) else "loss"
    train = [(entry["step"], entry[shown]) for entry in log if "loss" in entry and shown in entry]
    natural = [(entry["step"], entry["eval_greedy_natural"]) for entry in log if "eval_greedy_natural" in entry]
    if not train and not losses:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if train:
        axes.plot(*zip(*train, strict=True), color="#8899aa", linewidth=1, label=f"train {shown}")
    if losses:
        axes.plot([row["step"] for row in losses], [row["eval_loss"] for row in losses], color="#1f3b73", label="eval loss")
        for verdict, colour in _COLOURS.items():
            points = [(row["step"], row["eval_loss"]) for row in losses if row["verdict"] == verdict]
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, zorder=3, label=verdict or None)
    axes.set_xlabel("step")
    axes.set_ylabel(shown)
    if natural:
        share = axes.twinx()
        share.plot(*zip(*natural, strict=True), color="#8a3ffc", linestyle="--", marker=".", label="natural in form (greedy)")
        share.set_ylim(0, 1.02)
        share.set_ylabel("natural in form")
    figure.legend(loc="outside upper center", ncols=6, fontsize="small", frameon=False)
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    figure.savefig(temporary, format="png", metadata={"Software": None})
    temporary.replace(path)
    return True
