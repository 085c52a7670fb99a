"""Conversation → text → ids: the same ids in training and at inference, and a fingerprint that notices any change."""

from __future__ import annotations

import pytest
from conftest import MULTI_TURN, turns

from align_ko.chat_format import (
    IGNORE,
    FormatError,
    answer_ids,
    check_format,
    conversation_ids,
    describe_format,
    prompt_ids,
    render,
    save_format,
    set_chat_template,
)
from align_ko.errors import UserError

STARTS = [
    "3입니다.",
    "1.5배예요.",
    "```python\nprint(1)\n```",
    '"네"라고 하세요.',
    "‘네’입니다.",
    "ㅋㅋ 네.",
    "각",
    "- 하나\n- 둘",
]


def template(tmp_path, text):
    path = tmp_path / "own.jinja"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_text_is_exactly_this(tiny):
    tokenizer = tiny.tokenizer()
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    assert render(tokenizer, MULTI_TURN) == (
        f"{bos}### System:\n짧게 답하세요.\n\n### User:\n한국의 수도는?\n\n### Assistant:\n서울입니다.{eos}"
        f"\n\n### User:\n그럼 2 더하기 2는?\n\n### Assistant:\n4입니다. 맞지요?{eos}"
    )
    asked = [{"role": "user", "content": "  안녕하세요\n"}]
    assert render(tokenizer, asked, add_generation_prompt=True) == f"{bos}### User:\n안녕하세요\n\n### Assistant:\n"


def test_one_bos_and_an_eos_after_every_answer(tiny):
    tokenizer = tiny.tokenizer()
    ids = conversation_ids(tokenizer, MULTI_TURN).input_ids
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 2)
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("answer", STARTS)
def test_training_begins_with_the_ids_inference_asks_with(tiny, answer):
    tokenizer = tiny.tokenizer()
    messages = [*MULTI_TURN, {"role": "user", "content": "하나 더요"}, {"role": "assistant", "content": answer}]
    full = conversation_ids(tokenizer, messages)
    for turn in (2, 4, 6):
        asked = prompt_ids(tokenizer, messages[:turn])
        assert full.input_ids[: len(asked)] == asked
        assert full.labels[len(asked) - 1] == IGNORE != full.labels[len(asked)]
    assert tokenizer.decode(full.input_ids[len(asked) : -1]) == answer


def test_labels_are_the_answers_and_their_eos_and_nothing_else(tiny):
    tokenizer = tiny.tokenizer()
    ids, labels = (conversation := conversation_ids(tokenizer, MULTI_TURN)).input_ids, conversation.labels
    runs, last = [], -2
    for place, label in enumerate(labels):
        assert label in (IGNORE, ids[place])
        if label != IGNORE:
            runs = [*runs, [label]] if place != last + 1 else [*runs[:-1], [*runs[-1], label]]
            last = place
    eos = tokenizer.eos_token
    assert [tokenizer.decode(run) for run in runs] == [f"서울입니다.{eos}", f"4입니다. 맞지요?{eos}"]


def test_an_answer_of_weight_0_is_read_and_has_no_labels(tiny):
    tokenizer = tiny.tokenizer()
    masked = [{**message, "weight": 0} if number == 2 else message for number, message in enumerate(MULTI_TURN)]
    whole, part = conversation_ids(tokenizer, MULTI_TURN), conversation_ids(tokenizer, masked)
    assert part.input_ids == whole.input_ids
    asked = len(prompt_ids(tokenizer, MULTI_TURN[:4]))
    assert part.labels == [IGNORE] * asked + whole.labels[asked:] != whole.labels


def test_our_ids_are_those_of_apply_chat_template(tiny):
    tokenizer = tiny.tokenizer()
    theirs = tokenizer.apply_chat_template(MULTI_TURN, tokenize=True, return_dict=False)
    assert conversation_ids(tokenizer, MULTI_TURN).input_ids == theirs
    asked = tokenizer.apply_chat_template(MULTI_TURN[:2], tokenize=True, add_generation_prompt=True, return_dict=False)
    assert prompt_ids(tokenizer, MULTI_TURN[:2]) == asked


def test_answer_ids_follow_the_prompt_and_end_only_if_finished(tiny):
    tokenizer = tiny.tokenizer()
    prompt, answer = MULTI_TURN[:2], "서울입니다."
    whole = conversation_ids(tokenizer, turns_after(prompt, answer)).input_ids
    closed, opened = answer_ids(tokenizer, prompt, answer), answer_ids(tokenizer, prompt, answer, finished=False)
    assert prompt_ids(tokenizer, prompt) + closed == whole
    assert [*opened, tokenizer.eos_token_id] == closed and tokenizer.eos_token_id not in opened


def turns_after(prompt, answer):
    return [*prompt, {"role": "assistant", "content": answer}]


# What may go wrong in a template -----------------------------------------------------------------------------------------


def test_a_template_that_merges_across_the_boundary_is_refused(gemma, tmp_path):
    # the prompt ends with one line break, the answer begins with another: "\n\n" is one token
    text = (
        "{{ bos_token }}{% for m in messages %}{{ m.role + ':\n' }}{% if m.role == 'assistant' %}{{ '\n' }}{% endif %}"
        "{{ m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
    )
    tokenizer = gemma.tokenizer(template(tmp_path, text))
    with pytest.raises(FormatError, match="the prompt of turn 1 has other token ids in training than at inference"):
        conversation_ids(tokenizer, turns("질문", "답"))


def test_a_template_that_ends_its_prompt_with_a_space_is_refused(gemma, tmp_path):
    text = (
        "{{ bos_token }}{% for m in messages %}{{ '### ' + m.role + ': ' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}### assistant: {% endif %}"
    )
    with pytest.raises(FormatError, match="other token ids"):  # "▁서울" in training, "▁" + "서울" at inference
        conversation_ids(gemma.tokenizer(template(tmp_path, text)), turns("질문", "답하세요."))


def test_a_template_without_eos_is_refused(tiny, tmp_path):
    text = (
        "{{ bos_token }}{% for m in messages %}{{ '\n' + m.role + ':\n' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\nassistant:\n' }}{% endif %}"
    )
    with pytest.raises(
        FormatError, match=r"closes the answer of turn 1 with nothing, not with .*never learns to stop; expected default"
    ):
        conversation_ids(tiny.tokenizer(template(tmp_path, text)), turns("질문", "답"))


def test_a_template_that_rewrites_earlier_turns_is_refused(tiny, tmp_path):
    text = (
        "{{ bos_token }}{% for m in messages %}{{ '\n' + m.role + ':\n' }}"
        "{{ '…' if not loop.last and m.role == 'assistant' else m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\nassistant:\n' }}{% endif %}"
    )
    with pytest.raises(FormatError, match="renders turn 2 differently inside a longer conversation"):
        conversation_ids(tiny.tokenizer(template(tmp_path, text)), MULTI_TURN)


def test_a_line_break_after_eos_is_not_trained_on(tiny, tmp_path):
    text = (
        "{{ bos_token }}{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
    )
    tokenizer = tiny.tokenizer(template(tmp_path, text))
    encoded = conversation_ids(tokenizer, turns("질문", "서울입니다."))
    trained = [label for label in encoded.labels if label != IGNORE]
    assert tokenizer.decode(trained) == f"서울입니다.{tokenizer.eos_token}"
    assert encoded.labels[-1] == IGNORE and encoded.input_ids[-1] != tokenizer.eos_token_id


def test_no_template_is_a_users_mistake(llama):
    with pytest.raises(UserError, match="has no chat template"):
        prompt_ids(llama.tokenizer(chat_template=None), MULTI_TURN[:2])
    with pytest.raises(UserError, match="chat template not found"):
        set_chat_template(llama.tokenizer(), "no/such.jinja")


# The fingerprint --------------------------------------------------------------------------------------------------------


def change_template(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("### User", "### Human")


def change_eos(tokenizer):
    tokenizer.eos_token = "<unk>"


def change_bos(tokenizer):
    tokenizer.bos_token = "<0x00>"


def change_vocabulary(tokenizer):  # a token that swallows what the fixed conversations say
    tokenizer.add_tokens(["녕하세"])


CHANGES = {
    change_template: "chat_template was",
    change_eos: "eos_token was",
    change_bos: "bos_token was",
    change_vocabulary: "fixed_conversation_ids was",
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_moves_and_the_message_names_what(tiny, tmp_path, change):
    tokenizer = tiny.tokenizer()
    eos = tokenizer.eos_token_id
    before = save_format(tmp_path, tokenizer, eos)
    check_format(tmp_path, tokenizer, eos)  # unchanged: passes
    assert describe_format(tiny.tokenizer(), eos)["fingerprint"] == before
    change(tokenizer)
    assert describe_format(tokenizer, eos)["fingerprint"] != before
    with pytest.raises(UserError) as raised:
        check_format(tmp_path, tokenizer, eos)
    assert str(raised.value).startswith(f"{tmp_path}/align_ko_format.json: ")
    assert "trained in another chat format" in str(raised.value) and CHANGES[change] in str(raised.value)


def test_another_generation_eos_is_named(tiny, tmp_path):
    tokenizer = tiny.tokenizer()
    eos = tokenizer.eos_token_id
    before = save_format(tmp_path, tokenizer, eos)
    assert describe_format(tokenizer, [eos])["fingerprint"] == before
    with pytest.raises(UserError, match=f"generation_eos_token_id was {eos}, is {eos} and 99"):
        check_format(tmp_path, tokenizer, [99, eos])


def test_somebody_elses_folder_passes(tiny, tmp_path):
    check_format(tmp_path, tiny.tokenizer(), 99)


def test_the_format_survives_saving_and_loading(tiny, tmp_path):
    tokenizer = tiny.tokenizer()
    tokenizer.save_pretrained(tmp_path)
    save_format(tmp_path, tokenizer, tokenizer.eos_token_id)
    from align_ko.models.load import load_tokenizer

    check_format(tmp_path, load_tokenizer(str(tmp_path)), tokenizer.eos_token_id)


def test_pad_is_never_eos(tiny):
    tokenizer = tiny.tokenizer()
    assert tokenizer.pad_token == ("<unk>" if "llama" in str(tiny.folder) else "<pad>")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
