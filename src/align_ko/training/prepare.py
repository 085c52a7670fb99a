"""What a trainer is built from: TRL's config object, rows as token ids (through chat_format.py alone), and their order."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase, TrainingArguments

from align_ko.chat_format import IGNORE, FormatError, prompt_ids, side_ids, training_rows
from align_ko.errors import UserError
from align_ko.manifest import is_secret
from align_ko.models.load import best_dtype
from align_ko.process import prepare_compiling, temporary_folder
from align_ko.recipe import DpoRecipe, GrpoRecipe, SftRecipe, recipe_error
from align_ko.records import ConversationRow, Message, PairRow
from align_ko.workers import Workers, cores, in_batches

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig, GRPOConfig, SFTConfig

Config = TypeVar("Config", "SFTConfig", "DPOConfig", "GRPOConfig")
RowType = TypeVar("RowType", ConversationRow, PairRow)
Columns = dict[str, list[Any]]
"""Of token ids; a row over max_length is empty and True in `too_long`."""


class TooLong(NamedTuple):
    """A row over max_length, which is dropped."""

    id: str
    tokens: int


Encoder = Callable[[PreTrainedTokenizerBase, Iterable[RowType], int | None, int], Columns]
BATCH = 1_000  # rows for a worker at once
PARALLEL_ROWS = 20_000
"""From so many rows on they are tokenised by several worker processes, once on each machine. Fewer take seconds."""
GROUP_OF_BATCHES = 100
"""Batches whose rows are drawn at random, then sorted by length: so many that rows of one batch are nearly equally long (99 %
real tokens with 8 rows, `make bench-batching`), so few that every epoch puts other rows together."""
LENGTH_CLASSES = 25
"""The order goes in rounds with one batch of each class, so that a few steps, too, see all lengths in equal shares."""


def training_config(kind: type[Config], training: Mapping[str, Any], dtype: str = "auto") -> Config:
    """Build a TRL config. Where the recipe is silent: bf16/fp16 by hardware, `use_cpu` without an accelerator,
    TensorBoard where it is installed, the best checkpoint where both are saved, a push only of the result. A token goes into
    the environment. UserError for a value that TRL refuses, and for FSDP without an accelerator."""
    values = {key: value for key, value in training.items() if not is_secret(key)}
    for token in training.keys() - values.keys():  # training_args.bin is in every checkpoint
        os.environ["HF_TOKEN"] = str(training[token])
    if "bf16" not in values and "fp16" not in values:
        values["bf16"] = best_dtype(dtype) == torch.bfloat16
        values["fp16"] = best_dtype(dtype) == torch.float16
    zero = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if zero or values.get("deepspeed"):
        prepare_compiling()
    if not torch.cuda.is_available():
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not torch.accelerator.is_available():
            # accelerate 1.15 asks about FSDP only on MULTI_GPU and its like; without one Trainer takes DDP and says nothing
            raise UserError(
                "FSDP needs an accelerator and there is none: accelerate would train with DDP, the whole model in each process",
                key="--config_file",
                expected="accelerate_configs/ddp.yaml, or zero3.yaml, which splits the weights on a CPU too",
            )
        if zero:
            # accelerate 1.15 leaves DeepSpeed out when use_cpu is set, and without a named backend it takes every process
            # for the only one ("Num processes: 1": all data on each, all of them writing)
            values["use_cpu"] = False
            values.setdefault("ddp_backend", "gloo")
        else:
            values.setdefault("use_cpu", True)
        values.setdefault("dataloader_pin_memory", False)
    values.setdefault("report_to", "tensorboard" if find_spec("tensorboard") else "none")
    values.setdefault("hub_strategy", "end")
    if _saves_every_evaluation(values):
        values.setdefault("load_best_model_at_end", True)
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{kind.__name__} refuses this: {error}", key="training") from None


def _saves_every_evaluation(values: Mapping[str, Any]) -> bool:
    """What `load_best_model_at_end` needs."""
    saves, evaluates = values.get("save_strategy", "steps"), values.get("eval_strategy", "no")
    if saves == "best":
        return evaluates != "no"
    if saves != evaluates or saves == "no":
        return False
    save_steps = values.get("save_steps", 500)
    eval_steps = values.get("eval_steps") or values.get("logging_steps", 10)
    return bool(saves == "epoch" or save_steps == eval_steps or (eval_steps >= 1 and save_steps % eval_steps == 0))


# Rows → token ids ----------------------------------------------------------------------------------------------------------


def encode_conversations(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[ConversationRow], max_length: int | None, first: int = 1
) -> Columns:
    """Rows with `messages` → columns `input_ids`, `labels`, `length`, `id`, `turns` (how many messages it has, where the
    template needs a row for each answer), `too_long`. `first`: number of the first row. UserError for a row that cannot be
    tokenised the same way for training and inference."""
    columns: Columns = {"input_ids": [], "labels": [], "length": [], "id": [], "turns": [], "too_long": []}
    for number, row in enumerate(rows, first):
        try:
            encoded_rows = training_rows(tokenizer, row["messages"])
        except FormatError as error:
            raise UserError(f"row {number} (id {row.get('id')}): {error}") from None
        for messages, encoded in encoded_rows:
            length = len(encoded.input_ids)
            too_long = max_length is not None and length > max_length
            ids, labels = ([], []) if too_long else (encoded.input_ids, encoded.labels)
            _append(columns, ids, labels, length, row.get("id", str(number)), len(messages), too_long)
            if too_long:
                break  # the rows after it begin with it and are longer
    return columns


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[PairRow], max_length: int | None, first: int = 1
) -> Columns:
    """Preference rows → columns `prompt_ids`, `chosen_ids`, `rejected_ids`, `length`, `id`, `too_long`, and `chosen_mask`,
    `rejected_mask`, 0 where the user speaks between answers. A rejected side ends with eos only if it really ended
    (`rejected_finished`): else DPO would push down "stop here" for an answer whose fault was never to stop."""
    names = ("prompt_ids", "chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask", "length", "id", "too_long")
    columns: Columns = {name: [] for name in names}
    for number, row in enumerate(rows, first):
        try:
            prompt = prompt_ids(tokenizer, row["prompt"])
            ends = (row["chosen"], True), (row["rejected"], row.get("rejected_finished", True))
            sides = [side_ids(tokenizer, row["prompt"], side, finished) for side, finished in ends]
        except FormatError as error:
            raise UserError(f"pair {number} (id {row.get('id')}): {error}") from None
        length = len(prompt) + max(len(side.input_ids) for side in sides)
        too_long = max_length is not None and length > max_length
        masks = ([int(label != IGNORE) for label in side.labels] for side in sides)
        ids = [[]] * 5 if too_long else [prompt, *(side.input_ids for side in sides), *masks]
        _append(columns, *ids, length, row.get("id", str(number)), too_long)
    return columns


def _append(columns: Columns, *values: object) -> None:
    for column, value in zip(columns.values(), values, strict=True):
        column.append(value)


def _tokenize(
    encode: Encoder[RowType], tokenizer: PreTrainedTokenizerBase, rows: Iterable[RowType], max_length: int | None
) -> tuple[Dataset, list[TooLong]]:
    """The columns of `encode`; and the rows over `max_length`, dropped whole: cutting would cut their eos."""
    from datasets import Dataset

    every = list(rows)
    if len(every) < PARALLEL_ROWS:
        dataset = Dataset.from_dict(encode(tokenizer, every, max_length, 1))
    else:
        dataset = _once_per_machine(functools.partial(_encode_in_parallel, encode, tokenizer, every, max_length))
    too_long = dataset["too_long"][:]
    columns = zip(dataset["id"], dataset["length"], too_long, strict=True)
    dropped = [TooLong(row_id, tokens) for row_id, tokens, long in columns if long]
    if dropped:
        dataset = dataset.select([index for index, long in enumerate(too_long) if not long])
    return dataset.remove_columns("too_long"), dropped


tokenize_conversations = functools.partial(_tokenize, encode_conversations)
tokenize_pairs = functools.partial(_tokenize, encode_pairs)


def check_lengths(
    recipe: SftRecipe | DpoRecipe | GrpoRecipe, key: str, kept: Dataset, dropped: Sequence[TooLong], config: TrainingArguments
) -> None:
    """Print how many rows of `data.<key>` are left out and the longest. UserError where none is left that the run needs."""
    file, limit, name = getattr(recipe.data, key), getattr(config, "max_length", 0), "training.max_length"
    if isinstance(recipe, GrpoRecipe):
        limit, name = recipe.max_prompt_length, "max_prompt_length"
    total = len({*kept["id"], *(row.id for row in dropped)}) if len(kept) else len(dropped)
    if not len(kept) and (key == "train_file" or config.eval_strategy != "no"):
        if not dropped:
            raise recipe_error(recipe, f"data.{key}", f"{file} contains no rows", "at least one")
        shortest, longest = (pick(dropped, key=lambda row: row.tokens) for pick in (min, max))
        raise recipe_error(
            recipe,
            name,
            f"all {total:,} rows of {file} are longer than {limit} tokens: the shortest (id {shortest.id}) has "
            f"{shortest.tokens:,}, the longest (id {longest.id}) {longest.tokens:,}",
            f"{longest.tokens} to keep all of them, or shorter rows",
        )
    if dropped and config.process_index == 0:
        longest = max(dropped, key=lambda row: row.tokens)
        print(
            f"{file}: {len(dropped):,} of {total:,} rows are longer than {name} ({limit} tokens) and left out "
            f"whole; the longest (id {longest.id}) has {longest.tokens:,}"
        )


def _encode_in_parallel(
    encode: Encoder[RowType], tokenizer: PreTrainedTokenizerBase, rows: list[RowType], max_length: int | None, folder: Path
) -> Dataset:
    """By worker processes with a progress bar, into a file in `folder`. Not by `datasets.map`, whose manager process and
    sockets outlive a killed run."""
    from datasets import Dataset, Features, List, Value
    from datasets.arrow_writer import ArrowWriter
    from datasets.utils import tqdm

    kinds = {"id": Value("string"), "too_long": Value("bool"), "length": Value("int64"), "turns": Value("int64")}
    features = Features({name: kinds.get(name, List(Value("int64"))) for name in encode(tokenizer, [], None, 1)})
    file = str(folder / "rows.arrow")
    method: Literal["fork", "spawn"] = "spawn" if sys.platform == "win32" else "fork"
    with (
        Workers(cores(), _start_encoding, (encode, tokenizer, max_length), method) as workers,
        ArrowWriter(path=file, features=features) as writer,
        tqdm(total=len(rows), desc="tokenising", unit=" rows") as shown,
    ):
        for columns in workers.ordered_map(_encode_batch, in_batches(enumerate(rows, 1), BATCH)):
            writer.write_batch(columns)
            shown.update(min(BATCH, len(rows) - shown.n))
        writer.finalize()
    return Dataset.from_file(file)


_encoding: tuple[Encoder[Any], PreTrainedTokenizerBase, int | None]  # of a worker


def _start_encoding(*encoding: Any) -> None:
    global _encoding
    _encoding = encoding


def _encode_batch(batch: list[tuple[int, RowType]]) -> Columns:
    """Of numbered rows."""
    encode, tokenizer, max_length = _encoding
    return encode(tokenizer, [row for _, row in batch], max_length, batch[0][0])


def _once_per_machine(make: Callable[[Path], Dataset]) -> Dataset:
    """The dataset that `make(folder)` returns, made by the first process of each machine and read by its others. The folder
    goes when that process ends, so nothing can be stale."""
    from accelerate import PartialState
    from accelerate.utils import gather_object
    from datasets import load_from_disk

    state, result, problem = PartialState(), None, None
    folder = temporary_folder("tokens") if state.is_local_main_process else Path()
    if state.is_local_main_process:
        try:
            result = make(folder)
            if state.num_processes > 1:
                result.save_to_disk(folder / "saved")
        except UserError as error:
            problem = error  # which all processes raise, so that none waits for the others
    # gathering is also what the other processes wait for
    outcomes = gather_object([(folder, problem)]) if state.num_processes > 1 else [(folder, problem)]
    folder, problem = outcomes[state.process_index - state.local_process_index]
    if problem:
        raise problem
    result = result if result is not None else load_from_disk(folder / "saved")
    state.wait_for_everyone()  # the folder must not go before all have opened it
    return result


def leave_out(rows: Iterable[RowType], ids: Sequence[str]) -> list[RowType]:
    """The rows without those of `data.leave_out`; says how many they were."""
    every = list(rows)
    kept = [row for row in every if row.get("id") not in ids]
    if len(kept) < len(every):
        print(f"{len(every) - len(kept)} of {len(every)} rows left out by data.leave_out")
    return kept


def conversations_of(dataset: Dataset, rows: Iterable[ConversationRow]) -> dict[int, list[Message]]:
    """The messages of each tokenised row, by the hash of its token ids (190,000 rows as tuples take 3 GB): for the audit. A
    conversation that is there again with other answers to train on is kept by ids and labels."""
    by_id = {row.get("id", str(number)): row["messages"] for number, row in enumerate(rows, 1)}
    found: dict[int, list[Message]] = {}
    for ids, labels, key, turns in zip(*(dataset[name] for name in ("input_ids", "labels", "id", "turns")), strict=True):
        messages, place = by_id[key][:turns], hash(tuple(ids))
        if found.setdefault(place, messages) != messages:
            found[hash((tuple(ids), tuple(labels)))] = messages
    return found


# Order ---------------------------------------------------------------------------------------------------------------------


class ShuffledLengthGroupedSampler(Sampler[int]):
    """Batches of like lengths in random order; the same for the same seed and epoch. Plain random order varies too much (the
    first 50 batches are a tenth longer or shorter than the whole in one run in five), so it is random within rounds of
    LENGTH_CLASSES batches, one of every class. `lengths`: tokens of each row; `batch_size`: rows of a step."""

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        group = self.batch_size * GROUP_OF_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), group):
            part = sorted(order[start : start + group], key=lambda row: self.lengths[row])
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        # A smaller last batch must stay last: the data loader cuts the flat list into equal batches.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [row for batch in batches if len(batch) < self.batch_size for row in batch]
        for position in self._rounds(full, generator):
            yield from full[position]
        yield from rest

    def _rounds(self, batches: list[list[int]], generator: torch.Generator) -> list[int]:
        """Positions of `batches`, every LENGTH_CLASSES of them one from each class of lengths, in random order."""
        by_length = sorted(range(len(batches)), key=lambda position: sum(self.lengths[row] for row in batches[position]))
        classes = [chunk.tolist() for chunk in torch.tensor(by_length).tensor_split(LENGTH_CLASSES)]
        places: dict[int, float] = {}
        for members in classes:
            jitter = torch.rand(len(members), generator=generator).tolist()
            for turn, member in enumerate(torch.randperm(len(members), generator=generator).tolist()):
                places[members[member]] = turn + jitter[turn]
        return sorted(places, key=places.__getitem__)
