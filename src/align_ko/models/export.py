"""A model as a plain transformers folder that any tool reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align_ko.chat_format import save_format
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
