"""The one place that knows how a conversation becomes text and token ids: training, generation, evaluation and chat all ask it,
so what a model is trained on and asked with cannot drift apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from align_ko.chat_templates import OWN, names, path_of
from align_ko.errors import UserError, nearest
from align_ko.records import Message, write_json
from align_ko.turns import is_trained

DEFAULT_TEMPLATE = path_of("default")
FORMAT_FILE = "align_ko_format.json"
IGNORE = -100  # label of a token that is not trained on
SHIELDS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Noncharacters, which no text may contain: one of them keeps a special token that a message spells from being read as one."""
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


class FormatError(UserError):
    """A conversation whose training ids would differ from the ids the model sees at inference."""


class RewrittenHistory(FormatError):
    """The template writes an earlier answer in another way than it asks for it."""


class RefusedConversation(FormatError):
    """The template itself refuses the conversation, for example a system message (Gemma 2)."""


@dataclass(frozen=True)
class EncodedConversation:
    """`input_ids` and `labels` of equal length; labels are -100 outside assistant answers and their eos."""

    input_ids: list[int]
    labels: list[int]


def set_chat_template(tokenizer: PreTrainedTokenizerBase, template: str = "default") -> None:
    """Give the tokenizer a template (a name of chat_templates/, `tokenizer` for the one it brings, or a Jinja file) and make
    the token that closes its answers the eos. UserError for an unknown one, or one of another family than the tokenizer."""
    if template == OWN:
        if tokenizer.chat_template is None:
            expected = "a model that was tuned for chat, or one of " + ", ".join(names())
            raise UserError("this tokenizer brings no chat template", key="chat_template", expected=expected)
    else:
        path = path_of(template)
        if not path.is_file():
            expected = f"one of {', '.join(names())}, '{OWN}' or a Jinja file"
            close = nearest(template, (*names(), OWN))
            raise UserError("chat template not found", file=path, key="chat_template", expected=expected, nearest=close)
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    closing = adopt_turn_end(tokenizer)
    if closing and template in names():
        problem = f"the template {template} closes an answer with {closing!r}, which is no token of this tokenizer"
        raise UserError(problem, key="chat_template", expected=f"a model of that family, or '{OWN}'")


def adopt_turn_end(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Make the token that the template closes an answer with the eos: Gemma's `<eos>` becomes `<end_of_turn>`. Returns the text
    after an answer where that begins with no token of the tokenizer (eos is kept), else None."""
    answer = "네, 그렇습니다."
    try:
        text = render(tokenizer, [{"role": "user", "content": "맞나요?"}, {"role": "assistant", "content": answer}])
    except RefusedConversation:
        return None
    after = text.rpartition(answer)[2].lstrip()
    tokens = [str(token) for token in tokenizer.added_tokens_decoder.values() if after.startswith(str(token))]
    if not tokens:
        return after.split("\n")[0]
    closing = max(tokens, key=len)
    if closing != tokenizer.eos_token:
        tokenizer.eos_token = closing
    return None


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], add_generation_prompt: bool = False) -> str:
    """The conversation as text, bos and eos written out.

    `[{"role": "user", "content": "안녕"}]` with `add_generation_prompt` → `<bos>### User:\\n안녕\\n\\n### Assistant:\\n`
    """
    if tokenizer.chat_template is None:
        raise UserError("this tokenizer has no chat template", expected="a checkpoint of align_ko, or set chat_template")
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except (TemplateError, TypeError) as error:
        raise RefusedConversation(f"the chat template refuses this conversation: {error}") from None
    assert isinstance(text, str)
    return text


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: list[Message], add_generation_prompt: bool = True) -> list[int]:
    """Token ids the model is asked with: everything up to where its answer starts. One bos, no eos at the end."""
    shielded, shield = _shielded(tokenizer, messages)
    return _encode(tokenizer, render(tokenizer, shielded, add_generation_prompt), shield)


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], last_only: bool = False
) -> EncodedConversation:
    """Token ids and labels, every assistant turn but those of weight 0 (`last_only`: the last) supervised with its eos.
    FormatError when the ids before an answer are not those of `prompt_ids` (a token merged across the boundary), or an answer
    does not end with eos."""
    messages, shield = _shielded(tokenizer, messages)
    text = render(tokenizer, messages)
    full = _encode(tokenizer, text, shield)
    labels = [IGNORE] * len(full)
    for turn, message in enumerate(messages):
        if not is_trained(message) or (last_only and turn < len(messages) - 1):
            continue
        before_text = render(tokenizer, messages[:turn], add_generation_prompt=True)
        upto_text = render(tokenizer, messages[: turn + 1])
        if not (text.startswith(upto_text) and upto_text.startswith(before_text)):
            raise RewrittenHistory(f"the template renders turn {turn} differently inside a longer conversation")
        before, upto = _encode(tokenizer, before_text, shield), _encode(tokenizer, upto_text, shield)
        if full[: len(before)] != before or full[: len(upto)] != upto:
            raise FormatError(f"the prompt of turn {turn} has other token ids in training than at inference")
        end = len(upto)
        while end > len(before) and full[end - 1] != tokenizer.eos_token_id:
            end -= 1  # a template may write a line break after its eos; that is not the answer
        if end == len(before):
            raise _no_end(tokenizer, turn, upto_text.rpartition(message["content"].strip())[2].strip())
        labels[len(before) : end] = full[len(before) : end]
    return EncodedConversation(full, labels)


def _no_end(tokenizer: PreTrainedTokenizerBase, turn: int, closing: str) -> FormatError:
    closed = f"with {closing!r}, which is no token of this tokenizer" if closing else "with nothing"
    return FormatError(
        f"the template closes the answer of turn {turn} {closed}, not with {tokenizer.eos_token!r}: a model trained in it "
        "never learns to stop",
        key="data.chat_template",
        expected="default (for SOLAR Instruct its own turns, with eos), or a Jinja file with eos_token after an answer",
    )


def training_rows(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message]
) -> list[tuple[list[Message], EncodedConversation]]:
    """The rows that teach every answer of a conversation once, each with its turns: one row, as a rule. A template that
    rewrites earlier answers (Qwen3 drops their empty think block) gets one for each answer, as that is asked for at
    inference."""
    try:
        return [(messages, conversation_ids(tokenizer, messages))]
    except RewrittenHistory:
        upto = [messages[: turn + 1] for turn, message in enumerate(messages) if is_trained(message)]
        return [(part, conversation_ids(tokenizer, part, last_only=True)) for part in upto]


def rewrites_history(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> bool:
    """Whether the template writes some earlier answer in another way than it asks for it."""
    text = render(tokenizer, messages)
    asked = [messages[:turn] for turn, message in enumerate(messages) if message["role"] == "assistant"]
    return not all(text.startswith(render(tokenizer, part, add_generation_prompt=True)) for part in asked)


def answer_ids(tokenizer: PreTrainedTokenizerBase, prompt: list[Message], answer: str, finished: bool = True) -> list[int]:
    """Ids of one answer after `prompt_ids(prompt)`; the closing eos only if the answer really ended."""
    return side_ids(tokenizer, prompt, [{"role": "assistant", "content": answer}], finished).input_ids


def side_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: list[Message], turns: list[Message], finished: bool = True
) -> EncodedConversation:
    """Ids and labels of what follows `prompt_ids(prompt)`, from an answer to the eos of the last one; without that eos where it
    never ended. The user's turns between answers have no labels."""
    full = conversation_ids(tokenizer, [*prompt, *turns], last_only=len(turns) == 1)
    start, last = len(prompt_ids(tokenizer, prompt)), max(n for n, label in enumerate(full.labels) if label != IGNORE)
    end = last + 1 if finished else last
    return EncodedConversation(full.input_ids[start:end], full.labels[start:end])


def spelled_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[str]:
    """The special tokens that texts spell, each as often as it occurs: `["끝</s>"]` → `["</s>"]`. They are read as text."""
    pattern = _special_pattern(tokenizer)
    return [token for text in texts for token in pattern.findall(text)]


def read_back(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A text as the tokenizer keeps it: Qwen3 composes Hangul that came decomposed, SentencePiece makes `▁` a space."""
    [message], shield = _shielded(tokenizer, [{"role": "user", "content": text}])
    return str(tokenizer.decode(_encode(tokenizer, message["content"], shield)))


_PATTERNS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[object, re.Pattern[str]]] = WeakKeyDictionary()


def _special_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Matches every special token but white space (Gemma's line breaks), the longest first."""
    state = len(tokenizer), *tokenizer.all_special_tokens
    if _PATTERNS.get(tokenizer, (None,))[0] != state:
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        tokens = {token for token in (*added, *tokenizer.all_special_tokens) if len(token) > 1 and not token.isspace()}
        literals = map(re.escape, sorted(tokens, key=len, reverse=True))
        _PATTERNS[tokenizer] = state, re.compile("|".join(literals) or r"(?!)")
    return _PATTERNS[tokenizer][1]


def _shielded(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> tuple[list[Message], str]:
    """The messages with a shield inside every special token that they spell, and the shield; nearly always the same and
    none."""
    pattern = _special_pattern(tokenizer)
    if not any(pattern.search(message["content"]) for message in messages):
        return messages, ""
    shield = next(sign for sign in SHIELDS if not any(sign in message["content"] for message in messages))
    shielded: list[Message] = []
    for message in messages:
        text = message["content"]
        while pattern.search(text):  # again, for tokens that overlap
            text = pattern.sub(lambda found: found[0][0] + shield + found[0][1:], text)
        shielded.append({**message, "content": text})
    return shielded, shield


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, shield: str = "") -> list[int]:
    """Token ids, without those of the shield. The rest of the text keeps the ids that it has where nothing is shielded."""
    # the template writes bos and eos itself; the tokenizer would add them once more
    if not shield:
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    try:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError:
        raise FormatError("a message spells a special token, which only a fast tokenizer can read as text") from None
    pieces = list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
    if any(shield in text[start:end] != shield for _, (start, end) in pieces):
        raise FormatError(f"the tokenizer reads {shield!r}, which keeps special tokens out of messages, as part of a word")
    return [token for token, (start, end) in pieces if shield not in text[start:end]]


def stop_ids(eos: int | list[int] | None) -> list[int]:
    """A configuration's `eos_token_id`: one token, several or none."""
    return [eos] if isinstance(eos, int) else list(eos or [])


def describe_format(tokenizer: PreTrainedTokenizerBase, generation_eos: int | list[int] | None) -> dict[str, object]:
    """Everything that must be equal between training and inference, with one hash over it."""
    described: dict[str, object] = {
        "chat_template": tokenizer.chat_template,
        "bos_token": tokenizer.bos_token,
        "eos_token": tokenizer.eos_token,
        "pad_token": tokenizer.pad_token,
        "special_ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "generation_eos_token_id": sorted(stop_ids(generation_eos)),
        "fixed_conversation_ids": [_fixed_ids(tokenizer, messages) for messages in FIXED_CONVERSATIONS],
    }
    text = json.dumps(described, ensure_ascii=False, sort_keys=True)
    return {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16], **described}


def _fixed_ids(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int] | None:
    """Ids of the whole conversation, or None where the template refuses it (a system message, in the second)."""
    try:
        return training_rows(tokenizer, messages)[-1][1].input_ids
    except RefusedConversation:
        return None


def save_format(folder: Path, tokenizer: PreTrainedTokenizerBase, generation_eos: int | list[int] | None) -> str:
    """Write the format file into a checkpoint; returns the fingerprint."""
    described = describe_format(tokenizer, generation_eos)
    write_json(folder / FORMAT_FILE, described)
    return str(described["fingerprint"])


def check_format(folder: Path, tokenizer: PreTrainedTokenizerBase, generation_eos: int | list[int] | None) -> None:
    """UserError for a checkpoint whose tokenizer, template or eos is not the one it was trained with, as far as it says so."""
    path = folder / FORMAT_FILE
    if not path.is_file():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    now = describe_format(tokenizer, generation_eos)
    different = [key for key in now if key != "fingerprint" and saved.get(key) != now[key]]
    if different:
        details = "; ".join(f"{key} was {_short(saved.get(key))}, is {_short(now[key])}" for key in different)
        expected = "the tokenizer files and generation_config.json that were saved with it"
        raise UserError(f"this checkpoint was trained in another chat format: {details}", file=path, expected=expected)


def _short(value: object) -> str:
    text = " and ".join(map(str, value)) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
