"""Answers that say nothing: a definition by the word itself, pure generalities, one sentence in several wordings.

All three are sought in short answers only (`_MOST` sentences), where nothing else makes up for it:

1. Circular: `중력은 물체에 작용하는 중력을 뜻합니다`, `하늘이 파란 이유는 하늘이 파랗기 때문입니다`.
2. Generalities: next to no word that the prompt or any other topic does not have, too: `다양한 방법이 있으며 …이 중요합니다`.
3. Paraphrase: the sentences after the first bring hardly a new content word; or two in a row open with 즉 and 다시 말해.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, islice, pairwise
from unicodedata import normalize

from align_ko.korean.prose import Sentence, Span
from align_ko.korean.words import GRAMMAR, HANGUL, ROOTS, Recall, roots_of, stem_root, syllables

_MOST = 8
_LONGEST = 700  # letters of the sentences together
_TOPIC = re.compile(r"\W*((?:[0-9A-Za-z가-힣]+ ){0,2}?[0-9A-Za-z가-힣]+?)(?:이란|란|은|는|이라는 것은|라는 것은)(?:,)? (?=\S)")
_MEANS = "(?:말|뜻|의미|가리키|가리켜|나타내)[가-힣]*"
_DEFINES = re.compile(  # every alternative opens with a letter, so re skips from letter to letter
    rf"(?:입니다|이에요|예요|이다|을 {_MEANS}|를 {_MEANS}"
    r"|라고 (?:합니다|해요|한다|부릅니다|불러요))[.!]*\W*$"
)
_DEFINED = ("말", "뜻", "의미", "가리", "나타")
_BECAUSE = re.compile(
    r"(?P<claim>.{4,60}?)(?:(?:이유|까닭)[은는]|(?:것|건)은) (?P<reason>.{4,60}?)(?:기|이기) 때문[가-힣]*\W*$"
)
_BECAUSE_FIRST = re.compile(r"(?P<reason>.{4,60}?)(?:기|이기) 때문에 (?P<claim>.{4,60}?)[.!]*\W*$")
_RESTATES = re.compile(r"\W*(?:즉|다시 말해서?|다시 말하면|다시 말하자면|바꿔 말하면|말하자면|달리 말하면),? ")
_RESTATES_SIGN = re.compile("즉|말해|말하")
_HOLLOW_TEXT = (  # nouns that a definition ends in: 성질을 말합니다
    "성질 현상 과정 제도 행위 상태 능력 활동 정도 개념 용어 단어 의미 존재 대상 형태 방식 종류 물체 물질 원소 사회 정치 "
    "경제 값입 값이 "
    "값 특성 기능 사람 나타 가리 말합 말하 말해 말이 뜻하 뜻합 의미 가지 발휘 실현 발생 느끼 이루 작용 공기 관련 일컫"
)
_HOLLOW = frozenset(_HOLLOW_TEXT.split())
_GENERAL_TEXT = (  # roots that fit any topic
    "다양 여러 가지 중요 역할 방법 상황 고려 자신 맞는 맞게 찾는 찾아 찾기 선택 노력 꾸준 결과 얻을 얻는 얻어 얻게 도움 "
    "관심 필요 "
    "요소 측면 방면 이해 영향 미치 미칠 미친 많은 많이 많습 좋은 좋습 좋고 좋아 우리 삶에 삶의 생활 사회 현대 존재 장단 "
    "올바 효과 효율 관리 매우 "
    "아주 정말 특히 각자 각각 각기 모두 항상 언제 적절 활용 문제 원인 이유 부분 분야 제공 긍정 부정 가능 이러 이를 이것 "
    "통해 통하 따라 "
    "다른 다릅 다르 사람 경험 기회 가치 의미 의의 큰 크게 주는 주며 줍니 줄 준비 계획 목표 성공 발전 향상 개선 변화 지속 "
    "기본 기반 바탕 "
    "바람 최선 만들 나은 나아 되도 해야 합니 하면 하여 위해 위한 있으 살펴 알아 관한 관련 수행 진행 시작 실천 습관 어렵 "
    "쉽게 점을 점이 면에 면이 "
    "하지 그러 그리 또한 따라 때문 물론 즐거 행복 소중 특별 아름 멋진 훌륭 추억 최고 완벽 핵심 필수 유익 유용 종류 형태 "
    "특징 장점 단점 맞 찾 좋 얻 많 면 삶 일 길 힘 되려"
)
_LIGHT = frozenset("줍니 줘요 주는 그래 일 필요 도움 좋습 해야 매우 정말 아주 가장 여러 다양 우리 것이 된다 됩니 합니".split())
_GENERAL = frozenset(_GENERAL_TEXT.split()) | GRAMMAR


def _key(word: str) -> str:
    """What forms of one word share: 파란 and 파랗기, 풀어 and 풀립니다; "" for grammar."""
    root = stem_root(word)[1]
    if not root or root in _LIGHT:
        return ""
    return normalize("NFD", root)[:4] if len(root) > 1 else root


_KEYS = Recall(_key)
_STEMS = Recall(lambda word: stem_root(word)[0])
_NAMED = re.compile("[0-9A-Za-z]+")
_WORD = re.compile(r"[0-9A-Za-z가-힣]+")


def _circular(said: str) -> bool:
    topic = _TOPIC.match(said)
    if topic and _DEFINES.search(said, topic.end()):
        name = topic[1].split(" ")
        rest = _WORD.findall(said[topic.end() :])
        stems = list(_STEMS.each(rest))
        for place in range(len(stems) - len(name) + 1):
            if all(a == b for a, b in zip(stems[place:], name, strict=False)) and len(name[-1]) > 1:
                others = {_key(word) for word in rest if not word.startswith(name[-1]) and stem_root(word)[1] not in _HOLLOW}
                after = len(stems) - place - len(name)
                last = after == 0 or (after == 1 and rest[-1].startswith(_DEFINED))  # 중력입니다, 중력을 뜻합니다
                if not (last or stem_root(rest[-1])[1] in _HOLLOW or rest[-1].startswith(("것", *_DEFINED))):
                    continue
                if (last and len(others - {""}) <= 4) or len(others - {""}) <= 2:
                    return True
        if len(name) == 1 and len(name[0]) >= 4:  # 민주주의: 민주적인 방식의 민주 정치
            stem = name[0][:2]
            again = [word for word in rest if word.startswith(stem)]
            others = {_key(word) for word in rest if not word.startswith(stem) and stem_root(word)[1] not in _HOLLOW} - {""}
            if len(again) >= 2 and len(others) <= 1:
                return True
    found = "때문" in said and (_BECAUSE.match(said) or _BECAUSE_FIRST.match(said))
    if not found:
        return False
    claim = {_key(word) for word in HANGUL.findall(found["claim"])} - {""}
    reason = {_key(word) for word in HANGUL.findall(found["reason"])} - {""}
    shared = claim & reason
    return bool(shared) and len(shared) >= min(len(claim), 2) and (reason <= claim or claim <= reason)


def says_nothing(text: str, parts: Sequence[Sentence], prompt: str | None = None) -> tuple[str, Span] | None:
    """("filler" or "repetition", where); None for most answers.

    `민주주의란 민주적인 방식으로 이루어지는 민주 정치를 말합니다.` → filler
    `물을 마시면 수분이 공급됩니다. 물은 수분을 공급해 줍니다. 물은 수분 공급에 필요합니다.` → repetition
    """
    said = [part for part in parts if part.kind in ("prose", "item")]
    for one, two in pairwise(said) if _RESTATES_SIGN.search(text) else ():
        if _RESTATES.match(one.text) and _RESTATES.match(two.text):
            return "repetition", Span(two.start, two.end)
    if not said or len(said) > _MOST or len(said) != len(parts) or len(text) > _LONGEST or "`" in text:
        return None
    whole = Span(said[0].start, said[-1].end)
    telling_parts = (part for part in said if not _circular(text[part.start : part.end]))
    if next(islice(telling_parts, len(said) // 2, None), None) is None:  # half of them, or more, are circular
        return "filler", whole
    prose = [part for part in said if part.kind == "prose" and part.text[-1] in ".!?"]
    if len(prose) < 2 or len(prose) < len(said):
        return None
    words = [syllables(part.text) for part in prose]
    asked = roots_of(prompt or "")
    roots = [root for root in ROOTS.each(chain.from_iterable(words)) if root]
    telling = {*roots} - _GENERAL - asked
    general = sum([root in _GENERAL for root in roots])
    if (
        len(telling) * 3 <= len(prose)
        and general >= max(8, 2 * len(prose))
        and set(_NAMED.findall(text)) <= set(_NAMED.findall(prompt or ""))
    ):
        return "filler", whole
    if _in_other_words(words):
        return "repetition", whole
    return None


def _in_other_words(words: Sequence[Sequence[str]]) -> bool:
    """Do the sentences after the first bring next to no new content word, while each brings back two of the first's?"""
    keys: list[set[str]] = []
    for sentence in words:
        own = set(_KEYS.each(sentence)) - {""}
        if not own:
            continue
        keys.append(own)
        if len(keys[0]) < 2 or sum([len(later & keys[0]) < 2 for later in keys[1:]]) > 1:
            return False
    if len(keys) < 3:
        return False
    known, opened = set(keys[0]), {key[:3] for key in keys[0]}
    rest = len(keys) - 1
    if sum([len(each & known) >= 2 for each in keys[1:]]) < rest - (rest > 3):
        return False
    in_all = len(known.intersection(*keys))
    new = 0.0
    for each in keys[1:]:
        new += sum(0.5 if key[:3] in opened else 1.0 for key in each - known)  # 풀립니다, 풀어
        known |= each
        opened |= {key[:3] for key in each}
    return new <= (1.0 if rest > 2 and in_all > 1 else 0.5) * rest
