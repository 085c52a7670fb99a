"""The one place that knows how a conversation becomes text and token ids.

Training, generation, evaluation and chat all call `prompt_ids` and `conversation_ids`, so what a model is trained on and
what it is asked with cannot drift apart. A fingerprint of the format travels with every checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from align_ko.errors import UserError
from align_ko.records import Message, write_json

DEFAULT_TEMPLATE = Path(__file__).parent / "chat_templates" / "default.jinja"
FORMAT_FILE = "align_ko_format.json"
IGNORE = -100  # label of a token that is not trained on
# What the fingerprint pins: one turn, two turns with a system prompt, and text that stresses the tokenizer.
FIXED_CONVERSATIONS: list[list[Message]] = [
    [{"role": "user", "content": "안녕하세요"}, {"role": "assistant", "content": "안녕하세요! 무엇을 도와드릴까요?"}],
    [
        {"role": "system", "content": "짧게 답하세요."},
        {"role": "user", "content": "1+1은?"},
        {"role": "assistant", "content": "2입니다."},
        {"role": "user", "content": "그럼 2+2는?"},
        {"role": "assistant", "content": "4입니다."},
    ],
    [
        {"role": "user", "content": "  코드 보여 줘\n\n```python\nprint('뷁😀')\n```  "},
        {"role": "assistant", "content": "```python\nprint(1)\n```\n이렇게 쓰면 됩니다."},
    ],
]


class FormatError(ValueError):
    """A conversation whose training ids would differ from the ids the model sees at inference."""


@dataclass(frozen=True)
class EncodedConversation:
    """`input_ids` and `labels` of equal length; labels are -100 outside assistant answers and their eos."""

    input_ids: list[int]
    labels: list[int]


def set_chat_template(tokenizer: PreTrainedTokenizerBase, template: str = "default") -> None:
    """Give the tokenizer our template, or the Jinja file at `template`; saved with it from then on."""
    path = DEFAULT_TEMPLATE if template == "default" else Path(template)
    if not path.is_file():
        raise UserError("chat template not found", file=path, key="chat_template", expected="'default' or a Jinja file")
    tokenizer.chat_template = path.read_text(encoding="utf-8")


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], add_generation_prompt: bool = False) -> str:
    """The conversation as text, bos and eos written out.

    `[{"role": "user", "content": "안녕"}]` with `add_generation_prompt` → `<bos>### User:\\n안녕\\n\\n### Assistant:\\n`
    """
    if tokenizer.chat_template is None:
        raise UserError("this tokenizer has no chat template", expected="a checkpoint of align_ko, or set chat_template")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    assert isinstance(text, str)
    return text


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    """Token ids the model is asked with: everything up to where its answer starts. One bos, no eos at the end."""
    return _encode(tokenizer, render(tokenizer, messages, add_generation_prompt=True))


def conversation_ids(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> EncodedConversation:
    """Token ids and labels of a whole conversation, every assistant turn supervised with its eos.

    Raises FormatError when the ids before some answer are not the ids that `prompt_ids` gives for the same turns (a token
    merged across the boundary), or when an answer does not end with eos.
    """
    text = render(tokenizer, messages)
    full = _encode(tokenizer, text)
    labels = [IGNORE] * len(full)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before_text = render(tokenizer, messages[:turn], add_generation_prompt=True)
        upto_text = render(tokenizer, messages[: turn + 1])
        if not (text.startswith(upto_text) and upto_text.startswith(before_text)):
            raise FormatError(f"the template renders turn {turn} differently inside a longer conversation")
        before, upto = _encode(tokenizer, before_text), _encode(tokenizer, upto_text)
        if full[: len(before)] != before or full[: len(upto)] != upto:
            raise FormatError(f"the prompt of turn {turn} has other token ids in training than at inference")
        end = len(upto)
        while end > len(before) and full[end - 1] != tokenizer.eos_token_id:
            end -= 1  # a template may write a line break after its eos; that is not the answer
        if end == len(before):
            raise FormatError(f"the answer of turn {turn} does not end with {tokenizer.eos_token!r}")
        labels[len(before) : end] = full[len(before) : end]
    return EncodedConversation(full, labels)


def answer_ids(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: str, finished: bool = True) -> list[int]:
    """Ids of one answer after `prompt_ids(prompt)`; the closing eos only if the answer really ended."""
    full = conversation_ids(tokenizer, [*prompt, {"role": "assistant", "content": answer}])
    start = len(prompt_ids(tokenizer, prompt))
    ids = [token for token, label in zip(full.input_ids[start:], full.labels[start:], strict=True) if label != IGNORE]
    return ids if finished else ids[:-1]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template writes bos and eos itself; letting the tokenizer add them too is the classic doubled bos.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def describe_format(tokenizer: PreTrainedTokenizerBase, generation_eos: int | list[int] | None) -> dict[str, Any]:
    """Everything that must be equal between training and inference, with one hash over it."""
    eos = [generation_eos] if isinstance(generation_eos, int) else sorted(generation_eos or [])
    described: dict[str, Any] = {
        "chat_template": tokenizer.chat_template,
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "pad_token": tokenizer.pad_token,
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "generation_eos_token_id": eos,
        "fixed_conversation_ids": [conversation_ids(tokenizer, c).input_ids for c in FIXED_CONVERSATIONS],
    }
    text = json.dumps(described, ensure_ascii=False, sort_keys=True)
    return {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16], **described}


def save_format(folder: Path, tokenizer: PreTrainedTokenizerBase, generation_eos: int | list[int] | None) -> str:
    """Write the format file into a checkpoint; returns the fingerprint."""
    described = describe_format(tokenizer, generation_eos)
    write_json(folder / FORMAT_FILE, described)
    return str(described["fingerprint"])


def check_format(folder: Path, tokenizer: PreTrainedTokenizerBase, generation_eos: int | list[int] | None) -> None:
    """Refuse a checkpoint whose tokenizer, template or eos is not the one it was trained with.

    A folder without a format file (somebody else's model) passes. Raises UserError naming what differs.
    """
    path = folder / FORMAT_FILE
    if not path.is_file():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    now = describe_format(tokenizer, generation_eos)
    different = [key for key in now if key != "fingerprint" and saved.get(key) != now[key]]
    if different:
        details = "; ".join(f"{key} was {_short(saved.get(key))}, is {_short(now[key])}" for key in different)
        raise UserError(
            f"this checkpoint was trained in another chat format: {details}",
            file=path,
            expected="the tokenizer files and generation_config.json that were saved with it",
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
