"""Faults of a run that its batches do not show: nothing is trained, moved or saved, evaluation rows leaked (docs/faults.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from pyarrow import compute
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled

from align_ko.chat_format import spelled_tokens
from align_ko.errors import UserError, warn
from align_ko.models.load import load_weights
from align_ko.models.source import ModelSource
from align_ko.records import ConversationRow, Message, PairRow, content_id, parse_prompt
from align_ko.training.audit import AuditError

if TYPE_CHECKING:
    from datasets import Dataset

RowType = TypeVar("RowType", ConversationRow, PairRow)
Rows = Sequence[ConversationRow] | Sequence[PairRow]
MOST_PADDING = 0.5
"""Of computed positions. Of docs/plan.md's lengths, random batches leave half, padding to 2,048 tokens three quarters."""
LOSS_ROWS, LOSS_TOLERANCE = 4, 0.1
"""Rows whose loss is compared with the start's, and nats (or share of the loss) that quantisation may add. A judgement."""
OTHER_MIX, FEWEST_ROWS = 0.3, 30
"""Total variation distance between two mixes of sources, and rows below which chance alone comes near it. A judgement."""


def check_trainable(model: torch.nn.Module) -> int:
    """Parameters that will be trained (under ZeRO-3 their whole size). AuditError where there is none."""
    count = sum(int(getattr(p, "ds_numel", p.numel())) for p in model.parameters() if p.requires_grad)
    if not count:
        problem = "no weight would be trained: every parameter is frozen, as in an adapter that was loaded for inference"
        expected = "an adapter loaded with is_trainable=True, or lora_target_modules that this model has"
        raise AuditError(problem, key="model", expected=expected)
    return count


def answer_loss(model: torch.nn.Module, rows: Dataset) -> float:
    """Mean loss of the answers' tokens in the first rows, without dropout."""
    was_training, losses = model.training, []
    model.eval()
    with torch.no_grad():
        for row in rows.select(range(min(len(rows), LOSS_ROWS))):
            ids, labels = (torch.tensor([row[name]], device=model.device) for name in ("input_ids", "labels"))
            logits = model(input_ids=ids).logits[0, :-1].float()
            losses.append(torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="none")[labels[0, 1:] >= 0])
    model.train(was_training)
    return float(torch.cat(losses).mean())


def check_start(model: torch.nn.Module, start: ModelSource, rows: Dataset, dtype: torch.dtype) -> None:
    """AuditError where the model that would be trained is not the adapter folder `start`, loaded anew and merged."""
    if is_deepspeed_zero3_enabled():  # no process has whole weights to compare
        return
    wanted = answer_loss(load_weights(start, dtype, device=str(model.device)), rows)
    actual = answer_loss(model, rows)
    if abs(actual - wanted) > max(LOSS_TOLERANCE, LOSS_TOLERANCE * wanted):
        raise AuditError(
            f"the model that would be trained is not the start: before the first step its loss is {actual:.2f}, that of "
            f"{start.path} {wanted:.2f}",
            key="model.model_name_or_path",
            expected="an adapter that is trained on, or merged first (merge_start: true)",
        )


def check_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *datasets: Dataset) -> None:
    """UserError for a token id of the rows, or pad, that has no row in the model's embedding."""
    weight = model.get_input_embeddings().weight
    count = getattr(weight, "ds_shape", weight.shape)[0]  # ZeRO-3 keeps an empty one
    columns = [data.data.column(name) for data in datasets for name in data.column_names if name.endswith("ids")]
    largest = [compute.max(compute.list_flatten(column)).as_py() or 0 for column in columns]
    if (highest := max(int(tokenizer.pad_token_id or 0), *largest)) >= count:
        raise UserError(
            f"token {tokenizer.convert_ids_to_tokens(highest)!r} has the id {highest}, and the embedding of "
            f"{model.name_or_path} has {count} rows",
            key="model.model_name_or_path",
            expected="the tokenizer that belongs to these weights",
        )


def check_split(train: Sequence[RowType], held_out: Sequence[RowType]) -> list[RowType]:
    """The held-out rows, without pairs of which the prompt has other pairs in training. AuditError where a held-out row is
    trained on too, or none is left; warnings for those pairs and for conversations like them, and for held-out rows that
    come from other sources than the training rows do."""
    trained = {content_id(_conversation(row)) for row in train}
    leaked = [row for row in held_out if content_id(_conversation(row)) in trained]
    if leaked:
        first = _prompt(leaked[0])[-1]["content"]
        raise AuditError(
            f"{len(leaked)} of {len(held_out)} held-out rows are trained on too, the first asks {first[:40]!r}: "
            "their loss would measure memory",
            key="data.eval_file",
            expected="rows that data.train_file does not hold, as build_sft_data.py and build_preferences.py write them",
        )
    prompts = {content_id(_prompt(row)) for row in train}
    new = [row for row in held_out if content_id(_prompt(row)) not in prompts]
    told = f"{len(held_out) - len(new)} of {len(held_out)} held-out prompts are trained on too, with other answers"
    if not any("chosen" in row for row in held_out):
        kept = list(held_out)
    elif not (kept := new):
        raise AuditError(told, key="data.eval_file", expected="pairs of prompts that data.train_file does not hold")
    if len(new) < len(held_out):
        warn(told + (": these pairs are left out" if len(kept) < len(held_out) else "") + " (data.eval_file)")
    if mix := _other_mix(train, kept):
        warn(f"the held-out rows are not drawn as the training rows are: {mix} (data.eval_file)")
    return kept


def warn_of_spelled_tokens(rows: Rows, tokenizer: PreTrainedTokenizerBase) -> None:
    """Say which special tokens the rows' texts spell: chat_format reads them as text, here and at inference."""
    spelled = [spelled_tokens(tokenizer, (message["content"] for message in _conversation(row))) for row in rows]
    if count := sum(map(bool, spelled)):
        tokens = Counter(token for each in spelled for token in each)
        names = ", ".join(f"{token} {times}×" for token, times in tokens.most_common(5))
        warn(
            f"{count} of {len(rows)} rows spell special tokens in their text ({names}): they are read as text and end no answer"
        )


def _prompt(row: ConversationRow | PairRow) -> list[Message]:
    parsed = parse_prompt(row)
    return parsed.prompt if parsed else []


def _conversation(row: ConversationRow | PairRow) -> list[Message]:
    return [*row["prompt"], *row["chosen"], *row["rejected"]] if "prompt" in row else row["messages"]


def _other_mix(train: Rows, held_out: Rows) -> str:
    """`kowiki_qa 100% of them, 9% of the training rows`: the source that differs most, where mixes differ beyond chance."""
    ours, theirs = (Counter(str(row.get("source", "")) for row in rows) for rows in (held_out, train))
    if min(ours.total(), theirs.total()) < FEWEST_ROWS:
        return ""
    gaps = {name: ours[name] / ours.total() - theirs[name] / theirs.total() for name in ours | theirs}
    if sum(map(abs, gaps.values())) / 2 <= OTHER_MIX:
        return ""
    name = max(gaps, key=lambda source: abs(gaps[source]))
    here, there = ours[name] / ours.total(), theirs[name] / theirs.total()
    return f"{name or 'no source'} {here:.0%} of them, {there:.0%} of the training rows"


def warn_of_padding(counts: dict[str, int]) -> None:
    """Say so where most computed positions of the audited batches are padding."""
    share = counts["padding"] / (counts["padding"] + counts["tokens"])
    if share > MOST_PADDING:
        warn(
            f"{share:.0%} of the computed positions are padding, which most of the time goes into; "
            "train_sampling_strategy: group_by_length brings that near 0 (docs/plan.md)"
        )


def check_saved(folder: Path, start: Path | None = None) -> None:
    """Read what was saved, adapter or model. AuditError where it contains nothing (ZeRO-3 weights that were not gathered),
    changes nothing, or equals what is in `start`."""
    files = sorted(folder.glob("adapter_model*.safetensors")) or sorted(folder.glob("model*.safetensors"))
    adapter = bool(files) and files[0].name.startswith("adapter")
    tensors = _weights(files) if adapter else {}
    shapes = {name: shape for file in files for name, shape in _shapes(file).items()}
    empty = [name for name, shape in shapes.items() if 0 in shape]
    if not shapes or empty:
        what = f"{len(empty)} of {len(shapes)} weights are empty, {empty[0]} the first" if empty else "it holds no weights"
        raise AuditError(
            f"what was saved to {folder} is not the trained {'adapter' if adapter else 'model'}: {what}. "
            "Under ZeRO-3 that happens where weights are written without being gathered",
            key="zero3_save_16bit_model",
            expected="true in the DeepSpeed configuration (accelerate_configs/zero3.yaml), or ZeRO-2",
        )
    ups = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    if ups and not any(tensor.any() for tensor in ups):
        raise AuditError(f"the adapter in {folder} changes nothing: every lora_B is zero, as before the first step")
    before = _weights(sorted(start.glob("adapter_model*.safetensors"))) if start and adapter else {}
    if before.keys() == tensors.keys() and before and all(torch.equal(before[name], tensors[name]) for name in before):
        raise AuditError(f"the adapter in {folder} is the one that training started from ({start}): nothing was learnt")


def _shapes(file: Path) -> dict[str, list[int]]:
    with safe_open(file, "pt") as opened:
        return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118


def _weights(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    return {name: tensor for file in files for name, tensor in load_file(file).items()}
