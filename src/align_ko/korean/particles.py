"""Particles whose form does not fit the syllable before (사과을, 책를), and a few certain misspellings."""

from __future__ import annotations

import re
from typing import NamedTuple

from align_ko.korean import tagger


class WrongParticle(NamedTuple):
    start: int
    end: int
    right: str


RIGHT = {"은": "는", "는": "은", "이": "가", "가": "이", "을": "를", "를": "을", "과": "와", "와": "과"}
_OPEN = "".join(chr(code) for code in range(0xAC00, 0xD7A4, 28))  # 가, 개, 갸 …: syllables without a final consonant
# An eojeol that ends in the wrong one of a pair: open syllable + 은/이/을/과, closed syllable + 는/가/를/와.
_MISFIT = re.compile(  # read from the particle back: few syllables are one, and a long word is read once
    rf"[은이을과는가를와](?![가-힣])(?:(?<=[{_OPEN}][은이을과])|(?<=[가-힣][는가를와])(?<![{_OPEN}][는가를와]))"
)
_WORD_END = re.compile(r"(?:[^가-힣]|^)([가-힣]{2,32})$")
# Frequent words that only look so: verbs (찾는, 나을) and nouns (국가, 차이, 효과). The rest is asked of Kiwi.
_VERB_STEM = (
    "있없않찾뽑맞받먹얻돕끓겪갖읽남막넘듣쫓찍웃섞익삼짓묻믿닫걷싣닦깎볶묶낚꺾놓넣좋쌓앉얹많잃앓끊뚫핥"
    "훑밟굶닮옮긁늙붉맑밝벗씻빗솟뺏앗잊늦젖찢맺꽂짖뜯뻗집잡접입씹뱉맡붙같덮갚엎숨참춤뿜담잠싶"
)
_VERB = re.compile(rf"[가-힣]*[{_VERB_STEM}]는")
_LOOK_ALIKES_TEXT = (
    "나은 나을 지은 지을 부은 부을 가을 마을 노을 고을 한가을 늦가을 차이 나이 사이 아이 "
    "파이 와이파이 기꺼이 가까이 에세이 고양이 디스플레이 어린아이 놀이 "
    "증가 평가 국가 작가 물가 단가 길가 첨가 감가 장가 추가 휴가 불가 참가 허가 인가 "
    "원가 정가 특가 고가 저가 시가 주가 가가 전문가 자본가 기업가 철학가 음악가 사업가 "
    "예술가 혁명가 활동가 "
    "정치가 소설가 투자가 건축가 번역가 작곡가 역사가 미식가 발명가 탐험가 운동가 평론가 "
    "만화가 영양가 언젠가 누군가 무언가 어딘가 뭔가 인가 것인가 그런가 소비자물가 "
    "사과 효과 결과 교과 다과 학과 초과 통과 내과 외과 성과 경과 투과"
)
_LOOK_ALIKES = frozenset(_LOOK_ALIKES_TEXT.split())
_COPULA = re.compile(r"(?<![가-힣])([가-힣]{1,30})이예요(?![가-힣])")
_MOST = 40
_CASE_TAGS = ("JK", "JX", "JC")
_SPELLING = {
    re.compile(r"(?<![가-힣])되요(?![가-힣])|(?<=[가-힣])되요(?![가-힣])"): "돼요",
    re.compile(r"됬"): "됐",
    re.compile(r"(?<![가-힣])몇일"): "며칠",
    re.compile(r"(?<![가-힣])않(?= [가-힣])"): "안",
    # who somebody is, never a means
    re.compile(
        r"(?:(?<=생님으|학생으|회원으|직원으|국민으|시민으|사람으|인간으|자식으|가족으)로써|(?<=부모|교사|대표)로써)(?![가-힣])"
    ): "로서",
    re.compile(r"(?<=[가-힣])께요(?![가-힣])(?<=할께요|볼께요|갈께요|줄께요|릴께요|을께요)"): "게요",
}
# What every hit of a pattern holds: no text without it is searched.
_SPELLING_SIGNS = {"돼요": "되요", "됐": "됬", "며칠": "몇일", "안": "않 ", "로서": "로써", "게요": "께요"}


def wrong_particles(text: str) -> list[WrongParticle]:
    """`책를 읽고 사과을 먹었어요` → (1, 2, 을), (8, 9, 를)."""
    found = [
        WrongParticle(m.start(), m.end(), right)
        for pattern, right in _SPELLING.items()
        if _SPELLING_SIGNS[right] in text
        for m in pattern.finditer(text)
    ]
    found += [
        WrongParticle(m.end() - 3, m.end(), "이에요" if _closed(m.group(1)) else "예요")
        for m in (_COPULA.finditer(text) if "이예요" in text else ())
        if not _ends_in_i(m.group(1))
    ]
    asked = 0
    for match in _MISFIT.finditer(text):
        whole = _WORD_END.search(text, max(0, match.end() - 33), match.end())
        word = whole[1] if whole else ""
        if not word or word in _LOOK_ALIKES or _VERB.fullmatch(word):
            continue
        asked += word[-1] != "를"
        if asked > _MOST:  # word salad: enough is known
            break
        if word[-1] == "를" or _is_particle(text, match.end() - len(word), match.end()):
            found.append(WrongParticle(match.end() - 1, match.end(), RIGHT[word[-1]]))
    return sorted(found)


def _closed(word: str) -> bool:
    return (ord(word[-1]) - 0xAC00) % 28 > 0


def _ends_in_i(noun: str) -> bool:
    """Is `noun` + 이 a word itself? 놀 → True (놀이예요 is right), 민준 → True (a name), 책 → False (책이에요)."""
    found = tagger.tags(noun + "이를")
    return len(found) < 2 or found[-2][1].startswith("N") or found[-2][1] == "XSN"


def _is_particle(text: str, start: int, end: int) -> bool:
    """Is the last syllable of `text[start:end]` a particle, in Kiwi's eyes? `차이` alone is a noun, `사과이` is not.

    Half a line on both sides is context enough. Both forms are read, as it stands and put right: a verb such as 나을
    gets worse when it is changed, a wrong particle gets better.
    """
    left = text.rfind("\n", 0, start) + 1
    left = max(left, text.find(" ", max(left, start - 24), start) + 1)
    stop = text.find("\n", end)
    right = min(len(text) if stop < 0 else stop, end + 16)
    before, word, after = text[left:start], text[start:end], text[end:right]
    fixed = word[:-1] + RIGHT[word[-1]]
    if not tagger.ends_in(before + fixed + after, len(before) + len(fixed), _CASE_TAGS):
        return False
    return tagger.fit(before + fixed + after) - tagger.fit(before + word + after) > _MARGIN


_MARGIN = 2.0  # 97.8 % of flips found and no false hit in 220,000 words of answers judged 9 or 10
