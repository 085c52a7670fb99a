"""Checkpoints of one base as one model: points between SFT and DPO, or the mean of seeds or rounds; a gate chooses.

    python scripts/merge.py recipes/quickstart/merge.yaml
    python scripts/merge.py recipes/quickstart/merge.yaml --shares 0.5 0.8 --spherical true

Writes OUTPUT_DIR/merge.md and the chosen one as a plain model in OUTPUT_DIR/best. Started again it goes on where it was.
"""

from __future__ import annotations

import sys

from align_ko.errors import run_script
from align_ko.recipe import MergeRecipe, check_inputs, load_recipe


def main() -> None:
    recipe = load_recipe(MergeRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)

    from functools import partial
    from pathlib import Path

    from rich.console import Console

    from align_ko.pipeline.soup import make_soup
    from align_ko.pipeline.stages import run_stage
    from align_ko.process import locked_folder
    from align_ko.report.pipeline import write_soup

    with locked_folder(recipe.output_dir):
        soup = make_soup(recipe, partial(run_stage, scripts=Path(__file__).parent))
        write_soup(Path(recipe.output_dir), soup, recipe.gate.prompts_file, Console())


if __name__ == "__main__":
    run_script(main)
