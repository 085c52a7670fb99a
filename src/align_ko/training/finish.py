"""What every training stage leaves behind: best weights, tokenizer, chat format, greedy decoding, manifest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import save_format
from align_ko.modeling import greedy_config, load_merged
from align_ko.training.hardware import read_base_of


def save_stage(trainer: Any, tokenizer: PreTrainedTokenizerBase, merge_adapter: bool, dtype: torch.dtype) -> Path:
    """Save the trainer's model (the best checkpoint, when `load_best_model_at_end`) into its output folder.

    With `merge_adapter`, the folder itself holds the merged model that plain `AutoModelForCausalLM.from_pretrained` loads,
    and `adapter/` the adapter. Every process must call this (ZeRO-3 gathers weights); only the first writes.
    """
    folder = Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    is_peft = isinstance(model, PeftModel)
    if is_peft and "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's frozen copy of the start; not part of the result
    target = folder / "adapter" if merge_adapter and is_peft else folder
    trainer.save_model(str(target))
    if trainer.accelerator.is_main_process:
        config = greedy_config(model, tokenizer)
        for place in {target, folder}:
            tokenizer.save_pretrained(place)
            config.save_pretrained(place)
            save_format(place, tokenizer, config.eos_token_id)
        if target != folder:
            _save_merged(target, folder, config, dtype)
    trainer.accelerator.wait_for_everyone()
    return folder


def _save_merged(adapter: Path, folder: Path, config: Any, dtype: torch.dtype) -> None:
    merged = load_merged(adapter, dtype)
    merged.generation_config = config
    merged.save_pretrained(folder)
    notice = Path(read_base_of(str(adapter))) / "NOTICE"
    if notice.is_file():
        shutil.copy(notice, folder / "NOTICE")
