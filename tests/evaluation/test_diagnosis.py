"""Broken checkpoints, each made of a sound one by one change: every fault is named, and a sound checkpoint has none."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from endpoint_servers import FaultyServer, completion, free_port
from families import make_gemma3, make_llama3_1, make_qwen3
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from starlette.responses import JSONResponse
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from align_ko import cli
from align_ko.chat_templates import path_of
from align_ko.evaluation.blame import judge_answers
from align_ko.evaluation.file_faults import CODES, NOTES, Finding, find_faults, read_checkpoint
from align_ko.manifest import file_mark
from align_ko.models.export import save_model
from align_ko.models.load import greedy_config, load_tokenizer
from align_ko.models.source import model_source

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts/diagnose.py"))


@dataclass
class Sound:
    folder: Path

    def file(self, name):
        return self.folder / name

    def change(self, name, **values):
        """Other values in a JSON file; None removes a key."""
        content = json.loads(self.file(name).read_text()) if self.file(name).is_file() else {}
        content = {key: value for key, value in (content | values).items() if value is not None}
        self.file(name).write_text(json.dumps(content))

    def mark(self, name):
        """A manifest that says what the file is."""
        self.change("manifest.json", files={name: file_mark(self.file(name))})

    def template(self, text):
        self.file("chat_template.jinja").write_text(text)

    def retype(self, old, new):
        template = self.file("chat_template.jinja").read_text()
        assert old in template
        self.template(template.replace(old, new))

    def weights(self, change):
        for file in sorted(self.folder.glob("*.safetensors")):
            tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
            change(tensors)
            save_file(tensors, file, {"format": "pt"})


@pytest.fixture(scope="module")
def sounds(llama, tmp_path_factory):
    """`ours`: trained here, with its format file; `gemma3`, `qwen3`, `llama3_1`: as published; `adapter`: on ours, by PEFT."""
    place = tmp_path_factory.mktemp("sound")
    tokenizer, model = llama.tokenizer(), llama.model()
    model.generation_config = greedy_config(tokenizer)
    save_model(place / "ours", model, tokenizer, model_source(str(llama.folder)))
    adapter = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    adapter.peft_config["default"].base_model_name_or_path = str(place / "ours")
    adapter.save_pretrained(place / "adapter")
    for name, make in {"gemma3": make_gemma3, "qwen3": make_qwen3, "llama3_1": make_llama3_1}.items():
        make(place / name)
        sound = Sound(place / name)
        sound.template(path_of(name).read_text(encoding="utf-8"))
        sound.change("generation_config.json", eos_token_id=[1, load_tokenizer(str(place / name)).eos_token_id])
    return place


@pytest.fixture
def sound(sounds, tmp_path, request):
    shutil.copytree(sounds / request.param, tmp_path / "model")
    return Sound(tmp_path / "model")


def codes(folder):
    return [finding.code for finding in find_faults(read_checkpoint(model_source(str(folder))))]


@pytest.mark.parametrize("name", ["ours", "gemma3", "qwen3", "llama3_1", "adapter"])
def test_a_sound_checkpoint_has_no_fault(sounds, name, capsys):
    assert [code for code in codes(sounds / name) if code not in NOTES] == []
    cli.run(["diagnose", str(sounds / name), "--static", "--strict"])
    assert "파일에서 찾은 문제가 없습니다.\n" in capsys.readouterr().out
    cli.run(["diagnose", str(sounds / name), "--static", "--strict", "--lang", "en"])
    assert "Nothing found in the files.\n" in capsys.readouterr().out


def grow(sound):
    """Three tokens more and no rows for them."""
    tokenizer = load_tokenizer(str(sound.folder))
    rows = len(load_file(next(sound.folder.glob("*.safetensors")))["model.embed_tokens.weight"])
    tokenizer.add_tokens([f"<new{n}>" for n in range(rows - len(tokenizer) + 3)])
    tokenizer.save_pretrained(sound.folder)


def add_bos(sound):
    """The tokenizer puts a bos before every text, as the published Llama 3.1's does."""
    tokenizer = AutoTokenizer.from_pretrained(sound.folder)
    bos = tokenizer.bos_token
    tokens = [(bos, tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=tokens)
    tokenizer.save_pretrained(sound.folder)


def first(value):
    def change(tensors):
        next(iter(tensors.values())).view(-1)[3] = value

    return change


def head(tensors):
    tensors["lm_head.weight"] = next(tensor for name, tensor in tensors.items() if name.endswith("embed_tokens.weight")) + 1


BROKEN = {
    "no template": ("ours", "template_missing", lambda at: at.file("chat_template.jinja").unlink()),
    "no template, published": ("gemma3", "template_missing", lambda at: at.file("chat_template.jinja").unlink()),
    "template of another line break": ("ours", "format_changed", lambda at: at.retype("### Assistant:\\n", "### Assistant: ")),
    "other eos than in training": ("ours", "format_changed",
        lambda at: at.change("generation_config.json", eos_token_id=[2, 5])),
    "another file": ("ours", "files_changed", lambda at: at.mark("config.json") or at.change("config.json", pad_token_id=5)),
    "a lost fingerprint": ("ours", "files_changed",
        lambda at: at.mark("align_ko_format.json") or at.file("align_ko_format.json").unlink()),
    "half a template": ("gemma3", "template_broken", lambda at: at.template("{% for m in messages %}{{ m")),
    "another library's template": ("qwen3", "template_broken", lambda at: at.template("{{ messages | as_chat }}")),
    "role named otherwise": ("gemma3", "template_differs", lambda at: at.retype('"model"', '"assistant"')),
    "a space more": ("qwen3", "template_differs", lambda at: at.retype('"<|im_start|>" +', '"<|im_start|> " +')),
    "template of a family without its tokens": ("ours", "mark_no_token",
        lambda at: at.template(path_of("qwen2_5").read_text())),
    "a turn mark spelt otherwise": ("llama3_1", "mark_no_token", lambda at: at.retype("<|eot_id|>", "<|eot|>")),
    "bos twice": ("gemma3", "bos_twice", lambda at: at.retype("{{- bos_token -}}", "{{- bos_token + bos_token -}}")),
    "bos twice, Llama": ("llama3_1", "bos_twice", lambda at: at.retype("{{- bos_token -}}", "{{- bos_token + bos_token -}}")),
    "bos again": ("llama3_1", "bos_again", add_bos),
    "bos again, Gemma": ("gemma3", "bos_again", lambda at: None),
    "no eos after an answer": ("ours", "never_ends", lambda at: at.retype(" + eos_token -", " -")),
    "a word after an answer": ("ours", "never_ends", lambda at: at.retype("+ eos_token -", '+ "END" -')),
    "eos of the base model": ("gemma3", "eos_not_stopped", lambda at: at.change("generation_config.json", eos_token_id=1)),
    "eos of the base model, Llama": ("llama3_1", "eos_not_stopped",
        lambda at: at.change("generation_config.json", eos_token_id=[1])),
    "pad is eos": ("ours", "pad_is_eos", lambda at: at.change("tokenizer_config.json", pad_token="</s>")),
    "pad is the turn end": ("qwen3", "pad_is_eos", lambda at: at.change("tokenizer_config.json", pad_token="<|im_end|>")),
    "sampling": ("qwen3", "sampling_fields", lambda at: at.change("generation_config.json", do_sample=True, temperature=0.7)),
    "penalty": ("ours", "sampling_fields", lambda at: at.change("generation_config.json", repetition_penalty=1.1)),
    "tokens without rows": ("ours", "rows_missing", grow),
    "tokens without rows, Qwen": ("qwen3", "rows_missing", grow),
    "NaN": ("ours", "not_finite", lambda at: at.weights(first(float("nan")))),
    "infinity in the adapter": ("adapter", "not_finite", lambda at: at.weights(first(float("inf")))),
    "no head": ("ours", "head_missing", lambda at: at.weights(lambda tensors: tensors.pop("lm_head.weight"))),
    "a head that is not used": ("ours", "head_ignored", lambda at: at.change("config.json", tie_word_embeddings=True)),
    "a head that is not used, Gemma": ("gemma3", "head_ignored", lambda at: at.weights(head)),
    "no weights": ("ours", "no_weights", lambda at: at.file("model.safetensors").unlink()),
    "an adapter without weights": ("adapter", "no_weights", lambda at: at.file("adapter_model.safetensors").unlink()),
    "turns that are counted": ("ours", "untrainable",
        lambda at: at.retype("{{- bos_token", "{{- messages | length }}{{- bos_token")),
}  # fmt: skip


@pytest.mark.parametrize(("sound", "code", "plant"), BROKEN.values(), ids=BROKEN, indirect=["sound"])
def test_a_planted_fault_is_named(sound, code, plant, capsys):
    before = codes(sound.folder)
    plant(sound)
    assert code in codes(sound.folder) and (code not in before or code in NOTES)
    for lang in ("ko", "en"):
        if code in NOTES:
            cli.run(["diagnose", str(sound.folder), "--static", "--strict", "--lang", lang])
        else:
            with pytest.raises(SystemExit) as ended:
                cli.run(["diagnose", str(sound.folder), "--static", "--strict", "--lang", lang])
            assert ended.value.code == 1
        said = capsys.readouterr().out
        assert f"[{code}] " in said and "{" not in said.replace("{{", ""), said


def test_every_code_is_planted_and_has_its_words():
    planted = [code for _, code, _ in BROKEN.values()]
    assert set(planted) == set(CODES) and len(planted) >= 30
    texts = yaml.safe_load((ROOT / "scripts/diagnose.yaml").read_text(encoding="utf-8"))
    for lang in ("ko", "en"):
        assert list(texts[lang]["findings"]) == list(CODES)
        assert all(len(lines) == 2 and all(lines) for lines in texts[lang]["findings"].values())
    assert texts["ko"].keys() == texts["en"].keys() and texts["ko"]["words"].keys() == texts["en"]["words"].keys()


@pytest.mark.parametrize("sound", ["gemma3"], indirect=True)
def test_the_gravest_comes_first(sound):
    sound.change("generation_config.json", eos_token_id=1, do_sample=True)
    sound.weights(first(float("nan")))
    found = [code for code in codes(sound.folder) if code not in NOTES]
    assert found == ["not_finite", "eos_not_stopped", "sampling_fields"]


@pytest.mark.parametrize("name", ["outputs/nowhere/sft/x", "nowhere/", "./nowhere", "/nowhere", "nowhere"])
def test_no_such_model(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["diagnose", name])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: there is no folder {name}; expected a checkpoint folder or a hub id\n"


# -------------------- answers

LOOP = "물을 마시면 좋습니다. " * 12
GOOD = "물을 마시면 몸이 한결 가벼워집니다. 하루에 여덟 잔쯤 나누어 드셔 보세요."


def scored(greedy, penalty, sampling):
    """Answers to as many prompts as the patterns are long; `g` is natural, `b` is not."""
    rows = []
    for setting, pattern in {"greedy": greedy, "penalty": penalty, "sampling": sampling}.items():
        for number, sign in enumerate(pattern):
            faults = [] if sign == "g" else [{"code": "repetition", "start": 0, "end": 3, "message": ""}]
            rows.append({
                "model": "model", "setting": setting, "decoding": setting, "kind": "heldout", "prompt_id": str(number),
                "prompt": [{"role": "user", "content": f"{number}번 질문"}], "group": "", "topic": "", "reference": None,
                "response": GOOD, "finished": True, "tokens": 20, "natural": sign == "g", "score": 1.0, "faults": faults,
                "speech_level": "polite",
            })  # fmt: skip
    return rows


@pytest.mark.parametrize(
    ("greedy", "penalty", "sampling", "kind", "knob", "counts"),
    [
        ("g" * 36 + "b" * 4, "b" * 40, "b" * 40, "sound", "sampling", (0, 36, 4)),
        ("b" * 20 + "g" * 20, "g" * 40, "b" * 40, "decoding", "penalty", (20, 0, 20)),
        ("b" * 40, "g" * 10 + "b" * 30, "g" * 12 + "b" * 28, "both", "sampling", (12, 0, 40)),
        ("b" * 35 + "g" * 5, "b" * 35 + "g" * 5, "g" * 5 + "b" * 35, "model", "penalty", (0, 0, 35)),
        ("b" * 20 + "g" * 20, "g" * 5 + "b" * 15 + "g" * 20, "b" * 40, "model", "penalty", (5, 0, 20)),  # .031 > .025: chance
        ("b" * 20 + "g" * 20, "g" * 6 + "b" * 14 + "g" * 20, "b" * 40, "both", "penalty", (6, 0, 20)),  # .016
    ],
)
def test_decoding_or_model(greedy, penalty, sampling, kind, knob, counts):
    verdict = judge_answers(scored(greedy, penalty, sampling))
    assert (verdict.kind, verdict.knob) == (kind, knob if kind != "sound" else verdict.knob)
    if kind != "sound":
        assert (verdict.mended, verdict.spoilt, verdict.faulty) == counts
        assert verdict.faults == [("repetition", counts[2])]


@pytest.mark.parametrize(
    ("greedy", "penalty", "fault", "template", "stage"),
    [
        ("b" * 40, "g" * 40, "repetition", "", "distil"),
        ("b" * 20 + "g" * 20, "b" * 20 + "g" * 20, "repetition", "", "dpo"),
        ("b" * 20 + "g" * 20, "b" * 20 + "g" * 20, "wrong_register", "", "sft"),
        ("b" * 36 + "g" * 4, "b" * 36 + "g" * 4, "repetition", "", "sft"),  # too few to choose from
        ("b" * 20 + "g" * 20, "b" * 20 + "g" * 20, "repetition", "template_missing", "sft"),  # a base model
    ],
)
def test_the_stage_that_mends_it(greedy, penalty, fault, template, stage):
    rows = scored(greedy, penalty, penalty)
    for row in rows:
        row["faults"] = [{**each, "code": fault} for each in row["faults"]]
    findings = [Finding(template, {})] if template else []
    assert SCRIPT["stage_of"](judge_answers(rows), findings) == stage


def test_the_recipes_that_trained_it_are_named(sounds, tmp_path):
    for name, wanted in {"ours": "solar", "gemma3": "gemma3_4b", "llama3_1": "llama3_1_8b"}.items():
        assert SCRIPT["recipes_of"](read_checkpoint(model_source(str(sounds / name)))) == wanted
    shutil.copytree(sounds / "ours", tmp_path / "mine")
    (tmp_path / "mine/manifest.json").write_text('{"command": "run_sft.py recipes/quickstart/sft.yaml"}')
    assert SCRIPT["recipes_of"](read_checkpoint(model_source(str(tmp_path / "mine")))) == "quickstart"


def test_answers_are_asked_for_once(sounds, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path))
    words = ["diagnose", str(sounds / "ours"), "--max-prompts", "4", "--max-new-tokens", "8", "--batch-size", "4"]
    cli.run(words)
    said = capsys.readouterr().out
    assert "파일에서 찾은 문제가 없습니다." in said and "질문 4개에 답하게 한 결과" in said
    assert "결론: 디코딩이 아니라 모델 문제입니다." in said and "align-ko init 폴더 --model solar" in said
    assert "align-ko curate recipes/solar/data.yaml 다음 align-ko sft recipes/solar/sft.yaml" in said
    rows = [json.loads(line) for line in next(tmp_path.rglob("responses.jsonl")).read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 12 and {row["setting"] for row in rows} == {"greedy", "penalty", "sampling"}
    monkeypatch.setattr("align_ko.generation.answerer.load_for_inference", None)  # would be called
    with pytest.raises(SystemExit) as ended:
        cli.run([*words, "--strict", "--lang", "en"])
    assert ended.value.code == 1 and "Verdict: a model problem, not decoding." in capsys.readouterr().out


@pytest.mark.parametrize("sound", ["ours"], indirect=True)
def test_a_broken_model_is_not_asked(sound, monkeypatch, capsys):
    sound.weights(first(float("nan")))
    monkeypatch.setattr("align_ko.evaluation.blame.ask_models", None)
    cli.run(["diagnose", str(sound.folder)])
    assert capsys.readouterr().out.endswith("이 상태로는 답을 시켜 볼 수 없습니다. 위의 문제부터 고치세요.\n")


# -------------------- a server


def listing(*names):
    return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


def test_a_server_is_asked_and_its_files_are_not_looked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path))
    words = ["--max-prompts", "4", "--max-new-tokens", "8", "--endpoint.concurrency", "1"]
    with FaultyServer([completion(GOOD)] * 4 + [completion(LOOP, "length")] * 8) as server:
        server.listing = listing("Qwen/Qwen3-8B-\x1b[31m")
        cli.run(["diagnose", server.url, *words, "--strict"])
        first = list(server.bodies)
        server.faults = [completion(LOOP, "length")] * 12
        with pytest.raises(SystemExit) as ended:
            cli.run(["diagnose", server.url, *words, "--strict", "--lang", "en", "--endpoint.model", "qwen3"])
    assert ended.value.code == 1
    sound, faulty = capsys.readouterr().out.split("The files of qwen3 on the server cannot be seen")
    assert sound.startswith("서버의 Qwen/Qwen3-8B-[U+001B][31m 모델은 파일을 볼 수 없어")
    assert "자연스러운 답 100 %" in sound and "결론: 그리디 디코딩만으로" in sound
    assert "align-ko sft recipes/qwen3_8b/sft.yaml" in faulty and len(server.bodies) == 2 * len(first)  # asked again
    assert [(body["temperature"], body["repetition_penalty"]) for body in first] == [(0, 1)] * 4 + [(0, 1.1)] * 4 + [
        (0.7, 1.1)
    ] * 4
    assert all(body["messages"][-1]["role"] == "user" and body["top_k"] == -1 for body in first)
    assert [row["response"] for row in map(json.loads, next(tmp_path.rglob("*.jsonl")).read_text("utf-8").splitlines())]


@pytest.mark.parametrize(
    ("server", "fields"),
    [
        ("ollama", [{"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 1.0, "top_p": 0.9}]),
        ("transformers", [{"frequency_penalty": 0.0}, {"frequency_penalty": pytest.approx(0.1)}, {"temperature": 0.7}]),
    ],
)
def test_knobs_that_a_server_takes(tmp_path, monkeypatch, server, fields):
    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path))
    with FaultyServer() as at:
        cli.run(["diagnose", at.url, "--max-prompts", "1", "--endpoint.server", server, "--endpoint.concurrency", "1"])
    assert len(at.bodies) == 3
    for body, wanted in zip(at.bodies, fields, strict=True):
        assert {name: body[name] for name in wanted} == wanted and "repetition_penalty" not in body


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "endpoint.model: {url} lists no models; expected the name under which it serves the model\n"),
        (("a", "b"), "endpoint.model: {url} lists 2 models; expected one of a, b\n"),
    ],
)
def test_a_server_s_model_has_to_be_named(names, message, capsys):
    with FaultyServer() as server:
        server.listing = listing(*names)
        with pytest.raises(SystemExit) as ended:
            cli.run(["diagnose", server.url])
    assert ended.value.code == 2 and capsys.readouterr().err == f"error: {message.format(url=server.url)}"


def test_a_server_that_is_not_there_or_wants_a_key(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.run(["diagnose", url := f"http://127.0.0.1:{free_port()}/v1"])
    assert capsys.readouterr().err.startswith(f"error: endpoint.base_url: no connection to {url}")
    with FaultyServer(key="secret") as server:
        for words, said in {
            ("x",): "answered 401",
            ("x", "--endpoint.api-key-env", "NO_SUCH_KEY"): "NO_SUCH_KEY is not set",
        }.items():
            with pytest.raises(SystemExit):
                cli.run(["diagnose", server.url, *words[1:]])
            assert said in (err := capsys.readouterr().err) and err.startswith("error: endpoint.api_key_env: "), err
