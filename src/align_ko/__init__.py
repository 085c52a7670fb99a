"""align_ko: Korean language models that answer naturally under plain greedy decoding.

>>> import align_ko
>>> align_ko.assess("네, 그렇습니다. 서울은 한국의 수도입니다.").natural
True
>>> [answer.codes for answer in align_ko.assess_each(["감사합니다. 감사합니다. 감사합니다. 감사합니다."])]
[['repetition']]

Each function imports its stage on first use, so that `import align_ko` is fast; `assess`, `curate` and `build_pairs` need no
torch. `settings` are the keys of the stage's recipe (`align-ko COMMAND --help` lists them), checked as in a recipe file: a
wrong one is a UserError.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from align_ko.errors import NothingToDo, UserError
from align_ko.records import Message, PairRow, parse_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from align_ko.curation.facts import CurationFacts
    from align_ko.evaluation.scores import Summary
    from align_ko.korean import assess, assess_each

__version__ = "0.1.0"
__all__ = ["assess", "assess_each", "build_pairs", "curate", "evaluate", "generate", "load"]


def __getattr__(name: str) -> object:
    if name not in ("assess", "assess_each"):
        raise AttributeError(f"module 'align_ko' has no attribute '{name}'")
    from align_ko import korean

    return getattr(korean, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def curate(sources: Mapping[str, Mapping[str, object]], output_dir: str, **settings: object) -> CurationFacts:
    """Curate raw rows into train.jsonl, eval.jsonl and rejected.jsonl in `output_dir`; returns what was counted.

    >>> facts = curate({"mine": {"path": "rows.jsonl", "group": "dialogue"}}, "curated", weights={"dialogue": 1.0})
    >>> facts["rows"]["read"], facts["rows"]["train"] + facts["rows"]["eval"], facts["reasons"]
    (40, 39, {'mine': {'too_short': 1}})
    """
    from rich.console import Console

    from align_ko.curation import curate as stage
    from align_ko.recipe import DataRecipe, check_inputs, recipe_from

    recipe = recipe_from(DataRecipe, sources=sources, output_dir=output_dir, **settings)
    check_inputs(recipe)
    return stage.curate(recipe, Console(quiet=True))


def load(
    path: str, revision: str | None = None, trust_remote_code: bool = False, dtype: str = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint folder or hub model and its tokenizer, to decode with: adapter merged, chat format checked, greedy.

    >>> model, tokenizer = load("tiny")
    >>> model.generation_config.do_sample
    False
    """
    from align_ko.models.load import load_for_inference
    from align_ko.models.source import model_source

    return load_for_inference(model_source(path, revision, trust_remote_code), dtype)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    max_new_tokens: int = 512,
    batch_size: int = 32,
    **decoding: float,
) -> list[str]:
    """One answer per prompt, greedy unless `decoding` has temperature, top_p or repetition_penalty.

    >>> answers = generate(*load("tiny"), ["한국의 수도는?", [{"role": "user", "content": "안녕하세요"}]], max_new_tokens=8)
    >>> len(answers)
    2
    """
    from align_ko.generation.local import generate_answers
    from align_ko.recipe import DecodingArgs

    answers = generate_answers(model, tokenizer, prompts, DecodingArgs(**decoding), max_new_tokens, batch_size)
    return [answer.text for answer in answers]


def build_pairs(rows: Sequence[Mapping[str, Any]], output_dir: str | None = None, **pairing: object) -> list[PairRow]:
    """Preference pairs from a model's answers, as `pairing:` of a preferences recipe makes them; also written to `output_dir`.

    A row is a prompt as in a prompt file, with `answers`: the greedy answer, then sampled ones; each a text, or
    `{"text", "finished"}` where it may have been cut off.

    >>> good = "잘 익은 김치와 돼지고기를 볶다가 물을 붓고 이십 분쯤 끓이면 김치찌개가 됩니다."
    >>> row = {"prompt": "김치찌개는 어떻게 끓여요?", "answers": ["김치찌개는 맛있습니다. " * 9, good]}
    >>> pair = build_pairs([row])[0]
    >>> pair["origin"], pair["chosen"][0]["content"] == good, pair["rejected_faults"]
    ('repair', True, ['repetition'])
    """
    from align_ko.overlap import PromptIndex
    from align_ko.preferences import build
    from align_ko.preferences.candidates import Candidate
    from align_ko.recipe import PreferencesRecipe, recipe_from

    recipe = recipe_from(PreferencesRecipe, model_name_or_path="-", prompts_file="-", output_dir="-", pairing=pairing)
    prompts, candidates = [], {}
    for number, row in enumerate(rows):
        prompt, answers = parse_prompt(dict(row)), row.get("answers")
        if prompt is None or not answers:
            raise UserError(f"row {number} has no {'answers' if prompt else 'prompt'}", expected="prompt and answers")
        whole = [{"text": answer, "finished": True} if isinstance(answer, str) else answer for answer in answers]
        prompts.append(prompt)
        candidates[prompt.id] = [
            Candidate("sampled" if place else "greedy", "sampled" if place else "greedy", **answer, tokens=0, sample=place)
            for place, answer in enumerate(whole)
        ]
    with tempfile.TemporaryDirectory() as unwanted:
        folder = Path(output_dir or unwanted)
        try:
            built = build.build_pairs(prompts, candidates, recipe.judges, recipe.pairing, folder, PromptIndex([]))
        except NothingToDo:
            return []
    return [
        cast(PairRow, pair.to_row()) for pair in (*built.train, *(pair for pair in built.held_out if pair not in built.train))
    ]


def evaluate(models: Mapping[str, str], prompts_file: str, output_dir: str, **settings: object) -> Summary:
    """Greedy answers of each model to the prompts of a file or a suite, and their measures; resumes, and stores all answers.

    >>> summary = evaluate({"tiny": "tiny"}, "prompts.jsonl", "evaluation", sampling={}, probes=[])
    tiny: 2 answers
    ...
    >>> [(line["model"], line["decoding"], line["n"]) for line in summary["results"]]
    [('tiny', 'greedy', 2)]
    """
    from align_ko.evaluation import run
    from align_ko.recipe import EvaluateRecipe, check_inputs, recipe_from

    recipe = recipe_from(EvaluateRecipe, models=models, prompts_file=prompts_file, output_dir=output_dir, **settings)
    check_inputs(recipe)
    evaluation = run.evaluate_recipe(recipe)
    assert evaluation  # only further processes of accelerate launch have none
    return evaluation.summary
