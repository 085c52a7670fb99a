"""Servers of a model on this machine, as its user will run it: llama.cpp's from a wheel, and `transformers serve`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

from align_ko.chat_format import RefusedConversation
from align_ko.errors import UserError, missing_package
from align_ko.records import Message

START = 300.0  # seconds that a server may take to load a model


@contextmanager
def llama_cpp_server(file: Path, context: int) -> Iterator[str]:
    """The address (without /v1) of llama.cpp with a GGUF file, one answer at a time: batches would change the last digits, and
    with them answers. UserError for a file that it does not load."""
    try:
        import xllamacpp
    except ImportError:
        raise missing_package("xllamacpp") from None
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.verbosity = str(file), context, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE  # the answer as it is
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise UserError(f"llama.cpp does not load it: {error}", file=file, expected="a GGUF file of export.py") from None
    yield str(server.listening_address)
    del server  # its thread and memory end here


@contextmanager
def transformers_server(folder: Path) -> Iterator[str]:
    """The address (without /v1) of `transformers serve`; it serves the model under the folder's path."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    words = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", device, "--dtype", "auto"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "transformers.cli.transformers", *words]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + START
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if server.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    last = [line.strip() for line in log.read().splitlines() if line.strip()][-1:]
                    problem = f"`transformers serve` did not start: {' '.join(last) or 'it said nothing'}"
                    raise UserError(problem, expected="pip install 'align-ko[gguf]'")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def llama_cpp_ids(address: str, messages: list[Message]) -> list[int]:
    """What llama.cpp's template engine makes of a conversation, as the token ids that its model reads. RefusedConversation as
    chat_format raises it."""
    try:
        text = _post(f"{address}/apply-template", {"messages": messages})["prompt"]
    except HTTPError as error:
        raise RefusedConversation(error.read().decode(errors="replace")[:300]) from None
    return llama_cpp_tokens(address, text)


def llama_cpp_tokens(address: str, text: str) -> list[int]:
    """The ids of a rendered conversation, its special tokens read as such, bos first where the model has one."""
    ids: list[int] = _post(f"{address}/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
    return ids


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=START) as answer:
        content: dict[str, Any] = json.load(answer)
    return content
