"""The part of a recipe that says which server draws answers. No torch here, so --help and mistakes answer at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Server = Literal["vllm", "sglang", "llama_cpp", "ollama", "transformers"]
PromptForm = Literal["auto", "token_ids", "text", "messages"]


@dataclass(frozen=True)
class EndpointArgs:
    """An OpenAI-compatible server that already holds the checkpoint."""

    base_url: str
    """For example http://localhost:8000/v1."""
    model: str
    """The name under which the server holds the checkpoint."""
    server: Server = "vllm"
    """Servers name the repetition penalty differently and have sampling defaults of their own; both are set by this."""
    send: PromptForm = "auto"
    """How prompts travel. token_ids: exactly the ids of training (vllm, sglang, llama_cpp). text: rendered here
    (transformers). messages: the server's own template renders them (ollama)."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; the key itself never stands in a file."""
    concurrency: int = 32
    """Requests under way at once."""
    timeout: float = 300.0
    """Seconds for one answer."""
    max_retries: int = 8
    """Tries more after 408, 409, 429, 5xx, a timeout or a dropped connection, 0.5 to 8 s apart or as the server asks."""
    check_prompt: bool = True
    """Stop when the server counts other prompt tokens than the checkpoint's own format gives: its template drifted."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """More fields for every request, over those that `server` sets."""
