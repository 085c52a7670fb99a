"""The chat format in other tools' words."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import DEFAULT_TEMPLATE


def modelfile(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """An Ollama Modelfile: our turns in Ollama's Go template, greedy (temperature 0), no repeat penalty, stop at eos.

    Ollama's own defaults sample at temperature 0.8 with repeat_penalty 1.1, so both are stated. bos is added by Ollama.
    None for a checkpoint with another chat template, which this file would not describe.
    """
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
