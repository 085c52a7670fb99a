"""What is said before anything is downloaded, and how the quickstart model's vocabulary is cut."""

import pytest

from align_ko.errors import UserError
from align_ko.models import hardware
from align_ko.models.quickstart import keep_token, prune_tokenizer


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("upstage/SOLAR-10.7B-v1.0", 10.7e9),
        ("Qwen/Qwen3-8B", 8e9),
        ("google/gemma-3-270m", 270e6),
        ("someone/korean-model", None),
    ],
)
def test_size_is_read_from_a_hub_id(name, parameters):
    assert hardware.parameter_count(name) == parameters


def test_a_large_model_without_an_accelerator_is_refused(monkeypatch):
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(hardware.torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"no accelerator was found, and upstage/SOLAR-10\.7B-v1\.0 \(10\.7 B parameters\)"):
        hardware.check_hardware("upstage/SOLAR-10.7B-v1.0", load_in_4bit=True)
    hardware.check_hardware("upstage/SOLAR-10.7B-v1.0", load_in_4bit=True, use_cpu=True)  # said to be meant
    hardware.check_hardware("google/gemma-3-270m", load_in_4bit=False)


def test_vocabulary_keeps_korean_ascii_bytes_and_single_signs():
    kept = {"▁안녕": True, "the": True, "▁привет": False, "…": True, "<unused7>": False, "<0xEC>": True, "語": False, "?": True}
    assert {token: keep_token(token, 20_000) for token in kept} == kept
    assert keep_token("?", 250_000) and not keep_token("▁rareword", 250_000)


def test_pruning_renumbers_and_keeps_only_whole_merges():
    tree = {
        "model": {
            "vocab": {"<pad>": 0, "<eos>": 1, "<bos>": 2, "안": 3, "н": 4, "녕": 5, "안녕": 6, "안н": 7},
            "merges": [["안", "녕"], ["안", "н"]],
        },
        "added_tokens": [{"id": 0, "content": "<pad>"}, {"id": 2, "content": "<bos>"}, {"id": 9, "content": "<unused0>"}],
        "post_processor": {"special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}},
    }
    pruned, old_ids = prune_tokenizer(tree)
    assert pruned["model"]["vocab"] == {"<pad>": 0, "<eos>": 1, "<bos>": 2, "안": 3, "녕": 4, "안녕": 5}
    assert pruned["model"]["merges"] == [["안", "녕"]]
    assert [token["content"] for token in pruned["added_tokens"]] == ["<pad>", "<bos>"]
    assert old_ids == [0, 1, 2, 3, 5, 6]
