"""Is greedy decoding to blame for unnatural answers, or the model? The same prompts under two tuned settings tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from typing import Literal

from align_ko.evaluation.run import answer_row, ask_models
from align_ko.evaluation.scores import GREEDY_SETTING, Result, ScoredAnswer, score_rows, summarise
from align_ko.generation.endpoint import draw_from_endpoint
from align_ko.generation.requests import GREEDY, Generated, Request, progress, row_seed
from align_ko.models.source import ModelSource
from align_ko.recipe import DecodingArgs, EndpointArgs, GenerationArgs
from align_ko.records import PromptRow

KNOBS = {"penalty": DecodingArgs(repetition_penalty=1.1), "sampling": DecodingArgs(0.7, 1.0, 1.1)}
WITHOUT_PENALTY = {"cool": DecodingArgs(0.7, 0.9), "warm": DecodingArgs(1.0, 0.9)}
"""For Ollama, whose OpenAI interface takes no repetition penalty."""
SOUND = 0.9  # natural share from which greedy decoding needs no help
CHANCE = 0.05 / len(KNOBS)  # Bonferroni: the better of two settings is looked at


@dataclass(frozen=True)
class Verdict:
    """What the answers say."""

    kind: Literal["sound", "decoding", "both", "model"]
    """decoding: a knob mends at least half of the greedy faults; both: fewer, but more than chance would; model: no more."""
    results: list[Result]
    """Greedy first."""
    knob: str
    """The setting that does best."""
    mended: int
    """Prompts that only the knob answers naturally."""
    spoilt: int
    """Prompts that only greedy decoding answers naturally."""
    faulty: int
    """Greedy answers that are not natural."""
    faults: list[tuple[str, int]]
    """Their codes, the most frequent first."""


def answer_prompts(
    source: ModelSource, prompts: list[PromptRow], generation: GenerationArgs, folder: Path
) -> list[ScoredAnswer]:
    """The prompts answered greedily and under KNOBS, judged; answers are kept in `folder`, and asked for once."""
    asked = {name: (decoding, prompts) for name, decoding in {GREEDY_SETTING: GREEDY, **KNOBS}.items()}
    answered = ask_models({"model": source}, asked, [], generation, "default", folder)
    return score_rows(answered[0] if answered else [])


def ask_endpoint(endpoint: EndpointArgs, prompts: list[PromptRow], generation: GenerationArgs) -> list[ScoredAnswer]:
    """The same of a server's model, in the server's own template. Nothing is kept: a server may load other weights under the
    same name."""
    settings = {GREEDY_SETTING: GREEDY, **(WITHOUT_PENALTY if endpoint.server == "ollama" else KNOBS)}
    asked = [(setting, n, row) for setting in settings for n, row in enumerate(prompts)]
    requests = [Request(row.prompt, settings[setting], row_seed(generation.seed, n)) for setting, n, row in asked]
    given: dict[int, Generated] = {}
    with progress(len(requests)) as advance:

        def save(index: int, answer: Generated) -> None:
            given[index] = answer
            advance()

        draw_from_endpoint(requests, save, None, endpoint, generation.max_new_tokens)
    name = endpoint.model
    return score_rows(
        answer_row(name, setting, settings[setting], row, asdict(given[k])) for k, (setting, _, row) in enumerate(asked)
    )


def judge_answers(answers: Sequence[ScoredAnswer]) -> Verdict:
    """Whether decoding or the model is to blame. Greedy and the better knob are compared prompt by prompt by a sign test:
    of n prompts that only one of them answers naturally, the chance that so many are the knob's if both were as good."""
    results = summarise(answers)["results"]
    greedy = {row["prompt_id"]: row for row in answers if row["setting"] == GREEDY_SETTING and not row.get("outside")}
    faulty = [row for row in greedy.values() if not row["natural"]]
    sides = {}
    for name in dict.fromkeys(row["setting"] for row in answers if row["setting"] != GREEDY_SETTING):
        rows = [row for row in answers if row["setting"] == name and not row.get("outside") and row["prompt_id"] in greedy]
        pairs = [(greedy[row["prompt_id"]]["natural"], row["natural"]) for row in rows]
        sides[name] = pairs.count((False, True)), pairs.count((True, False))
    knob = max(sides, key=lambda name: sides[name][0] - sides[name][1])
    mended, spoilt = sides[knob]
    n = mended + spoilt
    by_chance = sum(comb(n, k) for k in range(mended, n + 1)) / 2**n
    kind: Literal["sound", "decoding", "both", "model"] = "model"
    if len(greedy) - len(faulty) >= SOUND * len(greedy):
        kind = "sound"
    elif by_chance < CHANCE:
        kind = "decoding" if mended - spoilt >= len(faulty) / 2 else "both"
    codes = Counter(code for row in faulty for code in {fault["code"] for fault in row["faults"]})
    return Verdict(kind, results, knob, mended, spoilt, len(faulty), codes.most_common())
