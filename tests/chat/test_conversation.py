"""What a conversation asks, keeps and writes, without a model."""

from __future__ import annotations

from collections import Counter

import pytest

from align_ko.chat.conversation import Conversation
from align_ko.preferences.build import given_pairs
from align_ko.records import read_conversations, read_pairs


def answered(conversation, question, *texts, state="finished"):
    exchange = conversation.ask(question)
    for answer, text in zip(exchange.answers, texts, strict=True):
        answer.text, answer.state = text, state
    return exchange


def texts(messages):
    return [(message["role"], message["content"]) for message in messages]


def test_the_next_question_comes_after_the_kept_turns(tmp_path):
    talk = Conversation(["a"], "짧게 답하세요.")
    answered(talk, "첫째?", " 하나. ")
    answered(talk, "멈춘 것?", "둘", state="stopped")
    assert texts(talk.prompt(talk.ask("셋째?"))) == [
        ("system", "짧게 답하세요."), ("user", "첫째?"), ("assistant", "하나."), ("user", "셋째?"),
    ]  # fmt: skip
    assert talk.save(tmp_path / "deep" / "kept.jsonl") and not Conversation(["a"]).save(tmp_path / "none.jsonl")
    [row] = read_conversations(tmp_path / "deep" / "kept.jsonl")
    assert texts(row["messages"]) == [("system", "짧게 답하세요."), ("user", "첫째?"), ("assistant", "하나.")]
    assert not (tmp_path / "none.jsonl").exists()


def test_again_replaces_the_last_question():
    talk = Conversation(["a"])
    assert talk.again() is None
    answered(talk, "첫째?", "하나.")
    answered(talk, "둘째?", "둘.")
    assert talk.again().question == "둘째?" and talk.again("다른 것?").question == "다른 것?"
    assert texts(talk.prompt(talk.exchanges[-1])) == [("user", "첫째?"), ("assistant", "하나."), ("user", "다른 것?")]


def test_a_vote_is_a_pair_that_training_reads_and_the_conversation_goes_on_with_it(tmp_path, capsys):
    file, talk = tmp_path / "votes.jsonl", Conversation(["out/sft", "out/dpo"])
    file.write_text(
        '{"prompt": "물음", "chosen": "좋다", "rejected": "나쁘다"}', encoding="utf-8"
    )  # the user's own, unfinished line
    exchange = answered(talk, "수도는?", "부산입니다.", "서울입니다.")
    exchange.answers[0].state = "cut"
    assert [exchange.can_choose(number) for number in (0, 1)] == [False, True]
    talk.vote(exchange, 1, file)
    assert texts(talk.prompt(talk.ask("정말요?")))[:2] == [("user", "수도는?"), ("assistant", "서울입니다.")]
    with pytest.raises(ValueError, match="cannot be chosen"):
        talk.vote(exchange, 1, file)
    pairs = list(read_pairs(file))
    assert [texts(pair["chosen"]) for pair in pairs] == [[("assistant", "좋다")], [("assistant", "서울입니다.")]]
    assert pairs[1]["rejected_finished"] is False and texts(pairs[1]["prompt"]) == [("user", "수도는?")]
    given = given_pairs([str(file)])
    assert [pair.chosen[0]["content"] for pair in given] == ["좋다", "서울입니다."]
    assert capsys.readouterr().err == ""  # no key that nothing reads


@pytest.mark.parametrize(
    ("left", "right", "possible"),
    [
        (("하나.", "finished"), ("둘.", "finished"), [True, True]),
        (("하나.", "finished"), ("둘.", "stopped"), [True, False]),
        (("하나.", "finished"), ("하나. ", "finished"), [False, False]),  # equal: nothing to learn
        (("하나.", "finished"), ("", "finished"), [False, False]),
        (("하나.", "finished"), ("둘", "writing"), [False, False]),
        (("하나.", "finished"), ("둘", "failed"), [False, False]),
        (("하나", "cut"), ("둘", "cut"), [False, False]),
    ],
)
def test_what_can_be_chosen(left, right, possible):
    exchange = answered(Conversation(["a", "b"]), "질문", left[0], right[0])
    exchange.answers[0].state, exchange.answers[1].state = left[1], right[1]
    assert [exchange.can_choose(number) for number in (0, 1)] == possible
    exchange.is_settled = True
    assert not exchange.can_choose(0)


def test_blind_answers_come_in_any_order_without_names(tmp_path):
    talk = Conversation(["a", "b"], is_blind=True)
    exchanges = [answered(talk, "질문", "하나.", "둘.") for _ in range(40)]
    assert set(Counter(exchange.answers[0].by for exchange in exchanges)) == {"a", "b"}
    first = exchanges[0]
    assert [talk.label(first, number) for number in (0, 1)] == ["답변 1", "답변 2"]
    by = [answer.by for answer in first.answers]
    talk.vote(first, 1, tmp_path / "votes.jsonl")
    assert [talk.label(first, number) for number in (0, 1)] == by
    [pair] = [line for line in (tmp_path / "votes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert f'"chosen_by": "{by[1]}"' in pair and f'"rejected_by": "{by[0]}"' in pair
