"""A model from a GGUF file, a folder or the hub as a plain bfloat16 transformers folder, its vocabulary cut where asked.

Most of a multilingual vocabulary is other languages: of Gemma 3's 262,144 tokens 4,561 contain Hangul, of Qwen2.5's 151,643
it is 3,510. Bytes stay, so every text still round-trips; what was dropped is spelt with more tokens.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from align_ko.errors import UserError
from align_ko.models.source import model_source
from align_ko.process import locked_folder
from align_ko.records import TEMPORARY

ASCII_IDS = 30_000  # ids are roughly ordered by frequency; rarer ASCII pieces are foreign names and code debris
_HANGUL = re.compile("[가-힣ㄱ-ㅣ]")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_MARK = re.compile(r"<[/|]?\w+\|?>")
# Gemma's spare and image tokens, and what a GGUF file fills an embedding up with
_UNUSED = re.compile(r"<unused\d+>|\[multimodal\]|<(start|end)_of_image>|\[PAD\d+\]")


@dataclass(frozen=True)
class Prepared:
    """What a preparation did to a model."""

    parameters: tuple[int, int]
    """Before and after, tied weights once."""
    vocabulary: tuple[int, int]
    """Rows of the embedding before and after."""


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target`, removed at the end; what is complete is renamed out of it."""
    place = target.with_name(f".preparing-{target.name}")
    with locked_folder(place):
        try:
            with tempfile.TemporaryDirectory(dir=place, prefix=".", suffix=TEMPORARY) as inside:
                yield Path(inside)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def unpack_gguf(file: Path, folder: Path) -> None:
    """The weights of a GGUF file as bfloat16 safetensors in `folder`, with its tokenizer and chat template.

    Its bos is left out where its tokenizer never writes one (Qwen's files name <|endoftext|>). UserError for what is not GGUF.
    """
    try:
        import gguf  # noqa: F401  transformers reads GGUF through it
    except ImportError:
        raise UserError("reading GGUF needs the package gguf", expected="pip install 'align-ko[quickstart]'") from None
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UserError("not a GGUF file", file=file, expected="a file that begins with the four letters GGUF")
    packed = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    if hasattr(packed.config, "quantization_config"):
        del packed.config.quantization_config  # save_pretrained refuses quantised models; these weights are dequantised by now
    packed.config._name_or_path = ""
    tied = {"lm_head.weight"} if packed.config.tie_word_embeddings else set()
    model = type(packed)(packed.config).to(torch.bfloat16)
    model.load_state_dict({name: tensor for name, tensor in packed.state_dict().items() if name not in tied}, strict=not tied)
    model.tie_weights()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if tokenizer.bos_token_id not in tokenizer("가").input_ids:
        tokenizer.bos_token = None
    tokenizer = _plain_tokenizer(
        json.loads(tokenizer.backend_tokenizer.to_str()), tokenizer, packed.config.max_position_embeddings
    )
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    model.config.update(ids)
    model.generation_config.update(**ids)
    _save(folder, model, tokenizer)


def cut_model(source: str, folder: Path) -> Prepared:
    """The model `source` (folder or hub id) with its vocabulary cut, in `folder`: of embedding and output layer, tied or not,
    the rows of the dropped tokens go."""
    origin = model_source(source)
    tokenizer = origin.load(AutoTokenizer)
    model: PreTrainedModel = origin.load(AutoModelForCausalLM, dtype=torch.bfloat16, use_safetensors=True)
    if not hasattr(model.config, "vocab_size") or not hasattr(tokenizer, "backend_tokenizer"):
        raise UserError(f"the vocabulary of {source} cannot be cut", expected="a text model with a fast tokenizer")
    parameters, rows = model.num_parameters(), model.get_input_embeddings().weight.shape[0]
    tree, kept = cut_tokenizer(json.loads(tokenizer.backend_tokenizer.to_str()))
    layers = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        layers.append(model.get_output_embeddings())
    for layer in layers:
        layer.weight = torch.nn.Parameter(layer.weight.data[kept], requires_grad=False)
    model.tie_weights()
    model.config.vocab_size = len(kept)
    new_id: dict[int | None, int] = {old: new for new, old in enumerate(kept)}
    for place in (model.config, model.generation_config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(place, name, None)  # one id, several, or none
            setattr(place, name, [new_id[each] for each in value] if isinstance(value, list) else new_id.get(value))
    _save(folder, model, _plain_tokenizer(tree, tokenizer, tokenizer.model_max_length))
    if (notice := Path(origin.path) / "NOTICE").is_file():  # a licence's terms travel with the weights
        shutil.copy(notice, folder / "NOTICE")
    return Prepared((parameters, model.num_parameters()), (rows, len(kept)))


def _plain_tokenizer(tree: dict[str, Any], like: PreTrainedTokenizerBase, length: int) -> PreTrainedTokenizerFast:
    named = ["bos_token", "eos_token", "pad_token", "unk_token", "chat_template"]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(tree, ensure_ascii=False)),
        **{name: value for name in named if (value := getattr(like, name)) is not None},
        model_max_length=length,
        clean_up_tokenization_spaces=False,
    )


def _save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save, then load once more: RuntimeError where another tensor comes back."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, use_safetensors=True).state_dict()
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor, again[name]):
            raise RuntimeError(f"{name} is not loaded from {folder} as it was saved")


def keep_text(text: str, index: int) -> bool:
    """Whether a token that stands for `text` is kept.

    >>> [keep_text(text, 40_000) for text in (" 안녕", "the", " привет", "…", "語", "?")]
    [True, False, False, True, False, True]
    """
    others = _HANGUL.sub("", text)
    # punctuation and symbols, no emoji
    plain = all(c.isascii() or (unicodedata.category(c)[0] in "PS" and ord(c) < 0x3100) for c in others)
    return plain and (others != text or len(text) == 1 or index < ASCII_IDS)  # every merge starts from single characters


def cut_tokenizer(tree: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """A tokenizer.json tree without the dropped tokens, renumbered from 0, and the old ids in their new order.

    Special tokens and bytes stay, and so does what a kept token is merged from. UserError for a tokenizer that is not BPE.
    """
    model = tree["model"]
    if model["type"] != "BPE":
        raise UserError(f"the vocabulary of a {model['type']} tokenizer cannot be cut", expected="a BPE tokenizer")
    vocabulary: dict[str, int] = {**model["vocab"], **{entry["content"]: entry["id"] for entry in tree["added_tokens"]}}
    added = {entry["content"] for entry in tree["added_tokens"] if entry["special"] or _MARK.fullmatch(entry["content"])}
    byte_level = vocabulary.keys() >= set(pre_tokenizers.ByteLevel.alphabet()) and "ByteLevel" in str(tree["decoder"])
    decoder = decoders.ByteLevel()

    def keep(token: str, index: int) -> bool:
        if _UNUSED.fullmatch(token):
            return False
        if token in added or _BYTE.fullmatch(token):
            return True
        if not byte_level:
            return keep_text(token.replace("▁", " "), index)
        text = decoder.decode([token])
        return "\ufffd" in text or keep_text(text, index)  # a byte, half a character: rare Hangul is spelt with them

    kept = {token for token, index in vocabulary.items() if keep(token, index)}
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    merged_from: dict[str, list[tuple[str, str]]] = {}
    for first, second in merges:
        merged_from.setdefault(first + second, []).append((first, second))
    unseen = list(kept)
    while unseen:
        ways = merged_from.get(unseen.pop(), [])
        if ways and not any(kept.issuperset(way) for way in ways):
            unseen += set(ways[0]) - kept
            kept |= set(ways[0])
    order = sorted(kept, key=vocabulary.__getitem__)
    new_id = {token: position for position, token in enumerate(order)}
    model["vocab"] = {token: new_id[token] for token in order if token in model["vocab"]}
    model["merges"] = [[a, b] for a, b in merges if a in kept and b in kept and a + b in kept]
    tree["added_tokens"] = [
        {**entry, "id": new_id[entry["content"]]} for entry in tree["added_tokens"] if entry["content"] in kept
    ]
    post = tree["post_processor"] or {}
    for processor in (post, *post.get("processors", ())):
        for template in processor.get("special_tokens", {}).values():
            template["ids"] = [new_id[token] for token in template["tokens"]]
    return tree, [vocabulary[token] for token in order]
