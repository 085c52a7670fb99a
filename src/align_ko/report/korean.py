"""Korean for what Python says in English: names of codes (names.yaml), and the sentences of reasons.py."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import yaml

from align_ko import reasons
from align_ko.turns import kind_of


def load_yaml(name: str) -> dict[str, dict[str, str]]:
    """Words of the reports, from the folder of templates."""
    words: dict[str, dict[str, str]] = yaml.safe_load(files("align_ko.report").joinpath("templates", name).read_bytes())
    return words


NAMES = load_yaml("names.yaml")
FAULT_NAMES = NAMES["fault"]
PAIR_FAULT_NAMES = FAULT_NAMES | NAMES["pair_fault"]
REASON_NAMES = FAULT_NAMES | NAMES["reason"]
NAMES |= {"pair_fault": PAIR_FAULT_NAMES, "reason": REASON_NAMES}

# {0:name} and {0:counts}: see _Value. A template is tried after those above it.
SENTENCES = {
    reasons.BAD_JSON_AT: "올바른 JSON이 아닙니다({1}번째 글자).",
    reasons.BAD_JSON: "올바른 JSON이 아닙니다.",
    reasons.NO_JSON: "JSON으로 읽을 수 없습니다.",
    reasons.NOT_TEXT_AT: "이 파일의 인코딩으로 읽을 수 없는 바이트가 있습니다({0}번째 글자).",
    reasons.NOT_TEXT: "이 파일의 인코딩으로 읽을 수 없는 바이트가 있습니다.",
    reasons.AFTER_ARRAY: "JSON 배열이 끝난 뒤에 텍스트가 더 있습니다.",
    reasons.CUT_ARRAY: "배열이 끝나기 전에 파일이 끝납니다. 잘린 파일입니다.",
    reasons.BAD_CSV: "올바른 CSV가 아닙니다.",
    reasons.FIELDS: "필드 수가 머리글과 다릅니다.",
    reasons.OPEN_QUOTE: "따옴표가 그 줄 안에서 닫히지 않았습니다.",
    reasons.HEADER_AGAIN: "머리글이 한 번 더 나옵니다.",
    reasons.BAD_PARQUET: "Parquet 파일로 읽을 수 없습니다.",
    reasons.BAD_ARROW: "Arrow 파일로 읽을 수 없습니다.",
    reasons.BAD_VALUE: "읽을 수 없는 값이 있습니다.",
    reasons.ROW_IS: "행이 객체가 아니라 {0:name}입니다.",
    reasons.VALUE_IS: "'{0}' 값이 텍스트가 아니라 {1:name}입니다.",
    reasons.NO_LIST: "'{0}'에 목록이 없습니다.",
    reasons.LIST_IS: "'{0}' 값이 목록이 아니라 {1:name}입니다.",
    reasons.MESSAGE_IS: "{0}번째 메시지가 객체가 아니라 {1:name}입니다.",
    reasons.NO_ROLE: "{0}번째 메시지에 역할(role)이 없습니다.",
    reasons.PART_IS: "{0}번째 메시지의 내용에 텍스트가 아닌 부분({1})이 있습니다.",
    reasons.TOOL_CALL: "{0}번째 메시지는 도구를 호출하며, 내용이 텍스트가 아니라 {1:name}입니다.",
    reasons.CONTENT_IS: "{0}번째 메시지의 내용이 텍스트가 아니라 {1:name}입니다.",
    reasons.IS_PAIR: "선호 쌍입니다. 선호 쌍은 쌍을 만드는 단계와 DPO에서 읽습니다.",
    reasons.NO_ADAPTER: "알려진 형식에 맞는 키가 없습니다({0}). 레시피의 columns에 열 이름을 적어 주세요.",
    reasons.NO_KEY: "'{0}' 키가 없습니다.",
    reasons.ROW_WEIGHT: "행의 weight가 0입니다.",
    reasons.ANSWER_WEIGHTS: "모든 답변의 weight가 0입니다.",
    reasons.NO_GROUP: "출처 {0}의 그룹이 정해져 있지 않습니다. 레시피의 groups에 넣어 주세요.",
    # filters
    reasons.NO_TURN: "사용자 발화도 답변도 없습니다.",
    reasons.WRONG_TURN: "{0}번째는 {2:name} 차례인데 {1:name} 발화가 왔습니다.",
    reasons.NO_ANSWER: "마지막 사용자 발화에 답변이 없습니다.",
    reasons.SAYS_NOTHING: "{0}번째 발화({1:name})에 글자도 숫자도 없습니다.",
    reasons.TOO_SHORT: "{0:name}이 {1}자입니다. {2}자 이상이어야 합니다.",
    reasons.TOO_LONG: "{0:name}이 {1}자입니다. {2}자 이하여야 합니다.",
    reasons.SWEARS: "욕설 목록에 있는 말이 나옵니다: {0}",
    reasons.REFUSES: "거절할 이유가 없는데 거절합니다. …{0}…",
    reasons.LEAKS: "{0}번째 발화({1:name})에 형식 토큰이 들어 있습니다: {2}",
    reasons.SHARES_NO_WORD: "{0}번째 답변에 질문의 낱말이 하나도 나오지 않습니다. …{1}…",
    reasons.OF_ANSWER: "{0}번째 답변: {1}",
    reasons.PERSONAL_DATA: "{0}번째 발화({1:name}): {2:name}",
    reasons.OVERLAPS: "평가 질문과의 유사도가 {0}입니다. 평가 질문: {1}",
    reasons.SAYS_THE_SAME: "{0}:{1}의 행과 내용이 같습니다.",
    reasons.NEARLY_THE_SAME: "{2}:{3}의 {0:name}과 유사도가 {1}이고, 점수는 그쪽이 같거나 높습니다.",
    reasons.IRRELEVANT: "질문을 보아도 답변의 확률이 토큰당 {0} nat밖에 높아지지 않습니다. {1} nat 이상이어야 합니다.",
    # the mixture
    reasons.SHORT: "{0:name} 그룹은 {1}행이 필요한데 {2}행이 있습니다.",
    reasons.ENOUGH: "행이 충분하므로 목표 비율대로 {0}행을 사용합니다.",
    reasons.UPSAMPLED: "모자라는 그룹은 되풀이해 채웁니다(upsample). 모두 {0}행입니다.",
    reasons.ALL_TAKEN: "있는 행을 모두 사용합니다(fill). 목표 {1}행 가운데 {0}행이며, 비율은 {2:name}가 됩니다.",
    reasons.FILLED: "모자라는 만큼 다른 그룹의 행으로 채웁니다(fill). 목표 {1}행 가운데 {0}행이며, 비율은 {2:name}가 됩니다.",
    reasons.SHRUNK: "비율을 지키고 전체 행 수를 줄입니다(shrink). 목표 {1}행 가운데 {0}행입니다.",
    reasons.NO_ROWS: "{0:name} 그룹은 행이 하나도 없어 그 비중을 나머지 그룹에 나눕니다.",
    reasons.NO_WEIGHT: "{0:name} 그룹은 비중이 정해져 있지 않아 사용하지 않습니다.",
    reasons.MORE_SOURCES: "그 밖의 {0}개",
    # pairs
    reasons.NOT_ANSWERED: "받은 답변이 없음",
    reasons.GREEDY_IS_GOOD: "기본 디코딩의 답변도 충분히 좋음",
    reasons.NO_CHOSEN: "자연스러운 후보도 모범 답안도 없음",
    reasons.REFERENCES_FULL: "자연스러운 후보가 없고 모범 답안의 몫이 다 참",
    reasons.SAME_SIDES: "두 답변이 거의 같음",
    reasons.SHORT_SIDE: "거부된 답변이 훨씬 짧아 길이를 배우게 됨",
    reasons.SHARED_FILLER: "두 답변을 같은 빈말이 채움",
    reasons.GENERIC: "다른 질문에도 쓰인 뻔한 답변을 선택함",
    reasons.CONTRASTS_FULL: "대조 쌍의 몫이 다 참",
    reasons.CANDIDATES_FULL: "모델 후보를 선택한 쌍의 몫이 다 참",
    reasons.FAULT_FULL: "{0:name}의 몫이 다 참",
    reasons.HELD_OUT: "평가 질문이거나 그와 거의 같음",
    reasons.UNNATURAL_ORIGINAL: "망가뜨릴 답변부터 자연스럽지 않음",
    reasons.SPOILT_LENGTH: "망가뜨린 답변의 길이가 맞지 않음",
    reasons.NOT_SPOILT: "망가뜨렸으나 뜻한 결함({0:name})이 나타나지 않음",
    reasons.NO_PAIR: "질문 {1}개에서 쌍을 하나도 만들지 못했습니다: {2:counts}",
    # checkpoints
    reasons.BY_CHANCE: "{0}. {1:name}, 그다음은 {2}의 {3}입니다. 우연일 수 있는 차이입니다.",
    reasons.BETTER: "{0}. {1:name}, 그다음은 {2}의 {3}입니다.",
    reasons.AS_GOOD: "{0}. {1}에 뒤지지 않으면서 더 먼저 저장된 체크포인트입니다.",
}
_KINDS = {kind_of(False): "참·거짓 값", kind_of(0): "숫자", kind_of(""): "텍스트", kind_of([]): "목록", kind_of({}): "객체"}
_WORDS = PAIR_FAULT_NAMES | NAMES["group"] | NAMES["curation"] | NAMES["role"] | NAMES["merit"] | _KINDS
_WORD = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, _WORDS), key=len, reverse=True))})(?!\w)")


def in_korean(text: str) -> str:
    """Sentences of reasons.py; anything else as it is.

    >>> in_korean("'answer' is null, expected text"), in_korean("no sentence of ours")
    ("'answer' 값이 텍스트가 아니라 null입니다.", 'no sentence of ours')
    """
    several = [_one_in_korean(part) for part in re.split(r"(?<=\.) ", text)]
    return " ".join(several) if all(several) else _one_in_korean(text) or text


def _one_in_korean(text: str) -> str:
    """A sentence in Korean; "" where it is none of ours."""
    found = ((korean, _pattern(english).fullmatch(text)) for english, korean in SENTENCES.items())
    return next((korean.format(*map(_Value, match.groups())) for korean, match in found if match), "")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    words = re.sub(r"\\{(!r)?\\}", "(.+?)", re.escape(template))
    return re.compile(re.sub(r"\\{:.*?\\}", r"([\\d.,]+)", words), re.DOTALL)  # with a format: a number


class _Value(str):
    """What stands in a sentence; `name`: with Korean names for its codes; `counts`: reasons, each after its number."""

    def __format__(self, how: str) -> str:
        if how == "counts":
            parts = (part.partition(" ") for part in self.split("; "))
            return " · ".join(f"{in_korean(reason)} {count}" for count, _, reason in parts)
        return _WORD.sub(lambda found: _WORDS[found[0]], self) if how == "name" else str(self)
