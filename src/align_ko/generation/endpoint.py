"""Answers from any OpenAI-compatible server: many requests at once, retries with back-off, each answer told as it ends.

The openai package does the retries (0.5 s doubling to 8 s, or as the server's Retry-After says). What cannot get better by
waiting, such as a wrong key, a wrong model name or a refused field, ends the run at once with the recipe key to look at.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from align_ko.errors import UserError
from align_ko.generation.requests import Generated, OnAnswer, Request
from align_ko.generation.servers import knobs_of, prompt_fields
from align_ko.recipe import EndpointArgs

if TYPE_CHECKING:
    import openai

_LATER = "what was drawn is saved, the same command goes on from there"


def draw_from_endpoint(
    requests: list[Request],
    on_answer: OnAnswer,
    tokenizer: PreTrainedTokenizerBase,
    args: EndpointArgs,
    max_new_tokens: int,
) -> None:
    """Answer every request in order, `args.concurrency` at once. Raises UserError for what a person has to put right."""
    try:
        asyncio.run(_draw_all(requests, on_answer, tokenizer, args, max_new_tokens))
    except ExceptionGroup as group:  # of the requests that failed at once, one is told
        errors = [error for error in group.exceptions if not isinstance(error, UserError)]
        raise (errors or group.exceptions)[0] from None


async def _draw_all(
    requests: list[Request],
    on_answer: OnAnswer,
    tokenizer: PreTrainedTokenizerBase,
    args: EndpointArgs,
    max_new_tokens: int,
) -> None:
    import openai

    queue = iter(enumerate(requests))
    async with openai.AsyncOpenAI(
        base_url=args.base_url, api_key=_key(args), timeout=args.timeout, max_retries=args.max_retries
    ) as client:
        await _greet(client, args)

        async def work(queue: Iterator[tuple[int, Request]]) -> None:
            for index, request in queue:
                on_answer(index, await _ask(client, request, tokenizer, args, max_new_tokens))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(args.concurrency, len(requests))):
                group.create_task(work(queue))


async def _greet(client: openai.AsyncOpenAI, args: EndpointArgs) -> None:
    """Tell a wrong address or key at once instead of after all retries; a server without a list of models passes."""
    import openai

    try:
        await client.with_options(max_retries=1).models.list()
    except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
        raise _told(error, args) from None
    except openai.OpenAIError:
        pass


async def _ask(
    client: openai.AsyncOpenAI,
    request: Request,
    tokenizer: PreTrainedTokenizerBase,
    args: EndpointArgs,
    max_new_tokens: int,
) -> Generated:
    import openai

    decoding = request.decoding
    fields, prompt_length = prompt_fields(tokenizer, request.prompt, args)
    body: dict[str, Any] = {
        "model": args.model,
        "max_tokens": max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "seed": request.seed,
        "extra_body": {**knobs_of(args.server, decoding, max_new_tokens, tokenizer), **args.extra_body},
        **fields,
    }
    try:
        create: Any = client.chat.completions.create if "messages" in fields else client.completions.create
        reply = await create(**body)
    except openai.OpenAIError as error:
        raise _told(error, args, request) from None
    if not reply.choices:
        raise UserError(f"{args.base_url} answered without any choice: {str(reply)[:200]}", key="endpoint.server")
    choice = reply.choices[0]
    text = (choice.message.content if "messages" in fields else choice.text) or ""
    read = reply.usage.prompt_tokens if reply.usage else None
    if args.check_prompt and read and read != prompt_length:
        raise UserError(
            f"{args.base_url} read {read} prompt tokens where the checkpoint's own format has {prompt_length}, for the "
            f"question {_begin(request)}",
            key="endpoint.send",
            expected="token_ids where the server takes them, or the checkpoint's own chat template on the server "
            "(check_prompt: false where it only counts differently)",
        )
    tokens = reply.usage.completion_tokens if reply.usage else len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return Generated(text.strip(), choice.finish_reason == "stop", tokens)


def _key(args: EndpointArgs) -> str:
    """The API key; local servers want none, but the client does."""
    if not args.api_key_env:
        return "none"
    key = os.environ.get(args.api_key_env)
    if not key:
        raise UserError(
            f"the environment variable {args.api_key_env} is not set",
            key="endpoint.api_key_env",
            expected="the server's key in it",
        )
    return key


def _told(error: openai.OpenAIError, args: EndpointArgs, request: Request | None = None) -> UserError:
    """What a person can do about a failed request, as a UserError."""
    import openai

    where = args.base_url
    if isinstance(error, openai.APITimeoutError):
        problem = f"{where} gave no answer within {args.timeout:g} s, {args.max_retries + 1} times; {_LATER}"
        return UserError(problem, key="endpoint.timeout", expected="more seconds, or less concurrency")
    if isinstance(error, openai.APIConnectionError):
        return UserError(f"no connection to {where} ({error.__cause__ or error}); {_LATER}", key="endpoint.base_url")
    if not isinstance(error, openai.APIStatusError):
        return UserError(f"{where}: {error}", key="endpoint.base_url")
    said = f"{where} answered {error.status_code}: {_message(error)}"
    if error.status_code in (401, 403):
        wanted = "the name of the environment variable that holds the server's key"
        return UserError(said, key="endpoint.api_key_env", expected=wanted)
    if error.status_code == 404:
        wanted = "a base_url that ends in /v1 and the model name that the server gives"
        return UserError(said, key="endpoint.base_url, endpoint.model", expected=wanted)
    if error.status_code == 429:
        problem = f"{said}, {args.max_retries + 1} times; {_LATER}"
        return UserError(problem, key="endpoint.concurrency", expected="fewer requests at once")
    if error.status_code >= 500 or error.status_code in (408, 409):
        return UserError(f"{said}, {args.max_retries + 1} times; {_LATER}", key="endpoint.base_url")
    asked = f" (the question {_begin(request)})" if request else ""
    return UserError(
        said + asked, key="endpoint.server, endpoint.model, endpoint.extra_body", expected="what this server takes"
    )


def _message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body.get("detail") or error.message)[:300]


def _begin(request: Request) -> str:
    return repr(request.prompt[-1]["content"][:40])
