"""What each OpenAI-compatible server calls our knobs, and how a prompt reaches it without its ids changing.

A server that reads text adds its own bos, and one that reads messages uses its own template: both can differ from what the
checkpoint was trained with, silently. Where a server takes token ids, it gets ours.
"""

from __future__ import annotations

import json
from typing import Any

from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import prompt_ids, render
from align_ko.errors import UserError
from align_ko.recipe import DecodingArgs, EndpointArgs, Server
from align_ko.records import Message

SENDS: dict[Server, str] = {
    "vllm": "token_ids",
    "sglang": "token_ids",
    "llama_cpp": "token_ids",
    "transformers": "text",  # `transformers serve` takes text only
    "ollama": "messages",  # its completions run the text through the model's template once more
}


def knobs_of(server: Server, decoding: DecodingArgs, max_new_tokens: int, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Fields beyond OpenAI's own for one request: the repetition penalty, and the server's other knobs turned off.

    `DecodingArgs(0.7, 0.9, 1.1)` → `{"repetition_penalty": 1.1, "top_k": -1, "min_p": 0.0}` for vllm,
    `{"repeat_penalty": 1.1, "repeat_last_n": 65536, "top_k": 0, "min_p": 0.0}` for llama_cpp.
    """
    penalty = decoding.repetition_penalty
    if server in ("vllm", "sglang"):
        return {"repetition_penalty": penalty, "top_k": -1, "min_p": 0.0}
    if server == "llama_cpp":  # its defaults are top_k 40, min_p 0.05 and a penalty on the last 64 tokens only
        return {"repeat_penalty": penalty, "repeat_last_n": 65536, "top_k": 0, "min_p": 0.0}
    if server == "transformers":  # replaces the model's whole generation config, so the special tokens stand in it too
        config: dict[str, Any] = {"repetition_penalty": penalty, "max_new_tokens": max_new_tokens, "do_sample": False}
        if decoding.temperature > 0:
            config |= {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        config |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        return {"generation_config": json.dumps(config)}
    if penalty != 1.0:
        raise UserError(
            f"Ollama's OpenAI interface takes no repetition penalty, and a candidate asks for {penalty:g}",
            key="candidates",
            expected="repetition_penalty 1.0, or another server",
        )
    return {}


def prompt_fields(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], args: EndpointArgs
) -> tuple[dict[str, Any], int]:
    """(`prompt` or `messages` of the request, how many tokens the server should read)."""
    ids = prompt_ids(tokenizer, messages)
    send = SENDS[args.server] if args.send == "auto" else args.send
    if send == "token_ids":
        return {"prompt": ids}, len(ids)
    if send == "messages":
        return {"messages": messages}, len(ids)
    return {"prompt": text_for_server(tokenizer, messages, ids)}, len(ids)


def text_for_server(tokenizer: PreTrainedTokenizerBase, messages: list[Message], ids: list[int]) -> str:
    """The rendered prompt, without its bos where the tokenizer puts one there itself; UserError when no text gives `ids`.

    `<bos>### User:\\n안녕…` → `### User:\\n안녕…` for a tokenizer that begins every text with bos.
    """
    text = render(tokenizer, messages, add_generation_prompt=True)
    for candidate in (text.removeprefix(str(tokenizer.bos_token)), text):
        if list(tokenizer(candidate)["input_ids"]) == ids:
            return candidate
    raise UserError(
        "no text gives this checkpoint's prompt ids back once the server's tokenizer adds its own special tokens",
        key="endpoint.send",
        expected="token_ids (vllm, sglang, llama_cpp)",
    )
