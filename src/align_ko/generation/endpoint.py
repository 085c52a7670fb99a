"""Answers from any OpenAI-compatible server: many requests at once, each answer passed on as it ends.

The openai package retries (0.5 s doubling to 8 s, or as a Retry-After of up to a minute says); what no retry mends, such as a
wrong key, model name or field, ends the run with the recipe key to look at. No redirect is followed. A server that reads text
adds its own bos, one that reads messages has its own template: where it takes token ids, it gets ours."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from align_ko.chat_format import prompt_ids, render
from align_ko.errors import UserError, warn
from align_ko.generation.requests import Generated, OnAnswer, Request
from align_ko.recipe import DecodingArgs, EndpointArgs, JudgeServerArgs, Server
from align_ko.records import Message

if TYPE_CHECKING:
    import openai
    from transformers import PreTrainedTokenizerBase

Body = dict[str, Any]  # fields of a request
Wanted = Literal["completion", "score"]
SENDS: dict[Server, str] = {
    "vllm": "token_ids",
    "sglang": "token_ids",
    "llama_cpp": "token_ids",
    "transformers": "text",  # `transformers serve` takes text only
    "ollama": "messages",  # its completions run the text through the model's template once more
}
SHARED_RETRIES = 2  # where another server can answer, a request is not tried longer on one that fails
# vLLM's and SGLang's finish_reason of what the server itself gave up: vllm/v1/engine/__init__.py, FINISH_REASON_STRINGS;
# sglang/srt/entrypoints/openai/protocol.py, CompletionResponseChoice
CUT_OFF = ("abort", "error")
LONGEST_WAIT = 60  # seconds that a Retry-After may ask for; the openai package has the same bound
_LATER = "what was answered is saved, the same command goes on from there"


@dataclass(frozen=True)
class Reply:
    """What is used of a completion; the token counts are None where the server gives none."""

    text: str
    finish: str | None  # stop, length, content_filter …
    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def read_reply(content: bytes) -> Reply:
    """The completion in a response body. ValueError says what the body is instead.

    >>> read_reply(b'{"model": "m", "choices": [{"finish_reason": "stop", "text": "ok"}], "usage": {"prompt_tokens": 3}}')
    Reply(text='ok', finish='stop', model='m', prompt_tokens=3, completion_tokens=None)
    """
    try:
        body = json.loads(content)
        choice, usage = body["choices"][0], body.get("usage")
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        if isinstance(text, list):  # content parts
            text = "".join(part["text"] for part in text)
        if not isinstance(text, str | None) or choice.get("finish_reason") in CUT_OFF:
            raise TypeError
        (text or "").encode()  # ValueError for half a surrogate pair, which no file can hold
        counts = (usage.get(f"{side}_tokens") if isinstance(usage, dict) else None for side in ("prompt", "completion"))
        numbers = [count if isinstance(count, int) else None for count in counts]
        return Reply(text or "", choice.get("finish_reason"), str(body.get("model") or ""), *numbers)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError(content[:400].decode("utf-8", "replace") or "an empty body") from None


def read_score(content: bytes) -> Reply:
    """A reward model's raw score as the reply's text: one label's logit, of two labels the second's less the first's.
    ValueError says what the body is instead.

    >>> read_score(b'{"model": "rm", "data": [{"index": 0, "label": null, "probs": [2.5], "num_classes": 1}]}').text
    '2.5'
    >>> read_score(b'[{"embedding": [-1.0, 0.5]}]').text
    '1.5'
    """
    try:
        body = json.loads(content)
        # vLLM: vllm/entrypoints/pooling/classify/protocol.py, ClassificationResponse (with use_activation false `probs` are
        # logits); SGLang: docs.sglang.io, native API, /classify
        row, model = (body["data"][0]["probs"], body["model"]) if isinstance(body, dict) else (body[0]["embedding"], "")
        logits = [float(value) for value in row]
        if len(logits) not in (1, 2) or not all(map(isfinite, logits)):
            raise TypeError
        return Reply(repr(round(logits[-1] - (logits[0] if len(logits) == 2 else 0.0), 6)), "stop", str(model or ""))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError(content[:400].decode("utf-8", "replace") or "an empty body") from None


READERS: dict[Wanted, Callable[[bytes], Reply]] = {"completion": read_reply, "score": read_score}


@dataclass
class _Open:
    """One of the servers while requests are under way."""

    url: str
    client: openai.AsyncOpenAI
    under_way: int = 0


def complete_all(
    server: EndpointArgs | JudgeServerArgs,
    bodies: Sequence[Callable[[], Body]],
    on_reply: Callable[[int, Reply], None],
    section: str = "endpoint",
    describe: Callable[[int], str] = str,
    wanted: Wanted = "completion",
) -> None:
    """Send the requests that `bodies` return, many at once; `on_reply` is called with the index of each reply as it arrives.
    Each goes to the server with fewest under way; one that fails is left out, and what it had goes to the others.
    UserError for what a user has to mend: it names the recipe's keys under `section` and the request by `describe`."""
    import openai

    queue, others, key = iter(range(len(bodies))), set[str](), _key_of(server, section)
    urls = [server.base_url, *server.more_base_urls]
    alive: list[_Open] = []

    def leave_out(one: _Open, error: openai.OpenAIError | UserError, request: str = "") -> None:
        """UserError where it is the request that is at fault, or no other server is left."""
        status = getattr(error, "status_code", 500)
        passes = status in (408, 409, 429) or status >= 500
        if not passes or alive == [one]:
            raise (
                error if isinstance(error, UserError) else _user_error(error, server, one.url, section, key, request)
            ) from None
        if one in alive:
            alive.remove(one)
            why = f"its answers are no {wanted}s" if isinstance(error, UserError) else type(error).__name__
            warn(f"{section}: {one.url} is left out ({why}), {len(alive)} of {len(urls)} servers answer")

    async def ask(one: _Open, body: Body) -> Reply:
        tries, start = (server.max_retries if len(alive) == 1 else min(server.max_retries, SHARED_RETRIES)) + 1, ""
        client = one.client.with_options(max_retries=tries - 1)
        for attempt in range(tries):
            try:
                async with asyncio.timeout(tries * (server.timeout + LONGEST_WAIT)):  # of a server that sends byte by byte
                    content = await _send(client, one.url, body, wanted)
            except openai.BadRequestError as error:
                if error.code != "content_filter" or isinstance(server, EndpointArgs):
                    raise
                return Reply("", "content_filter", "")  # as some servers say that they do not judge this text
            except TimeoutError:
                raise openai.OpenAIError(
                    f"no whole answer in {tries * (server.timeout + LONGEST_WAIT):g} s; {_LATER}"
                ) from None
            try:
                return READERS[wanted](content)
            except ValueError as error:
                start = str(error)
            if attempt < tries - 1:
                await asyncio.sleep(min(0.5 * 2**attempt, 8))
        problem = f"{one.url} answered {tries} times with what is no {wanted}: {start!r}; {_LATER}"
        expected = "an OpenAI-compatible server" if wanted == "completion" else "vLLM or SGLang with a reward model"
        raise UserError(problem.replace(key or "\0", "***"), key=f"{section}.base_url", expected=expected)

    async def work() -> None:
        for index in queue:
            body, reply = bodies[index](), None
            while reply is None:
                one = min(alive, key=lambda each: each.under_way)
                one.under_way += 1
                try:
                    reply = await ask(one, body)
                except (openai.OpenAIError, UserError) as error:
                    leave_out(one, error, describe(index))
                finally:
                    one.under_way -= 1
            if reply.model and not reply.model.startswith(body["model"]) and reply.model not in others:
                others.add(reply.model)
                warn(f"{section}.model: {one.url} was asked for {body['model']} and answers as {reply.model}")
            on_reply(index, reply)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            for url in urls:
                http = openai.DefaultAsyncHttpxClient(follow_redirects=False)
                # local servers want no key, but the client does
                client = openai.AsyncOpenAI(base_url=url, api_key=key or "none", http_client=http, timeout=server.timeout)
                alive.append(_Open(url, await stack.enter_async_context(client)))
            for one in list(alive):
                try:  # a wrong address or key shows at once, not after all retries; a server without a list of models passes
                    await one.client.with_options(max_retries=1).models.with_raw_response.list()
                except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
                    leave_out(one, error)
                except openai.OpenAIError:
                    pass
            async with asyncio.TaskGroup() as group:
                for _ in range(min(server.concurrency * len(alive), len(bodies))):
                    group.create_task(work())

    try:
        asyncio.run(run())
    except ExceptionGroup as group:  # of the requests that failed at once, one is reported
        errors = [error for error in group.exceptions if not isinstance(error, UserError)]
        raise (errors or group.exceptions)[0] from None


async def _send(client: openai.AsyncOpenAI, url: str, body: Body, wanted: Wanted) -> bytes:
    import httpx

    if wanted == "score":
        address = url.rstrip("/").removesuffix("/v1") + "/classify"  # beside /v1 on both servers
        return (await client.post(address, body=body, cast_to=httpx.Response)).content
    route: Any = client.chat.completions if "messages" in body else client.completions
    content: bytes = (await route.with_raw_response.create(**body)).content
    return content


def _key_of(server: EndpointArgs | JudgeServerArgs, section: str) -> str | None:
    key = os.environ.get(server.api_key_env) if server.api_key_env else None
    if not key and server.api_key_env:
        problem = f"the environment variable {server.api_key_env} is not set"
        raise UserError(problem, key=f"{section}.api_key_env", expected="the server's key in it")
    return key


def key_of_server(args: EndpointArgs) -> str:
    """What the key of an answer has of its server: not the address, for all that are named serve one checkpoint."""
    return f"{args.server} {args.model} {args.send} {json.dumps(args.extra_body, sort_keys=True)}"


def only_model(server: EndpointArgs) -> str:
    """The name of the one model that the server lists. UserError where it lists several or none."""
    import openai

    key = _key_of(server, "endpoint")
    with openai.OpenAI(base_url=server.base_url, api_key=key or "none", timeout=server.timeout, max_retries=1) as client:
        try:
            names = [str(model["id"]) for model in json.loads(client.models.with_raw_response.list().content)["data"]]
        except openai.OpenAIError as error:
            raise _user_error(error, server, server.base_url, "endpoint", key) from None
        except (ValueError, LookupError, TypeError):
            names = []
    if len(names) != 1:
        expected = f"one of {', '.join(names[:20])}" if names else "the name under which it serves the model"
        raise UserError(f"{server.base_url} lists {len(names) or 'no'} models", key="endpoint.model", expected=expected)
    return names[0]


def draw_from_endpoint(
    requests: list[Request],
    on_answer: OnAnswer,
    tokenizer: PreTrainedTokenizerBase | None,
    args: EndpointArgs,
    max_new_tokens: int,
) -> None:
    """Answer every request with the checkpoint that the server has loaded. Where its tokenizer is not at hand, messages travel,
    the server's own template renders them, and only the server counts tokens (0 where it does not)."""
    lengths: dict[int, int] = {}

    def body(index: int) -> Body:
        request = requests[index]
        fields, lengths[index] = (
            prompt_fields(tokenizer, request.prompt, args) if tokenizer else ({"messages": request.prompt}, 0)
        )
        # The fields of CompletionRequest in vLLM and SGLang (the files are named in knobs_of). `prompt` may be a list of token
        # ids; no bos is added to one. SGLang hands `seed` on as sampling_seed (serving_completions.py), which counts under
        # --enable-deterministic-inference (docs.sglang.io, deterministic inference). Greedy is temperature 0 in both.
        return {
            "model": args.model,
            "max_tokens": max_new_tokens,
            "temperature": request.decoding.temperature,
            "top_p": request.decoding.top_p,
            "seed": request.seed,
            "extra_body": {**knobs_of(args.server, request.decoding, max_new_tokens, tokenizer), **args.extra_body},
            **fields,
        }

    def save(index: int, reply: Reply) -> None:
        length, read, tokens = lengths.pop(index), reply.prompt_tokens, reply.completion_tokens
        if args.check_prompt and tokenizer and read and read != length:
            problem = f"{args.base_url} read {read} prompt tokens where the checkpoint's own format has {length}"
            expected = "token_ids where the server takes them, or the checkpoint's own chat template on the server "
            expected += "(check_prompt: false where it only counts differently)"
            raise UserError(f"{problem}, for the question {begin(index)}", key="endpoint.send", expected=expected)
        if tokens is None:
            tokens = len(tokenizer(reply.text, add_special_tokens=False)["input_ids"]) if tokenizer else 0
        on_answer(index, Generated(reply.text.strip(), reply.finish == "stop", tokens))

    def begin(index: int) -> str:
        return repr(requests[index].prompt[-1]["content"][:40])

    complete_all(args, [partial(body, index) for index in range(len(requests))], save, describe=begin)


def _user_error(
    error: openai.OpenAIError,
    server: EndpointArgs | JudgeServerArgs,
    where: str,
    section: str,
    secret: str | None,
    request: str = "",
) -> UserError:
    import openai

    tries = f"{server.max_retries + 1} times; {_LATER}"
    expected: str | None = None
    if isinstance(error, openai.APITimeoutError):
        problem, keys = f"{where} gave no answer within {server.timeout:g} s, {tries}", "timeout"
        expected = "more seconds, or less concurrency"
    elif isinstance(error, openai.APIConnectionError):
        problem, keys = f"no connection to {where} ({error.__cause__ or error}); {_LATER}", "base_url"
    elif not isinstance(error, openai.APIStatusError):
        problem, keys = f"{where}: {error}", "base_url"
    else:
        body = error.body if isinstance(error.body, dict) else {}
        reason = str(body.get("message") or body.get("detail") or error.message)[:300]
        problem, status = f"{where} answered {error.status_code}: {reason}", error.status_code
        if status < 400:
            keys, expected = "base_url", "the address that answers by itself: no redirect is followed"
            problem = f"{where} redirects to {error.response.headers.get('location')}"
        elif status in (401, 403):
            keys, expected = "api_key_env", "the name of the environment variable that contains the server's key"
        elif status == 404:
            keys, expected = "base_url model", "a base_url that ends in /v1 and the model name that the server gives"
        elif status == 429:
            problem, keys, expected = f"{problem}, {tries}", "concurrency", "fewer requests at once"
        elif status >= 500 or status in (408, 409):
            problem, keys = f"{problem}, {tries}", "base_url"
        else:
            keys, expected = "server model extra_body" if section == "endpoint" else "model", "what this server takes"
            problem += f" (the question {request})" * bool(request)
    problem = problem.replace(secret or "\0", "***")  # servers echo the key that they refuse
    return UserError(problem, key=", ".join(f"{section}.{key}" for key in keys.split()), expected=expected)


def knobs_of(server: Server, decoding: DecodingArgs, max_new_tokens: int, tokenizer: PreTrainedTokenizerBase | None) -> Body:
    """Fields beyond OpenAI's own for one request: the repetition penalty, and the server's other knobs turned off.

    `DecodingArgs(0.7, 0.9, 1.1)` → `{"repetition_penalty": 1.1, "top_k": -1, "min_p": 0.0}` for vllm,
    `{"repeat_penalty": 1.1, "repeat_last_n": 65536, "top_k": 0, "min_p": 0.0}` for llama_cpp.
    """
    penalty = decoding.repetition_penalty
    # vLLM: vllm/entrypoints/openai/completion/protocol.py, CompletionRequest; what is None there comes from the model's
    # generation_config. -1 (or 0) turns top_k off: vllm/sampling_params.py. SGLang: sglang/srt/entrypoints/openai/protocol.py,
    # CompletionRequest; -1 alone turns it off: sglang/srt/sampling/sampling_params.py, which takes no penalty above 2
    if server in ("vllm", "sglang"):
        return {"repetition_penalty": penalty, "top_k": -1, "min_p": 0.0}
    if server == "llama_cpp":  # its defaults are top_k 40, min_p 0.05 and a penalty on the last 64 tokens only
        return {"repeat_penalty": penalty, "repeat_last_n": 65536, "top_k": 0, "min_p": 0.0}
    if server == "transformers" and tokenizer is None:
        return {"frequency_penalty": penalty - 1}  # it takes 1 + this for its repetition penalty
    if server == "transformers":  # replaces the model's whole generation config, so it needs the special tokens too
        config: Body = {"repetition_penalty": penalty, "max_new_tokens": max_new_tokens, "do_sample": False}
        if decoding.temperature > 0:
            config |= {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        config |= {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        return {"generation_config": json.dumps(config)}
    if penalty != 1.0:
        problem = f"Ollama's OpenAI interface takes no repetition penalty, and a candidate asks for {penalty:g}"
        raise UserError(problem, key="candidates", expected="repetition_penalty 1.0, or another server")
    return {}


def prompt_fields(tokenizer: PreTrainedTokenizerBase, messages: list[Message], args: EndpointArgs) -> tuple[Body, int]:
    """(`prompt` or `messages` of the request, how many tokens the server should read)."""
    ids = prompt_ids(tokenizer, messages)
    send = SENDS[args.server] if args.send == "auto" else args.send
    if send == "token_ids":
        return {"prompt": ids}, len(ids)
    if send == "messages":
        return {"messages": messages}, len(ids)
    return {"prompt": text_for_server(tokenizer, messages, ids)}, len(ids)


def text_for_server(tokenizer: PreTrainedTokenizerBase, messages: list[Message], ids: list[int]) -> str:
    """The rendered prompt, without its bos where the server's tokenizer adds one: `<bos>### User:\\n안녕…` → `###
    User:\\n안녕…`. UserError when no text gives `ids`."""
    text = render(tokenizer, messages, add_generation_prompt=True)
    for candidate in (text.removeprefix(str(tokenizer.bos_token)), text):
        if list(tokenizer(candidate)["input_ids"]) == ids:
            return candidate
    problem = "no text gives this checkpoint's prompt ids back once the server's tokenizer adds its own special tokens"
    raise UserError(problem, key="endpoint.send", expected="token_ids (vllm, sglang, llama_cpp)")
