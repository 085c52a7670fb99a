"""Servers for tests: one of our own that fails as asked, on a real web framework, and free ports.

`python endpoint_servers.py PORT 답변` is one as a process of its own: a judge that says what the answer tells it to.
`python endpoint_servers.py PORT served.jsonl 5` answers and writes what it answered to a file, and dies in its fifth request.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from urllib.request import urlopen

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def completion(text, finish="stop", **message) -> JSONResponse:
    """A chat completion that says `text`."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return JSONResponse({"id": "x", "object": "o", "created": 0, "model": "tiny", "choices": [choice]})


async def told(request: Request) -> Response:
    """The first reading says what is in `[…]` of the text, the second, whose rubric begins with 2, what is in `{…}`."""
    rubric, text = (message["content"] for message in (await request.json())["messages"])
    brackets = r"\{(.*?)\}" if "2:" in rubric.split("0:")[0] else r"\[(.*?)\]"
    return completion(re.search(brackets, text.split(f"<{sys.argv[2]}>")[1])[1], "length" if "{cut}" in text else "stop")


@contextmanager
def judge_process(inside="답변"):
    """The address of such a judge, in a process of its own; the text is what is `inside` that tag."""
    with server_process(inside) as url:
        yield url


@contextmanager
def mortal_servers(folder, *deaths):
    """(addresses, files of what they served) of servers that die in their n-th request; 0: never."""
    files = [folder / f"served-{number}.jsonl" for number in range(len(deaths))]
    with ExitStack() as stack:
        yield [stack.enter_context(server_process(*at)) for at in zip(map(str, files), map(str, deaths), strict=True)], files


def served(file) -> list[str]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@contextmanager
def server_process(*words):
    port = free_port()
    process = Popen([sys.executable, __file__, str(port), *words])
    try:
        for _ in range(600):
            try:
                urlopen(f"http://127.0.0.1:{port}/v1/models").close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


class FaultyServer:
    """`faults`: what happens to each completion in turn (429, 400 …, "drop", "slow", a Response, None); later ones succeed.

    Answers `답: <prompt or last message> <seed>`. `bodies` holds every request that reached it, failed ones included.
    """

    def __init__(self, faults=(), key="", read=None, delay=0.0, finish="stop"):
        self.faults, self.key, self.read, self.delay, self.finish = list(faults), key, read, delay, finish
        self.listing: Response | None = None  # instead of the list of models
        self.bodies: list[dict] = []
        self.count, self.at_once, self.most_at_once = Counter(), 0, 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
            Route("/classify", self.complete, methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=self.port, log_level="critical")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *exc):
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)

    def refused(self, request):
        return self.key and request.headers.get("authorization") != f"Bearer {self.key}"

    async def models(self, request: Request) -> Response:
        if self.refused(request):
            return JSONResponse({"error": {"message": "wrong key"}}, 401)
        if self.listing:
            return self.listing
        return JSONResponse({"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "us"}]})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.answer(body)
        finally:
            self.at_once -= 1

    def say(self, said, body: dict) -> str:
        return f" 답: {said} {body['seed']}\n"

    async def answer(self, body: dict) -> Response:
        fault = self.faults.pop(0) if self.faults else None
        self.count[fault] += 1
        if fault == "drop":
            # what a server that dies in the middle does: the connection closes without an answer
            for connection in list(self.server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0.05)
        if isinstance(fault, Response):
            return fault
        if isinstance(fault, int):
            return JSONResponse({"error": {"message": f"refused on purpose {fault}"}}, fault, headers={"retry-after-ms": "10"})
        await asyncio.sleep(5 if fault == "slow" else self.delay)
        return self.reply(body)

    def reply(self, body: dict) -> Response:
        said = body.get("prompt") or body["messages"][-1]["content"]
        text = self.say(said, body)
        choice = {"index": 0, "finish_reason": self.finish, "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        read = self.read if self.read is not None else len(said)
        usage = {"prompt_tokens": read, "completion_tokens": 5, "total_tokens": read + 5}
        return JSONResponse({"id": "x", "object": "o", "created": 0, "model": "tiny", "choices": [choice], "usage": usage})


class RewardServer(FaultyServer):
    """A reward model's: `score` of the token ids that it is sent, as vLLM or SGLang answers."""

    def __init__(self, score, **options):
        super().__init__(**options)
        self.score = score

    def reply(self, body: dict) -> Response:
        if "input_ids" in body:
            return JSONResponse([{"embedding": [self.score(body["input_ids"])], "meta_info": {}}])
        row = {"index": 0, "label": None, "probs": [self.score(body["input"])], "num_classes": 1}
        return JSONResponse({"id": "x", "object": "list", "created": 0, "model": body["model"], "data": [row]})


class MortalServer(FaultyServer):
    """Writes what it answered, with seed and temperature, to a file; dies, with all that is under way, in one of them."""

    def __init__(self, port: int, file: Path, dies_in: int):
        super().__init__(delay=0.02)
        self.port, self.file, self.dies_in = port, file, dies_in
        self.server.config.port = port

    def say(self, said, body: dict) -> str:
        if len(self.bodies) >= self.dies_in > 0:
            os._exit(1)
        with self.file.open("a") as log:
            log.write(json.dumps([said, body.get("seed"), body.get("temperature")]) + "\n")
        return f"답: {said} {body.get('seed')} 판정: A"


if __name__ == "__main__":
    if len(sys.argv) == 4:
        MortalServer(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).server.run()
    judge = [
        Route("/v1/models", lambda request: JSONResponse({"data": []})),
        Route("/v1/chat/completions", told, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=judge), host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
