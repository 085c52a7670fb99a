"""A model as a plain folder with a vocabulary cut to Korean: same tokens, same logits, every text still round-trips."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from align_ko.errors import UserError
from align_ko.models.prepare import ASCII_IDS, cut_model, cut_tokenizer, keep_text, unpack_gguf, work_folder

KOREAN = [
    "안녕하세요. 무엇을 도와드릴까요?",
    "def f(x):\n    return x + 1  # 제곱이 아닙니다",
    "뷁쀍 꿻 쫽",
    "JSON을 3개 씁니다 — 끝!",
]
FOREIGN = ["Привет, как дела", "你好吗 日本語の文章です", "مرحبا", "🙂 ﷽ café"]
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "[PAD9]"]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def qwen(request, tmp_path_factory):
    """A byte-level BPE as Qwen's, with foreign tokens, before the special ones as there."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=520, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((KOREAN + FOREIGN) * 4, trainer)
    tokenizer.add_special_tokens(MARKS[:3])
    tokenizer.add_tokens(MARKS[3:])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=MARKS[2], pad_token=MARKS[0], model_max_length=128,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    config = Qwen2Config(
        vocab_size=len(fast) + 7, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=request.param, bos_token_id=None,
        eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config.update(eos_token_id=[fast.eos_token_id, fast.pad_token_id], pad_token_id=fast.pad_token_id)
    folder = tmp_path_factory.mktemp("whole model")
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    (folder / "NOTICE").write_text("terms\n")
    cut = folder.parent / f"{folder.name} cut"
    return folder, cut, cut_model(str(folder), cut)


def test_a_cut_model_reads_and_predicts_as_before(qwen):
    whole, cut, prepared = qwen
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (whole, cut))
    before, after = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (whole, cut))
    ids = [new.convert_tokens_to_ids(token) for token in ("안", "<|im_end|>", "<tool_call>")]
    assert None not in ids
    halves = {token for token in old.get_vocab() if "\ufffd" in decoders.ByteLevel().decode([token])}
    assert len(halves) > 128 and halves < new.get_vocab().keys()  # rare Hangul is spelt with them
    assert prepared.vocabulary == (before.config.vocab_size, len(new)) and len(new) < len(old)
    for text in KOREAN:
        tokens = old.tokenize(text)
        assert new.tokenize(text) == tokens
        logits = [
            model(torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])).logits[0]
            for tokenizer, model in ((old, before), (new, after))
        ]
        kept = old.convert_tokens_to_ids(new.convert_ids_to_tokens(range(len(new))))
        assert torch.equal(logits[0][:, kept], logits[1])


def test_every_text_round_trips_and_stops_where_it_did(qwen):
    whole, cut, _ = qwen
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (whole, cut))
    for text in KOREAN + FOREIGN:
        assert new.decode(new(text).input_ids) == text
    assert sum(len(new(text).input_ids) for text in FOREIGN) > sum(len(old(text).input_ids) for text in FOREIGN)
    settings = AutoModelForCausalLM.from_pretrained(cut).generation_config
    assert new.convert_ids_to_tokens(settings.eos_token_id) == ["<|im_end|>", "<|endoftext|>"]
    assert (new.eos_token, new.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert (cut / "NOTICE").read_text() == "terms\n"


def test_what_is_kept():
    kept = {" 안녕": True, "the": True, " привет": False, "…": True, "語": False, "?": True}
    assert {text: keep_text(text, 20_000) for text in kept} == kept
    assert keep_text("?", 250_000) and not keep_text(" rareword", ASCII_IDS)


def test_the_tree_is_renumbered_and_keeps_what_kept_tokens_are_merged_from():
    vocabulary = {
        "<pad>": 0,
        "<bos>": 1,
        "<unused0>": 2,
        "한": 3,
        "н": 4,
        "국": 5,
        "한국": 6,
        "한н": 7,
        "語": 8,
        "한語": 9,
        "한語국": 10,
    }
    tree = {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["한 국", ["한", "н"], ["한", "語"], ["한語", "국"]]},
        "added_tokens": [{"id": i, "content": token, "special": True} for token, i in list(vocabulary.items())[:3]],
        "post_processor": {"processors": [{"special_tokens": {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}}}]},
        "decoder": {"type": "ByteFallback"},
    }
    cut, old_ids = cut_tokenizer(json.loads(json.dumps(tree)))
    assert cut["model"]["vocab"] == {"<pad>": 0, "<bos>": 1, "한": 2, "국": 3, "한국": 4}
    assert cut["model"]["merges"] == [["한", "국"]]
    assert [token["content"] for token in cut["added_tokens"]] == ["<pad>", "<bos>"]
    assert old_ids == [0, 1, 3, 5, 6]
    tree["model"] |= {"vocab": {"a": 0, "b": 1, "c": 2, "abc": 3, "bc": ASCII_IDS, "ab": ASCII_IDS + 1}}
    tree["model"]["merges"] = [["b", "c"], ["a", "b"], ["ab", "c"]]
    tree |= {"added_tokens": [], "post_processor": None}
    assert list(cut_tokenizer(json.loads(json.dumps(tree)))[0]["model"]["vocab"]) == ["a", "b", "c", "abc", "ab"]
    tree["model"]["type"] = "Unigram"
    with pytest.raises(UserError, match=r"the vocabulary of a Unigram tokenizer cannot be cut; expected a BPE tokenizer"):
        cut_tokenizer(tree)


def test_a_file_that_is_not_gguf_is_refused_and_leaves_nothing(tmp_path):
    pytest.importorskip("gguf")
    file = tmp_path / "모델.gguf"
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="not a GGUF file"), work_folder(tmp_path / "my model") as work:
        unpack_gguf(file, work / "full")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("none.gguf", {"output_dir": "new"}, "none.gguf: file not found; expected a .gguf file"),
        ("here.gguf", {}, "--output-dir: no output folder is named; expected a folder that is new or empty"),
        ("here.gguf", {"output_dir": "."}, "--output-dir: . is there already; expected a folder that is new or empty"),
        ("folder", {"output_dir": "new"}, "nothing to do: this model is a folder already"),
        ("here.gguf", {"output_dir": "new", "compare": "asked.jsonl"}, "--compare: nothing to compare: the vocabulary stays"),
    ],
)
def test_what_cannot_be_prepared_is_one_line(source, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.gguf").touch()
    (tmp_path / "asked.jsonl").write_text('{"prompt": "안녕하세요?"}\n', encoding="utf-8")
    main = runpy.run_path(str(Path(__file__).parents[2] / "scripts/prepare_model.py"))["main"]
    with pytest.raises(UserError) as refused:
        main(source, **{name: Path(value) for name, value in options.items()})
    assert str(refused.value).startswith(message) and not (tmp_path / "new").exists()
