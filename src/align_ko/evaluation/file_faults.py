"""What is wrong with the files of somebody's checkpoint: template, special tokens, generation settings, weights. Nothing is
mended on the way, and no model is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from align_ko.chat_format import (
    FIXED_CONVERSATIONS,
    FORMAT_FILE,
    FormatError,
    RefusedConversation,
    adopt_turn_end,
    prompt_ids,
    render,
    stop_ids,
    training_rows,
)
from align_ko.chat_templates import path_of
from align_ko.errors import UserError
from align_ko.generation.requests import progress
from align_ko.manifest import result_problem
from align_ko.models.load import load_checkpoint_tokenizer
from align_ko.models.source import ModelSource, base_of, is_adapter

CODES = (
    "no_weights", "not_finite", "rows_missing", "head_missing",
    "format_changed", "files_changed", "template_missing", "template_broken", "template_differs", "mark_no_token", "bos_twice",
    "never_ends", "eos_not_stopped", "head_ignored", "pad_is_eos", "sampling_fields", "untrainable", "bos_again",
)  # fmt: skip
"""Every finding, the gravest first."""
NOTES = ("bos_again",)
"""True of many sound models; something to know, no fault."""
UNUSABLE = ("no_weights", "not_finite", "rows_missing", "head_missing", "format_changed", "template_broken")
"""Nothing is to be learnt from the answers of such a checkpoint, or it cannot be loaded."""
PLAIN = {
    "do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": 0.0, "typical_p": 1.0, "num_beams": 1,
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "penalty_alpha": 0.0, "length_penalty": 1.0,
}  # fmt: skip
"""transformers' defaults of what changes an answer; greedy decoding reads none of the sampling fields, other servers do."""
FAMILIES = {
    "gemma3": ("<end_of_turn>", "gemma3"), "qwen3": ("<|im_end|>", "qwen3"), "qwen2": ("<|im_end|>", "qwen2_5"),
    "llama": ("<|eot_id|>", "llama3_1", "llama3"),
}  # fmt: skip
"""Beginning of a config's model_type → the token that ends the family's turns, and its templates."""
_MARK = re.compile(r"<\|[\w ]+\|>|<\w+_of_turn>")
_END = re.compile(r"\b(embed_tokens|wte|word_embeddings|lm_head)(\.modules_to_save\.\w+)?\.weight$")
_NO_THOUGHT = re.compile(r"<think>\n*</think>\n*")  # Qwen3's published template writes it where ours asks with it


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `facts` are what its message names."""

    code: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's files as they are, nothing mended."""

    source: ModelSource
    folder: Path
    base: Path
    """The model below an adapter; otherwise the same folder."""
    tokenizer: PreTrainedTokenizerBase
    config: PretrainedConfig
    generation: dict[str, Any]
    """generation_config.json, empty where there is none."""


def read_checkpoint(source: ModelSource) -> Checkpoint:
    """Tokenizer and configurations of a folder, an adapter or a hub model (which is downloaded). UserError where they cannot be
    read, or an adapter's base is missing."""
    base = base_of(source)
    folder, below = _local(source), _local(base)
    owner = source if (folder / "tokenizer_config.json").is_file() else base  # PEFT saves an adapter without a tokenizer
    told = [file for place in (folder, below) if (file := place / "generation_config.json").is_file()]
    generation = json.loads(told[0].read_text(encoding="utf-8")) if told else {}
    config = base.load(AutoConfig).get_text_config()
    return Checkpoint(source, folder, below, owner.load(AutoTokenizer), config, generation)


def _local(source: ModelSource) -> Path:
    if Path(source.path).is_dir():
        return Path(source.path)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "*.py"]
    try:
        return Path(snapshot_download(source.path, revision=source.revision, allow_patterns=wanted))
    except (OSError, ValueError) as error:  # no network, no such model
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"{source.path} cannot be downloaded: {first}", expected="a folder or a hub id") from None


def find_faults(checkpoint: Checkpoint) -> list[Finding]:
    """Everything that is wrong with the files, the gravest first."""
    found = [*_format_faults(checkpoint), *_generation_faults(checkpoint), *_weight_faults(checkpoint)]
    return sorted(found, key=lambda finding: CODES.index(finding.code))


# -------------------- template and special tokens


def _format_faults(checkpoint: Checkpoint) -> Iterator[Finding]:
    tokenizer = checkpoint.tokenizer
    vocabulary, templates = tokenizer.get_vocab(), family_templates(checkpoint)
    if (checkpoint.folder / FORMAT_FILE).is_file():
        try:
            load_checkpoint_tokenizer(checkpoint.source)
        except UserError as error:
            yield Finding("format_changed", {"why": str(error)})
    if changed := result_problem(checkpoint.folder):
        yield Finding("files_changed", {"why": changed})
    if tokenizer.chat_template is None:
        yield Finding("template_missing", {"template": templates[0] if templates else "default"})
        return
    texts = _texts(tokenizer)
    if not any(texts):
        yield Finding("template_broken", {})
        return
    if templates and not (checkpoint.folder / FORMAT_FILE).is_file():  # what was trained here says in what it was
        differences = [_difference(texts, _texts_in(tokenizer, name)) for name in templates]
        if all(differences):
            written, expected = differences[0] or ("", "")
            facts = {"template": templates[0], "written": repr(written), "expected": repr(expected)}
            yield Finding("template_differs", facts)
    strangers = sorted({mark for text in texts for mark in _MARK.findall(text) if mark not in vocabulary})
    if strangers:
        yield Finding("mark_no_token", {"marks": ", ".join(strangers)})
    bos = tokenizer.bos_token_id
    if bos is not None and texts[0]:
        if prompt_ids(tokenizer, FIXED_CONVERSATIONS[0][:1])[:2] == [bos, bos]:
            yield Finding("bos_twice", {"bos": str(tokenizer.bos_token)})
        elif tokenizer(texts[0])["input_ids"][:2] == [bos, bos]:
            yield Finding("bos_again", {"bos": str(tokenizer.bos_token)})


def family_templates(checkpoint: Checkpoint) -> list[str]:
    """The templates of chat_templates/ that are its family's, if the model knows the family's turns."""
    vocabulary, kind = checkpoint.tokenizer.get_vocab(), str(checkpoint.config.model_type)
    return next((names for name, (end, *names) in FAMILIES.items() if kind.startswith(name) and end in vocabulary), [])


def _texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The fixed conversations as the template writes them, and the question of the first; none that it refuses."""
    texts = []
    for messages, asks in [(FIXED_CONVERSATIONS[0][:1], True), *((messages, False) for messages in FIXED_CONVERSATIONS)]:
        try:
            texts.append(render(tokenizer, messages, add_generation_prompt=asks))
        except RefusedConversation:
            texts.append("")
    return texts


def _texts_in(tokenizer: PreTrainedTokenizerBase, template: str) -> list[str]:
    with _restored(tokenizer):
        tokenizer.chat_template = path_of(template).read_text(encoding="utf-8")
        return _texts(tokenizer)


@contextmanager
def _restored(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    template, eos = tokenizer.chat_template, tokenizer.eos_token
    try:
        yield
    finally:
        tokenizer.chat_template, tokenizer.eos_token = template, eos


def _difference(texts: Sequence[str], others: Sequence[str]) -> tuple[str, str] | None:
    """From where the first two texts differ that both templates write, 40 characters of each; None where none does."""
    for text, other in zip(texts, others, strict=True):
        one, two = (_NO_THOUGHT.sub("", each) for each in (text, other))
        if text and other and one != two:
            start = next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
            return one[start : start + 40], two[start : start + 40]
    return None


# -------------------- where an answer ends, and what generation is told


def _generation_faults(checkpoint: Checkpoint) -> Iterator[Finding]:
    tokenizer, told = checkpoint.tokenizer, checkpoint.generation
    # transformers falls back on the model's own
    stops = stop_ids(told.get("eos_token_id", checkpoint.config.eos_token_id))
    changed = {name: told[name] for name, plain in PLAIN.items() if told.get(name, plain) not in (plain, None)}
    if changed:
        yield Finding("sampling_fields", {"fields": ", ".join(f"{name}: {value}" for name, value in changed.items())})
    pad, own_eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    with _restored(tokenizer):
        after = adopt_turn_end(tokenizer) if tokenizer.chat_template else None
        closing, name = tokenizer.eos_token_id, str(tokenizer.eos_token)
        if after is not None:
            if not _MARK.match(after):  # a mark that is no token is said already
                yield Finding("never_ends", {"closing": repr(after)})
        elif closing not in stops:
            names = [f"{tokenizer.convert_ids_to_tokens(stop)} ({stop})" for stop in stops]
            yield Finding("eos_not_stopped", {"closing": f"{name} ({closing})", "stops": ", ".join(names) or "-"})
        if pad is not None and pad in (closing, own_eos):
            yield Finding("pad_is_eos", {"pad": str(tokenizer.pad_token)})
        if tokenizer.chat_template and after is None:
            try:
                for messages in FIXED_CONVERSATIONS:
                    training_rows(tokenizer, messages)
            except RefusedConversation:
                pass
            except FormatError as error:
                yield Finding("untrainable", {"why": str(error)})


# -------------------- weights, one tensor at a time


def _weight_faults(checkpoint: Checkpoint) -> Iterator[Finding]:
    folders = dict.fromkeys([checkpoint.base, checkpoint.folder])
    files = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
    if not any(file.parent == checkpoint.base for file in files) or (is_adapter(checkpoint.folder) and len(files) < 2):
        yield Finding("no_weights", {})
        return
    broken: list[str] = []
    ends: dict[str, torch.Tensor] = {}  # embedding and head; an adapter's own after the base's
    with progress(len(files), len(files) > 1, "weight files") as advance:
        for file in files:
            with safe_open(file, "pt") as opened:
                for name in sorted(opened.keys()):
                    weights = opened.get_tensor(name)
                    if weights.is_floating_point() and not _is_finite(weights):
                        broken.append(name)
                    if end := _END.search(name):
                        ends["head" if end[1] == "lm_head" else "embedding"] = weights
            advance()
    if broken:
        yield Finding("not_finite", {"count": str(len(broken)), "first": broken[0]})
    embedding, head = ends.get("embedding"), ends.get("head")
    if embedding is None:
        return
    ids = checkpoint.tokenizer.get_vocab()
    if homeless := sorted((number, token) for token, number in ids.items() if number >= len(embedding)):
        facts = {"rows": str(len(embedding)), "tokens": str(max(ids.values()) + 1), "first": homeless[0][1]}
        yield Finding("rows_missing", facts)
    tied = bool(getattr(checkpoint.config, "tie_word_embeddings", False))
    if tied and head is not None and not torch.equal(head, embedding):
        yield Finding("head_ignored", {})
    if not tied and head is None:
        yield Finding("head_missing", {})


def _is_finite(weights: torch.Tensor) -> bool:
    wide = weights if weights.element_size() > 1 else weights.to(torch.bfloat16)  # isfinite knows no 8-bit numbers
    return bool(torch.isfinite(wide).all())
