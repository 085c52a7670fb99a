"""A model as a plain transformers folder that any tool reads, and an Ollama Modelfile for our chat format."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align_ko.chat_format import DEFAULT_TEMPLATE, save_format
from align_ko.models.source import ModelSource, origin_of, write_source

SHARD = "5GB"  # the most that is held twice while it is written


def save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, start: ModelSource) -> None:
    """Save weights, tokenizer, chat format, source record and the licence notice of `start`, from which the weights come."""
    model.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)
    save_format(folder, tokenizer, model.generation_config.eos_token_id)
    origin = origin_of(start)
    for place in (start.path, origin.path):
        if (notice := Path(place) / "NOTICE").is_file():  # a licence's terms travel with the weights
            shutil.copy(notice, folder / "NOTICE")
    write_source(folder, origin)


def modelfile(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """An Ollama Modelfile: our turns, greedy (its defaults sample), stop at eos; None for another chat template."""
    if tokenizer.chat_template != DEFAULT_TEMPLATE.read_text(encoding="utf-8"):
        return None
    return f'''FROM .
TEMPLATE """{{{{- range $i, $m := .Messages }}}}{{{{- if $i }}}}

{{{{ end }}}}{{{{- if eq .Role "system" }}}}### System:
{{{{ .Content }}}}{{{{- else if eq .Role "user" }}}}### User:
{{{{ .Content }}}}{{{{- else if eq .Role "assistant" }}}}### Assistant:
{{{{ .Content }}}}{tokenizer.eos_token}{{{{- end }}}}{{{{- end }}}}

### Assistant:
"""
PARAMETER temperature 0
PARAMETER repeat_penalty 1.0
PARAMETER stop "{tokenizer.eos_token}"
PARAMETER stop "### User:"
'''
