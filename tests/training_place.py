"""A folder with a tiny model, rows, pairs and recipes of 18 steps (GRPO: 4), for tests that run the training scripts whole."""

from __future__ import annotations

import sys
from pathlib import Path

from conftest import Tiny, other_rows, rows
from safetensors.torch import load_file

from align_ko.records import write_jsonl

ROOT = Path(__file__).parents[1]
SFT = """\
model: {{model_name_or_path: {model}, dtype: float32, lora_r: 4, lora_alpha: 8, lora_dropout: 0.1}}
data: {{train_file: train.jsonl, eval_file: eval.jsonl}}
early_stopping: {{patience: 100}}
training:
  output_dir: sft
  learning_rate: 3e-3
  train_sampling_strategy: group_by_length
"""
DPO = """\
model_name_or_path: start
model: {{model_name_or_path: {model}, dtype: float32}}
data: {{train_file: pairs.jsonl, eval_file: pairs_eval.jsonl}}
early_stopping: {{patience: 100}}
training:
  output_dir: dpo
  learning_rate: 1e-3
  precompute_ref_log_probs: true
"""
GRPO = """\
model_name_or_path: start
model: {{model_name_or_path: {model}, dtype: float32}}
data: {{train_file: train.jsonl, eval_file: eval.jsonl}}
rewards: {{repetition: 0.5}}
training:
  output_dir: grpo
  learning_rate: 2e-3
  beta: 0.05
  max_steps: 4
  per_device_train_batch_size: 2
  per_device_eval_batch_size: 2
  gradient_accumulation_steps: 2
  num_generations: 2
  num_generations_eval: 1
  max_completion_length: 12
  temperature: 3.0
  gradient_checkpointing: false
  eval_strategy: steps
  eval_steps: 2
  save_steps: 2
  logging_steps: 1
  disable_tqdm: true
  report_to: none
  seed: 3
"""
BOTH = """\
  num_train_epochs: 2
  per_device_train_batch_size: 2
  gradient_accumulation_steps: 2
  max_length: 512
  gradient_checkpointing: false
  eval_strategy: steps
  eval_steps: 3
  save_steps: 3
  save_total_limit: 1
  logging_steps: 1
  disable_tqdm: true
  report_to: none
  seed: 3
"""


def make_place(folder: Path, model: Tiny) -> Path:
    """Two epochs of 9 steps, evaluated and saved every 3; dropout, so that the random state matters."""
    many = [{**row, "id": f"{row['id']}-{copy}"} for copy in range(4) for row in rows()]
    write_jsonl(folder / "train.jsonl", many)
    write_jsonl(folder / "eval.jsonl", other_rows(4))
    pairs = [
        {"id": row["id"], "prompt": row["messages"][:-1], "chosen": row["messages"][-1:],
         "rejected": [{"role": "assistant", "content": "네 네 네 네 네"}], "rejected_finished": n % 2 == 0}
        for n, row in enumerate(many)
    ]  # fmt: skip
    write_jsonl(folder / "pairs.jsonl", pairs)
    others = [(row["messages"], [{"role": "assistant", "content": "네 네 네 네"}]) for row in other_rows(3)]
    held_out = [{"prompt": messages[:-1], "chosen": messages[-1:], "rejected": bad} for messages, bad in others]
    write_jsonl(folder / "pairs_eval.jsonl", held_out)
    (folder / "sft.yaml").write_text((SFT + BOTH).format(model=model.folder))
    (folder / "dpo.yaml").write_text((DPO + BOTH).format(model=model.folder))
    (folder / "grpo.yaml").write_text(GRPO.format(model=model.folder))
    return folder


def run_here(monkeypatch, script: str, *argv: str) -> None:
    """Run scripts/<script>.py's main in this process, in the current folder; its locks go with it, as at a process's end."""
    from importlib import import_module

    from align_ko.process import unlock_all_folders

    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *argv])
    try:
        import_module(script).main()
    finally:
        unlock_all_folders()


def weights(folder: str | Path) -> dict[str, bytes]:
    """Every tensor of a saved adapter, as bytes."""
    loaded = load_file(Path(folder) / "adapter_model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in loaded.items()}
