"""The recipe of preference pairs: how answers are generated, who judges them, which become pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import KW_ONLY, field
from typing import Literal

from align_ko.manifest import secrets_of
from align_ko.recipe import fields
from align_ko.recipe.record import InputPath, Problem, Recipe, files, record, unknown_name

Server = Literal["vllm", "sglang", "llama_cpp", "ollama", "transformers"]
PromptForm = Literal["auto", "token_ids", "text", "messages"]
SYNTHETIC_FAULTS = ("wrong_register", "mixed_register", "repetition", "unfinished", "filler", "strange_characters", "echo")
"""What preferences/synthetic.py can put into an answer, by the code that assess gives it."""


# -------------------- generation


@record
class DecodingArgs:
    """One decoding setting; the defaults are greedy. transformers' generate names."""

    temperature: fields.NotNegative = 0.0
    """0 means greedy."""
    top_p: fields.ShareAboveZero = 1.0
    repetition_penalty: fields.Positive = 1.0


@record
class CandidateArgs(DecodingArgs):
    samples: fields.AtLeastOne = 1
    """Answers per prompt under this setting."""
    system: str = ""
    """A system message that the model reads when it answers and not when it is trained, so that it learns to answer so unasked
    (context distillation: Askell et al. 2021, arXiv 2112.00861). `{reference}` in it is the curated answer; prompts without one
    are then not asked under this setting."""


@record
class GenerationArgs:
    max_new_tokens: fields.AtLeastOne = 256
    batch_size: fields.AtLeastOne = 32
    """Prompts at once; it shrinks by itself where memory runs out."""
    dtype: fields.Dtype = "auto"
    load_in_4bit: fields.YesNo = False
    """Answer from the weights that QLoRA trains, the adapter beside a base in 4 bits, in place of the merged model (how much
    that changes: docs/experiments.md)."""
    seed: fields.Seed = 42


@record
class EndpointArgs:
    """An OpenAI-compatible server that already serves the checkpoint."""

    base_url: fields.Text
    """For example http://localhost:8000/v1."""
    model: fields.Text
    """The name under which the server serves the checkpoint."""
    more_base_urls: tuple[fields.Text, ...] = ()
    """Further servers of the same checkpoint: each request goes to the one with fewest under way. One that fails is left out
    for the rest of the run, and what it had not answered goes to the others."""
    server: Server = "vllm"
    """Servers name the repetition penalty differently and have sampling defaults of their own; both are set by this."""
    send: PromptForm = "auto"
    """How prompts are sent. token_ids: exactly the ids of training (vllm, sglang, llama_cpp). text: rendered here
    (transformers). messages: the server's own template renders them (ollama)."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; the key itself is written to no file."""
    concurrency: fields.AtLeastOne = 32
    """Requests in flight at once, per server."""
    timeout: fields.Positive = 300.0
    """Seconds for one answer."""
    max_retries: fields.ZeroOrMore = 8
    """Retries after 408, 409, 429, 5xx, a timeout or a dropped connection or a reply that is no completion, 0.5 to 8 s
    apart or, up to a minute, as the server asks."""
    check_prompt: fields.YesNo = True
    """Stop when the server counts other prompt tokens than the checkpoint's own format gives: its template drifted."""
    extra_body: dict[str, fields.Free] = field(default_factory=dict)
    """More fields for every request, over those that `server` sets."""


# -------------------- judges


@record
class JudgeWeights:
    """What each judge counts. Every judge gives 0 to 1; the score is their mean by these weights, 0 = not asked."""

    naturalness: fields.NotNegative = 0.4
    """assess's score."""
    variety: fields.NotNegative = 0.3
    """Few words and phrases that repeat."""
    likelihood: fields.NotNegative = 0.15
    """Whether the answer belongs to the question (generation/relevance.py); only answers without a fault are asked about."""
    reference: fields.NotNegative = 0.15
    """Closeness to the curated answer; left out where a prompt has none."""
    reward_model: fields.NotNegative = 0.0
    """Share of the prompt's other answers that the reward model puts below this one."""
    llm: fields.NotNegative = 0.0
    """Share of the comparisons that the endpoint's model decides for this answer."""


@record
class LikelihoodArgs:
    """The model by whose likelihoods an answer belongs to its question or does not."""

    model_name_or_path: str = ""
    """Empty: the model that answers."""
    dtype: fields.Dtype = "auto"
    load_in_4bit: fields.YesNo = False
    """As in `generation`."""


@record
class JudgeServerArgs:
    """Where a judge is asked that a server has loaded."""

    _: KW_ONLY
    base_url: str = ""
    """For example http://localhost:8000/v1."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key, for example OPENAI_API_KEY; a local server needs none."""
    more_base_urls: tuple[fields.Text, ...] = ()
    """Further servers of the same model, as `endpoint.more_base_urls`; the verdicts kept on disk belong to `base_url`."""
    concurrency: fields.AtLeastOne = 8
    """Requests in flight at once, per server."""
    timeout: fields.Positive = 120.0
    """Seconds for one call."""
    max_retries: fields.ZeroOrMore = 5


@record
class RewardModelArgs(JudgeServerArgs):
    """Any sequence-classification model of transformers with one label, or two of which the second is the good one: loaded
    here, or asked at `base_url`."""

    model_name_or_path: str = ""
    """With `base_url` the folder or hub id of the tokenizer in whose chat format answers are sent."""
    server: Literal["vllm", "sglang"] = "vllm"
    """What answers at `base_url`."""
    model: str = ""
    """The name under which it serves the model; empty: `model_name_or_path`."""
    batch_size: fields.AtLeastOne = 8
    max_length: fields.AtLeastOne = 2048
    """Tokens of question and answer; of longer ones the beginning is left out."""
    dtype: fields.Dtype = "auto"


@record
class JudgeEndpointArgs(JudgeServerArgs):
    """A larger model behind an OpenAI-compatible endpoint, as judge."""

    base_url: fields.Text = "http://localhost:8000/v1"
    model: str = ""
    max_tokens: fields.AtLeastOne = 400
    """Of the judge's own answer."""


@record
class LlmJudgeArgs(JudgeEndpointArgs):
    """A judge that compares two answers at a time, in both orders."""

    top: fields.AtLeastOne = 3
    """So many of a prompt's fit candidates, the best by the other judges, are compared with each other and with a faultless
    greedy answer: 3 and the greedy one are 6 comparisons, 12 calls."""


@record
class JudgesArgs:
    """Who judges the candidates. What costs (likelihood, reward_model, llm) is asked only where its weight is above 0, and kept
    on disk."""

    weights: JudgeWeights = field(default_factory=JudgeWeights)
    reward_model: RewardModelArgs = field(default_factory=RewardModelArgs)
    llm: LlmJudgeArgs = field(default_factory=LlmJudgeArgs)
    likelihood: LikelihoodArgs = field(default_factory=LikelihoodArgs)

    def problems(self) -> Iterator[Problem]:
        if not any(dataclasses.asdict(self.weights).values()):
            yield Problem("judges.weights", "all weights are 0", "at least one judge with a weight above 0")
        named = {"reward_model.model_name_or_path": self.reward_model.model_name_or_path, "llm.model": self.llm.model}
        for key, name in named.items():
            judge = key.partition(".")[0]
            weight = getattr(self.weights, judge)
            if weight and not name:
                problem = f"this key is missing, and judges.weights.{judge} is {weight}"
                yield Problem(f"judges.{key}", problem, "the model that judges")


# -------------------- pairs


def secret_problems(section: str, server: EndpointArgs | JudgeServerArgs) -> Iterator[Problem]:
    """A recipe is copied into manifests and round recipes, so it holds no key."""
    for name in secrets_of(dataclasses.asdict(server)):
        key = name if hasattr(server, name) else f"extra_body.{name}"
        expected = f"the name of an environment variable with it in {section}.api_key_env"
        yield Problem(f"{section}.{key}", "this contains a secret, and recipes are copied into files", expected)


@record
class PairingArgs:
    chosen: Literal["candidate", "reference", "both"] = "candidate"
    """The better side of a repair pair. candidate: the best fit candidate, else the curated answer. reference: the curated
    answer where there is one. both: a pair with each."""
    rejected_samples: fields.ZeroOrMore = 0
    """Where the greedy answer is faulty, so many faulty samples (the worst first) are rejected too, in pairs of their own; with
    `both`, against the curated answer. Draw them at a low temperature without a repetition penalty: they fail as greedy
    decoding does."""
    max_similarity: fields.Share = 0.8
    """Drop pairs whose two sides share more than this of their character trigrams."""
    length_tolerance: fields.NotNegative = 1.0
    """|chosen - rejected| / chosen in characters; a longer rejected side is cut, a shorter one drops the pair."""
    min_chosen_score: fields.Share = 0.5
    """Naturalness (assess's score) that a chosen candidate needs: of the quickstart's natural candidates 82 % have it."""
    min_variety: fields.Share = 0.75
    """Word variety that a chosen candidate needs (preferences/judges.py)."""
    min_closeness: fields.Share = 0.0
    """Share of character trigrams with the curated answer (0-1) that a chosen candidate needs; else that answer is chosen.
    0.1 rejects nine in ten of the quickstart model's candidates (docs/preferences.md)."""
    contrast_margin: float = 0.25
    """How much better than a faultless greedy answer a candidate must be judged to make a contrast pair."""
    reference_share: fields.Share = 0.5
    """With `chosen: candidate`, at most this share of pairs may fall back on the curated answer (1.0 = no bound)."""
    candidate_share: fields.Share = 1.0
    """At most this share of pairs may have one of the model's own candidates as chosen; the rest are curated answers. A small
    model's candidates read well and say little: a few of them show the form, the curated answers hold the content."""
    contrast_share: fields.Share = 1.0
    """At most this share of pairs may be contrasts of two natural answers."""
    synthetic_share: fields.Share = 0.0
    """This share of all pairs sets a chosen candidate against a copy of it that was spoilt on purpose."""
    curated_share: fields.Share = 0.0
    """This share of all pairs sets a curated answer against a spoilt copy, so that the loss acts on curated answers too."""
    synthetic_faults: tuple[str, ...] = SYNTHETIC_FAULTS
    """The faults that are put into copies, by turns."""
    fault_share: fields.Share = 1.0
    """At most this share of the pairs may be rejected for one and the same gravest fault; surplus goes, small margins first."""
    max_collapse: fields.Share = 1.0
    """Share of a chosen answer's word trigrams that may also be in those to three other prompts; above it the pair goes."""
    drop_shared_filler: fields.YesNo = True
    """Drop pairs in which one and the same filler crowds both sides."""
    eval_share: fields.ShareBelowOne = 0.05
    """Share of the pairs held out for eval loss."""
    seed: fields.Seed = 42
    """Of the spoilt copies: which fault, and where."""

    def problems(self) -> Iterator[Problem]:
        if (both := self.synthetic_share + self.curated_share) >= 1:
            problem = f"synthetic_share and curated_share are {both:g} together"
            yield Problem("pairing.synthetic_share", problem, "less than 1: the rest comes from real failures")
        for number, name in enumerate(self.synthetic_faults):
            if name not in SYNTHETIC_FAULTS:
                yield unknown_name(f"pairing.synthetic_faults[{number}]", f"unknown fault '{name}'", name, SYNTHETIC_FAULTS)


@record
class PreferencesRecipe(Recipe):
    """SFT checkpoint → preference pairs."""

    model_name_or_path: fields.Text
    prompts_file: fields.Text
    """JSONL with `messages` (a last assistant turn is the reference), or with `prompt`: text or messages, no reference."""
    output_dir: fields.Text
    skip_prompts_files: tuple[str, ...] = ()
    """Prompts that these files contain are left out, for example those that SFT was trained on."""
    extra_pairs_files: tuple[str, ...] = ()
    """Preference pairs of your own, in any shape that run_dpo.py reads; they join those that are made here."""
    max_prompts: fields.ZeroOrMore = 0
    """0 = all."""
    first_prompt: fields.ZeroOrMore = 0
    """Where in the shuffled prompts to begin (past the end: from the start again), so that another round asks others."""
    candidates: dict[str, CandidateArgs] = field(
        default_factory=lambda: {"cool": CandidateArgs(0.7, 0.9, 1.1), "warm": CandidateArgs(1.0, 0.9, 1.1)}
    )
    """The sampled candidates per prompt, `samples` of each entry; the greedy answer is always drawn."""
    generation: GenerationArgs = field(default_factory=GenerationArgs)
    endpoint: EndpointArgs | None = None
    """A server that draws the answers; without it the checkpoint is loaded here."""
    judges: JudgesArgs = field(default_factory=JudgesArgs)
    pairing: PairingArgs = field(default_factory=PairingArgs)
    evaluation_files: tuple[str, ...] = ()
    """Prompt files that no pair may come from (exact or near)."""
    trust_remote_code: fields.YesNo = False
    """Run the Python code that a model from elsewhere brings; what was trained here with this permission keeps it."""

    def problems(self) -> Iterator[Problem]:
        if "greedy" in self.candidates:
            yield Problem("candidates.greedy", "this name is taken: greedy is always drawn", "another name")
        for name, setting in self.candidates.items():
            if setting.temperature == 0 and setting.samples > 1:
                problem = f"{setting.samples} answers without sampling are all the same"
                yield Problem(f"candidates.{name}.samples", problem, "1, or a temperature above 0")
        if self.endpoint:
            if self.generation.load_in_4bit:
                problem = "the endpoint answers, from weights of its own"
                yield Problem("generation.load_in_4bit", problem, "false, or no endpoint")
            yield from secret_problems("endpoint", self.endpoint)
        yield from secret_problems("judges.llm", self.judges.llm)
        yield from secret_problems("judges.reward_model", self.judges.reward_model)
        yield from self.judges.problems()
        yield from self.pairing.problems()

    def inputs(self) -> Iterator[InputPath]:
        yield InputPath("model_name_or_path", self.model_name_or_path, "model", "run_sft sft")
        for judge in ("likelihood", "reward_model"):
            if getattr(self.judges.weights, judge) and (model := getattr(self.judges, judge).model_name_or_path):
                yield InputPath(f"judges.{judge}.model_name_or_path", model, "model")
        yield InputPath("prompts_file", self.prompts_file, "file", "build_sft_data data")
        yield from files("skip_prompts_files", self.skip_prompts_files)
        yield from files("extra_pairs_files", self.extra_pairs_files)
        yield from files("evaluation_files", self.evaluation_files)
