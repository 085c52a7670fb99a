"""The recipes that follow a training: evaluation, export, and the rounds of `align`, which run the other stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Literal

from align_ko.manifest import MARKER, holds_model
from align_ko.recipe import fields
from align_ko.recipe.preferences import DecodingArgs, EndpointArgs, GenerationArgs, JudgeEndpointArgs, secret_problems
from align_ko.recipe.record import InputPath, Problem, Recipe, files, record, unknown_name
from align_ko.sources import folder_of

SUITES: dict[str, tuple[str, ...]] = {
    "core": ("quickstart/data/evaluation/prompts.jsonl", "quickstart/data/evaluation/further_prompts.jsonl"),
    "multi_turn": ("suites/multi_turn.jsonl",),
    "instructions": ("suites/instructions.jsonl",),
}
"""Prompts that come with the package, by name (recipes/suites/README.md): files in recipes/."""


def suite_files(name: str) -> list[str]:
    """The files of a suite; any other name is a file's own."""
    return [str(folder_of("recipes") / file) for file in SUITES[name]] if name in SUITES else [name]


def expand_checkpoints(models: dict[str, str]) -> dict[str, str]:
    """`{run: outputs/run}` with checkpoints and no model of its own → `{run/checkpoint-10: outputs/run/checkpoint-10, …}`, by
    step, without those that were not written to their end. `outputs/run/checkpoint-*` names the checkpoints of any folder."""
    expanded: dict[str, str] = {}
    for name, path in models.items():
        folder = Path(path).expanduser()
        named = folder.name == "checkpoint-*"
        folder = folder.parent if named else folder
        is_model = holds_model(folder)
        found = [each for each in folder.glob("checkpoint-*") if each.name.rpartition("-")[2].isdigit()]
        whole = [each for each in found if (each / MARKER).is_file()] or found
        if whole and (named or not is_model):
            whole.sort(key=lambda each: int(each.name.rpartition("-")[2]))
            expanded |= {f"{name}/{each.name}": str(each) for each in whole}
        else:
            expanded[name] = path
    return expanded


@record
class GridArgs:
    """All decoding settings that are compared with greedy for the decoding gap (scripts/decoding_gap.py)."""

    temperature: tuple[fields.Positive, ...] = (0.3, 0.7, 1.0)
    top_p: tuple[fields.ShareAboveZero, ...] = (0.85, 0.9, 1.0)
    repetition_penalty: tuple[fields.Positive, ...] = (1.0, 1.1)
    prompts: fields.ZeroOrMore = 0
    """How many of the prompts greedy and every cell answer; 0 = all."""
    models: tuple[str, ...] = ()
    """Names of `models`; empty: all of them."""


@record
class EvaluateRecipe(Recipe):
    """Checkpoints judged under default decoding, and beside it under tuned settings."""

    models: dict[str, fields.Text]
    """Name in the table → checkpoint, e.g. {base: …, sft: …, dpo: …}. A folder of checkpoint-N stands for all of them (where it
    holds a model too: outputs/sft/checkpoint-*), and the best one is named."""
    output_dir: fields.Text
    prompts_file: str = ""
    """A file of prompts, or a suite's name."""
    suites: tuple[fields.Text, ...] = ()
    """Asked beside `prompts_file`, with a line each in the report: core, multi_turn, instructions, or files of prompts."""
    max_prompts: fields.ZeroOrMore = 0
    """How many prompts of each suite are asked, from the first one on; 0 = all."""
    chat_template: fields.Text = "default"
    """`default`: for models without one of their own (the base). Another: for every model that was not trained here."""
    probes: tuple[str, ...] = ("안녕하세요", "피보나치 수열이 뭐야?", "파이썬 코드 작성해줘", "오늘 날씨 어때?")
    """Questions whose answers the report shows in full."""
    sampling: dict[str, DecodingArgs] = field(
        default_factory=lambda: {
            "sampling_cool": DecodingArgs(0.7, 0.9, 1.1),
            "sampling_warm": DecodingArgs(1.0, 0.9, 1.1),
        }
    )
    """Decoding settings that are shown beside greedy."""
    sampling_prompts: fields.ZeroOrMore = 0
    """How many of the prompts the sampling settings answer; 0 = all."""
    grid: GridArgs = field(default_factory=GridArgs)
    llm: JudgeEndpointArgs = field(default_factory=JudgeEndpointArgs)
    """A larger model that reads every held-out greedy answer twice: would it sign what it says? Without `model` none is
    asked."""
    relevance_model: str | None = ""
    """The model that says, for all models alike, which answers belong to their questions (generation/relevance.py); empty: the
    first of `models` that brings a chat template (a base model knows no chat); null: not measured."""
    generation: GenerationArgs = field(default_factory=GenerationArgs)
    endpoints: dict[str, EndpointArgs] = field(default_factory=dict)
    """Name of `models` → the server that answers for it. Its folder is then read for tokenizer and chat format alone, and the
    NLL of the references is not measured."""
    trust_remote_code: fields.YesNo = False
    """Run the Python code that a model from elsewhere brings; what was trained here with this permission keeps it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", expand_checkpoints(self.models))  # the record is frozen

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of suites and files."""
        return (*filter(None, [self.prompts_file]), *self.suites)

    def problems(self) -> Iterator[Problem]:
        if not self.models:
            yield Problem("models", "no model to evaluate", "'name: checkpoint'")
        if not self.asked:
            yield Problem("suites", "no prompts to ask", f"one of {', '.join(SUITES)}, or 'prompts_file'")
        for name in self.suites:
            if name not in SUITES and name.isidentifier() and not Path(name).exists():
                yield unknown_name("suites", f"there is no suite '{name}'", name, SUITES)
        if not self.llm.model and self.llm != JudgeEndpointArgs():
            yield Problem("llm.model", "this key is missing, and other keys of llm are given", "the model that judges")
        yield from secret_problems("llm", self.llm)
        for name, endpoint in self.endpoints.items():
            if name not in self.models:
                yield unknown_name(f"endpoints.{name}", f"there is no model '{name}'", name, self.models)
            yield from secret_problems(f"endpoints.{name}", endpoint)

    def inputs(self) -> Iterator[InputPath]:
        for name, model in self.models.items():
            folder = Path(model).name
            made_by = next((f"run_{stage} {stage}" for stage in ("grpo", "dpo", "sft") if stage in folder), "")
            yield InputPath(f"models.{name}", model, "model", made_by)
        if self.relevance_model:
            yield InputPath("relevance_model", self.relevance_model, "model")
        for file in suite_files(self.prompts_file) if self.prompts_file else ():
            yield InputPath("prompts_file", file, "file", "build_sft_data data")
        for number, name in enumerate(self.suites):
            yield from (InputPath(f"suites[{number}]", file, "file") for file in suite_files(name))
        yield InputPath("chat_template", self.chat_template, "template")


@record
class ExportRecipe(Recipe):
    """Merge the adapter into a plain transformers folder, with an Ollama Modelfile and GGUF files beside it."""

    model_name_or_path: fields.Text
    output_dir: fields.Text
    dtype: fields.Dtype = "auto"
    gguf: tuple[Literal["F16", "Q8_0", "Q4_K_M"], ...] = ()
    """Files for llama.cpp beside it, `model-Q8_0.gguf` and the like; the Modelfile is for the first of them."""
    interpolate_from: str = ""
    """The checkpoint that training began with: the result is taken back towards it, which gives back what training cost."""
    interpolation: fields.ShareAboveZero = 1.0
    """How far the result is from `interpolate_from` to the model: 0.8 goes a fifth of the way back."""
    spherical: fields.YesNo = False
    """Along the arc between the two (SLERP), not the line."""
    mean_with: tuple[str, ...] = ()
    """Further checkpoints of the same base: the result is the mean of all weights."""
    trust_remote_code: fields.YesNo = False
    """Run the Python code that a model from elsewhere brings; what was trained here with this permission keeps it."""

    def problems(self) -> Iterator[Problem]:
        if self.interpolation < 1 and not self.interpolate_from:
            problem = f"{self.interpolation:g} does nothing without a checkpoint to go back to"
            yield Problem("interpolation", problem, "'interpolate_from: outputs/…/sft' beside it")
        if self.mean_with and self.interpolate_from:
            yield Problem("mean_with", "a mean is no way between two checkpoints", "one of mean_with and interpolate_from")

    def inputs(self) -> Iterator[InputPath]:
        yield InputPath("model_name_or_path", self.model_name_or_path, "model", "run_dpo dpo")
        if self.interpolate_from:
            yield InputPath("interpolate_from", self.interpolate_from, "model", "run_sft sft")
        for number, path in enumerate(self.mean_with):
            yield InputPath(f"mean_with[{number}]", path, "model", "run_dpo dpo")


# -------------------- rounds


@record
class StageArgs:
    """The recipe of one stage, and what differs from it here."""

    recipe: fields.Text
    set: dict[str, fields.Free] = field(default_factory=dict)
    """Keys laid over that recipe, nested as in it, e.g. {training: {learning_rate: 2e-5}}."""
    accelerate_config: str = ""
    """A file of accelerate_configs/: the stage runs under `accelerate launch`; empty: one process."""


@record
class DistillStageArgs(StageArgs):
    """The recipe of the distillation, and whose prompts it answers."""

    prompts_files: tuple[str, ...] = ()
    """Prompts of training, without those that judge (the gate's, `evaluation_files` of the pairs); none: as many of the pairs'
    own as a round asks."""
    passes: fields.AtLeastOne = 1
    """How often, each time on what the model of the pass before answers; a pass that the gate refuses is the last one."""


@record
class RoundArgs:
    """What one round does otherwise than `preferences.set` and `dpo.set` say."""

    preferences: dict[str, fields.Free] = field(default_factory=dict)
    dpo: dict[str, fields.Free] = field(default_factory=dict)


@record
class AcceptanceArgs:
    """What a round's greedy answers have to reach for the round to be accepted."""

    prompts_file: fields.Text
    """JSONL with references. Never the prompts that the result is judged by: a gate chooses, and so would fit them."""
    max_prompts: fields.ZeroOrMore = 0
    """At most so many of them, chosen by content hash; 0 = all."""
    max_new_tokens: fields.AtLeastOne = 256
    batch_size: fields.AtLeastOne = 32
    dtype: fields.Dtype = "auto"
    max_collapse: fields.Share = 0.03
    """Share of answers that say the same to different prompts."""
    min_relevant: fields.Share = 0.95
    """Share of answers that belong to their question, by the start's likelihoods."""
    min_distinct: fields.Share = 0.98
    """Share of answers that occur once."""
    max_nll_rise: fields.NotNegative = 0.03
    """Reference NLL over the start's, 0.03 = 3 %: how much content a round may cost."""
    min_median_characters: fields.NotNegative = 80
    max_median_characters: fields.NotNegative = 400
    accelerate_config: str = ""
    """As a stage's; the processes share the prompts, here and where a distillation's are answered."""


@record
class AlignRecipe(Recipe):
    """Rounds of preference pairs, DPO and a gate; each round starts from the one before, which is also its reference."""

    start: fields.Text
    """The SFT checkpoint that round 1 starts from; not read where `sft` is given."""
    output_dir: fields.Text
    preferences: StageArgs
    dpo: StageArgs
    gate: AcceptanceArgs
    sft: StageArgs | None = None
    """Train the start too, with this run's seed."""
    evaluate: StageArgs | None = None
    """Judge start and best round at the end, on prompts that no gate has seen."""
    rounds: fields.AtLeastOne = 3
    per_round: tuple[RoundArgs, ...] = ()
    """One entry per round, in order; rounds beyond the list have none."""
    min_gain: fields.NotNegative = 0.01
    """Stop after a round that brings less natural share than this."""
    min_pairs: fields.AtLeastOne = 16
    """Stop before training on fewer pairs than this: there is little left to repair."""
    interpolation: fields.ShareAboveZero = 1.0
    """How far from the start's weights to the best round's the result is; 0.8 goes a fifth of the way back, which gives back
    content that the rounds cost. The gate judges it too: where it is worse than the round, the round is the result."""
    distill: DistillStageArgs | None = None
    """An SFT recipe with `distill:`. What the rounds (and interpolation) made is trained by it on its own greedy answers. The
    gate judges it too: where it is worse, it is not the result."""
    seed: fields.Seed = 42
    """Of sampling and training; every round draws others from it."""
    seeds: tuple[fields.Seed, ...] = ()
    """Do it all once with each of these, in OUTPUT_DIR/seed-N, and write one table of all."""
    gpus: tuple[str, ...] = ()
    """GPUs (CUDA_VISIBLE_DEVICES) on which the seeds run at once, one on each; none: one seed after another."""

    def inputs(self) -> Iterator[InputPath]:
        if self.sft is None:
            yield InputPath("start", self.start, "model", "run_sft sft")
        yield InputPath("gate.prompts_file", self.gate.prompts_file, "file", "build_sft_data data")
        if self.distill:
            yield from files("distill.prompts_files", self.distill.prompts_files, "build_sft_data data")


@record
class MergeRecipe(Recipe):
    """Checkpoints of one base as one model, chosen by a gate: points between two of them, or the mean of several."""

    models: dict[str, str]
    """Name in the table → checkpoint; the first is the start, whose reference NLL sets the gate's limit."""
    output_dir: fields.Text
    gate: AcceptanceArgs
    shares: tuple[fields.ShareAboveZero, ...] = (0.25, 0.5, 0.75)
    """Of two models: how far each candidate is from the first to the second."""
    spherical: fields.YesNo = False
    """Each of those also along the arc (SLERP)."""
    dtype: fields.Dtype = "auto"

    def problems(self) -> Iterator[Problem]:
        if len(self.models) < 2:
            yield Problem("models", "there is nothing to merge", "two checkpoints or more, 'name: checkpoint'")

    def inputs(self) -> Iterator[InputPath]:
        for name, model in self.models.items():
            yield InputPath(f"models.{name}", model, "model", "run_dpo dpo")
        yield InputPath("gate.prompts_file", self.gate.prompts_file, "file", "build_sft_data data")
