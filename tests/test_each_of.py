"""What people bring that is not as it should be: each stage that reads it works, or says so in one line and exits 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from peft import LoraConfig, get_peft_model

from align_ko import cli
from align_ko.errors import run_script
from align_ko.manifest import file_mark
from align_ko.models.export import save_model
from align_ko.models.load import greedy_config
from align_ko.models.source import model_source
from align_ko.process import unlock_all_folders

QUESTION = {"prompt": "한국의 수도는 어디인가요?"}
NASTY = '<script>alert(1)</script> & "<b>" \x1b[31m \x07 \u202e \x00 무엇인가요?'
LONG = "가나다라마 " * 20_000
GENERATION = {"max_new_tokens": 4, "batch_size": 4}
RECIPES = {
    "evaluate": {
        "models": {"sft": "sft"},
        "prompts_file": "prompts.jsonl",
        "sampling": {},
        "probes": [],
        "generation": GENERATION,
    },
    "pairs": {"model_name_or_path": "sft", "prompts_file": "prompts.jsonl", "generation": GENERATION},
    "export": {"model_name_or_path": "sft", "dtype": "float32"},
}
STAGES = [*RECIPES, "diagnose"]


@pytest.fixture
def place(llama, tmp_path, monkeypatch):
    """A folder with `sft`, an adapter on `base`, both whole, and one prompt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path / "cache"))
    shutil.copytree(llama.folder, "base")
    tokenizer, model = llama.tokenizer(), llama.model()
    model.generation_config = greedy_config(tokenizer)
    adapter = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    adapter.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    save_model(tmp_path / "sft", adapter, tokenizer, model_source("base"))
    model.generation_config.save_pretrained("sft")
    write("prompts.jsonl", json.dumps(QUESTION))
    yield tmp_path
    unlock_all_folders()


def write(name, text):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)


def run(capsys, stage, prompts="prompts.jsonl"):
    """Exit code, output, and what went to stderr without progress bars."""
    if stage in RECIPES:
        write(f"{stage}.yaml", yaml.safe_dump({**RECIPES[stage], "output_dir": f"out_{stage}"}))
        words = [stage, f"{stage}.yaml", *(["--prompts_file", prompts] if stage != "export" else [])]
    else:
        words = ["diagnose", "sft", "--lang", "en", "--prompts", prompts, "--max-new-tokens", "4"]
        words = words if stage == "diagnose" else ["assess", prompts]
    code = 0
    try:
        run_script(lambda: cli.run(words))
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return code, said.out, [line for line in said.err.splitlines() if line.startswith(("error", "Traceback"))]


def change_template():
    with open("sft/chat_template.jinja", encoding="utf-8") as file:
        text = file.read()
    write("sft/chat_template.jinja", text.replace("### User:", "### 질문:"))


def lose_fingerprint():
    write("sft/manifest.json", json.dumps({"files": {"align_ko_format.json": file_mark(Path("sft/align_ko_format.json"))}}))
    shutil.move("sft/align_ko_format.json", "elsewhere.json")


CHECKPOINTS = {
    "another template": (change_template, "trained in another chat format: chat_template was"),
    "no fingerprint": (lose_fingerprint, "align_ko_format.json is missing"),
    "no base": (lambda: shutil.move("base", "elsewhere"), "/base is not there"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_a_checkpoint_that_is_not_as_it_was(place, fault, stage, capsys):
    spoil, said = CHECKPOINTS[fault]
    spoil()
    code, out, errors = run(capsys, stage)
    if stage == "diagnose" and fault != "no base":  # whose findings are its answer
        assert code == 0 and said in out and not errors
    else:
        assert code == 2 and len(errors) == 1 and said in errors[0], (out, errors)


def test_a_checkpoint_from_elsewhere_has_no_fingerprint_and_is_read(place, capsys):
    shutil.move("sft/align_ko_format.json", "elsewhere.json")
    for stage in STAGES:
        code, _, errors = run(capsys, stage)
        assert code == 0 or "no pair could be made" in errors[0], (stage, errors)


UNREADABLE = {
    "no file": (None, "prompts.jsonl"),
    "nothing in it": (b"", "prompts.jsonl"),
    "no JSON": (b'{"prompt": "a"\n{{{\n', "prompts.jsonl:1: not valid JSON"),
    "no text": (bytes(range(128, 256)) * 3, "prompts.jsonl:1: contains bytes that are no text"),
    "no prompt": (b'{"answer": 1}\n', "prompts.jsonl:1: "),
}


@pytest.mark.parametrize("stage", ["evaluate", "pairs", "diagnose", "assess"])
@pytest.mark.parametrize("fault", UNREADABLE)
def test_unreadable_prompts(place, fault, stage, capsys):
    content, said = UNREADABLE[fault]
    (place / "prompts.jsonl").unlink()
    if content is not None:
        (place / "prompts.jsonl").write_bytes(content)
    code, out, errors = run(capsys, stage)
    said = "no answer" if stage == "assess" and fault != "no file" else said
    assert code == 2 and len(errors) == 1 and said in errors[0], (out, errors)


def test_markup_and_control_characters_are_shown(place, capsys):
    write("prompts.jsonl", json.dumps({"prompt": NASTY, "response": NASTY}))
    for stage in ["evaluate", "pairs", "diagnose", "assess"]:
        code, out, errors = run(capsys, stage)
        assert code == 0 or "no pair could be made" in errors[0], (stage, errors)
        assert not {"\x1b", "\x07", "\x00", "\u202e"} & set(out)
    page = (place / "out_evaluate/report.html").read_text(encoding="utf-8")
    assert "alert(1)" in page and "<script>alert" not in page and not {"\x1b", "\x07", "\x00", "\u202e"} & set(page)


@pytest.mark.parametrize("stage", ["evaluate", "pairs", "diagnose", "assess"])
def test_a_prompt_beyond_the_model_s_context(place, stage, capsys):
    write("prompts.jsonl", "\n".join(json.dumps({"prompt": text, "response": text}) for text in (LONG, "수도는?")))
    code, out, errors = run(capsys, stage)
    if stage == "assess":
        assert code == 0 and "answers 2" in out
    else:
        problem = f"the prompt that begins {LONG[:40]!r} has 140,010 tokens, more than the model's context leaves room for"
        assert code == 2 and errors == [f"error: {problem}; expected fewer than 2,048"]
