"""Several checkpoints of one base as one model: candidates are made and measured as stages, and a gate chooses among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from align_ko.pipeline.plan import gate_file, gate_stage, write_gate_prompts
from align_ko.pipeline.rounds import Outcome, Runner, judge_round, read_measures
from align_ko.pipeline.stages import Stage
from align_ko.recipe import ExportRecipe, MergeRecipe


@dataclass(frozen=True)
class Soup:
    """The given models, then the candidates, all measured; `best` is one of them."""

    outcomes: tuple[Outcome, ...]
    best: Outcome


def candidates(recipe: MergeRecipe) -> Mapping[str, ExportRecipe]:
    """Name → how it is made: the mean of three and more, of two the points between the first and the second."""
    first, *others = recipe.models.values()

    def place(name: str) -> str:
        return str(Path(recipe.output_dir) / name / "model")

    if len(others) > 1:
        return {"mean": ExportRecipe(first, place("mean"), recipe.dtype, mean_with=tuple(others))}
    return {
        name: ExportRecipe(
            others[0], place(name), recipe.dtype, interpolate_from=first, interpolation=share, spherical=spherical
        )
        for spherical in ((False, True) if recipe.spherical else (False,))
        for share in recipe.shares
        for name in [f"{'arc' if spherical else 'line'}-{share:g}"]
    }


def make_soup(recipe: MergeRecipe, run: Runner) -> Soup:
    """Measure every model and candidate, and export the best to best/: the most natural of those that keep the gate's limits as
    the first model does; of equals the one with the lowest reference NLL."""
    folder = Path(recipe.output_dir)
    write_gate_prompts(recipe.gate, folder)
    start = next(iter(recipe.models.values()))
    outcomes: list[Outcome] = []

    def measured(name: str, checkpoint: str) -> None:
        stage = gate_stage(folder / name, name, checkpoint, recipe.gate, gate_file(recipe.gate, folder), start)
        run(stage)
        outcome = Outcome(name, checkpoint, read_measures(stage.folder / "scores.json", name))
        if outcomes:
            first = outcomes[0].measures
            outcome = replace(outcome, verdict=judge_round(outcome.measures, first, first, recipe.gate))
        outcomes.append(outcome)

    for name, checkpoint in recipe.models.items():
        measured(name, checkpoint)
    for name, made in candidates(recipe).items():
        place = folder / name
        run(Stage(f"{name}/model", "export", made, place / "model.yaml", place / "model"))
        measured(name, made.output_dir)
    allowed = [one for one in outcomes if one.verdict is None or one.verdict.accepted]
    best = max(allowed, key=lambda one: (one.measures["natural"], -(one.measures["reference_nll"] or 0.0)))
    result = ExportRecipe(best.checkpoint, str(folder / "best"), recipe.dtype)
    run(Stage("best", "export", result, folder / "best.yaml", folder / "best"))
    return Soup(tuple(outcomes), best)
