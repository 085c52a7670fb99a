"""Recipes: one frozen dataclass per stage. No torch here, so --help and mistakes answer at once.

`load_recipe(SftRecipe, argv)` (recipe/load.py) reads the YAML, lays the command line over it and returns the record.
Wherever TRL or transformers has a name for an option, ours is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from align_ko.recipe.align import AblationRecipe as AblationRecipe
from align_ko.recipe.align import AlignRecipe as AlignRecipe
from align_ko.recipe.align import CompareRecipe as CompareRecipe
from align_ko.recipe.generation import EndpointArgs
from align_ko.recipe.preferences import JudgesArgs as JudgesArgs
from align_ko.recipe.preferences import PairingArgs as PairingArgs
from align_ko.recipe.training import DistillArgs, GateArgs, Resume

Selection = Literal["random", "quality", "quality_diverse"]


@dataclass(frozen=True)
class ModelArgs:
    """TRL's ModelConfig names."""

    model_name_or_path: str
    """Hub id or folder. `quickstart` is the Gemma 3 270M folder that prepare_quickstart_model.py made."""
    model_revision: str | None = None
    trust_remote_code: bool = False
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """`auto`: bfloat16 where the hardware has it, float32 otherwise."""
    attn_implementation: str | None = None
    use_peft: bool = True
    lora_r: int = 64
    lora_alpha: int = 128
    lora_dropout: float = 0.05
    lora_target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Ends of module names; or one regular expression for whole names, where those ends also stand in a vision tower."""
    use_rslora: bool = False
    use_dora: bool = False
    load_in_4bit: bool = False
    """NF4 with bfloat16 compute."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    use_bnb_nested_quant: bool = True


@dataclass(frozen=True)
class StartModelArgs(ModelArgs):
    """DPO's `model:`; the base is the start's own."""

    model_name_or_path: str = ""
    """Not needed; where it is given, it has to be the base of the start."""


@dataclass(frozen=True)
class SourceArgs:
    """One raw source. `path` is a file, a folder of files, or a hub dataset id."""

    path: str
    group: Literal["instruction", "dialogue", "knowledge", "auto"] = "auto"
    """`auto`: by the row's own `source` field through `groups`."""
    adapter: Literal["auto", "messages", "instruction", "question_answer"] = "auto"
    split: str = "train"
    columns: dict[str, str] = field(default_factory=dict)
    """Our name → the file's column, e.g. {question: Q, answer: A}."""


@dataclass(frozen=True)
class LengthBounds:
    """Characters, inclusive."""

    min_question: int = 15
    max_question: int = 500
    min_answer: int = 50
    max_answer: int = 1500


@dataclass(frozen=True)
class NearDuplicateArgs:
    """How alike (0-1) two rows have to be for the weaker one to fall; above 1: never. Examples: curation/near_duplicates.py."""

    question: float = 0.58
    long_question: float = 0.8
    """Beyond about 65 syllables."""
    answer: float = 0.7


@dataclass(frozen=True)
class DataRecipe:
    """Raw rows → curated train.jsonl and eval.jsonl."""

    sources: dict[str, SourceArgs]
    output_dir: str
    groups: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "instruction": ("kullm_v2", "koalpaca"),
            "dialogue": ("smol_koreantalk",),
            "knowledge": ("kowiki_qa",),
        }
    )
    """Which `source` names belong to which group."""
    weights: dict[str, float] = field(default_factory=lambda: {"instruction": 0.60, "dialogue": 0.25, "knowledge": 0.15})
    max_samples: int = 100_000
    on_shortage: Literal["shrink", "fill", "upsample"] = "shrink"
    """shrink: keep the weights, take fewer. fill: other groups fill the total. upsample: repeat rows."""
    selection: Selection = "random"
    """Which rows of a group are taken: any, the best, or the best of many topics (score, answers of 150-500 characters)."""
    lengths: dict[str, LengthBounds] = field(
        default_factory=lambda: {
            "instruction": LengthBounds(),
            "dialogue": LengthBounds(min_question=2, min_answer=10),
            "knowledge": LengthBounds(min_question=8),
        }
    )
    require_speech_level: Literal["polite", "consistent", "any"] = "polite"
    filters: tuple[str, ...] = ()
    """Names of filters to run, in order; empty means all of them in their standard order."""
    repairs: tuple[str, ...] = ("nfc", "white_space", "full_width", "stray_markers", "particles")
    """Harmless mistakes that are put right; a repaired row says so. Others: format_tokens."""
    personal_data: Literal["mask", "drop", "keep"] = "mask"
    """Telephone, resident, card and account numbers, e-mail: masked as [전화번호], or the row is dropped."""
    profanity_file: str = ""
    """A list of swear words, one a line; empty: the one that ships."""
    refusal_share: float = 0.5
    """Part of an answer that refusal and apology must make up for `wrong_refusal`."""
    off_topic_words: int = 3
    """Content words that a question needs for its answer to be judged off topic; fewer finds more and errs more."""
    near_duplicates: NearDuplicateArgs = NearDuplicateArgs()
    eval_share: float = 0.05
    """Share of rows held out for eval loss, chosen by content hash."""
    preference_share: float = 0.0
    """Share of rows set apart for preference pairs, into preferences.jsonl: SFT never sees them, so greedy decoding fails on
    them as it will on a user's prompts, and their curated answers are new to DPO."""
    evaluation_files: tuple[str, ...] = ()
    """Prompt files that training must never see (exact or near)."""
    max_broken_share: float = 0.5
    """Stop with an error when more than this share of a source's rows cannot be read."""
    num_proc: int = 0
    """Processes that judge the rows; 0: one per core where the data is large enough to need them. The outcome is the same."""
    seed: int = 42


@dataclass(frozen=True)
class TrainData:
    train_file: str
    eval_file: str
    chat_template: str = "default"
    """`default` (ours), `eeve`, `gemma3`, `llama3_1`, `qwen3`, `tokenizer` for the one that a chat model brings, or a path to a
    Jinja file. DPO keeps the SFT checkpoint's."""


@dataclass(frozen=True)
class EarlyStopping:
    patience: int = 1
    """Evaluations with a risen eval loss before training stops."""
    min_rise: float = 0.0
    """A rise smaller than this is noise."""


@dataclass(frozen=True)
class SftRecipe:
    """Supervised fine-tuning. `training` takes any field of TRL's SFTConfig."""

    model: ModelArgs
    data: TrainData
    training: dict[str, Any]
    early_stopping: EarlyStopping = EarlyStopping()
    merge_adapter: bool = False
    """Also merge the adapter: the output folder is then a plain transformers model (the adapter stays in adapter/)."""
    gate: GateArgs = field(default_factory=GateArgs)
    distill: DistillArgs = field(default_factory=DistillArgs)
    """Instead of the rows' answers, what the model itself would say about them under a decoding knob."""
    resume: Resume = "auto"
    """auto: go on, never repeat, refuse what changed. replace: start a changed run over. fresh: start over. force: go on."""


@dataclass(frozen=True)
class DecodingArgs:
    """One decoding setting; the defaults are greedy. transformers' generate names."""

    temperature: float = 0.0
    """0 means greedy."""
    top_p: float = 1.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class CandidateArgs(DecodingArgs):
    """One decoding setting of a preferences recipe."""

    samples: int = 1
    """Answers per prompt under this setting."""


@dataclass(frozen=True)
class GenerationArgs:
    max_new_tokens: int = 256
    batch_size: int = 32
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    seed: int = 42


@dataclass(frozen=True)
class PreferencesRecipe:
    """SFT checkpoint → preference pairs."""

    model_name_or_path: str
    prompts_file: str
    """JSONL with `messages` (a last assistant turn is the reference), or with `prompt`: text or messages, no reference."""
    output_dir: str
    skip_prompts_files: tuple[str, ...] = ()
    """Prompts that stand in these files are left out, for example those that SFT was trained on."""
    max_prompts: int = 0
    """0 = all."""
    first_prompt: int = 0
    """Where in the shuffled prompts to begin (past the end: from the start again), so that another round asks others."""
    candidates: dict[str, CandidateArgs] = field(
        default_factory=lambda: {
            "cool": CandidateArgs(0.7, 0.9, 1.1),
            "warm": CandidateArgs(1.0, 0.9, 1.1),
        }
    )
    """The sampled candidates per prompt, `samples` of each entry; the greedy answer is always drawn."""
    generation: GenerationArgs = GenerationArgs()
    endpoint: EndpointArgs | None = None
    """A server that draws the answers; without it the checkpoint is loaded here."""
    judges: JudgesArgs = field(default_factory=JudgesArgs)
    pairing: PairingArgs = field(default_factory=PairingArgs)
    evaluation_files: tuple[str, ...] = ()
    trust_remote_code: bool = False
    """Run the Python code that a model from elsewhere brings; what was trained here with this permission keeps it."""


@dataclass(frozen=True)
class DpoRecipe:
    """DPO from the SFT checkpoint. `training` takes any field of TRL's DPOConfig."""

    model_name_or_path: str
    """The SFT checkpoint: an adapter folder (trained on, its frozen copy is the reference) or a full model."""
    data: TrainData
    training: dict[str, Any]
    model: StartModelArgs | None = None
    """Number format and quantisation; for a full model as start also the new adapter."""
    early_stopping: EarlyStopping = EarlyStopping()
    merge_adapter: bool = False
    """Also merge the adapter: the output folder is then a plain transformers model (the adapter stays in adapter/)."""
    gate: GateArgs = field(default_factory=GateArgs)
    resume: Resume = "auto"
    """auto: go on, never repeat, refuse what changed. replace: start a changed run over. fresh: start over. force: go on."""


@dataclass(frozen=True)
class GridArgs:
    """All decoding settings that are compared with greedy for the decoding gap (scripts/decoding_gap.py)."""

    temperature: tuple[float, ...] = (0.3, 0.7, 1.0)
    top_p: tuple[float, ...] = (0.85, 0.9, 1.0)
    repetition_penalty: tuple[float, ...] = (1.0, 1.1)
    prompts: int = 0
    """How many of the prompts greedy and every cell answer; 0 = all."""
    models: tuple[str, ...] = ()
    """Names of `models`; empty: all of them."""


@dataclass(frozen=True)
class EvaluateRecipe:
    """Checkpoints judged under default decoding, and beside it under tuned settings."""

    models: dict[str, str]
    """Name in the table → checkpoint, e.g. {base: …, sft: …, dpo: …}."""
    prompts_file: str
    output_dir: str
    max_prompts: int = 0
    """How many of the prompts are asked, from the first one on; 0 = all."""
    chat_template: str = "default"
    """`default`: for models without one of their own (the base). Another: for every model that was not trained here."""
    probes: tuple[str, ...] = ("안녕하세요", "피보나치 수열이 뭐야?", "파이썬 코드 작성해줘", "오늘 날씨 어때?")
    sampling: dict[str, DecodingArgs] = field(
        default_factory=lambda: {
            "sampling_cool": DecodingArgs(0.7, 0.9, 1.1),
            "sampling_warm": DecodingArgs(1.0, 0.9, 1.1),
        }
    )
    sampling_prompts: int = 0
    """How many of the prompts the sampling settings answer; 0 = all."""
    grid: GridArgs = GridArgs()
    generation: GenerationArgs = GenerationArgs()
    trust_remote_code: bool = False
    """Run the Python code that a model from elsewhere brings; what was trained here with this permission keeps it."""


@dataclass(frozen=True)
class ExportRecipe:
    """Merge the adapter into a plain transformers folder, with an Ollama Modelfile beside it."""

    model_name_or_path: str
    output_dir: str
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    interpolate_from: str = ""
    """The checkpoint that training began with: the result is taken back towards it, which gives back what training cost."""
    interpolation: float = 1.0
    """How far the result lies from `interpolate_from` to the model: 0.8 goes a fifth of the way back."""
    trust_remote_code: bool = False
    """Run the Python code that a model from elsewhere brings; what was trained here with this permission keeps it."""
