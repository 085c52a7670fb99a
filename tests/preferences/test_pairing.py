"""Pairs follow from judgements alone, and what must not stand in the whole set is dropped from it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from align_ko import reasons
from align_ko.errors import UserError
from align_ko.overlap import PromptIndex
from align_ko.preferences import guards
from align_ko.preferences.build import build_pairs, given_pairs, split
from align_ko.preferences.candidates import Candidate
from align_ko.preferences.judges import Judgement, JudgeScore, Rated
from align_ko.preferences.pairing import best_answer, make_pairs
from align_ko.recipe import JudgesArgs, PairingArgs
from align_ko.records import PreferencePair, PromptRow, read_conversations, read_jsonl, write_jsonl


def user(text):
    return [{"role": "user", "content": text}]


def said(text):
    return [{"role": "assistant", "content": text}]


GOOD = "경복궁은 조선의 으뜸 궁궐로, 1395년에 세워졌습니다. 지금은 누구나 둘러볼 수 있습니다."
OTHER = "광화문을 지나면 근정전이 나오며, 안내 해설은 매일 네 번 무료로 진행됩니다. 화요일에는 쉽니다."
ROUND = "경복궁은 경복궁입니다. "
LOOP = ROUND * 12


def rating(natural=True, score=0.9, relevant=True, naturalness=1.0, variety=1.0, near=0.2, faults=()):
    said = {"naturalness": naturalness, "variety": variety, "likelihood": float(relevant), "reference": near}
    return Judgement(natural, list(faults), {name: JudgeScore(value, "") for name, value in said.items()}, score)


def pairs_of(judged, finished=True, reference=OTHER, **options):
    """make_pairs on one prompt whose candidates (the first greedy) are given as {text: judgement}."""
    return many([judged], finished, reference, **options)


def many(prompts, finished=True, reference=OTHER, **options):
    rated = []
    for n, judged in enumerate(prompts):
        greedy, *samples = [
            (Candidate("warm" if k else "greedy", "temperature=1" if k else "greedy", text, bool(k) or finished, 9), judgement)
            for k, (text, judgement) in enumerate(judged.items())
        ]
        rated.append(Rated(PromptRow(f"t{n}", user(f"{n} 경복궁은?"), reference), greedy, samples))
    return make_pairs(rated, PairingArgs(**options))


BAD = rating(natural=False, score=0.2, naturalness=0.1, faults=["repetition"])


def test_a_loop_is_repaired_cut_and_left_open():
    [pair], dropped = pairs_of({LOOP: BAD, GOOD: rating(score=0.8), OTHER: rating(score=0.9)}, False)
    assert pair.origin == "repair" and pair.chosen[0]["content"] == OTHER  # the better of the two
    assert pair.rejected[0]["content"] == (ROUND * 3).strip() and pair.rejected_finished is False
    assert (pair.chosen_score, pair.rejected_score) == (0.9, 0.2)
    assert (pair.chosen_by, pair.rejected_by) == ("temperature=1", "greedy")
    assert (pair.chosen_faults, pair.rejected_faults) == ([], ["repetition"])
    assert not dropped


def test_a_loop_that_was_cut_is_open_even_if_the_model_ended_it():
    [pair], _ = pairs_of({LOOP: BAD, GOOD: rating()}, finished=True)
    assert pair.rejected_finished is False


def test_a_faulty_answer_that_ended_stays_closed():
    [pair], _ = pairs_of({OTHER: BAD, GOOD: rating()}, finished=True)
    assert pair.rejected[0]["content"] == OTHER and pair.rejected_finished is True


def test_a_long_rejected_side_is_cut_at_a_word_and_open():
    long = " ".join(f"{n}째 이야기는 다릅니다." for n in range(100))
    [pair], _ = pairs_of({long: BAD, GOOD: rating()})
    rejected = pair.rejected[0]["content"]
    assert len(rejected) <= 2 * len(GOOD) and long.startswith(rejected + " ") and pair.rejected_finished is False


def test_an_irrelevant_answer_is_faulty_too():
    [pair], _ = pairs_of({OTHER: rating(relevant=False), GOOD: rating()})
    assert pair.origin == "repair" and pair.rejected_faults == ["irrelevant"]


def test_a_clearly_better_candidate_makes_a_contrast():
    [pair], _ = pairs_of({OTHER: rating(score=0.6), GOOD: rating(score=0.8)}, contrast_margin=0.15)
    assert pair.origin == "contrast" and pair.chosen[0]["content"] == GOOD
    nothing, dropped = pairs_of({OTHER: rating(score=0.7), GOOD: rating(score=0.8)}, contrast_margin=0.15)
    assert nothing == [] and dropped == {"greedy answer is as good": 1}


@pytest.mark.parametrize(
    "unfit", [rating(natural=False), rating(relevant=False), rating(variety=0.5), rating(naturalness=0.45)]
)
def test_only_a_fit_candidate_is_chosen_else_the_reference(unfit):
    [pair], _ = pairs_of({LOOP: BAD, GOOD: unfit}, reference_share=1.0)
    assert (pair.chosen[0]["content"], pair.chosen_by, pair.chosen_score) == (OTHER, "reference", 1.0)


def test_references_stay_a_share_and_the_gravest_failures_keep_theirs():
    loops = [{f"{n} " + LOOP: rating(natural=False, score=n / 10, faults=["repetition"])} for n in range(4)]
    own = [{f"{n} " + LOOP: BAD, f"{n} " + GOOD: rating()} for n in (7, 8)]
    pairs, dropped = many(loops + own, False, reference_share=0.5)
    assert [(pair.chosen_by, pair.rejected_score) for pair in pairs] == [
        ("reference", 0.0), ("reference", 0.1), ("temperature=1", 0.2), ("temperature=1", 0.2),
    ]  # fmt: skip
    assert dropped == {"no natural candidate, and the share of references is full": 2}
    pairs, dropped = many(loops, False, reference_share=1.0)
    assert len(pairs) == 4 and not dropped  # 1.0 is no bound
    assert many(loops, False, reference_share=0.0) == ([], {"no natural candidate, and the share of references is full": 4})


@pytest.mark.parametrize(
    "chosen, sides",
    [("candidate", ["temperature=1"]), ("reference", ["reference"]), ("both", ["temperature=1", "reference"])],
)
def test_the_recipe_says_what_a_failure_is_set_against(chosen, sides):
    pairs, dropped = pairs_of({LOOP: BAD, GOOD: rating()}, chosen=chosen, reference_share=0.0)
    assert [pair.chosen_by for pair in pairs] == sides and not dropped
    texts = {"temperature=1": GOOD, "reference": OTHER}
    assert [pair.chosen[0]["content"] for pair in pairs] == [texts[side] for side in sides]
    assert len({pair.id for pair in pairs}) == len(pairs) and {pair.rejected_by for pair in pairs} == {"greedy"}
    [own], _ = pairs_of({LOOP: BAD, GOOD: rating()}, reference=None, chosen=chosen)  # a prompt that nobody answered
    assert own.chosen_by == "temperature=1"
    contrast, _ = pairs_of({GOOD: rating(score=0.5), OTHER: rating(score=0.9)}, chosen=chosen)
    assert [(pair.origin, pair.chosen_by) for pair in contrast] == [("contrast", "temperature=1")]


def test_faulty_samples_are_rejected_too_the_worst_first_and_each_once():
    worse, bad = (rating(natural=False, score=score, faults=["filler"]) for score in (0.1, 0.3))
    answers = {LOOP: BAD, "1 " + LOOP: bad, "2 " + LOOP: worse, GOOD: rating()}
    pairs, dropped = pairs_of(answers, chosen="reference", rejected_samples=1)
    assert [(pair.rejected_by, pair.rejected_score) for pair in pairs] == [("greedy", 0.2), ("temperature=1", 0.1)]
    assert {pair.chosen_by for pair in pairs} == {"reference"} and not dropped and len({pair.id for pair in pairs}) == 2
    both, _ = pairs_of(answers, chosen="both", rejected_samples=9)  # samples stand against the curated answer alone
    sides = [(pair.chosen_by, pair.rejected_by) for pair in both]
    assert sides == [("temperature=1", "greedy"), *[("reference", by) for by in ("greedy", "temperature=1", "temperature=1")]]
    alone, _ = pairs_of(answers, reference=None, chosen="both", rejected_samples=9)
    assert [pair.chosen_by for pair in alone] == ["temperature=1"] * 3
    fine = {OTHER: rating(score=0.5), "1 " + LOOP: bad, GOOD: rating()}  # the greedy answer needs no repair
    assert [pair.origin for pair in pairs_of(fine, rejected_samples=9)[0]] == ["contrast"]
    again = Rated(PromptRow("t", user("?"), OTHER), (Candidate("greedy", "greedy", LOOP, True, 9), BAD), [
        (Candidate("low", "temperature=0.3", LOOP, True, 9), BAD)
    ])  # fmt: skip
    assert again.failures() == []  # the sample says what the greedy answer says


def test_a_candidate_far_from_the_curated_answer_gives_way_to_it():
    judged = {LOOP: BAD, GOOD: rating(near=0.19)}  # the score is the closeness doubled
    [pair], _ = pairs_of(judged, min_closeness=0.1, reference_share=1.0)
    assert (pair.chosen_by, pair.chosen[0]["content"]) == ("reference", OTHER)
    [pair], _ = pairs_of({LOOP: BAD, GOOD: rating(near=0.2)}, min_closeness=0.1, reference_share=1.0)
    assert pair.chosen_by == "temperature=1"


def test_without_a_reference_only_candidates_are_chosen():
    nothing, dropped = pairs_of({LOOP: BAD, GOOD: rating(natural=False)}, reference=None, reference_share=1.0)
    assert nothing == [] and dropped == {"no natural candidate, and no reference": 1}


def test_sides_that_are_nearly_the_same_or_much_shorter_are_dropped():
    nothing, dropped = pairs_of({GOOD + " 네.": BAD, GOOD: rating()})
    assert nothing == [] and dropped == {"both sides nearly the same": 1}
    nothing, dropped = pairs_of({"몰라요.": BAD, GOOD: rating()})
    assert nothing == [] and dropped == {"rejected side much shorter: DPO would learn length": 1}


def test_the_same_pair_has_the_same_id():
    [one], [two] = (pairs_of({LOOP: BAD, GOOD: rating()}, False)[0] for _ in range(2))
    [three] = pairs_of({LOOP: BAD, OTHER: rating()}, False)[0]
    assert one.id == two.id != three.id and len(one.id) == 16


def test_the_split_keeps_every_pair_once():
    pairs, _ = many([{f"{n} " + LOOP: BAD, f"{n}. " + GOOD: rating()} for n in range(20)], False)
    train, held_out = split(pairs, 0.1)
    assert (len(train), len(held_out)) == (18, 2)
    assert {pair.id for pair in [*train, *held_out]} == {pair.id for pair in pairs}
    assert split(pairs[::-1], 0.1) == (train, held_out)


def test_pairs_of_one_prompt_stay_on_one_side():
    pairs, _ = many([{f"{n} " + LOOP: BAD, f"{n}. " + GOOD: rating()} for n in range(20)], False)
    twins = [replace(pair, id=f"f{n}") for n, pair in enumerate(pairs)]  # sorted behind all others or among them
    train, held_out = split([*pairs, *twins], 0.1)
    assert len(train) + len(held_out) == 40
    assert not {str(pair.prompt) for pair in train} & {str(pair.prompt) for pair in held_out}


# The whole set -------------------------------------------------------------------------------------------------------------


def pair(n, chosen=GOOD, rejected=OTHER, origin="repair", faults=("repetition",), margin=0.5, prompt=None):
    return PreferencePair(
        prompt or user(f"{n}번 질문입니다"), said(chosen), said(rejected), f"p{n}", origin, 0.9, 0.9 - margin, [], list(faults)
    )


def test_an_evaluation_prompt_never_gets_in_paraphrased_or_in_an_earlier_turn(tmp_path):
    index = PromptIndex(["김치찌개는 어떻게 끓이나요?"])
    asked = {
        "exact": user("김치찌개는 어떻게 끓이나요?"),
        "paraphrase": user("김치찌개 어떻게 끓여요?"),
        "earlier": [*user("김치찌개는 어떻게 끓이면 되나요?"), *said("고기부터 볶으세요."), *user("그다음에는요?")],
        "later": [*user("배고파요."), *said("무엇을 드실래요?"), *user("김치찌개는 어떻게 끓이는 거예요?")],
        "other": user("된장찌개에는 무엇을 넣나요?"),
    }
    dropped = Counter()
    kept = guards.drop_held_out([pair(0, prompt=prompt) for prompt in asked.values()], index, dropped)
    assert [one.prompt for one in kept] == [asked["other"]] and dropped == {reasons.HELD_OUT: 4}
    # and through the whole builder, as candidate, as curated answer and as spoilt copy
    tasks = [PromptRow(name, prompt, OTHER) for name, prompt in asked.items()]
    drawn = {name: [Candidate("greedy", "greedy", LOOP, False, 9)] for name in asked}
    args = PairingArgs(reference_share=1.0, curated_share=0.9, eval_share=0.0)
    built = build_pairs(tasks, drawn, JudgesArgs(), args, tmp_path, index, tasks)
    assert {str(one.prompt) for one in [*built.train, *built.held_out]} == {str(asked["other"])}
    assert built.summary["dropped"][reasons.HELD_OUT] == 4
    with pytest.raises(UserError) as error:
        build_pairs([*tasks[:2], PromptRow("silent", user("된장찌개는?"))], drawn, JudgesArgs(), args, tmp_path, index)
    told = "2 an evaluation prompt, or too near to one; 1 no answer was drawn"
    assert str(error.value) == f"{tmp_path}: no pair could be made of 3 prompts: {told}"


@pytest.mark.parametrize(
    ("killed_at", "left"), [("judgements", ["manifest.json"]), ("eval", ["best.jsonl", "judgements.jsonl", "train.jsonl"])]
)
def test_killed_while_pairs_are_renamed_no_manifest_vouches_for_them(tmp_path, monkeypatch, killed_at, left):
    (tmp_path / "manifest.json").write_text("{}")
    task = PromptRow("t", [{"role": "user", "content": "서울에는 궁궐이 몇 곳 있나요?"}], OTHER)
    drawn = {"t": [Candidate("greedy", "greedy", LOOP, False, 9)]}
    replace = os.replace

    def killed(source, target):
        if Path(target).name == f"{killed_at}.jsonl":
            raise SystemExit
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(guards, "balance", guards.balance if killed_at == "eval" else lambda *args: sys.exit())
    with pytest.raises(SystemExit):
        build_pairs([task], drawn, JudgesArgs(), PairingArgs(reference_share=1.0), tmp_path, PromptIndex([]))
    assert sorted(path.name for path in tmp_path.iterdir()) == left  # judgements.jsonl, too, is of the same run as the manifest


def test_the_best_answer_is_the_best_that_is_fit_greedy_or_sampled():
    def best(*judgements):
        drawn = [Candidate(f"s{n}", f"s{n}", f"답 {n}", True, 9) for n in range(len(judgements))]
        first, *others = zip(drawn, judgements, strict=True)
        found = best_answer(Rated(PromptRow("t", user("경복궁은?"), None), first, others), PairingArgs())
        return found and found.messages

    assert best(rating(score=0.9), rating(score=0.8)) == user("경복궁은?") + said("답 0")
    assert best(rating(score=0.7), rating(score=0.8)) == user("경복궁은?") + said("답 1")
    assert best(rating(natural=False, score=0.9), rating(score=0.8), rating(score=0.95, relevant=False)) == user(
        "경복궁은?"
    ) + said("답 1")
    assert best(BAD, BAD) is None


def test_pairs_whose_sides_share_the_filler_are_dropped():
    padded = "다양한 분야에서 다양한 정보를 다양하게 제공하고 있습니다. 서울의 궁궐은 다섯 곳입니다."
    worse = "다양한 곳에서 다양한 것을 다양하게 볼 수 있습니다. 다양한 일이 있습니다."
    assert guards.shared_filler(padded, worse, "서울의 궁궐은?") == ["다양"]
    assert guards.shared_filler(padded, worse, "다양성이란 무엇인가요?") == []  # what was asked about
    assert guards.shared_filler(GOOD, worse, "서울의 궁궐은?") == []
    dropped = Counter()
    kept = guards.drop_shared_filler([pair(1, padded, worse), pair(2, padded, worse, "synthetic"), pair(3)], dropped)
    assert [one.id for one in kept] == ["p2", "p3"] and dropped == {"both sides share the filler": 1}


def test_generic_chosen_answers_are_dropped_until_none_is_left():
    stock = "좋은 질문을 해 주셔서 정말 감사합니다"
    pairs = [pair(n, f"{stock} {n}번 답입니다") for n in range(5)] + [pair(9)]
    dropped = Counter()
    kept = guards.drop_generic(pairs, 0.2, dropped)  # below four, nobody shares with three others
    assert len(kept) == 4 and kept[-1].id == "p9" and sum(dropped.values()) == 2
    assert guards.drop_generic(pairs, 1.0, Counter()) == pairs


def test_faults_and_contrasts_are_capped_and_small_margins_go_first():
    assert guards.main_fault(pair(1, faults=["unfinished", "repetition"])) == "repetition"
    assert guards.main_fault(pair(1, origin="synthetic", faults=["echo", "repetition"])) == "echo"
    loops = [pair(n, margin=n / 10) for n in range(6)]
    rest = [pair(6, faults=["filler"]), pair(7, faults=[], origin="contrast", margin=0.3)]
    rest.append(pair(8, faults=[], origin="contrast", margin=0.2))
    dropped = Counter()
    kept = guards.balance([*loops, *rest], PairingArgs(fault_share=0.5, contrast_share=0.125), dropped)
    # one contrast of eight pairs; of these eight at most four for one fault
    assert [one.id for one in kept] == ["p2", "p3", "p4", "p5", "p6", "p7"]
    assert dropped == {"share of contrasts is full": 1, "share of repetition is full": 2}
    assert guards.balance([*loops, *rest], PairingArgs(), Counter()) == [*loops, *rest]


def test_chosen_candidates_are_capped_whatever_their_origin():
    curated = [replace(pair(n), chosen_by="reference") for n in range(9)]
    own = [replace(pair(n, margin=n / 100, origin=origin), chosen_by="temperature=1") for n, origin in
           ((10, "repair"), (11, "contrast"), (12, "synthetic"), (13, "repair"))]  # fmt: skip
    dropped = Counter()
    kept = guards.balance([*curated, *own], PairingArgs(candidate_share=0.1), dropped)
    assert [one.id for one in kept] == [*(one.id for one in curated), "p13"] and dropped == {"share of candidates is full": 3}
    assert len(guards.balance([*curated, *own], PairingArgs(candidate_share=0.25), Counter())) == 12
    assert guards.balance(own, PairingArgs(candidate_share=0.5), Counter()) == []  # no curated answer beside them


def test_the_builder_fills_the_shares_and_writes_everything(tmp_path):
    tasks = [
        PromptRow(f"t{n}", user(f"{n}번째 궁궐은 어디에 있나요?"), f"{n}번째 궁궐은 언덕 위에 있습니다. {OTHER}")
        for n in range(12)
    ]
    drawn = {
        task.id: [
            Candidate("greedy", "greedy", f"{task.id} {LOOP}", False, 9),
            Candidate("warm", "temperature=1", f"{task.id[1:]}번째 궁궐은 산 밑에 있어요. {GOOD}", True, 9),
        ]
        for task in tasks[:8]
    }
    args = PairingArgs(synthetic_share=0.1, curated_share=0.4, reference_share=0.0)
    built = build_pairs(tasks, drawn, JudgesArgs(), args, tmp_path, PromptIndex([]), tasks)
    origins = Counter((one.origin, one.chosen_by) for one in [*built.train, *built.held_out])
    assert origins == {("repair", "temperature=1"): 8, ("synthetic", "temperature=1"): 2, ("synthetic", "reference"): 6}
    curated = [one for one in [*built.train, *built.held_out] if one.chosen_by == "reference"]
    without_a_pair = {str(task.prompt) for task in tasks[8:]}
    assert without_a_pair <= {str(one.prompt) for one in curated}  # those first
    rows = list(read_jsonl(tmp_path / "judgements.jsonl"))
    assert len(rows) == 16 and set(rows[0]["judges"]) == {"naturalness", "variety", "reference"}
    assert rows[0]["judges"]["naturalness"]["reason"].startswith("repetition: ")
    assert len(list(read_jsonl(tmp_path / "train.jsonl"))) == len(built.train)
    assert built.summary["pairs"] == 16 == len(built.train) + len(built.held_out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.jsonl", "eval.jsonl", "judgements.jsonl", "train.jsonl"]
    best = list(read_conversations(tmp_path / "best.jsonl"))
    assert [row["messages"] for row in best] == [task.prompt + said(drawn[task.id][1].text) for task in tasks[:8]]
    assert {(row["source"], row["group"]) for row in best} == {("own_answers", "temperature=1")}
    assert built.summary["best"] == 8
    again = build_pairs(tasks, drawn, JudgesArgs(), args, tmp_path, PromptIndex([]), tasks)
    assert again.train == built.train  # the same seed, the same spoilt copies


def test_given_pairs_of_any_shape_join_and_those_of_one_prompt_stay_on_one_side(tmp_path):
    rows = [{"question": f"{n // 2}번 궁궐은 어디에 있나요?", "chosen": GOOD, "rejected": f"{n} {LOOP}"} for n in range(20)]
    rows.append({"question": "시험에 나오는 질문인가요?", "chosen": GOOD, "rejected": LOOP})
    write_jsonl(tmp_path / "mine.jsonl", rows)
    given = given_pairs([str(tmp_path / "mine.jsonl")])
    assert (
        given[0].origin == "given"
        and given[0].chosen_score > given[0].rejected_score
        and "repetition" in given[0].rejected_faults
    )
    held_out = PromptIndex(["시험에 나오는 질문인가요?"])
    built = build_pairs([], {}, JudgesArgs(), PairingArgs(eval_share=0.2), tmp_path, held_out, extra=given)
    assert built.summary["origin"] == {"given": 20}
    sides = [{str(pair.prompt) for pair in pairs} for pairs in (built.train, built.held_out)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
