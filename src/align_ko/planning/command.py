"""`run_sft.py RECIPE --plan` and `run_dpo.py RECIPE --plan`: print the plan, start nothing."""

from __future__ import annotations

import os
import time
from typing import Any

from align_ko.errors import is_first_process
from align_ko.planning.flags import take_plan_flags
from align_ko.recipe import load_recipe


def plan_command(recipe_class: Any, words: list[str]) -> None:
    """Plan the recipe named in `words` (the script's arguments). Of several launched processes the first one does it."""
    flags, rest = take_plan_flags(words)
    recipe = load_recipe(recipe_class, rest)
    if not is_first_process():
        return
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported, so before anything else
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    begin = time.perf_counter()

    from align_ko.planning.plan import make_plan
    from align_ko.planning.show import show_plan
    from align_ko.records import write_json

    plan = make_plan(recipe, flags)
    show_plan(plan)
    if flags.json:
        write_json(flags.json, plan)
        print(f"wrote {flags.json}")
    print(f"planned in {time.perf_counter() - begin:.0f} s; nothing was downloaded or started")
