"""What a run will cost, before it starts: parameters, memory per GPU, tokens, steps, operations, hours.

plan_command (__init__.py) prints the plan, `--plan_json` writes it.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace

from transformers import PretrainedConfig

from align_ko.errors import UserError
from align_ko.models.load import load_tokenizer, training_source
from align_ko.planning import devices
from align_ko.planning.devices import GPUS, THIS, Gpu, Method, Pace, Work, find_gpu
from align_ko.planning.lengths import BATCHINGS, Batch, Lengths, epoch_batches, pair_lengths, real_share, sft_lengths
from align_ko.planning.memory import MemoryRow, memory_table
from align_ko.planning.model_shape import Parameters, count_parameters, load_config
from align_ko.planning.settings import PlanFlags, RunSettings, run_settings
from align_ko.recipe import DpoRecipe, SftRecipe


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
    fits: bool | None = None
    training_by_way: dict[str, float] = field(default_factory=dict)
    pace: Pace | None = None


@dataclass(frozen=True)
class Costs:
    batching: list[BatchingRow]
    steps: int
    evaluations: int
    operations: dict[str, float]
    utilisation: float
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
    data: DataFacts | None = None
    costs: Costs | None = None

    def to_json(self) -> dict[str, object]:
        values = asdict(self)
        return values | (values.pop("costs") or {})


def make_plan(recipe: SftRecipe | DpoRecipe, flags: PlanFlags) -> Plan:
    """The plan of a recipe. Reads the model's config, the tokenizer if it is at hand, and the data file if it exists."""
    if flags.gpu != THIS:
        find_gpu(flags.gpu)
    run, data = run_settings(recipe), recipe.data
    model = run.model
    config = load_config(model.model_name_or_path, run.recipe_file, model.model_revision, model.trust_remote_code)
    parameters = count_parameters(config, model)
    notes = list(run.notes)
    try:
        tokenizer = load_tokenizer(training_source(model), data.chat_template)
    except (OSError, ValueError, UserError):  # it would have to be downloaded (plan_command keeps the hub out)
        tokenizer = None
    train = held_out = None
    if run.stage == "sft":
        train = sft_lengths(data.train_file, tokenizer, run.max_length)
        notes += [] if train.real_file else [train.method]
        held_out = sft_lengths(data.eval_file, tokenizer, run.max_length) if train.real_file else None
    elif os.path.isfile(data.train_file):
        train = pair_lengths(data.train_file, tokenizer, run.max_length)
        held_out = pair_lengths(data.eval_file, tokenizer, run.max_length) if os.path.isfile(data.eval_file) else None
    else:
        notes.append(f"{data.train_file} is not there: memory is planned for pairs of max_length, steps and hours are not")
    memory = memory_table(run, config, parameters, train, on_this_machine=flags.gpu == THIS)
    counts = {**asdict(parameters), "base": parameters.base, "trained_share": parameters.trained_share}
    method = "full fine-tuning"
    if model.use_peft:
        kind = "DoRA" if model.use_dora else "rsLoRA" if model.use_rslora else "LoRA"
        method = f"{kind} r {model.lora_r}" + (" on 4-bit weights" if model.load_in_4bit else "")
    plan = Plan(run.recipe_file, run.stage, model.model_name_or_path, method, counts, notes, memory)
    if not train:
        return plan
    sizes = sorted(row.longest for row in train.rows) or [0]
    tokens, spread = sum(row.real for row in train.rows), (sizes[len(sizes) // 2], sizes[int(len(sizes) * 0.95)], sizes[-1])
    facts = DataFacts(data.train_file, train.method, len(train.rows), train.too_long, tokens, train.trained_share, *spread)
    costs = _Estimator(run, config, parameters, train, held_out, notes).costs(recipe, flags, memory)
    return replace(plan, data=facts, costs=costs)


@dataclass
class _Estimator:
    """Batches by batching, steps, evaluations, operations, hours."""

    run: RunSettings
    config: PretrainedConfig
    parameters: Parameters
    train: Lengths
    held_out: Lengths | None
    notes: list[str]

    def costs(self, recipe: SftRecipe | DpoRecipe, flags: PlanFlags, memory: list[MemoryRow]) -> Costs:
        run, shape = self.run, (self.config, self.parameters)
        size, parts = run.value("per_device_train_batch_size"), run.value("gradient_accumulation_steps")
        flash = "flash" in (run.model.attn_implementation or "") or run.batching == "packing"
        method = Method(run.checkpointing, flash, run.reference_passes)
        epochs, max_steps = float(run.value("num_train_epochs")), run.value("max_steps") or 0
        table, batches, work = [], {}, {}
        for way in (way for way in BATCHINGS if run.stage == "sft" or way != "packing"):
            some = batches[way] = self._batches(self.train, way, size, size * parts)
            of_epochs = math.ceil(math.ceil(len(some) / parts) * epochs)
            steps = max_steps if max_steps > 0 else of_epochs
            epoch = devices.train_work(some, *shape, replace(method, flash=flash or way == "packing"))
            work[way] = epoch.times(epochs * steps / of_epochs)
            table.append(BatchingRow(way, real_share(some), len(some), steps, work[way].operations, way == run.batching))
        mine, training = batches[run.batching], work[run.batching]
        steps = next(row.steps for row in table if row.recipe)
        evaluations, evaluation, scored = run.evaluations(steps), Work(), []
        if evaluations and self.held_out and self.held_out.rows:
            size = run.value("per_device_eval_batch_size")
            scored = self._batches(self.held_out, "random" if run.batching == "random" else "group_by_length", size, size)
            judged = replace(method, reference_passes=0) if run.distilled else method  # by the rows' loss, without a teacher
            evaluation = devices.forward_work(scored, *shape, judged).times(evaluations)
        elif evaluations:
            self.notes.append("evaluations are not in the hours: no eval file to count")
        if run.stage == "dpo" and run.precomputed:
            training += devices.forward_work(mine, *shape, method)
        if flags.gpu == THIS:
            hours = [self._measured_hours(mine, scored, steps * parts, evaluations)]
        else:
            needed = next(row.total_gib for row in memory if row.checkpointing == run.checkpointing)  # one GPU is the first
            hours = self._hours(flags, training, evaluation, work, needed)
            if evaluation.operations > 0.25 * training.operations:
                share = evaluation.operations / (training.operations + evaluation.operations)
                rows = len(self.held_out.rows) if self.held_out else 0
                self.notes.append(
                    f"{evaluations} evaluations of {rows} rows are {share:.0%} of the work: "
                    "a larger eval_steps or a smaller eval file makes the run shorter"
                )
        if recipe.gate.prompts and evaluations:
            prompts = f"the greedy gate's {recipe.gate.prompts} prompts {evaluations + 1} times"
            self.notes.append(f"not in the hours: {prompts}, at most {recipe.gate.max_seconds:g} s each")
        operations = {"training": training.operations, "evaluation": evaluation.operations}
        return Costs(table, steps, evaluations, operations, flags.utilisation, hours)

    def _batches(self, lengths: Lengths, batching: str, size: int, step_rows: int) -> list[Batch]:
        max_length = self.run.max_length or max(row.longest for row in self.train.rows)
        return epoch_batches(lengths.rows, batching, size, step_rows, max_length, multiple=self.run.pad_to_multiple_of)

    def _hours(self, flags: PlanFlags, training: Work, evaluation: Work, work: dict[str, Work], needed: float) -> list[Hours]:
        """One row for each named GPU."""

        def hours(gpu: Gpu, each: Work) -> float:
            return devices.seconds_on(gpu, each, self.parameters, flags.utilisation, self.run.model.load_in_4bit) / 3600

        return [
            Hours(gpu.name, gpu is find_gpu(flags.gpu), hours(gpu, training), hours(gpu, evaluation), needed <= gpu.gib,
                  {way: hours(gpu, each) for way, each in work.items()})
            for gpu in GPUS.values()
        ]  # fmt: skip

    def _measured_hours(self, batches: list[Batch], scored: list[Batch], micro_batches: int, evaluations: int) -> Hours:
        """On this machine; DPO's reference passes as forwards beside each batch."""
        run = self.run
        pace = devices.measure_pace(self.config, run.model, batches, run.checkpointing, self.parameters.base)
        epoch = pace.seconds(batches)
        seconds = epoch * (1 + pace.forward * run.reference_passes) * micro_batches / len(batches)
        seconds += epoch * pace.forward if run.precomputed else 0.0
        scoring = pace.seconds(scored) * pace.forward * (1 + run.reference_passes) * evaluations
        return Hours(THIS, True, seconds / 3600, scoring / 3600, pace=pace)
