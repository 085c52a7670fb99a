"""What came of a sweep: sweep.md, sweep.png and a table in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown

from align_ko.pipeline.sweep import ended
from align_ko.records import write_text
from align_ko.report.tables import escape_bars, markdown_table, say

if TYPE_CHECKING:
    import optuna


def write_sweep(folder: Path, study: optuna.Study, console: Console) -> None:
    trials = ended(study)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    rows = []
    for trial in trials:
        seen = trial.user_attrs.get("measures", {})
        shares = [f"{seen[f'eval_greedy_{name}']:.1%}" if seen else "" for name in ("natural", "loops", "collapse")]
        values = [f"{value:.3g}" if isinstance(value, float) else str(value).strip() for value in map(trial.params.get, keys)]
        step, looks = (str(seen.get(name, "")) for name in ("step", "looks"))
        state = "pruned" if trial.state.name == "PRUNED" else ""
        rows.append([f"trial-{trial.number}", *values, *shares, step, looks, state])
    table = markdown_table(["trial", *keys, "natural", "loops", "collapse", "at step", "looks", ""], rows, escape_bars)
    write_text(
        folder / "sweep.md", f"# Sweep\n\nThe greedy gate's best look of every trial, the most natural first.\n\n{table}"
    )
    console.print(Markdown(table))
    _plot(folder / "sweep.png", trials, keys)
    say(console, f"saved {folder / 'sweep.md'} and sweep.png")


def _plot(path: Path, trials: list[optuna.trial.FrozenTrial], keys: list[str]) -> None:
    """The natural share against every key, pruned trials hollow."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(3.5 * max(1, len(keys)), 3.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key in zip(figure.subplots(1, max(1, len(keys)), squeeze=False)[0], keys, strict=True):
        for pruned in (False, True):
            some = [one for one in trials if (one.state.name == "PRUNED") == pruned and "measures" in one.user_attrs]
            points = [
                one.params[key] if isinstance(one.params[key], int | float) else str(one.params[key]).strip() for one in some
            ]
            shares = [one.user_attrs["measures"]["eval_greedy_natural"] for one in some]
            axes.scatter(points, shares, facecolors="none" if pruned else "#8a3ffc", edgecolors="#8a3ffc")
        numbers = [one.params[key] for one in trials if isinstance(one.params[key], float)]
        if numbers and min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(key)
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel("natural in form (greedy)")
    figure.savefig(path, format="png", metadata={"Software": None})
