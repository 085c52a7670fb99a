"""How a Korean sentence ends: rules that name its speech level.

Endings are matched on decomposed letters (NFD), so that `ᆸ니다` covers 합니다, 입니다 and 갑니다.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from unicodedata import normalize

from align_ko.korean.tagger import noun_before_yo


def _nfd(pattern: str) -> re.Pattern[str]:
    """No [classes] of syllables here: decomposed, a class would match single letters."""
    return re.compile(normalize("NFD", pattern))


def _any_of(endings: str) -> str:
    return "(?:" + "|".join(endings.split()) + ")"


TAIL = re.compile(  # read backwards, from the end: so it is looked for once, not from every sign on
    r"(?:[)）][^()（）]*[(（]|[\s.,!?…。~^\-;:)\]}>\"'”’*_♡♥★☆=/\\|ㄱ-ㅎㅏ-ㅣ@$\U0001F000-\U0001FAFF☀-➿\ufe0f\u200dー〜～])+"
)
_HAPSYO = _nfd(
    _any_of(
        "ᆸ니다 ᆸ니까 ᆸ니당 ᆸ니닷 ᆸ니다만 십시오 십시요 십쇼 ᆸ시다 ᆸ시당 ᆸ디다 ᆸ디까 싶니까 ᆸ죠 니다욥 "
        "ᆸ니더 ᆸ니꺼 ᆸ시더 오이소 하이소 가이소 보이소 주이소"  # 경상도
    )
    + "$"
)
_VERBAL = (  # what may stand before 요 when it closes a predicate
    "어 아 여 해 에 예 네 까 나 지 데 게 래 대 걸 군 구 고 죠 든 니까 든지 려고 라고 "
    "다고 냐고 자고 라며 다며 는지 ᆫ지 ᆯ지 서 면 ᅢ ᅥ ᅧ ᅯ ᅦ ᅫ ᅬ 와 봐 놔 "
    "ᆫ가 은가 는가 던가 거든 텐데 라니까 다니까 몰라 놀라 자라 바라 달라 올라 골라 빨라 말라 잘라 지마 지 마"
)
_YO = _nfd(rf"(?:{_any_of(_VERBAL)}요|죠|쥬)$")
_CHATTY_YO = _nfd(  # 했어여, 해용, 네염; 했어유, 오랜만이네예
    rf"(?:{_any_of('어 아 ᆻ어 해 에 예 세 네 데 까 나 게 죠 지 고 구 려 봐 와 줘 돼')}{_any_of('여 용 염 욤 욥')}"
    rf"|{_any_of('ᆻ어 해 세 네 데 까 게 지 ᆻ슈 구먼')}유|{_any_of('ᆻ어 해 네 지 이라')}예)$"
)
_BARE_YO = _nfd("요$")
# 거여, 하나여, 내용, 사용: dialect and nouns, not a chatty 요.
_NOT_CHATTY = re.compile(
    r"(?:거여|게여|하나여|[가-힣](?:내|사|이|적|활|비|고|허|수|인|채|남|겸|공|관|응|운"
    r"|착|효|유|무|미|조|포)용|기여|참여|부여|수여)$"
)
_NOUN_YO = re.compile(
    r"(?:^|\s)(?:불?필요|중요|주요|수요|개요|동요|민요|대중가요|인기가요|강요|소요|담요"
    r"|고요|요요|긴요)$"
)
# King and scholar talk: 짐은 안무가요 is 하오체, 저는 안무가요 is not.
_OLD_CUE = re.compile(
    r"(?:^|\s)(?:짐[은이의을도]|짐 또한|짐에게|소인[은이의을도]|허나|허면|과인|그대[는가의]"
    r"|본디|참으로)(?:\s|$)|[을할될갈볼일] 테요|바요$"
)
_OLD_SIGN = re.compile("짐|소인|허나|허면|과인|그대|본디|참으로|테요|바요")  # found sooner, and one is in every _OLD_CUE
# 나는 이 고을의 사또요: who says 나 does not say 사또예요.
_PLAIN_SELF = re.compile(r"(?:^|\s)(?:나는|내가|나의|나 또한|이 몸[은이])\s")
_OLD_END = re.compile(r"(?:[을할될갈볼일] 테요|바요)$")
_GOES = re.compile(r"(?:^|\s)(?:오?가|나가|들어가|가져가|데려가|챙겨가|떠나가|올라가|내려가|지나가|돌아가|걸어가|들고가)요$")
_BEFORE_O = "뀌 쉬 뛰 꾸 끄 누 두 키 끼 하 이 시 우 주 가 되 보 르 으 치 지 기 추 쓰 크 뜨 나 서 러 스 마 드 싸 사 타"
_BEFORE_SO = "ᆻ ᆹ ᇂ ᆭ ᆶ ᆽ ᆮ 같 싶 ᆲ ᇁ ᆰ ᆬ ᆱ ᆩ ᆾ 렵 럽 웁 춥 덥 쉽 맵 겁 깝 먹 죽 웃 벗"
_HAO = _nfd(rf"(?:{_any_of(_BEFORE_SO)}소|{_any_of(_BEFORE_O)}오|구려|더이다|리이다|나이다|소서|와요|(?:하|되|리)리다)$")
_NOT_HAO = re.compile(r"(?:[디리]오|카카오|토마토|마리오|(?<![이가] )아니오|십시오|바이오|하이오)$")
_HAGE = _nfd(  # not every ᆫ가 and ᆫ고: 전문가, 평론가, 단가, 신고, 원고
    _any_of(
        "다네 라네 (?<![ᄀ-ᇿ])자네 는가 던가 은가 게나 ᆷ세 ᆯ세 (?<!녕)하세 도다 노라 로다 느니라 이니라 리라 네그려 구먼그려 는고"
    )
    + rf"$|{_any_of('인 닌 한 큰 뭔 건 런 쁜 운 찬 힘든 진 픈 센 린 신 긴 겐 텐')}가$|{_any_of('인 닌 한 큰 뭔 런')}고$"
)
_NOT_HAGE = re.compile(r"(?:사진가|혁신가|(?<![가-힣])진가)$")
_GE = _nfd("(?<!ᆯ)게$")
_HAGE_CUE = re.compile(r"(?:^|\s)(?:자네|이보게|여보게)|네(?:그려)?,")  # 나는 이만 가겠네, 몸조심하게
_DA = _nfd(r"[ᅡ-ᅵᆨ-ᇂ]다$")
_TOLD_TO = _nfd("(?:[ᆨ-ᇂ]단다|는단다|(?<!자)(?<!바)(?<!놀)란다)$")  # 장가간단다; 나무가 자란다 is neutral
# 가자, 와라, 갔니; 몰라, 빨라, 걱정 마 are 해체.
_HAERA = _nfd(
    "(?:냐|(?<!아)니|(?<=[ᅡ-ᇂ])자|렴|려무나|구나|더라|(?<!ᆯ)라|"
    + _any_of("으 하 주 가 오 보")
    + "마|"
    + _any_of("ᆻ 하 가 오 이")
    + "노)$"
)
# Endings that no noun shares.
_SURE_PLAIN = _nfd(
    _any_of(
        "ᆻ어 있어 없어 싶어 겠어 않아 같아 좋아 많아 잖아 거야 이야 아니야 뭐야 야 해 줘 "
        "돼 봐 봬 둬 놔 ᅯ 쳐 져 켜 껴 냐 려무나 렴 구나 구먼 구만 당께 랑께 거든 거든요 ᆯ게 ᆯ래 ᆯ걸 ᆯ까 "
        "니깐 이지 ᆻ지 하지 ᆻ네 하네 있네 없네 좋네 같네 겠네 이네 하자 ᆻ니 하니 있니 없니 "
        "않니 해라 하라 줘라 어라 너라 마라 지\\s?마 걱정\\s?마 주라 줄래 "
        "맞아 알아 몰라 나빠 뻐 고파 아파 바빠 보여 어려워 쉬워 걸려 ᆻ나 있나 없나 려나 "
        "ᆻ군 하군 는군 어때 그래 저래 이래 안돼 "
        "거양 거얌 ᆻ엉 ᆻ넹 ᆻ징 하징 잖앙 하넹 이넹 하삼 오삼 주삼 시삼 "  # chatty
        "[ᆨ-ᇂ]어 [ᆨ-ᇂ]아 되어 뛰어 쉬어 튀어"
    )
    + "$"
)
_NOT_PLAIN = re.compile(
    r"(?:(?<![가-힣])(?:통해|위해|대해|의해|인해|피해|이해|오해|방해|올해|새해|지난해|동해|서해|남해|견해|항해|공해"
    r"|저해|손해|유해|무해|재해)|(?:을|를)(?:통해|위해)|몰이해|전문가|큰 피해"
    r"|(?:^|[한된는] )(?:남아|여아)"
    r"|언어|단어|용어|영어|국어|한국어|외국어|중국어|일본어|연어|상어|문어|방어"
    r"|분야|(?<![가-힣0-9])(?<![한두세네섯곱덟홉열0-9] )시야|광야|강아|유아|육아|아시아|리아|니아|코리아|미디어|소프트웨어"
    r"|하드웨어|아이디어|드라마|엄마|해마|고구마|다만|다시마|치마|하마|여름밤|서아|시아|자아"
    r"|기아|치아|태아|소아|동아|초아|샤워|타워|파워|플라워|질투마|아마|데이터|웨어|티어|퀴즈야)$"
)
# Endings that nouns share (강아지, 동네, 어머니, 사자, 나라).
_UNSURE_PLAIN = _nfd(
    _any_of(
        "도록 라고 다고 길 다만 더라 까나 던데 는데 은데 ᆫ데 텐데 으면 걸로 루 싶 고파 달라 "
        "다오 더라고 마 지 네 니 자 라 나 데 게 래 대 걸 군 까 고 서 와 가 려 여 해 써 "
        "러 꺼 커 떠 려고 니까 면서 며 든지 어 아 이양 이얌 이징 ᆻ노 하노 가노 오노 이노"
    )
    + "$"
)
_HANGUL = re.compile("[가-힣]")
_KOREAN = re.compile("[가-힣ᄀ-ᇿ]")
_INNER_YO = (
    "어 아 여 해 세 네 까 나 예 에 지 데 ᆯ게 거든 군 래 대 니까 고 구 ᅢ ᅥ ᅧ ᅯ ᅦ ᅫ ᅬ 와 봐 놔 ᆫ가 은가 는가 던가 좀 마 바라 몰라 들어가"
)
_POLITE_WORD_ENDS = tuple(
    normalize("NFD", f"ᆸ니다 ᆸ니까 십시오 십쇼 ᆸ시다 ᆸ시죠 죠 {' '.join(end + '요' for end in _INNER_YO.split())}").split()
)
# 좋아요 is also the name of a button; 가요 of a kind of song; 안녕하세요 opens plain talk too.
_NAMES = re.compile(r"좋아요|인기가요|대중가요|안녕하세요|하세요체|해요체")
_INNER_VERBS = (
    "해줘 줘 줄래 하지마 지마 마라 봐 주라 해라 냐 ᆻ어 있어 없어 싶어 겠어 않아 거야 이야 야 뭐지 언제지 어디지 이지 "
    "건지 하니 있니 겠니 ᆻ니 알아 몰라 고마워 돼 됨 함 ᆻ음 있음 없음 던가 하자 ᆫ다 는다 ᆻ다 해 둬 놔 ᆯ게 ᆯ래 ᆯ까 려나 ᆫ가 "
    "어때 "
    "해봐 잖아 챙겨 려줘 좀 줘라 말아라 말지 어라 아라 빼라 되니 많니 인지 더라 더라고 있닝 궁금해 궁금하네 알려달라"
)
_PLAIN_WORD_ENDS = tuple(normalize("NFD", _INNER_VERBS).split())
_WORD_BREAK = re.compile(r"[\s,.!?~…]")
_WORD_BREAK_OR_COLON = re.compile(r"[\s,.!?~…:;)]")
_INNER_PLAIN = _nfd(r"(?:ᆻ|거|게|ᆭ|ᆹ|이|ᆻ었|지)지(?=\s)(?!\s?(?:않|못|말|마))|지 ?마(?=\s)|수 있나(?=\s)|뭐(?:지|니|냐)\s")


def _at_end(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    """Does it match the decomposed tail? Tails come again and again, so each is decomposed and searched once."""

    @lru_cache(maxsize=32768)
    def fits(tail: str) -> bool:
        return pattern.search(normalize("NFD", tail)) is not None

    return fits


_is_hapsyo, _is_yo, _is_bare_yo, _is_chatty_yo = map(_at_end, (_HAPSYO, _YO, _BARE_YO, _CHATTY_YO))
_is_hao, _is_hage, _is_ge, _is_da = map(_at_end, (_HAO, _HAGE, _GE, _DA))
_is_sure_plain, _is_unsure_plain, _is_haera, _is_told = map(_at_end, (_SURE_PLAIN, _UNSURE_PLAIN, _HAERA, _TOLD_TO))
_LONGEST = 16  # patterns that end in $ are looked for in so many letters: no alternative is longer
_CLOSERS = " .,!?…。~:;*\"'”’"  # each of them also in TAIL


def without_tail(sentence: str) -> str:
    """The sentence up to its last letter: `그래요? (웃음)` → `그래요`."""
    text = sentence.rstrip(_CLOSERS)
    # Behind a syllable there is no bracket left to take off.
    if text and "가" <= text[-1] <= "힣":
        return text
    tail = TAIL.match(sentence[::-1])
    return sentence[: len(sentence) - tail.end()] if tail else sentence


def plain_inside(sentence: str) -> bool:
    """Does a plain predicate stand inside? `알려줘 가장 큰 나라` → True."""
    text = without_tail(sentence)
    return not _NOT_PLAIN.search(text) and _holds_plain(_letters(text))


def _holds_polite(letters: str) -> bool:
    return any([word.endswith(_POLITE_WORD_ENDS) for word in _WORD_BREAK_OR_COLON.split(letters)])


def _holds_plain(letters: str) -> bool:
    return any([word.endswith(_PLAIN_WORD_ENDS) for word in _WORD_BREAK.split(letters)]) or bool(_INNER_PLAIN.search(letters))


def ends_like_noun(sentence: str) -> bool:
    """`음식을 통해`, `우리 아이디어`: in 해체 shape, but no predicate."""
    return bool(_NOT_PLAIN.search(without_tail(sentence)))


def bare_ge(sentence: str) -> bool:
    """`어서 앉게`, but also the adverb: `고양이는 자유롭게`."""
    return _is_ge(without_tail(sentence)[-2:])


def _letters(text: str) -> str:
    """Decomposed, without the names of buttons and songs, as far as the end of a long text."""
    return normalize("NFD", _NAMES.sub("", text if len(text) < 400 else text[-400:]))


def ending_level(sentence: str, *, note: bool = False) -> tuple[str, bool]:
    """(level, sure) of one sentence; see `sentence_level`. In a note only polite speech and what is sure is looked for."""
    # Most sentences end so, and syllables with the coda ᆸ are every 28th from 갑 on.
    if (
        sentence.endswith("니다.")
        and len(sentence) > 3
        and (ord(sentence[-4]) - ord("갑")) % 28 == 0
        and "가" <= sentence[-4] <= "힣"
    ):
        return "hapsyo", True
    text = without_tail(sentence)
    if not _KOREAN.search(text):
        return "unknown", True
    if text in ("네", "예", "아니요", "넵", "아니오", "그러니", "그러니까", "그래서", "아니") or text.endswith(
        ("이보게", "여보게", "얘들아")
    ):
        return "fragment", True
    tail, near = text[-6:], max(0, len(text) - _LONGEST)
    if _is_hapsyo(tail):
        return "hapsyo", True
    if _NOUN_YO.search(text, near):
        return "fragment", True
    if _is_bare_yo(tail):
        sure = _is_yo(tail)
        old = _OLD_SIGN.search(text) and _OLD_CUE.search(text)
        if old and (_OLD_END.search(text, near) or not (sure or _GOES.search(text, near)) or noun_before_yo(text)):
            return "hao", True
        if not sure and _PLAIN_SELF.search(text) and noun_before_yo(text):
            return "hao", True
        return "haeyo", sure
    if _is_chatty_yo(tail) and not _NOT_CHATTY.search(text, near):
        return "haeyo", True
    if text[-1] in "소오려다서요" and _is_hao(tail) and not _NOT_HAO.search(text, near):
        return "hao", True
    if text[-1] in "네가나세다라고려" and _is_hage(tail):
        return ("hage", True) if not _NOT_HAGE.search(text) else ("fragment", True)
    if (_is_ge(tail) or text[-1] == "세") and _HAGE_CUE.search(text):
        return "hage", True
    if len(text) > 1 and _is_da(tail):
        if text.endswith("보다") and _holds_polite(_letters(text)):  # 늦으면 안 됩니다 시작 시간보다
            return "haeyo", True
        return ("haera" if _is_told(tail) else "neutral"), True
    noun = _NOT_PLAIN.search(text, near)
    if not noun and _is_sure_plain(tail):
        return ("haera" if _is_haera(tail) else "hae"), True
    letters = _letters(text)
    # Turned-round order: the predicate stands inside. 원목인가요 플라스틱인가요 다용도 선반이
    if _holds_polite(letters):
        return "haeyo", True
    if note:
        return "fragment", True
    if not noun and _is_unsure_plain(tail):
        return ("haera" if _is_haera(tail) else "hae"), False
    if not noun and _holds_plain(letters):
        return "hae", False
    return ("fragment" if _HANGUL.search(text) else "unknown"), True
