"""Verifiers of demands: one answer that each accepts, one that it refuses, and how Korean is counted."""

import pytest

from align_ko.errors import UserError
from align_ko.korean.demands import VERIFIERS, is_met, list_items, reward, unmet

CASES = [  # demand, arguments, accepted, refused
    ("items", {"count": 2}, "두 가지입니다.\n1. 물\n2. 소금", "1. 물"),
    ("items", {"count": 2}, "물\n소금", "물, 소금"),
    ("items", {"count": 2}, "- 물\n  - 찬물\n  - 더운물\n- 소금", "- 물\n- 찬물\n- 소금"),
    ("items", {"count": 2}, "**1. 물**\n맑습니다.\n**2. 소금**\n짭니다.", "**1. 물**\n맑습니다."),
    ("items", {"at_least": 2, "at_most": 3}, "① 물\n② 소금\n③ 기름", "① 물\n② 소금\n③ 기름\n④ 깨"),
    ("items", {"count": 2, "marker": "number"}, "1) 물\n2) 소금", "- 물\n- 소금"),
    ("items", {"count": 2, "marker": "number"}, "(1) 물\n(2) 소금", "1. 물\n1. 소금"),
    ("items", {"count": 2, "marker": "bullet"}, "• 물\n• 소금", "1. 물\n2. 소금"),
    ("items", {"count": 2, "marker": "bullet"}, "- 물\n- 소금", "물\n소금"),
    ("sentences", {"count": 2}, "물은 3.5리터 필요합니다. 충분해요!", "물이 필요합니다. 충분해요! 그렇죠?"),
    ("sentences", {"count": 1}, "그는 “가자. 어서 가자.”라고 말했습니다.", "# 제목\n| 표 | 값 |"),
    ("sentences", {"at_most": 2}, "- 물을 끓여요.\n- 불을 꺼요.", "물을 끓여요. 불을 꺼요. 끝이에요."),
    ("characters", {"at_most": 4}, " 물과 불 \n", "물과 불은"),
    ("characters", {"count": 3, "spaces": False}, "물과 불", "물 불"),
    ("characters", {"at_least": 4}, "물과 불", "물불"),
    ("words", {"count": 1}, "파리\n", "파리 시"),
    ("lines", {"count": 2}, "첫 줄\n\n둘째 줄", "한 줄"),
    ("paragraphs", {"count": 2}, "첫 문단\n이어서\n\n둘째 문단", "첫 문단\n둘째 문단"),
    ("level", {"level": "haeyo"}, "물을 끓여요. 다 됐죠?", "물을 끓여요. 다 됐습니다."),
    ("level", {"level": "hapsyo"}, "물을 끓입니다. 이제 불을 끄십시오.", "물을 끓입니다. 이제 불을 꺼요."),
    ("level", {"level": "plain"}, "물을 끓여. 다 됐으면 불을 꺼.", "물을 끓여. 다 됐으면 불을 끄세요."),
    ("level", {"level": "plain"}, "1. 물을 끓여.\n2. 불을 꺼.", "1. 물을 끓인다.\n2. 불을 끈다."),
    ("level", {"level": "written"}, "물은 100도에서 끓는다. 얼음은 녹는다.", "물은 100도에서 끓어. 얼음은 녹아."),
    ("level", {"level": "written"}, "- 정지선 앞에서 멈춘다.\n- 앞을 살핀다.", "- 정지선 앞에서 멈춰.\n- 앞을 살펴."),
    ("no_latin", {}, "중앙 처리 장치예요.", "씨피유(CPU)예요."),
    ("no_digits", {}, "일일구에 전화하세요.", "119에 전화하세요."),
    ("use", {"words": ["달", "우물"]}, "우물에 달이 비칩니다.", "달이 뜹니다."),
    ("use", {"words": ["달"], "count": 2}, "달아, 달아.", "달아."),
    ("use", {"words": ["달"], "at_least": 2}, "달아, 달아, 달아.", "달아."),
    ("avoid", {"words": ["맛있", "!"]}, "고소합니다.", "고소하고 맛있어요."),
    ("json", {"keys": ["이름", "나이"]}, '{"나이": 3, "이름": "콩이"}', '{"이름": "콩이"}'),
    ("json", {"keys": ["이름"]}, '```json\n{"이름": "콩이"}\n```', '결과입니다. {"이름": "콩이"}'),
    ("json", {"keys": ["이름"], "count": 2}, '[{"이름": "콩이"}, {"이름": "밤이"}]', '[{"이름": "콩이"}]'),
    ("json", {}, '["물", "소금"]', "['물', '소금']"),
    ("question", {}, "좋지요. 어디로 가세요? ", "어디로 가세요? 알려 주세요."),
    ("begin", {"text": "아니요"}, "\n아니요, 어류입니다.", "네, 아니요."),
    ("end", {"text": "감사합니다."}, "내일 뵙겠습니다. 감사합니다!", "감사합니다. 내일 뵙겠습니다."),
    ("choice", {"of": ["예", "아니요"]}, "아니요.", "아니요, 그렇지 않습니다."),
    ("order", {"words": ["봄", "여름"]}, "봄이 가면 여름이 와요.", "여름 전에 봄이 와요."),
    ("order", {"words": ["봄", "여름"]}, "봄이 가면 여름, 그리고 다시 봄", "봄이 왔어요."),
    ("sorted", {}, "- 감\n- 배\n- 포도", "- 감\n- 포도\n- 배"),
    ("sorted", {"by": "number", "descending": True}, "1. 한라산 1,947\n2. 설악산 1,708", "1. 설악산 1,708\n2. 한라산 1,947"),
    ("sorted", {"by": "number"}, "9월\n10월", "10월\n9월"),
    ("table", {"columns": 2, "rows": 1}, "표.\n| 값 | 값 |\n|:---|---:|\n| 물 | 1 |", "| 물 | 1 |\n| 불 | 2 |\n| 꿀 | 3 |"),
    ("table", {"columns": 2}, "이름 | 값\n--- | ---\n물 | 1", "| 이름 | 값 |\n|---|---|\n| 물 | 1 | 2 |"),
    ("table", {"columns": 2, "rows": 2}, "| 가 | 나 |\n|-|-|\n| 1 | 2 |\n| 3 | 4 |", "| 가 | 나 |\n|-|-|\n| 1 | 2 |"),
    ("initials", {"text": "바다"}, "바람이 불어요\n다 함께 걸어요", "바람이 불어요\n함께 걸어요"),
    ("initials", {"text": "바다"}, "바: 바람이 불어요\n\n다: 다 함께 걸어요", "바다로 가요"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "accepted", "refused"), CASES)
def test_each_verifier_accepts_and_refuses(name, arguments, accepted, refused):
    demand = {"demand": name, **arguments}
    assert (is_met(accepted, demand), is_met(refused, demand)) == (True, False)


def test_every_verifier_is_tested_and_refuses_nothing_said():
    assert {name for name, *_ in CASES} == set(VERIFIERS)
    allow = {"no_latin", "no_digits", "avoid", "sorted"}  # what says nothing uses nothing either
    empty = {name for name, arguments, *_ in CASES if is_met("", {"demand": name, **arguments})}
    assert empty - allow <= {"sentences", "characters"}  # at_most alone


def test_items_of_the_outermost_list():
    assert list_items("머리말\n1. 물\n   - 찬물\n2. 불\n\n맺음말") == ["1. 물", "2. 불"]
    assert list_items("물\n\n불") == ["물", "불"]


def test_a_wrong_demand_is_named():
    with pytest.raises(UserError, match=r"there is no demand 'item'; expected one of items, .*; did you mean 'items'\?"):
        is_met("네.", {"demand": "item"})
    for wrong, said in (({"count": "세"}, "count"), ({"cuont": 3}, "cuont"), ({"marker": "dot"}, "marker")):
        with pytest.raises(UserError, match=f"""demand 'items': {said}: .*expected {{"demand": "items", "count": 3}}"""):
            is_met("네.", {"demand": "items", **wrong})


def test_the_reward_is_the_share_of_demands_met():
    demands = [{"demand": "items", "count": 2}, {"demand": "no_latin"}]
    assert unmet("- A", demands) == demands
    answers = ["- 물\n- 불", [{"role": "assistant", "content": "- 물"}], "- A", "아무 말"]
    assert reward(answers, [demands, demands, demands, []], prompts=[]) == [1.0, 0.5, 0.0, 1.0]
