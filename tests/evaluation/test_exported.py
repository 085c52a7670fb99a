"""An export beside its checkpoint: equal answers, wrong templates in GGUF file and Modelfile, a quantisation that falls."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import Tiny

from align_ko.chat_format import answer_ids, prompt_ids
from align_ko.errors import UserError
from align_ko.evaluation import exported
from align_ko.evaluation.exported import Difference, Engine, ExportCheck, check_export
from align_ko.models.gguf import write_gguf
from align_ko.models.load import load_for_inference
from align_ko.recipe import EndpointArgs, GenerationArgs
from align_ko.records import PromptRow
from align_ko.report.exported import faults_of, table_of

ROOT = Path(__file__).parents[2]
GENERATION = GenerationArgs(max_new_tokens=12, dtype="float32")
QUESTIONS = ("한국의 수도는?", "물은 언제 끓나요?", "비가 오면?")
PROMPTS = [PromptRow(f"p{n}", [{"role": "user", "content": text}], "서울입니다.", "g") for n, text in enumerate(QUESTIONS)]


def run_script(name, *words):
    before, sys.argv = sys.argv, [name, *map(str, words)]
    try:
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def export(llama, tmp_path_factory) -> Path:
    """The tiny SOLAR exported by the script, with F16 beside it."""
    out = tmp_path_factory.mktemp("exported") / "out"
    recipe = out.parent / "export.yaml"
    recipe.write_text(f"model_name_or_path: {llama.folder}\noutput_dir: {out}\ndtype: float32\ngguf: [F16]\n")
    run_script("export.py", recipe)
    return out


def test_an_export_answers_as_its_checkpoint(export, llama):
    manifest = json.loads((export / "manifest.json").read_text())
    assert (manifest["parent"], manifest["beside"]) == (str(llama.folder), ["model-F16.gguf", "Modelfile"])
    assert (export / "Modelfile").read_text().startswith("FROM ./model-F16.gguf\n")
    check = check_export(export, str(llama.folder), PROMPTS, GENERATION, serve=False)
    assert check.template_faults == []
    assert [engine.name for engine in check.engines] == ["checkpoint", "export", "llama.cpp F16"]
    assert [engine.equal for engine in check.engines[:2]] == [1, 1]
    own, _, packed = (engine.result["reference_nll"] for engine in check.engines)
    assert packed == pytest.approx(own, abs=0.01) and packed != own  # F16 weights, read back


def test_the_margin_is_what_the_model_prefers(export):
    model, tokenizer = load_for_inference(str(export), "float32")
    own = {"prompt": PROMPTS[0].prompt, "response": "서울입니다.", "finished": True}
    other = {**own, "response": "물은"}
    scores = model(torch.tensor([prompt_ids(tokenizer, own["prompt"])])).logits[0, -1]
    first = [answer_ids(tokenizer, row["prompt"], row["response"])[0] for row in (own, other)]
    assert exported._margin(model, tokenizer, own, other) == pytest.approx(float(scores[first[0]] - scores[first[1]]), abs=1e-4)
    assert exported._margin(model, tokenizer, own, {**own, "response": "서울", "finished": False}) is None


def test_planted_templates_are_caught(export, llama, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(export, wrong)
    text = (wrong / "Modelfile").read_text()
    (wrong / "Modelfile").write_text(text.replace("### Assistant:", "### Model:"))
    check = check_export(wrong, str(llama.folder), PROMPTS[:1], GENERATION, serve=False)
    assert len(check.template_faults) == 3
    assert check.template_faults[0].startswith("Modelfile: its TEMPLATE gives other ids, in fixed conversation 1 from token ")
    assert "### Model" in check.template_faults[0]
    (wrong / "Modelfile").write_text(text)
    tokenizer = Tiny(wrong).tokenizer(None)
    jinja = tokenizer.chat_template
    (wrong / "chat_template.jinja").write_text(jinja.replace("### User:", "### Human:"))
    write_gguf(wrong, ["F16"], tokenizer)  # converted after somebody changed the template
    (wrong / "chat_template.jinja").write_text(jinja)
    check = check_export(wrong, str(llama.folder), PROMPTS[:1], GENERATION, serve=False)
    assert [fault.partition(",")[0] for fault in check.template_faults] == [
        "llama.cpp F16: its chat template gives other ids"
    ] * 3
    assert faults_of(check, 100)[:3] == check.template_faults


def test_a_running_server_is_asked_and_a_wrong_template_on_it_named(export, llama):
    from endpoint_servers import FaultyServer

    with FaultyServer(read=9999) as server, pytest.raises(UserError, match="read 9999 prompt tokens where the checkpoint's"):
        endpoint = EndpointArgs(server.url, "tiny", server="vllm", send="messages", concurrency=1)
        check_export(export, str(llama.folder), PROMPTS[:1], GENERATION, endpoint, serve=False)


def _engine(name, natural, equal=1.0, differences=(), drop=0.0):
    result = {"n": 60, "natural": natural, "reference_nll": None}
    return Engine(name, result, equal, drop, list(differences))


def test_faults_name_what_falls():
    fallen = _engine("llama.cpp Q4_K_M", 0.9, 0.5, [Difference("p", "a", "b", 0.3)], drop=5.0)
    check = ExportCheck([_engine("checkpoint", 0.95), _engine("export", 0.95, 0.99), fallen], [])
    assert faults_of(check, 2.0) == [
        "export: 1.0 % of its answers are not the checkpoint's",
        "llama.cpp Q4_K_M: 90.0 % natural, 5.0 points below the checkpoint, 2 allowed",
    ]
    assert faults_of(check, 5.0) == faults_of(check, 2.0)[:1]
    assert [list(column.cells)[2] for column in table_of(check).columns] == [
        "llama.cpp Q4_K_M", "50.0", "90.0", "5.0", "-", "0.300",
    ]  # fmt: skip


def test_one_clear_message(export, tmp_path, capsys):
    for words, said in (
        ([tmp_path], "is no exported model; expected the output_dir of export.py"),
        ([export, "--checkpoint", tmp_path / "gone"], "there is no folder"),
    ):
        with pytest.raises(SystemExit) as ended:
            run_script("export.py", "--verify", *words)
        assert ended.value.code == 2 and said in capsys.readouterr().err
    alone = tmp_path / "alone"
    shutil.copytree(export, alone)
    (alone / "manifest.json").unlink()
    with pytest.raises(SystemExit) as ended:
        run_script("verify_export.py", alone)
    assert ended.value.code == 2 and "nothing says which checkpoint it was made from" in capsys.readouterr().err


def test_an_adapter_whose_base_is_gone_and_a_folder_without_fingerprint(llama, tmp_path, capsys):
    adapter, plain = tmp_path / "adapter", tmp_path / "plain"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "gone")}))
    recipe = tmp_path / "export.yaml"
    recipe.write_text(f"model_name_or_path: {adapter}\noutput_dir: {tmp_path / 'out'}\n")
    with pytest.raises(SystemExit) as ended:
        run_script("export.py", recipe)
    assert ended.value.code == 2 and "is not there; expected the folder it was trained from" in capsys.readouterr().err
    assert not (llama.folder / "align_ko_format.json").exists()
    run_script("export.py", recipe, "--model_name_or_path", llama.folder, "--output_dir", plain)
    assert (plain / "align_ko_format.json").is_file()
