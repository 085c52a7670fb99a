"""Judges: what each says, how they are weighed, and that the costly ones are asked once."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from endpoint_servers import RewardServer
from test_pairing import GOOD, LOOP, OTHER, user
from transformers import AutoTokenizer

from align_ko.errors import UserError
from align_ko.generation.endpoint import read_score
from align_ko.preferences.candidates import Candidate
from align_ko.preferences.judges import (
    JudgeScore,
    closeness,
    combine,
    judge,
    judgement_rows,
    rate,
    variety,
    win_shares,
)
from align_ko.preferences.llm_judge import RUBRIC, LlmJudge, agreed, decision, question_for
from align_ko.preferences.reward_model import _encode, reward_scores
from align_ko.recipe import JudgesArgs, JudgeWeights, LikelihoodArgs, LlmJudgeArgs, PairingArgs, RewardModelArgs
from align_ko.records import PromptRow
from align_ko.stores import whole_rows

QUESTION = "경복궁은 언제 세워졌나요?"


def test_the_real_judge_tells_a_loop_from_an_answer():
    loop = judge(QUESTION, LOOP, False, GOOD)
    good = judge(QUESTION, GOOD, True, GOOD)
    assert (loop.natural, good.natural) == (False, True)
    assert {"repetition", "unfinished"} <= set(loop.faults) and good.faults == []
    assert good.score > 0.9 > 0.5 > loop.score
    assert "repetition: 같은 말이" in loop.by_judge["naturalness"].reason


def test_todays_weights_are_the_default():
    parts = judge(QUESTION, OTHER, True, GOOD)
    natural, rich = (parts.by_judge[name].score for name in ("naturalness", "variety"))
    by_hand = 0.4 * natural + 0.3 * rich + 0.15 * 2 * closeness(OTHER, GOOD)
    assert parts.score == pytest.approx(by_hand / 0.85) and parts.relevant  # the likelihood judge has not been asked
    asked = {**parts.by_judge, "likelihood": JudgeScore(0.0, "")}
    assert combine(asked, JudgeWeights()) == pytest.approx(by_hand) and not replace(parts, by_judge=asked).relevant


def test_the_model_that_answers_says_what_belongs_to_the_question(tmp_path, monkeypatch):
    asked = []

    def nats(questions, model, file, generation):
        asked.append((model, [text for _, text in questions], file.name, generation.dtype))
        return [0.9 if text == GOOD else -0.1 for _, text in questions]

    monkeypatch.setattr("align_ko.generation.relevance.stored_relevance", nats)
    task = PromptRow("1", user(QUESTION), None)
    drawn = {"1": [Candidate("warm" if n else "greedy", "", text, True, 9) for n, text in enumerate((LOOP, GOOD, OTHER))]}
    [rated] = rate([task], drawn, JudgesArgs(), PairingArgs(), tmp_path, "outputs/sft")
    assert asked == [("outputs/sft", [GOOD, OTHER], "relevance.jsonl", "auto")]  # a loop is not chosen anyway
    assert [judged.relevant for _, judged in rated.ratings] == [True, True, False]
    assert rated.samples[1][1].by_judge["likelihood"] == JudgeScore(
        0.0, "-0.10 nats a token by its question, at least 0.05 wanted"
    )
    assert [one.text for one, _ in rated.fit(PairingArgs())] == [GOOD]
    named = JudgesArgs(likelihood=LikelihoodArgs("another", "float32"))
    rate([task], drawn, named, PairingArgs(), tmp_path, "outputs/sft")
    assert (asked[1][0], asked[1][3]) == ("another", "float32")
    rate([task], drawn, JudgesArgs(), PairingArgs(), tmp_path)  # no model is known
    rate([task], drawn, JudgesArgs(JudgeWeights(likelihood=0)), PairingArgs(), tmp_path, "outputs/sft")
    assert len(asked) == 2


def test_without_a_reference_the_others_are_weighed_alone():
    parts = judge(QUESTION, GOOD, True, None)
    assert "reference" not in parts.by_judge
    natural, rich = (parts.by_judge[name].score for name in ("naturalness", "variety"))
    assert parts.score == pytest.approx((0.4 * natural + 0.3 * rich) / 0.7)
    assert combine({"llm": JudgeScore(0.3, "")}, JudgeWeights()) == 0.0  # nobody who counts has spoken


def test_closeness_and_variety():
    assert closeness(GOOD, GOOD) == 1.0 and closeness(GOOD, "") == 0.0
    assert closeness("가나다라", "가나다마") == 0.5
    assert variety("네, 좋아요.") == 1.0 and variety(LOOP) == 0.0 and variety(GOOD) == 1.0


def test_win_shares():
    assert win_shares([3.0, 1.0, 2.0]) == [1.0, 0.0, 0.5]
    assert win_shares([2.0, 2.0]) == [0.5, 0.5] and win_shares([7.0]) == [0.5] and win_shares([]) == []


# The endpoint --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """A server that speaks chat completions: it prefers the longer answer; told to, the first one, or it fails."""
    asked, mode = [], {"prefer": "longer"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((body, self.headers["Authorization"]))
            text = body["messages"][1]["content"]
            first = text.split("<답변 A>\n")[1].split("\n</답변 A>")[0]
            second = text.split("<답변 B>\n")[1].split("\n</답변 B>")[0]
            winner = "A" if mode["prefer"] == "first" or len(first) > len(second) else "B"
            end = mode.get("finish", []).pop(0) if mode.get("finish") else "stop"
            reply = {
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": end,
                        "message": {"role": "assistant", "content": f"더 낫습니다.\n판정: {winner}"},
                    }
                ]
            }
            self.send_response(500 if mode["prefer"] == "fail" else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *args):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("JUDGE_KEY", "geheim")
    args = LlmJudgeArgs(
        f"http://127.0.0.1:{listening.server_port}/v1", "judge", api_key_env="JUDGE_KEY", concurrency=3, top=2, max_retries=0
    )
    yield args, asked, mode
    listening.shutdown()


SHORT, LONGER, LONGEST = "네.", "네, 그렇습니다.", "네, 말씀하신 대로입니다."


def test_both_orders_are_asked_and_each_reply_is_kept(server, tmp_path):
    args, asked, _ = server
    group = (user("맞나요?"), "맞습니다.", [SHORT, LONGEST, LONGER])
    [verdicts] = LlmJudge(args, tmp_path / "kept.jsonl").compare([group])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0, 0.5]
    assert verdicts[1].reason.count("더 낫습니다. 판정: ") == 4  # two comparisons, two replies each
    assert len(asked) == 6 and {key for _, key in asked} == {"Bearer geheim"}
    body = asked[0][0]
    assert (body["model"], body["temperature"], body["messages"][0]["content"]) == ("judge", 0.0, RUBRIC)
    assert "<모범 답안>\n맞습니다.\n</모범 답안>" in body["messages"][1]["content"]
    asked.clear()
    with (tmp_path / "kept.jsonl").open("a") as file:
        file.write('{"key": "torn')  # killed while writing
    assert LlmJudge(args, tmp_path / "kept.jsonl").compare([group]) == [verdicts] and asked == []


def test_another_model_endpoint_or_limit_is_asked_anew(server, tmp_path):
    args, asked, _ = server
    group = (user("맞나요?"), None, [SHORT, LONGER])
    for changed in ({}, {"model": "other"}, {"max_tokens": 9}, {"base_url": args.base_url.replace("127.0.0.1", "localhost")}):
        LlmJudge(replace(args, **changed), tmp_path / "kept.jsonl").compare([group])
    assert len(asked) == 8
    LlmJudge(args, tmp_path / "kept.jsonl").compare([group])
    assert len(asked) == 8


def test_a_judge_that_prefers_the_first_answer_decides_nothing(server, tmp_path):
    args, _, mode = server
    mode["prefer"] = "first"
    [verdicts] = LlmJudge(args, tmp_path / "kept.jsonl").compare([(user("맞나요?"), None, [SHORT, LONGER])])
    assert [verdict.score for verdict in verdicts] == [0.5, 0.5]


def test_an_endpoint_that_fails_is_told_in_one_message_and_what_was_said_is_kept(server, tmp_path):
    args, asked, mode = server
    judge_ = LlmJudge(args, tmp_path / "kept.jsonl")
    judge_.compare([(user("맞나요?"), None, [SHORT, LONGER])])
    mode["prefer"] = "fail"
    with pytest.raises(UserError, match=r"judges\.llm\.base_url: http://127.* answered 500.*what was answered is saved"):
        judge_.compare([(user("맞나요?"), None, [SHORT, LONGER, LONGEST])])
    mode["prefer"] = "longer"
    asked.clear()
    LlmJudge(args, tmp_path / "kept.jsonl").compare([(user("맞나요?"), None, [SHORT, LONGER, LONGEST])])
    assert len(asked) == 4  # the first pair was not asked again


@pytest.mark.parametrize("end", ["length", "content_filter"])
def test_a_judgement_that_was_cut_is_no_tie_for_ever(server, tmp_path, capsys, end):
    args, asked, mode = server
    group = (user("맞나요?"), None, [SHORT, LONGER])
    mode["finish"] = [end, "stop"]
    [verdicts] = LlmJudge(args, tmp_path / "kept.jsonl").compare([group])
    assert [verdict.score for verdict in verdicts] == [0.5, 0.5]
    assert f"of 2 judgements 1 ended without a verdict (1 by {end})" in capsys.readouterr().err
    [verdicts] = LlmJudge(args, tmp_path / "kept.jsonl").compare([group])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0] and len(asked) == 3
    mode["finish"] = [end, "stop", end]
    for _ in range(2):  # one that never ends does not stop a run whose other judgements are there
        LlmJudge(args, tmp_path / "once.jsonl").compare([group])
    mode["finish"] = [end, end]
    with pytest.raises(UserError, match=r"judges\.llm\.max_tokens, judges\.llm\.model: of 2 judgements 2 ended without"):
        LlmJudge(args, tmp_path / "other.jsonl").compare([group])


def test_no_key_is_sent_that_the_recipe_does_not_name(server, tmp_path, monkeypatch):
    args, asked, _ = server
    monkeypatch.setenv("OPENAI_API_KEY", "SECRETKEY")
    args = LlmJudgeArgs(args.base_url, "judge", max_retries=0)
    LlmJudge(args, tmp_path / "kept.jsonl").compare([(user("맞나요?"), None, [SHORT, LONGER])])
    assert {key for _, key in asked} == {"Bearer none"}


def test_what_a_reply_says():
    assert [decision(reply) for reply in ("판정: A", "판정: A는 아닙니다.\n**판정:** B", "판정:무승부", "둘 다 좋습니다")] == [
        "A", "B", "tie", "tie",
    ]  # fmt: skip
    assert (agreed("A", "B"), agreed("B", "A"), agreed("A", "A"), agreed("tie", "B")) == (1.0, 0.0, 0.5, 0.5)


def test_a_question_holds_the_whole_conversation():
    prompt = [*user("안녕하세요"), {"role": "assistant", "content": "네, 안녕하세요."}, *user("맞나요?")]
    assert question_for(prompt, None, "가", "나") == (
        "<대화>\n사용자: 안녕하세요\n답변: 네, 안녕하세요.\n사용자: 맞나요?\n</대화>\n\n"
        "<답변 A>\n가\n</답변 A>\n\n<답변 B>\n나\n</답변 B>"
    )


def test_only_the_best_fit_candidates_are_compared(server, tmp_path):
    args, asked, _ = server
    texts = [
        f"경복궁은 {year}년에 세워졌습니다. 조선의 으뜸 궁궐이랍니다." + " 꼭 가 보세요." * (year == 1397)
        for year in range(1394, 1398)
    ]
    drawn = [Candidate("greedy", "greedy", LOOP, False, 9)] + [
        Candidate("warm", "t=1", text, True, 9) for text in [*texts, *texts]
    ]
    task = PromptRow("t", user(QUESTION), texts[1])
    judges = JudgesArgs(JudgeWeights(llm=1.0), llm=args)
    [rated] = rate([task], {"t": drawn}, judges, PairingArgs(), tmp_path)
    top = {asked[0][0]["messages"][1]["content"].split(f"<답변 {side}>\n")[1].split("\n</")[0] for side in "AB"}
    assert top == {texts[1], max(texts[:1] + texts[2:], key=lambda text: judge(QUESTION, text, True, texts[1]).score)}
    assert len(asked) == 2  # two candidates, both orders; the greedy answer is faulty and stays out
    best, second, *others = rated.fit(PairingArgs())
    assert {judgement.by_judge["llm"].score for _, judgement in others} == {0.0}
    assert best[1].by_judge["llm"].score + second[1].by_judge["llm"].score == 1.0
    cheap = judge(QUESTION, best[0].text, True, texts[1])
    assert best[1].score == pytest.approx((0.85 * cheap.score + best[1].by_judge["llm"].score) / 1.85)
    [told] = [row for row in judgement_rows([rated]) if row["text"] == LOOP]
    assert told["judges"]["llm"]["reason"].startswith("not compared")


# The reward model ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer(llama, tmp_path_factory):
    """A tiny sequence-classification model with one label, of random weights."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(llama.folder, num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(llama.folder).save_pretrained(folder)
    return folder


def test_reward_scores_do_not_hang_on_the_batch_and_are_kept(scorer, tmp_path, monkeypatch):
    asked = [(user(QUESTION), GOOD), (user("안녕하세요"), "네."), (user(QUESTION), OTHER * 3)]
    alone = reward_scores(asked, RewardModelArgs(str(scorer), batch_size=1, dtype="float32"), tmp_path / "one.jsonl")
    together = reward_scores(asked, RewardModelArgs(str(scorer), batch_size=3, dtype="float32"), tmp_path / "two.jsonl")
    assert together == pytest.approx(alone, abs=1e-4) and len(set(alone)) == 3
    monkeypatch.setattr("align_ko.preferences.reward_model._load", None)  # nothing is loaded again
    again = reward_scores(asked[::-1], RewardModelArgs(str(scorer), batch_size=2, dtype="float32"), tmp_path / "one.jsonl")
    assert again == alone[::-1]


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_served_reward_model_says_the_same_and_survives_the_death_of_a_server(scorer, tmp_path, monkeypatch, kind):
    asked = [(user(QUESTION), GOOD + "." * n) for n in range(6)]
    local = reward_scores(asked, RewardModelArgs(str(scorer), dtype="float32"), tmp_path / "local.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(scorer)
    known = {tuple(_encode(tokenizer, *one, 2048)): score for one, score in zip(asked, local, strict=True)}
    monkeypatch.setattr("align_ko.preferences.reward_model._load", None)

    def score(ids):
        return known[tuple(ids)]

    with RewardServer(score, faults=["drop"] * 99) as dead, RewardServer(score) as alive:
        args = RewardModelArgs(
            str(scorer), base_url=dead.url, more_base_urls=(alive.url,), server=kind, model="rm", concurrency=2, max_retries=0
        )
        assert reward_scores(asked, args, tmp_path / "served.jsonl") == pytest.approx(local, abs=1e-6)
        bodies = [*dead.bodies, *alive.bodies]
        reward_scores(asked, args, tmp_path / "served.jsonl")
        assert len(alive.bodies) == 6 and len([*dead.bodies, *alive.bodies]) == len(bodies)  # kept, not asked again
    sent = {"model", "input", "use_activation"} if kind == "vllm" else {"model", "input_ids"}
    assert all(set(body) == sent and body["model"] == "rm" for body in bodies)


def test_of_two_labels_the_second_is_the_good_one():
    assert read_score(b'{"model": "rm", "data": [{"probs": [-1.0, 0.5]}]}').text == "1.5"
    assert read_score(b'[{"embedding": [2.5]}]').text == "2.5"
    for content in (b'[{"embedding": [1, 2, 3]}]', b'[{"embedding": [NaN]}]', b"[]", b"oops"):
        with pytest.raises(ValueError):
            read_score(content)


def test_what_is_no_score_is_refused(scorer, tmp_path):
    with RewardServer(lambda ids: None) as server:
        args = RewardModelArgs(str(scorer), base_url=server.url, max_retries=0)
        with pytest.raises(UserError, match=r"judges\.reward_model\.base_url: http.* answered 1 times with what is no score"):
            reward_scores([(user(QUESTION), GOOD)], args, tmp_path / "served.jsonl")


def test_the_reward_models_order_counts_by_its_weight(scorer, tmp_path):
    drawn = [Candidate("greedy", "greedy", GOOD, True, 9), Candidate("warm", "t=1", OTHER, True, 9)]
    task = PromptRow("t", user(QUESTION), None)
    args = RewardModelArgs(str(scorer), dtype="float32")
    [rated] = rate([task], {"t": drawn}, JudgesArgs(JudgeWeights(0, 0, 0, 0, reward_model=1.0), args), PairingArgs(), tmp_path)
    raw = [row["score"] for row in whole_rows(tmp_path / "reward_scores.jsonl")]
    verdicts = [rated.greedy[1].by_judge["reward_model"], rated.samples[0][1].by_judge["reward_model"]]
    assert (
        sorted(verdict.score for verdict in verdicts)
        == [0.0, 1.0]
        == sorted([rated.greedy[1].score, rated.samples[0][1].score])
    )
    assert f"{max(raw):.3f}, above 100% of the others" in {verdict.reason for verdict in verdicts}


def test_a_model_with_many_labels_is_no_reward_model(llama, tmp_path):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(llama.folder, num_labels=5)).save_pretrained(
        tmp_path
    )
    AutoTokenizer.from_pretrained(llama.folder).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has 5 labels; expected a model with one label"):
        reward_scores([(user(QUESTION), GOOD)], RewardModelArgs(str(tmp_path)), tmp_path / "kept.jsonl")
