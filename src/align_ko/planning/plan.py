"""What a run will cost, before it starts: parameters, memory per GPU, tokens, steps, operations, hours."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import NamedTuple

from transformers import PretrainedConfig

from align_ko.errors import UserError
from align_ko.models.load import load_tokenizer, training_source
from align_ko.planning import devices, lengths
from align_ko.planning.devices import GPUS, THIS, Gpu, Method, Pace, find_gpu, share_of_peak
from align_ko.planning.lengths import BATCHINGS, Lengths, Row
from align_ko.planning.memory import Disk, MemoryRow, memory_table, plan_disk, run_setting
from align_ko.planning.model_shape import Parameters, count_parameters, load_config, text_config
from align_ko.planning.settings import PlanFlags, RunSettings, run_settings
from align_ko.recipe import DpoRecipe, GrpoRecipe, SftRecipe

Shape = tuple[PretrainedConfig, Parameters]


@dataclass(frozen=True)
class DataFacts:
    file: str
    counted: str
    rows: int
    too_long: int
    tokens: int
    trained_share: float
    median: int
    p95: int
    longest: int


@dataclass(frozen=True)
class BatchingRow:
    """What an epoch is with one batching of lengths.BATCHINGS; `recipe`: it is the recipe's."""

    way: str
    real_share: float
    micro_batches: int
    steps: int
    operations: float
    recipe: bool


@dataclass(frozen=True)
class Hours:
    """On one GPU of the table, or (`this`, with its pace) on this machine."""

    gpu: str
    chosen: bool
    training: float
    evaluation: float
    generation: float = 0.0
    """GRPO's, evaluations included."""
    fits: bool | None = None
    of_peak: float | None = None
    """Share of the GPU's peak rate, assumed or the user's."""
    training_by_way: dict[str, float] = field(default_factory=dict)
    pace: Pace | None = None


@dataclass(frozen=True)
class Costs:
    batching: list[BatchingRow]
    steps: int
    evaluations: int
    operations: dict[str, float]
    hours: list[Hours]


@dataclass(frozen=True)
class Plan:
    """`data` and `costs` only where the rows are known."""

    recipe: str | None
    stage: str
    model: str
    method: str
    parameters: dict[str, float]
    notes: list[str]
    memory: list[MemoryRow]
    disk: Disk
    data: DataFacts | None = None
    costs: Costs | None = None

    def to_json(self) -> dict[str, object]:
        values = asdict(self)
        return values | (values.pop("costs") or {})


def make_plan(recipe: SftRecipe | DpoRecipe | GrpoRecipe, flags: PlanFlags) -> Plan:
    """The plan of a recipe. Reads the model's config, the tokenizer if it is at hand, and the data file if it exists."""
    if flags.plan_gpu != THIS:
        find_gpu(flags.plan_gpu)
    run, data = run_settings(recipe), recipe.data
    model = run.model
    config = load_config(model.model_name_or_path, run.recipe_file, model.model_revision, model.trust_remote_code)
    parameters = count_parameters(config, model)
    notes, vocabulary = list(run.notes), text_config(config).vocab_size
    try:
        tokenizer = load_tokenizer(training_source(model), data.chat_template)
    except (OSError, ValueError, UserError):  # it would have to be downloaded (plan_command keeps the hub out)
        tokenizer = None
    train, held_out = (
        None
        if not os.path.exists(file)
        else lengths.prompt_lengths(file, tokenizer, run.max_prompt, run.value("max_completion_length"), vocabulary)
        if run.stage == "grpo"
        else lengths.file_lengths(run.stage, file, tokenizer, run.max_length, vocabulary)
        for file in (data.train_file, data.eval_file)
    )
    if not train and run.stage == "sft":
        ratio, told = lengths.tokens_per_character(vocabulary)
        notes.append(f"{data.train_file} is not there: assumed lengths of 191,641 rows instead, {told}")
        train, held_out = lengths.fitting_lengths(lengths.reference_rows(ratio=ratio), run.max_length, notes[-1]), None
    elif not train:
        notes.append(f"{data.train_file} is not there: memory is planned for the longest rows, steps and hours are not")
    setting = run_setting(run, train, on_this_machine=flags.plan_gpu == THIS)
    memory = memory_table(run, config, parameters, setting)
    counts = {**asdict(parameters), "base": parameters.base, "trained_share": parameters.trained_share}
    method = "full fine-tuning"
    if model.use_peft:
        kind = "DoRA" if model.use_dora else "rsLoRA" if model.use_rslora else "LoRA"
        method = f"{kind} r {model.lora_r}" + (" on 4-bit weights" if model.load_in_4bit else "")
    disk = partial(plan_disk, run, parameters, setting, recipe.merge_adapter)
    plan = Plan(run.recipe_file, run.stage, model.model_name_or_path, method, counts, notes, memory, disk(None))
    if not train:
        return plan
    sizes = sorted(row.longest for row in train.rows) or [0]
    tokens, spread = sum(row.real for row in train.rows), (sizes[len(sizes) // 2], sizes[int(len(sizes) * 0.95)], sizes[-1])
    facts = DataFacts(data.train_file, train.method, len(train.rows), train.too_long, tokens, train.trained_share, *spread)
    needed = next(row.total_gib for row in memory if row.checkpointing == run.checkpointing)  # one GPU is the first
    costs = _costs(run, flags, (config, parameters), train, held_out, needed, notes)
    if recipe.gate.prompts and costs.evaluations:
        prompts = f"the greedy gate's {recipe.gate.prompts} prompts {costs.evaluations + 1} times"
        notes.append(f"not in the hours: {prompts}, at most {recipe.gate.max_seconds:g} s each")
    return replace(plan, data=facts, costs=costs, disk=disk(costs.steps))


def _rollouts(run: RunSettings, rows: list[Row]) -> list[Row]:
    """The rows of an epoch's steps: in GRPO each prompt's answers, as often as they are trained on; the last prompts, too few
    to be answered together, are left out."""
    if run.stage != "grpo":
        return rows
    at_once, _ = run.drawing
    whole = rows[: max(at_once, len(rows) // at_once * at_once)]
    return [row for row in whole for _ in range(run.value("num_generations") * run.value("num_iterations"))]


class _Drawings(NamedTuple):
    """GRPO's generation: how often how many answers are drawn at once, in training and in evaluations; `tokens` of the longest
    (95 of 100 references are shorter), and all `positions`, prompts included."""

    times: float
    size: int
    evaluated: float
    evaluated_size: int
    tokens: int
    positions: float

    @classmethod
    def of(cls, run: RunSettings, train: Lengths, held_out: Lengths | None, steps: int, evaluations: int) -> _Drawings:
        (at_once, together), group = run.drawing, run.value("num_generations")
        count = steps * run.value("gradient_accumulation_steps") / together
        asked = len(held_out.rows) * evaluations * (run.value("num_generations_eval") or group) if held_out else 0
        size = int(run.value("per_device_eval_batch_size"))
        answers = sorted(row.trained for row in train.rows)
        each = sum(row.real for row in train.rows) / len(train.rows)
        tokens = answers[int(0.95 * (len(answers) - 1))]
        return cls(count, at_once * group, asked / size, size, tokens, each * (count * at_once * group + asked))

    def on(self, gpu: Gpu, parameters: Parameters, utilisation: float | None) -> float:
        """Seconds: every decoding step reads the weights once, in 16 bits; every position is computed once."""
        read = (self.times + self.evaluated) * self.tokens * 2 * parameters.base / gpu.bandwidth
        return read + 2 * parameters.base * self.positions / (gpu.flops * share_of_peak(gpu, False, utilisation))

    def here(self, run: RunSettings, config: PretrainedConfig, parameters: Parameters) -> float:
        """Seconds, measured."""
        step, evaluated = devices.measure_decoding(config, run.model, (self.size, self.evaluated_size), parameters.base)
        return self.tokens * (self.times * step + self.evaluated * evaluated)


def _costs(
    run: RunSettings, flags: PlanFlags, shape: Shape, train: Lengths, held_out: Lengths | None, needed: float, notes: list[str]
) -> Costs:
    """Batches by batching, steps, evaluations, operations, hours; adds to `notes`."""
    size, parts = run.value("per_device_train_batch_size"), run.value("gradient_accumulation_steps")
    flash = "flash" in (run.model.attn_implementation or "") or run.batching == "packing"
    method = Method(run.checkpointing, flash, run.reference_passes)
    epochs, max_steps = float(run.value("num_train_epochs")), run.value("max_steps") or 0
    longest = run.max_length or max(row.longest for row in train.rows)
    table, batches, work = [], {}, {}
    ways = {"sft": [*BATCHINGS], "grpo": ["random"]}.get(run.stage) or [way for way in BATCHINGS if way != "packing"]
    rows = _rollouts(run, train.rows)
    for way in ways:
        some = lengths.epoch_batches(rows, way, size, size * parts, longest, multiple=run.pad_to_multiple_of)
        of_epochs = math.ceil(math.ceil(len(some) / parts) * epochs)
        steps = max_steps if max_steps > 0 else of_epochs
        epoch = devices.train_work(some, *shape, replace(method, flash=flash or way == "packing"))
        batches[way], work[way] = some, epoch * (epochs * steps / of_epochs)
        table.append(BatchingRow(way, lengths.real_share(some), len(some), steps, work[way], way == run.batching))
    mine, training = batches[run.batching], work[run.batching]
    steps = next(row.steps for row in table if row.recipe)
    evaluations, evaluation, scored = run.evaluations(steps), 0.0, []
    if evaluations and held_out and held_out.rows:
        size = run.value("per_device_eval_batch_size")
        way = "random" if run.batching == "random" else "group_by_length"
        scored = lengths.epoch_batches(held_out.rows, way, size, size, longest, multiple=run.pad_to_multiple_of)
        judged = replace(method, reference_passes=0) if run.distilled else method  # by the rows' loss, without a teacher
        evaluation = devices.forward_work(scored, *shape, judged) * evaluations
    elif evaluations:
        notes.append("evaluations are not in the hours: no eval file to count")
    if run.stage == "dpo" and run.precomputed:
        training += devices.forward_work(mine, *shape, method)
    drawn = _Drawings.of(run, train, held_out, steps, evaluations) if run.stage == "grpo" else None
    if flags.plan_gpu == THIS:
        pace = devices.measure_pace(shape[0], run.model, mine, run.checkpointing, shape[1].base)
        epoch_seconds, reference = pace.seconds(mine), pace.forward * run.reference_passes  # DPO's, beside each batch
        seconds = epoch_seconds * (1 + reference) * steps * parts / len(mine)
        seconds += epoch_seconds * pace.forward if run.precomputed else 0.0
        scoring = pace.seconds(scored) * (pace.forward + reference) * evaluations
        generation = drawn.here(run, *shape) if drawn else 0.0
        hours = [Hours(THIS, True, seconds / 3600, scoring / 3600, generation / 3600, pace=pace)]
    else:

        def reached(gpu: Gpu) -> float:
            return share_of_peak(gpu, run.model.load_in_4bit, flags.plan_utilisation)

        def on(gpu: Gpu, operations: float) -> float:
            return operations / (gpu.flops * reached(gpu)) / 3600

        hours = [
            Hours(gpu.name, gpu is find_gpu(flags.plan_gpu), on(gpu, training), on(gpu, evaluation),
                  drawn.on(gpu, shape[1], flags.plan_utilisation) / 3600 if drawn else 0.0, needed <= gpu.gib, reached(gpu),
                  {way: on(gpu, each) for way, each in work.items()})
            for gpu in GPUS.values()
        ]  # fmt: skip
        if held_out and evaluation > 0.25 * training:
            share = evaluation / (training + evaluation)
            notes.append(
                f"{evaluations} evaluations of {len(held_out.rows)} rows are {share:.0%} of the work: "
                "a larger eval_steps or a smaller eval file makes the run shorter"
            )
    operations = {"training": training, "evaluation": evaluation}
    return Costs(table, steps, evaluations, operations, hours)
