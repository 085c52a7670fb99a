"""Who answers: a model that is loaded here, or a server that has it loaded. The one place that knows by what the answers of
either are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align_ko.generation.endpoint import draw_from_endpoint, key_of_server
from align_ko.generation.local import draw_local
from align_ko.generation.requests import OnAnswer, Request, answer_keys
from align_ko.models.load import load_checkpoint_tokenizer, load_for_inference, number_format
from align_ko.models.source import ModelSource, weights_hash
from align_ko.recipe import EndpointArgs, GenerationArgs


@dataclass(frozen=True)
class Answerer:
    """A checkpoint. With `endpoint` its folder is read for tokenizer and chat format alone; `stop_loops` as in draw_local."""

    source: str | ModelSource
    generation: GenerationArgs
    endpoint: EndpointArgs | None = None
    chat_template: str = "default"
    stop_loops: bool = False

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_checkpoint_tokenizer(self.source, self.chat_template)

    @cached_property
    def weights(self) -> str:
        return weights_hash(self.source)

    @property
    def dtype(self) -> str:
        """Empty for a server, which does not say."""
        return "" if self.endpoint else number_format(self.generation)

    def keys(self, requests: Sequence[Request]) -> list[str]:
        server, stops = (key_of_server(self.endpoint), False) if self.endpoint else ("", self.stop_loops)
        limit = self.generation.max_new_tokens
        return answer_keys(requests, self.tokenizer, self.weights, limit, self.dtype, stops, server)

    def load(self) -> PreTrainedModel:
        asked = self.generation
        return load_for_inference(self.source, asked.dtype, self.chat_template, load_in_4bit=asked.load_in_4bit)[0]

    def draw(self, requests: list[Request], on_answer: OnAnswer, model: PreTrainedModel | None = None) -> None:
        """`model`: what `load` returned, where the caller needs it too."""
        limit, size = self.generation.max_new_tokens, self.generation.batch_size
        if self.endpoint:
            return draw_from_endpoint(requests, on_answer, self.tokenizer, self.endpoint, limit)
        model = self.load() if model is None else model
        return draw_local(requests, on_answer, model, self.tokenizer, limit, size, self.stop_loops)
