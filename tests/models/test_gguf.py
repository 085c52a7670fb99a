"""GGUF files and Modelfiles: llama.cpp and Go's template engine make the token ids of every family's template that we make."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import make_gemma, make_llama
from families import MAKE

from align_ko.chat_format import prompt_ids, render, set_chat_template
from align_ko.errors import UserError
from align_ko.generation.servers import llama_cpp_ids, llama_cpp_server, llama_cpp_tokens
from align_ko.models import gguf, ollama
from align_ko.models.export import save_model
from align_ko.models.gguf import sentencepiece_model, write_gguf
from align_ko.models.load import greedy_config, load_tokenizer
from align_ko.models.ollama import modelfile, questions, render_modelfile, turns_of
from align_ko.models.source import model_source

SHIPPED = {**MAKE, "default": make_llama, "quickstart": make_gemma}
OWN = {"default": "default", "quickstart": "default", "kullm3": "tokenizer"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, tokenizer) of a family's tiny model as export.py saves it, made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            place = tmp_path_factory.mktemp("export")
            tiny = SHIPPED[name](place / "base")
            tokenizer, model = load_tokenizer(str(tiny.folder), OWN.get(name, name)), tiny.model()
            model.generation_config = greedy_config(tokenizer)
            (place / "out").mkdir()
            save_model(place / "out", model, tokenizer, model_source(str(tiny.folder)))
            made[name] = place / "out", tokenizer
        return made[name]

    return get


@pytest.mark.parametrize("name", SHIPPED)
def test_go_renders_every_shipped_template_as_jinja_does(exported, name):
    folder, tokenizer = exported(name)
    (folder / "Modelfile").write_text(modelfile(tokenizer, "./model-Q8_0.gguf"), encoding="utf-8")
    asked = questions(trimmed=True)
    expected = [render(tokenizer, messages, True).removeprefix(tokenizer.bos_token or "") for messages in asked]
    assert render_modelfile(folder / "Modelfile", asked) == expected
    lines = (folder / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-3:]) == (
        "FROM ./model-Q8_0.gguf",
        ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1.0", f'PARAMETER stop "{tokenizer.eos_token}"'],
    )


def test_a_template_without_system_turns_and_one_that_counts(exported):
    _, tokenizer = exported("default")
    try:
        head = "{{ raise_exception('no system') if messages[0].role == 'system' }}"
        tokenizer.chat_template = head + "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}<assistant>"
        found = turns_of(tokenizer)
        assert (found.system, found.first, found.answer, found.last) == (None, "<user>", "<assistant>", "<assistant>")
        tokenizer.chat_template = "{% for m in messages %}{{ loop.index }}{{ m.content | trim }}{% endfor %}:"
        assert modelfile(tokenizer) is None
    finally:
        set_chat_template(tokenizer)


def test_a_modelfile_that_go_cannot_read(tmp_path):
    file = tmp_path / "Modelfile"
    file.write_text('FROM .\nTEMPLATE """{{ .Prompt | nothing }}"""\n')
    with pytest.raises(UserError, match=r'Modelfile: Go refuses its TEMPLATE: .*function "nothing" not defined'):
        render_modelfile(file, questions())
    file.write_text("FROM .\n")
    with pytest.raises(UserError, match="Modelfile: no TEMPLATE in it"):
        render_modelfile(file, questions())


def test_a_score_is_the_first_merges_rank(gemma):
    from sentencepiece import sentencepiece_model_pb2 as protobuf

    tree = json.loads((gemma.folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = protobuf.ModelProto.FromString(sentencepiece_model(tree))
    assert [piece.piece for piece in model.pieces] == sorted(
        gemma.tokenizer().get_vocab(), key=gemma.tokenizer().get_vocab().get
    )
    scores, merges = {piece.piece: piece.score for piece in model.pieces}, tree["model"]["merges"]
    first, last = "".join(merges[0]), "".join(merges[-1])
    assert (scores[first], scores[last]) == (0, 1 - len(merges))
    kinds = protobuf.ModelProto.SentencePiece
    types = {piece.piece: piece.type for piece in model.pieces}
    assert (types["<unk>"], types["<eos>"], types["<0x0A>"], types[first]) == (
        kinds.UNKNOWN, kinds.CONTROL, kinds.BYTE, kinds.NORMAL,
    )  # fmt: skip


SLOW = [name for name in SHIPPED if name not in ("quickstart", "qwen3")]


@pytest.mark.parametrize("name", ["quickstart", "qwen3", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_llama_cpp_makes_the_ids_that_we_make(exported, name):
    """The template in the GGUF file and the one in the Modelfile, through llama.cpp's own engine and vocabulary."""
    folder, tokenizer = exported(name)
    [file] = write_gguf(folder, ["F16"], tokenizer)
    assert file == folder / "model-F16.gguf" and not list(folder.glob(".*"))
    (folder / "Modelfile").write_text(modelfile(tokenizer, "./model-F16.gguf"), encoding="utf-8")
    with llama_cpp_server(file, 512) as address:
        for messages in questions():
            assert llama_cpp_ids(address, messages) == prompt_ids(tokenizer, messages)
        asked = questions(trimmed=True)
        for messages, text in zip(asked, render_modelfile(folder / "Modelfile", asked), strict=True):
            assert llama_cpp_tokens(address, text) == prompt_ids(tokenizer, messages)


def test_what_the_converter_does_not_know_is_said(exported, tmp_path):
    folder, tokenizer = exported("qwen3")
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.gguf"))
    tree = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    tree["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\W+"
    (other / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=r"other as GGUF: llama.cpp has no name for the way .* splits text .*\\w\+\|\\W\+"):
        write_gguf(other, ["F16"], tokenizer)
    assert not list(other.glob("*.gguf"))
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "architectures": ["NopeForCausalLM"]}))
    with pytest.raises(UserError, match=r"gguf: llama.cpp's converter cannot write .*NopeForCausalLM is not supported"):
        write_gguf(other, ["F16"], tokenizer)


def test_missing_packages_name_the_extra(exported, monkeypatch):
    folder, tokenizer = exported("qwen3")
    for module in (gguf, ollama):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gguf: llama_cpp is not installed; expected pip install 'align-ko\[gguf\]'"):
        write_gguf(folder, ["F16"], tokenizer)
    with pytest.raises(UserError, match=r"go_template is not installed; expected pip install 'align-ko\[gguf\]'"):
        render_modelfile(folder / "Modelfile", questions())
