"""A BPE vocabulary cut down to Korean, English, code and punctuation.

Most of a multilingual vocabulary is other languages: of Gemma 3's 262,144 tokens 4,561 contain Hangul, of Qwen2.5's 151,643
it is 3,510. Bytes stay, so every text still round-trips; what was dropped is spelt with more tokens.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from tokenizers import decoders, pre_tokenizers

from align_ko.errors import UserError

ASCII_IDS = 30_000  # ids are roughly ordered by frequency; rarer ASCII pieces are foreign names and code debris
_HANGUL = re.compile("[가-힣ㄱ-ㅣ]")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_MARK = re.compile(r"<[/|]?\w+\|?>")
# Gemma's spare and image tokens, and what a GGUF file fills an embedding up with
_UNUSED = re.compile(r"<unused\d+>|\[multimodal\]|<(start|end)_of_image>|\[PAD\d+\]")


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
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    byte_level = letters <= vocabulary.keys() and "ByteLevel" in str(tree["decoder"])
    decoder = decoders.ByteLevel()

    def keep(token: str, index: int) -> bool:
        if _UNUSED.fullmatch(token):
            return False
        if token in added or _BYTE.fullmatch(token) or (byte_level and token in letters):
            return True
        if not byte_level:
            return keep_text(token.replace("▁", " "), index)
        text = decoder.decode([token])
        return "\ufffd" in text or keep_text(text, index)  # half a character: rare Hangul is spelt with them

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
