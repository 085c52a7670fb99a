"""The recipes of SFT and DPO: model, LoRA, data, TRL's own options under `training`, the greedy gate, distillation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from align_ko.recipe import fields
from align_ko.recipe.record import InputPath, Problem, Recipe, TrlConfig, config_fields, record, unknown_name

Resume = Literal["auto", "replace", "fresh", "force", "weights"]
Training = Mapping[str, Any]  # fields of a TRL config
GATE_METRICS = ("greedy_natural", "greedy_stopped")  # higher is better; `metric_for_best_model` takes them


@record
class ModelArgs:
    """The model and its adapter; TRL's ModelConfig names."""

    model_name_or_path: fields.Text
    """Hub id or folder. `quickstart` is the Gemma 3 270M folder that prepare_model.py made."""
    model_revision: str | None = None
    """Branch, tag or commit of a hub model."""
    trust_remote_code: fields.YesNo = False
    """Run the Python files that a hub model brings."""
    dtype: fields.Dtype = "auto"
    """`auto`: bfloat16 where the hardware has it, float32 otherwise."""
    attn_implementation: str | None = None
    """For example flash_attention_2, sdpa, eager; null: transformers chooses."""
    use_peft: fields.YesNo = True
    """Train a LoRA adapter; false: all weights."""
    lora_r: fields.AtLeastOne = 64
    """Rank of the adapter's matrices."""
    lora_alpha: fields.AtLeastOne = 128
    """The adapter's output is scaled by lora_alpha / lora_r."""
    lora_dropout: fields.ShareBelowOne = 0.05
    lora_target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Ends of module names; or one regular expression for whole names, where those ends also occur in a vision tower."""
    use_rslora: fields.YesNo = False
    """Scale by lora_alpha / √lora_r, which keeps its strength at a large rank."""
    use_dora: fields.YesNo = False
    """Learn the length of each weight vector apart from its direction."""
    load_in_4bit: fields.YesNo = False
    """QLoRA: the base in 4 bits, computed in bfloat16. The gate answers from these weights; merging takes the base unquantised,
    another model by the rounding, and so do pairs and evaluation without `generation.load_in_4bit`. The manifest says so under
    `weights.trained_on`."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    use_bnb_nested_quant: fields.YesNo = True
    """Quantise the quantisation's constants too."""


@record
class StartModelArgs(ModelArgs):
    """DPO's `model:`; the base is the start's own."""

    model_name_or_path: str = ""
    """Not needed; where it is given, it has to be the base of the start."""


@record
class TrainData:
    """Rows of training, as curation or the pair builder wrote them or in any shape that these read: files or folders."""

    train_file: fields.Text
    eval_file: fields.Text
    chat_template: fields.Text = "default"
    """`default` (ours), `eeve`, `gemma3`, `llama3`, `llama3_1`, `qwen2_5`, `qwen3`, `tokenizer` for the one that a chat model
    brings, or a path to a Jinja file. DPO keeps the SFT checkpoint's."""
    leave_out: tuple[str, ...] = ()
    """Ids of rows, of either file, that are not used."""


@record
class EarlyStopping:
    """Stops training where it begins to overfit."""

    patience: fields.AtLeastOne = 1
    """Evaluations with a risen eval loss before training stops."""


@record
class GateArgs:
    """The training gate: a few prompts answered greedily at every evaluation, the numbers that eval loss does not show."""

    prompts: fields.ZeroOrMore = 0
    """How many prompts are answered; 0: no gate."""
    prompts_file: str = ""
    """JSONL rows with `messages` or `prompt`; empty: data.eval_file. Not the prompts of the final evaluation."""
    max_new_tokens: fields.AtLeastOne | None = None
    """Longest answer; null: half as much again as the references take under this tokenizer."""
    batch_size: fields.AtLeastOne = 16
    max_seconds: fields.Positive = 120.0
    """When an evaluation takes longer, what was answered until then counts."""
    stop_margin: fields.Share | None = 0.1
    """Training stops when the natural share falls below that of the start by more than this; null: never."""
    min_relevant: fields.Share | None = None
    """Training stops when a smaller share of the answers belongs to its prompts, by the likelihoods of the model in training
    (generation/relevance.py); null: not measured."""

    def problems(self, training: Training) -> Iterator[Problem]:
        metric = str(training.get("metric_for_best_model") or "").removeprefix("eval_")
        chooses, key = metric.startswith("greedy_"), "training.metric_for_best_model"
        if not self.prompts:
            if chooses:
                yield Problem(key, f"{metric} needs the greedy gate", "gate.prompts above 0, 32 for instance")
        elif training.get("eval_strategy", "no") == "no":
            problem = "the gate looks at every evaluation, and there is none"
            yield Problem("gate.prompts", problem, "training.eval_strategy: steps")
        elif chooses and metric not in GATE_METRICS:
            yield Problem(key, f"{metric} cannot choose", "eval_loss, " + " or ".join(GATE_METRICS))
        elif chooses and training.get("greater_is_better") is False:
            problem = f"false would keep the checkpoint with the worst {metric}"
            yield Problem("training.greater_is_better", problem, "true, or leave it out")

    def inputs(self) -> Iterator[InputPath]:
        if self.prompts and self.prompts_file:
            yield InputPath("gate.prompts_file", self.prompts_file, "file")


@record
class DistillArgs:
    """Decoding knobs that training makes needless: the loss is the KL divergence from the starting model under all of them."""

    repetition_penalty: fields.Positive = 1.0
    """As in transformers' generate, but over the answer's own tokens alone; 1.0: off."""
    match_penalty: fields.NotNegative = 0.0
    """How much, in nats, a token is lowered that would say a stretch of `match_length` tokens of the answer again with what
    followed it; 1.75 times as much for each token that the stretch is longer (DRY sampling, whose default is 0.8); 0: off."""
    match_length: fields.AtLeastOne = 2
    forbid_faults: fields.YesNo = False
    """The token that opens a fault in a row's answer is made impossible there: plain endings, foreign words and leaks, which
    no penalty reaches, and words said again (Targeted Negative Training, arXiv 2406.13660)."""
    system: str = ""
    """A system message that the teacher reads and the student does not, so that the model answers so unasked (context
    distillation, arXiv 2112.00861, section 2.2.1)."""

    @property
    def wanted(self) -> bool:
        """Whether anything is distilled: else it is plain SFT. Of a distillation nothing stops early."""
        return self.repetition_penalty != 1 or self.match_penalty > 0 or self.forbid_faults or bool(self.system)

    def problems(self, use_peft: bool, training: Training) -> Iterator[Problem]:
        if not self.wanted:
            return
        if self.repetition_penalty < 1:
            problem = f"{self.repetition_penalty:g} would teach the model to repeat itself"
            yield Problem("distill.repetition_penalty", problem, "1.0 (off) or more")
        if not use_peft:
            problem = "the teacher is the model without its adapter, and here there is none"
            yield Problem("distill", problem, "model.use_peft: true")
        for other in ("packing", "padding_free", "loss_type"):
            if training.get(other):
                problem = "distillation has a loss of its own, over padded batches"
                yield Problem(f"training.{other}", problem, "no such key beside distill")


@record
class SftRecipe(Recipe):
    """Supervised fine-tuning."""

    model: ModelArgs
    data: TrainData
    training: Annotated[dict[str, Any], TrlConfig("SFTConfig")]
    """Any field of TRL's SFTConfig."""
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    merge_adapter: fields.YesNo = False
    """Also merge the adapter: the output folder is then a plain transformers model (the adapter stays in adapter/)."""
    merge_start: fields.YesNo = False
    """Where the start is an adapter folder: merge it first and train a new adapter on that; false: train it on. Distillation
    and full fine-tuning always merge."""
    gate: GateArgs = field(default_factory=GateArgs)
    distill: DistillArgs = field(default_factory=DistillArgs)
    """Instead of the rows' answers, what the model itself would say about them under a decoding knob."""
    resume: Resume = "auto"
    """In a folder that was used before. auto: the same run goes on from its last whole checkpoint, a finished one is not
    repeated, a changed one is refused. replace: a changed run is started over. fresh: start over. force: go on although
    recipe or data have changed. weights: go on from a checkpoint's weights and step alone, where its optimizer is lost."""

    def problems(self) -> Iterator[Problem]:
        attention = self.model.attn_implementation or ""
        for key in ("packing", "padding_free"):
            if self.training.get(key) and "flash" not in attention:
                expected = "model.attn_implementation: flash_attention_2, or train_sampling_strategy: group_by_length"
                problem = "packed rows attend to each other without FlashAttention"
                yield Problem(f"training.{key}", problem, f"{expected} and no {key}")
        yield from training_problems(self.training)
        yield from self.gate.problems(self.training)
        yield from self.distill.problems(self.model.use_peft, self.training)

    def inputs(self) -> Iterator[InputPath]:
        yield InputPath("model.model_name_or_path", self.model.model_name_or_path, "model")
        made_by = "evaluate own_answers" if self.distill.wanted else "build_sft_data data"
        yield InputPath("data.train_file", self.data.train_file, "rows", made_by)
        yield InputPath("data.eval_file", self.data.eval_file, "rows", "build_sft_data data")
        yield InputPath("data.chat_template", self.data.chat_template, "template")
        yield from self.gate.inputs()


@record
class DpoRecipe(Recipe):
    """DPO from the SFT checkpoint."""

    model_name_or_path: fields.Text
    """The SFT checkpoint: an adapter folder (trained on, its frozen copy is the reference) or a full model."""
    data: TrainData
    training: Annotated[dict[str, Any], TrlConfig("DPOConfig")]
    """Any field of TRL's DPOConfig."""
    model: StartModelArgs | None = None
    """Number format and quantisation; for a full model as start also the new adapter."""
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    merge_adapter: fields.YesNo = False
    """Also merge the adapter: the output folder is then a plain transformers model (the adapter stays in adapter/)."""
    gate: GateArgs = field(default_factory=GateArgs)
    resume: Resume = "auto"
    """As in an SFT recipe. auto: go on, never repeat, refuse what changed. replace: start a changed run over. fresh: start
    over. force: go on."""

    def problems(self) -> Iterator[Problem]:
        yield from training_problems(self.training)
        yield from self.gate.problems(self.training)
        for problem in loss_problems(self.training):
            yield problem._replace(key=f"training.{problem.key}")

    def inputs(self) -> Iterator[InputPath]:
        yield InputPath("model_name_or_path", self.model_name_or_path, "model", "run_sft sft")
        for key in ("train_file", "eval_file"):
            yield InputPath(f"data.{key}", getattr(self.data, key), "rows", "build_preferences preferences")
        yield InputPath("data.chat_template", self.data.chat_template, "template")
        yield from self.gate.inputs()


def training_problems(training: Training) -> Iterator[Problem]:
    """What TRL or transformers would only say after half a minute, and without the line."""
    if not training.get("output_dir"):
        yield Problem("training.output_dir", "this key is missing", "the folder for the checkpoint")
    if training.get("packing") and (strategy := training.get("packing_strategy", "bfd")) != "bfd":
        yield Problem("training.packing_strategy", f"'{strategy}' cuts conversations in two", "bfd")
    losses, weights = training.get("loss_type"), training.get("loss_weights")
    if weights is not None and len(weights) != (count := len(losses) if isinstance(losses, list) else 1):
        yield Problem("training.loss_weights", f"{len(weights)} weights for {count} losses", "one weight for each loss_type")
    saves, evaluates = training.get("save_strategy", "steps"), training.get("eval_strategy", "no")
    if not training.get("load_best_model_at_end") or saves == "best":
        return
    if saves != evaluates:
        problem = f"save_strategy is {saves} and eval_strategy is {evaluates}"
        yield Problem("training.load_best_model_at_end", problem, "the same for both, or every best model is lost")
    save_steps = training.get("save_steps", 500)
    eval_steps = training.get("eval_steps") or training.get("logging_steps", 10)
    if saves == "steps" and eval_steps >= 1 and save_steps % eval_steps:
        yield Problem("training.save_steps", f"{save_steps} cannot work", f"a multiple of eval_steps ({eval_steps})")


# -------------------- DPO's losses: TRL 1.16 ignores most wrong combinations in silence (trl/trainer/dpo_trainer.py)

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
# key → (the losses or the key that read it, in words); anywhere else TRL ignores the key
READ_BY_LOSSES: dict[str, tuple[str, ...]] = {
    "label_smoothing": ("robust", "exo_pair", "aot", "aot_unpaired"),
    "discopop_tau": ("discopop",),
    "beta": tuple(loss for loss in LOSSES if loss != "sft"),
    "ld_alpha": tuple(loss for loss in LOSSES if loss != "sft"),
}
READ_WITH = {
    "f_alpha_divergence_coef": "f_divergence_type: alpha_divergence",
    "ref_model_mixup_alpha": "sync_ref_model: true",
    "ref_model_sync_steps": "sync_ref_model: true",
    "precompute_ref_batch_size": "precompute_ref_log_probs: true",
}


def loss_problems(training: Training) -> Iterator[Problem]:
    """Loss keys of `training` that do not work together; tests/training/test_dpo_losses.py shows on a tiny model what works.

    `{"loss_type": ["sigmoid"], "label_smoothing": 0.1}` → ("label_smoothing", "sigmoid does not read it: …", …)
    """
    stated = training.get("loss_type", ["sigmoid"])
    losses = [stated] if isinstance(stated, str) else list(stated or ())
    for loss in losses:
        if loss not in LOSSES:
            yield unknown_name("loss_type", f"'{loss}' is no loss", str(loss), LOSSES)
    named = " and ".join(map(str, losses))
    for key, readers in READ_BY_LOSSES.items():
        if _is_set(training, key) and not set(losses) & set(readers):
            ignored = f"{named} does not read it, TRL would ignore it in silence"
            yield Problem(key, ignored, f"loss_type with {' or '.join(readers[:4])}")
    for key, needed in READ_WITH.items():
        other, _, value = needed.partition(": ")
        if _is_set(training, key) and str(training.get(other)).lower() != value:
            yield Problem(key, "TRL would ignore it in silence", f"it beside {needed}")
    normalised = [loss for loss in losses if loss in ("sigmoid_norm", "ipo")]
    if training.get("ld_alpha") is not None and normalised:
        problem = f"{normalised[0]} divides by the whole length, which ld_alpha has already discounted"
        yield Problem("ld_alpha", problem, "one of the two corrections of length")
    if training.get("use_weighting") and "sft" in losses:
        yield Problem("use_weighting", "TRL cannot weigh pairs beside the sft term", "loss_type without sft")
    if training.get("padding_free"):
        yield Problem("padding_free", "TRL's DPO ignores it", "false")
    if _is_set(training, "truncation_mode"):
        problem = "nothing is truncated here: pairs over max_length are left out whole"
        yield Problem("truncation_mode", problem, "no such key")


def _is_set(training: Training, key: str) -> bool:
    """Given, and other than TRL's default."""
    return key in training and training[key] != config_fields("DPOConfig")[key].default
