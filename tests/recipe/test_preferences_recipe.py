"""The keys under `judges` and `pairing`, and the mistakes that a person can make there."""

from __future__ import annotations

import pytest

from align_ko.errors import UserError
from align_ko.recipe import (
    JudgesArgs,
    JudgeWeights,
    LlmJudgeArgs,
    PairingArgs,
    PreferencesRecipe,
    RewardModelArgs,
    check_inputs,
    load_recipe,
)

BASE = "model_name_or_path: owner/name\nprompts_file: p.jsonl\noutput_dir: o\n"


def load(tmp_path, text, *flags):
    file = tmp_path / "preferences.yaml"
    file.write_text(BASE + text)
    return load_recipe(PreferencesRecipe, [str(file), *flags])


def test_the_defaults_are_todays(tmp_path):
    recipe = load(tmp_path, "")
    assert recipe.judges == JudgesArgs(JudgeWeights(0.4, 0.3, 0.15, 0.15, 0.0, 0.0), RewardModelArgs(), LlmJudgeArgs())
    off = PairingArgs(
        min_closeness=0.0,
        candidate_share=1.0,
        contrast_share=1.0,
        synthetic_share=0.0,
        curated_share=0.0,
        fault_share=1.0,
        max_collapse=1.0,
    )
    assert recipe.pairing == off == PairingArgs()


def test_every_judge_can_be_set(tmp_path):
    text = (
        "judges:\n  weights: {llm: 1, reward_model: 0.5}\n  llm: {model: big, base_url: http://h/v1, top: 2}\n"
        "  reward_model: {model_name_or_path: owner/rm, dtype: float16}\n"
        "pairing:\n  synthetic_faults: [echo, filler]\n  curated_share: 0.2\n"
    )
    recipe = load(tmp_path, text, "--judges.weights.variety", "0")
    assert recipe.judges.weights == JudgeWeights(0.4, 0.0, 0.15, 0.15, 0.5, 1.0)
    assert (recipe.judges.llm.model, recipe.judges.llm.top, recipe.judges.reward_model.dtype) == ("big", 2, "float16")
    assert (recipe.pairing.synthetic_faults, recipe.pairing.curated_share) == (("echo", "filler"), 0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "judges: {weights: {llm: 1}}",
            "4: judges.llm.model: this key is missing, and judges.weights.llm is 1.0; expected the model that judges",
        ),
        (
            "judges: {weights: {reward_model: 1}}",
            "4: judges.reward_model.model_name_or_path: this key is missing, and judges.weights.reward_model is 1.0;"
            " expected the model that judges",
        ),
        (
            "judges:\n  weights: {naturalness: 0, variety: 0, likelihood: 0, reference: 0}",
            "5: judges.weights: all weights are 0; expected at least one judge with a weight above 0",
        ),
        ("judges: {weights: {naturalnes: 1}}", "4: judges.weights.naturalnes: unknown key; did you mean 'naturalness'?"),
        ("judges: {weights: {variety: -1}}", "4: judges.weights.variety: -1 cannot work; expected 0 or more"),
        ("judges: {llm: {top: 0}}", "4: judges.llm.top: 0 cannot work; expected 1 or more"),
        ("pairing: {max_collapse: 2}", "4: pairing.max_collapse: 2 cannot work; expected a share from 0 to 1"),
        ("pairing: {contrast_share: 2}", "4: pairing.contrast_share: 2 cannot work; expected a share from 0 to 1"),
        (
            "pairing:\n  synthetic_share: 0.5\n  curated_share: 0.5",
            "5: pairing.synthetic_share: synthetic_share and curated_share are 1 together;"
            " expected less than 1: the rest comes from real failures",
        ),
        (
            "pairing: {synthetic_faults: [echo, fillr]}",
            "4: pairing.synthetic_faults[1]: unknown fault 'fillr'; did you mean 'filler'?",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, text, message):
    with pytest.raises(UserError) as told:
        load(tmp_path, text)
    assert str(told.value) == f"{tmp_path}/preferences.yaml:{message}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("endpoint: {model: m, base_url: 'http://me:SECRET@h/v1'}", "endpoint.base_url"),
        ("endpoint: {model: m, base_url: 'http://h/v1?api-key=SECRET'}", "endpoint.base_url"),
        ("endpoint: {model: m, base_url: 'http://h/v1', extra_body: {api_key: SECRET}}", "endpoint.extra_body.api_key"),
        (
            "endpoint: {model: m, base_url: 'http://h/v1', extra_body: {h: {Authorization: SECRET}}}",
            "endpoint.extra_body.Authorization",
        ),
        ("judges: {llm: {model: m, base_url: 'http://SECRET@h/v1'}}", "judges.llm.base_url"),
    ],
)
def test_no_secret_in_a_recipe(tmp_path, text, key):
    with pytest.raises(UserError, match=f"{key}: this contains a secret.*api_key_env") as told:
        load(tmp_path, text)
    assert "SECRET" not in str(told.value)


def test_an_ordinary_address_is_no_secret(tmp_path):
    load(
        tmp_path,
        "endpoint: {model: m, base_url: 'http://h:8000/v1?api-version=2', api_key_env: OUR_KEY, extra_body: {top_k: 5}}",
    )


def test_a_reward_model_that_is_not_there_is_told_before_anything_is_drawn(tmp_path):
    (tmp_path / "p.jsonl").write_text("")
    recipe = load(tmp_path, "judges:\n  weights: {reward_model: 1}\n  reward_model: {model_name_or_path: ./rm}\n")
    with pytest.raises(UserError, match=r"judges\.reward_model\.model_name_or_path: there is no folder \./rm"):
        check_inputs(recipe)
