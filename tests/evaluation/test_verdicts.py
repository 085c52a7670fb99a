"""Two readings of every answer by a larger model, and a person's, count beside its form; what is no verdict is not kept."""

from __future__ import annotations

import re

import pytest
from endpoint_servers import FaultyServer, completion, judge_process

from align_ko import evaluate
from align_ko.errors import UserError
from align_ko.evaluation.scores import count_verdicts, summarise, wilson
from align_ko.evaluation.verdicts import RUBRICS, add_llm_verdicts, add_reader_verdicts, answer_key, verdict_of
from align_ko.recipe import EvaluateRecipe, JudgeEndpointArgs, recipe_from
from align_ko.records import read_jsonl, write_jsonl
from align_ko.stores import Store, whole_rows

NO_VERDICT = {
    "cut": completion("판정: 2", "length"),
    "filtered": completion("판정: 2", "content_filter"),
    "no number": completion("좋은 답변입니다."),
    "another number": completion("판정: 3"),
    "no answer": completion(None, refusal="죄송하지만 도와드릴 수 없습니다."),
}


def answer(response, setting="greedy", kind="heldout", **changes):
    prompt = [{"role": "user", "content": "달걀 반숙은 몇 분 삶아요?"}]
    row = {"model": "sft", "setting": setting, "kind": kind, "prompt": prompt, "reference": None, "response": response}
    return row | {"decoding": setting, "prompt_id": response, "natural": True, "score": 1.0, "relevant": True, "finished": True,
                  "faults": [], "tokens": 9} | changes  # fmt: skip


def judged(server, file, *responses, **options):
    rows = [answer(text) for text in responses]
    add_llm_verdicts(rows, JudgeEndpointArgs(server.url, "judge", concurrency=1, max_retries=0, **options), file)
    return [row["llm"] for row in rows]


def test_each_answer_is_read_twice_and_never_again(tmp_path):
    file = tmp_path / "kept.jsonl"
    with FaultyServer([completion(f"판정: {n}") for n in (2, 2, 2, 0)]) as server:
        assert judged(server, file, "6분입니다.", "10분입니다.") == [[2, 2], [2, 0]]
        assert judged(server, file, "6분입니다.", "10분입니다.") == [[2, 2], [2, 0]] and len(server.bodies) == 4
    first, second = (body["messages"] for body in server.bodies[:2])
    assert (first[0]["content"], second[0]["content"]) == RUBRICS and first[1] == second[1]
    assert first[1]["content"] == (
        "<대화>\n사용자: 달걀 반숙은 몇 분 삶아요?\n</대화>\n\n<답변>\n6분입니다.\n</답변>"
    )  # nothing says whose answer it is


def test_another_model_host_reference_or_answer_is_asked_anew(tmp_path):
    file, asked = tmp_path / "kept.jsonl", []
    with FaultyServer([completion("판정: 1")] * 99) as server:
        here = JudgeEndpointArgs(server.url, "judge")
        there = JudgeEndpointArgs(server.url.replace("127.0.0.1", "localhost"), "judge")
        for args, row in (
            (here, answer("6분")), (here, answer("6분")), (JudgeEndpointArgs(server.url, "other"), answer("6분")),
            (there, answer("6분")), (here, answer("7분")), (here, answer("6분", reference="6분입니다.")),
        ):  # fmt: skip
            add_llm_verdicts([row], args, file)
            asked.append(len(server.bodies))
    assert asked == [2, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("why", NO_VERDICT)
def test_what_is_no_verdict_is_not_judged_and_asked_again(tmp_path, capsys, why):
    file = tmp_path / "kept.jsonl"
    with FaultyServer([completion("판정: 1"), completion("판정: 1"), completion("판정: 2"), NO_VERDICT[why]]) as server:
        assert judged(server, file, "6분", "7분") == [[1, 1], None]
        assert "of 4 judgements 1 ended without a verdict (1 " in capsys.readouterr().err
        assert len(list(whole_rows(file))) == 3
        server.faults = [completion("판정: 0")]
        assert judged(server, file, "6분", "7분") == [[1, 1], [2, 0]] and len(server.bodies) == 5
        server.faults = [NO_VERDICT[why]] * 2
        with pytest.raises(UserError, match=r"llm\.max_tokens, llm\.model: of 2 judgements 2 ended without a verdict"):
            judged(server, tmp_path / "other.jsonl", "6분")


def test_a_server_that_refuses_to_read_a_text_ends_no_run(tmp_path):
    refused = completion("")
    refused.status_code, refused.body = 400, b'{"error": {"code": "content_filter", "message": "filtered"}}'
    refused.headers["content-length"] = str(len(refused.body))
    with FaultyServer([completion("판정: 2"), refused, completion("판정: 0"), completion("판정: 0")]) as server:
        assert judged(server, tmp_path / "kept.jsonl", "6분", "7분") == [None, [0, 0]]
        server.faults = [400]
        with pytest.raises(UserError, match=r"llm\.model: .* answered 400: refused on purpose"):
            judged(server, tmp_path / "kept.jsonl", "8분")


def test_verdicts_in_replies():
    said = ["판정: 2", "이유는 … 입니다.\n\n판정：1점.", "**판정:** 0", "- 판정: 2", "`판정: 1`", "2점", "판정: 2\n이상입니다."]
    assert [verdict_of(reply) for reply in said] == [2, 1, 0, 2, 1, 2, 2]
    for reply in (
        "",
        "판정: -1",
        "판정: 10",
        "판정: 1.5",
        "판정: 2/2",
        "판정: 1~2",
        "판정: 2\n판정: 1\n판정: 0",
        "이 답은 2점",
    ):
        assert verdict_of(reply) is None


def test_counted_by_the_lower_reading():
    assert count_verdicts([[2, 2], [2, 1], [1, 0], [2, 2], None]) == {
        "judged": 4, "signed": 0.5, "signed_low": wilson(2, 4)[0], "signed_high": wilson(2, 4)[1], "partly": 0.25, "split": 0.5,
    }  # fmt: skip
    assert count_verdicts([[2], [0]])["split"] is None and count_verdicts([None, None]) is None


def test_a_person_s_last_word_counts_for_the_same_answer_only(tmp_path):
    rows = [answer("6분입니다."), answer("7분입니다."), answer("6분입니다.", model="dpo")]
    store = Store(tmp_path / "reader.jsonl")
    for verdict in (0, 2):
        store.add(answer_key(rows[0]["prompt"], "6분입니다."), verdict=verdict)
    store.add(answer_key([{"role": "user", "content": "다른 질문"}], "7분입니다."), verdict=2)
    add_reader_verdicts(rows, tmp_path / "reader.jsonl")
    assert [row["reader"] for row in rows] == [[2], None, [2]]
    sft, dpo = summarise(rows)["results"]
    assert (sft["reader"]["judged"], sft["reader"]["signed"], dpo["reader"]["signed"], sft["llm"]) == (1, 1.0, 1.0, None)


def test_only_held_out_greedy_answers_are_read(tmp_path):
    rows = [answer("가", kind="probe"), answer("나", setting="sampling_cool"), answer("다")]
    with FaultyServer([completion("판정: 1")] * 6) as server:
        add_llm_verdicts(rows, JudgeEndpointArgs(server.url, "judge"), tmp_path / "kept.jsonl")
        assert [row["llm"] for row in rows] == [None, None, [1, 1]]
        add_llm_verdicts(rows, JudgeEndpointArgs(server.url), tmp_path / "kept.jsonl")
        assert [row["llm"] for row in rows] == [None] * 3


def test_a_judge_in_a_process_of_its_own(tmp_path):
    """Agreement, disagreement, a refusal and a reply that was cut."""
    rows = [answer(f"[판정: {text}") for text in ("2]{판정: 2}", "2]{판정: 0}", "1]{할 수 없습니다.}", "1]{cut}")]
    with judge_process() as url:
        add_llm_verdicts(rows, JudgeEndpointArgs(url, "judge"), tmp_path / "kept.jsonl")
    assert [row["llm"] for row in rows] == [[2, 2], [2, 0], None, None]
    [result] = summarise(rows)["results"]
    assert {key: result["llm"][key] for key in ("judged", "signed", "partly", "split")} == {
        "judged": 2, "signed": 0.5, "partly": 0.0, "split": 0.5,
    }  # fmt: skip
    replies = [row["reply"] for row in read_jsonl(tmp_path / "kept.jsonl")]
    assert sorted(replies) == ["판정: 0", "판정: 1", "판정: 2", "판정: 2", "판정: 2"]


def test_an_evaluation_counts_both_judges_and_a_later_reading(llama, tmp_path):
    write_jsonl(tmp_path / "p.jsonl", [{"prompt": "[판정: 2]{판정: 1}"}, {"prompt": "[판정: 0]{판정: 0}"}])
    options = {"sampling": {}, "generation": {"max_new_tokens": 4, "dtype": "float32"}, "probes": []}

    def judge(**llm):
        summary = evaluate({"m": str(llama.folder)}, str(tmp_path / "p.jsonl"), str(tmp_path / "out"), llm=llm, **options)
        return summary["results"][0]

    assert judge()["llm"] is None is judge()["reader"]
    with judge_process(inside="대화") as url:
        llm = {"base_url": url, "model": "judge"}
        assert [judge(**llm)["llm"][key] for key in ("judged", "signed", "partly", "split")] == [2, 0.0, 0.5, 0.5]
    rows = list(read_jsonl(tmp_path / "out/responses.jsonl"))
    assert [row["llm"] for row in rows] == [[2, 1], [0, 0]]
    Store(tmp_path / "out/reader.jsonl").add(answer_key(rows[0]["prompt"], rows[0]["response"]), verdict=1)
    result = judge(**llm)  # the server is gone: what it said is kept
    assert (result["llm"]["judged"], result["reader"]["judged"], result["reader"]["partly"]) == (2, 1, 1.0)


@pytest.mark.parametrize(
    ("llm", "problem"),
    [
        ({"base_url": "http://h/v1"}, "llm.model: this key is missing, and other keys of llm are given"),
        ({"model": "m", "base_url": "http://SECRET@h/v1"}, "llm.base_url: this contains a secret"),
    ],
)
def test_a_judge_without_a_model_or_with_a_secret_is_refused(tmp_path, llm, problem):
    with pytest.raises(UserError, match=problem):
        recipe_from(EvaluateRecipe, models={"m": "m"}, prompts_file="p", output_dir=str(tmp_path), llm=llm)


def test_the_rubric_is_one_in_two_orders():
    first, second = (set(rubric.splitlines()) for rubric in RUBRICS)
    assert first == second and RUBRICS[0] != RUBRICS[1]
    assert all(verdict_of(f"이유입니다.\n{line}") is not None for line in first if re.fullmatch("판정: .", line))
