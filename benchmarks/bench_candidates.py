"""Candidates per second of our drawing, beside the plain loop: one prompt, one `model.generate`, one answer.

    python benchmarks/bench_candidates.py
    python benchmarks/bench_candidates.py --prompts 100 --plain-prompts 8

Both use the same model, number format, prompts, settings (greedy and the recipe's), samples and token limit, in one process
and one run. The plain loop is slow, so it takes `plain_prompts` of the prompts, chosen evenly by length. Target: 5 times.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import UserError, run_script
from align_ko.process import quiet_known_noise

if TYPE_CHECKING:
    from align_ko.generation.requests import Request

ROOT = Path(__file__).parents[1]
TARGET = 5.0


def main(
    recipe: str = str(ROOT / "recipes/quickstart/preferences.yaml"),
    model: str = "",
    prompts_file: str = "",
    prompts: int = 100,
    plain_prompts: int = 10,
) -> None:
    """Compare drawing speed.

    Args:
        recipe: settings, samples, token limit, batch size and number format are this recipe's.
        model: another checkpoint than the recipe's.
        prompts_file: another file of prompts than the recipe's.
        prompts: how many prompts our way answers; the recipe's first ones.
        plain_prompts: how many of these the plain loop answers.
    """
    quiet_known_noise()
    from align_ko.generation.local import draw_local
    from align_ko.generation.requests import GREEDY, Generated, Request, row_seed
    from align_ko.models.load import load_for_inference
    from align_ko.preferences.candidates import read_tasks
    from align_ko.process import keep_freed_memory
    from align_ko.recipe import CandidateArgs, PreferencesRecipe, load_recipe
    from align_ko.records import evenly

    loaded = load_recipe(PreferencesRecipe, [recipe])
    path = model or loaded.model_name_or_path
    if not model and not Path(path).is_dir():
        raise UserError(f"there is no checkpoint {path}", key="--model", expected="a checkpoint, or 'make quickstart' first")
    keep_freed_memory()
    net, tokenizer = load_for_inference(path, loaded.generation.dtype, load_in_4bit=loaded.generation.load_in_4bit)
    tasks = read_tasks(prompts_file or loaded.prompts_file, loaded.skip_prompts_files)[0][:prompts]
    ladder: dict[str, Any] = {"greedy": CandidateArgs(**vars(GREEDY)), **loaded.candidates}
    requests = [
        Request(task.prompt, setting, row_seed(loaded.generation.seed, task.id, name, sample))
        for task in sorted(tasks, key=lambda task: len(task.prompt[-1]["content"]))
        for name, setting in ladder.items()
        for sample in range(setting.samples)
    ]
    per_prompt, limit = len(requests) // len(tasks), loaded.generation.max_new_tokens
    few = evenly(range(len(tasks)), plain_prompts)
    slow = [request for n in few for request in requests[n * per_prompt : (n + 1) * per_prompt]]
    plain(net, tokenizer, slow[:1], 4)  # warm up
    print(
        f"{len(tasks)} prompts × {per_prompt} answers, at most {limit} tokens; the plain loop takes {len(few)} of the prompts"
    )
    results = [("one plain generate each", *plain(net, tokenizer, slow, limit))]
    drawn: dict[int, Generated] = {}
    for label, stop in (("align_ko, loops run on", False), ("align_ko", True)):
        drawn.clear()
        begin = time.perf_counter()
        draw_local(requests, drawn.__setitem__, net, tokenizer, limit, loaded.generation.batch_size, stop_loops=stop)
        results.append((label, len(drawn), sum(answer.tokens for answer in drawn.values()), time.perf_counter() - begin))
    table = Table("candidates", "drawn", "tokens", "s", "candidates/s", "tokens/s", "times")
    for label, count, tokens, seconds in results:
        ratio = count / seconds / (results[0][1] / results[0][3])
        numbers = (f"{seconds:.1f}", f"{count / seconds:.2f}", f"{tokens / seconds:.0f}", f"{ratio:.1f}")
        table.add_row(label, str(count), str(tokens), *numbers)
    Console(width=110).print(table)
    print(f"ratio {ratio:.2f} (target {TARGET:g})")


def plain(model: Any, tokenizer: Any, requests: list[Request], limit: int) -> tuple[int, int, float]:
    """(answers, tokens, seconds) of what everybody writes first."""
    import torch

    from align_ko.chat_format import prompt_ids

    tokens, begin = 0, time.perf_counter()
    for request in requests:
        ids = torch.tensor([prompt_ids(tokenizer, request.prompt)], device=model.device)
        knobs: dict[str, Any] = {"do_sample": False, "repetition_penalty": request.decoding.repetition_penalty}
        if request.decoding.temperature > 0:
            sampling = {"temperature": request.decoding.temperature, "top_p": request.decoding.top_p, "top_k": 0}
            knobs |= {"do_sample": True, **sampling}
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, **knobs)
        tokens += output.shape[1] - ids.shape[1]
    return len(requests), tokens, time.perf_counter() - begin


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__), interrupted="nothing was written")
