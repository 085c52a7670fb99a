"""Rounds one after another until a gate refuses one or a gain is too small; the last accepted round is the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from align_ko.errors import UserError
from align_ko.evaluation.scores import GREEDY_SETTING, Result
from align_ko.pipeline import plan
from align_ko.pipeline.stages import Stage, nothing_to_do
from align_ko.recipe import AcceptanceArgs, AlignRecipe, DpoRecipe, Recipe
from align_ko.records import read_jsonl, write_json

Runner = Callable[[Stage[Recipe]], bool]


@dataclass(frozen=True)
class Verdict:
    """`reasons` is empty for an accepted round; `gain` is natural share over the round before (0.05 = 5 points)."""

    accepted: bool
    gain: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """A measured model; the start has no verdict."""

    name: str
    checkpoint: str
    measures: Result
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Rounds:
    """All that one seed's run made."""

    outcomes: tuple[Outcome, ...]  # start and rounds
    best: Outcome  # the last accepted one of them
    stopped: str  # why there was no further round
    interpolated: Outcome | None = None  # the best one interpolated towards the start, where the recipe asks for it
    distilled: tuple[Outcome, ...] = ()  # that one, or else the best, after each distillation pass

    @property
    def refined(self) -> tuple[Outcome, ...]:
        """What was made after the rounds, accepted or not."""
        return (*((self.interpolated,) if self.interpolated else ()), *self.distilled)

    @property
    def way(self) -> tuple[Outcome, ...]:
        """The best round and what was accepted after it, each made from the one before; best/ contains the last."""
        return (self.best, *(one for one in self.refined if one.verdict and one.verdict.accepted))

    @property
    def result(self) -> Outcome:
        return self.way[-1]


def run_rounds(recipe: AlignRecipe, run: Runner) -> Rounds:
    """All rounds of one seed. `run` starts a stage unless it is done; all decisions are derived from the stages' files."""
    folder = Path(recipe.output_dir)
    rounds = plan.plan_rounds(recipe)
    plan.write_gate_prompts(recipe.gate, folder)
    start = _measure("start", rounds[0].checkpoint, rounds[0].stages, run)
    outcomes, best = [start], start
    stopped = f"all {recipe.rounds} rounds are done" if recipe.rounds > 1 else "the round is done"
    for round_ in rounds[1:]:
        if (count := _pairs(round_, run)) < recipe.min_pairs:
            stopped = f"{round_.name} found {count} pairs, fewer than {recipe.min_pairs}: there is little left to repair"
            break
        outcome = _measure(round_.name, round_.checkpoint, round_.stages[1:], run)
        gate = gate_of_rounds(recipe)
        verdict = judge_round(outcome.measures, best.measures, start.measures, gate)
        outcome = replace(outcome, verdict=verdict)
        outcomes.append(outcome)
        compared = {"before": best.measures, "start": start.measures, "limits": asdict(gate)}
        write_json(round_.folder / "gate.json", {**asdict(outcome), **compared})
        if not verdict.accepted:
            stopped = f"{outcome.name} was refused: {'; '.join(verdict.reasons)}"
            break
        best = outcome
        if verdict.gain < recipe.min_gain:
            stopped = f"{outcome.name} brought {100 * verdict.gain:.1f} points, less than {100 * recipe.min_gain:g}"
            break
    dpo = rounds[1].stages[1].recipe
    assert isinstance(dpo, DpoRecipe)
    interpolated = None
    if recipe.interpolation < 1 and best is not start:
        stages = plan.interpolation_stages(recipe, start.checkpoint, best.checkpoint, dpo)
        interpolated = _refine(plan.INTERPOLATED, stages, best, start, recipe, run)
    result = Rounds(tuple(outcomes), best, stopped, interpolated)
    if recipe.distill and best is not start:
        plan.write_distillation_prompts(recipe)
        for number in range(1, recipe.distill.passes + 1):
            stages = plan.distillation_stages(recipe, number, result.result.checkpoint, dpo)
            outcome = _refine(plan.distilled_name(number), stages, result.result, start, recipe, run)
            result = replace(result, distilled=(*result.distilled, outcome))
            if result.result is not outcome:
                break
    if broken := broken_limits(result.result.measures, start.measures["reference_nll"], recipe.gate):
        result = replace(result, stopped=f"{stopped}; THE RESULT BREAKS A LIMIT: {'; '.join(broken.values())}")
    run(plan.export_stage(folder, result.result.checkpoint, dpo))
    if recipe.evaluate:
        run(plan.evaluation_stage(recipe, start.checkpoint))
    return result


def gate_of_rounds(recipe: AlignRecipe) -> AcceptanceArgs:
    """The gate's limits before interpolation, which lowers the rise of reference NLL again; by a parabola's estimate 0.03 with
    `interpolation: 0.8` → 0.03 / 0.8² = 0.047 (measured, it lowers it more: docs/experiments.md)."""
    return replace(recipe.gate, max_nll_rise=recipe.gate.max_nll_rise / recipe.interpolation**2)


def _refine(
    name: str, stages: tuple[Stage[Recipe], ...], before: Outcome, start: Outcome, recipe: AlignRecipe, run: Runner
) -> Outcome:
    """Make a model from `before` and measure it; refused below the lower end of `before`'s 95 % interval. After 50 of 51
    natural answers 46 are accepted: the gate cannot resolve a point or two, and interpolation is done for content."""
    made = _measure(name, str(stages[-2].folder), stages, run)
    may_lose = before.measures["natural"] - before.measures["natural_low"]
    return replace(made, verdict=judge_round(made.measures, before.measures, start.measures, recipe.gate, may_lose))


def _pairs(round_: plan.Round, run: Runner) -> int:
    """How many training pairs a round has. In the first round none at all is a mistake to look into."""
    pairs = round_.stages[0]
    run(pairs)
    if reason := nothing_to_do(pairs.folder):
        if round_.number == 1:
            raise UserError(f"{pairs.title}: {reason}", file=pairs.file, expected="a start whose greedy answers are faulty")
        return 0
    return sum(1 for _ in read_jsonl(pairs.folder / "train.jsonl"))


def _measure(name: str, checkpoint: str, stages: tuple[Stage[Recipe], ...], run: Runner) -> Outcome:
    for stage in stages:
        run(stage)
    return Outcome(name, checkpoint, read_measures(stages[-1].folder / "scores.json", name))


# -------------------- is a round better than the one before, within the limits on what no single answer shows?


def read_measures(scores: Path, model: str) -> Result:
    """The greedy line of one model in a scores.json."""
    results: list[Result] = json.loads(scores.read_text(encoding="utf-8"))["results"]
    return next(result for result in results if (result["model"], result["setting"]) == (model, GREEDY_SETTING))


def broken_limits(measures: Result, start_nll: float | None, gate: AcceptanceArgs) -> dict[str, str]:
    """Measure → what is wrong with it, for every broken limit: `{"collapse": "collapse 0.154 is over 0.03"}`."""
    limits = _limits(measures, start_nll, gate)
    return {measure: text for measure, (excess, text) in limits.items() if excess > 0}


def _limits(measures: Result, start_nll: float | None, gate: AcceptanceArgs) -> dict[str, tuple[float, str]]:
    """Measure → how far it is beyond its limit (broken above 0; NLL: of the start's), "collapse 0.154 is over 0.03"."""
    collapse, relevant, distinct = measures["collapse"], measures["relevant"], measures["distinct"]
    length, low, high = measures["median_characters"], gate.min_median_characters, gate.max_median_characters
    limits = {
        "collapse": (collapse, collapse - gate.max_collapse, f"over {gate.max_collapse:g}"),
        "distinct": (distinct, gate.min_distinct - distinct, f"under {gate.min_distinct:g}"),
        "median_characters": (length, max(low - length, length - high), f"outside {low:g} to {high:g}"),
    }
    if relevant is not None:
        limits["relevant"] = relevant, gate.min_relevant - relevant, f"under {gate.min_relevant:g}"
    nll = measures["reference_nll"]
    if nll is not None and start_nll is not None:
        most = start_nll * (1 + gate.max_nll_rise)
        limits["reference_nll"] = nll, nll - most, f"over {most:.3f} ({gate.max_nll_rise:.0%} above the start's)"
    return {name: (excess, f"{name} {value:.3g} is {expected}") for name, (value, excess, expected) in limits.items()}


def judge_round(now: Result, before: Result, start: Result, gate: AcceptanceArgs, may_lose: float = 0.0) -> Verdict:
    """Refused: fewer natural answers than the round before (by more than the share `may_lose`), or a limit broken, and not less
    so by the round before: else no round could improve a start whose answers are alike or irrelevant."""
    gain = now["natural"] - before["natural"]
    fell = gain < -may_lose - 1e-9  # 49/51 - 50/51 is not -1/51 to the last bit
    reasons = [f"natural {now['natural']:.1%} is under the round before ({before['natural']:.1%})"] if fell else []
    earlier = _limits(before, start["reference_nll"], gate)
    limits = _limits(now, start["reference_nll"], gate)
    reasons += [text for name, (excess, text) in limits.items() if excess > max(0.0, earlier.get(name, (0.0, ""))[0])]
    return Verdict(not reasons, gain, tuple(reasons))
