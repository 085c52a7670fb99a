"""A model from a GGUF file, a folder or the hub as a plain bfloat16 transformers folder, its vocabulary cut where asked."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from align_ko.errors import UserError
from align_ko.models.source import model_source
from align_ko.models.vocabulary import cut_tokenizer
from align_ko.process import locked_folder
from align_ko.records import TEMPORARY

Vocabulary = Literal["full", "korean_english"]


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
    with locked_folder(place), tempfile.TemporaryDirectory(dir=place, prefix=".", suffix=TEMPORARY) as inside:
        yield Path(inside)
    shutil.rmtree(place)


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
