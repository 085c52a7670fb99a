"""Personal data in Korean text: where it stands, and the text without it.

| kind            | found                                             | not found                                         |
|-----------------|---------------------------------------------------|---------------------------------------------------|
| resident_number | 850315-2345678 (a day that exists)                | 853315-2345678, 850315-2******                    |
| foreigner_number| 850315-6345678                                    |                                                   |
| phone           | 010-1234-5678, 02) 345-6789, +82 10 1234 5678     | 119, 1588-1234, 080-123-4567, 010-0000-0000       |
| card            | 4539-5787-6362-1486 (Luhn)                        | 1234-5678-9012-3456, 4111-1111-1111-1111          |
| account         | 계좌번호는 국민은행 123-45-678901                 | the same number without 계좌, 입금 or 송금        |
| email           | minsu.kim@naver.com                               | hong@example.com, git@github.com, icon@2x.png     |
| passport        | 여권 번호 M12345678                               | 제품 번호 M12345678                               |
| driver_licence  | 운전면허 11-23-456789-01                          | the same number without 면허                      |

A number counts where its form leaves little doubt; where it could be anything else (thirteen digits in a row, an account
number) a word beside it has to say what it is, or its check digit. What belongs to nobody by agreement stays: domains
reserved for examples (RFC 2606), the card networks' published test numbers, 010-0000-0000 (010-1234-5678 does not: people
ring it), numbers that everyone may ring (119, 1588-…, 080-…). Code is not searched: its numbers are nearly always made up.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Collection, Iterator
from typing import NamedTuple

from align_ko.korean.prose import without_code


class PersonalData(NamedTuple):
    kind: str
    start: int
    end: int


LABELS: dict[str, str] = {
    "resident_number": "[주민등록번호]", "foreigner_number": "[외국인등록번호]", "phone": "[전화번호]", "card": "[카드번호]",
    "account": "[계좌번호]", "email": "[이메일]", "passport": "[여권번호]", "driver_licence": "[운전면허번호]",
}  # fmt: skip
"""Kind → what `mask` writes in its place."""

_DASH = r"[-\u2010-\u2015\uff0d]"
_JOINT = r"[-. \u2010-\u2015\uff0d]"
# Nothing is found in a text without one of these: nine digits that hang together, an @, or a passport's name.
_NINE_DIGITS = re.compile(r"\d(?:[-. )(\u2010-\u2015\uff0d]{0,3}\d){8}")
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@((?:[A-Za-z0-9-]{1,63}\.){1,5}([A-Za-z]{2,12}))(?![A-Za-z0-9_-])"
)
_RESERVED = re.compile(r"(?:.*\.)?(?:example\.(?:com|org|net|co\.kr|kr)|[^.]+\.(?:example|test|invalid|localhost))", re.I)
_NO_PERSON = re.compile(r"(?:git|no-?reply|do-?not-?reply|mailer-daemon)@", re.I)
_FILE = frozenset("png jpg jpeg gif svg webp pdf css js ts json html xml mp".split())  # icon@2x.png

_EDGE, _STOP = r"(?<![\dA-Za-z_.\-/=])", r"(?![\dA-Za-z_\-/])"
_RESIDENT = re.compile(rf"{_EDGE}(\d{{6}})({_DASH}| ?)([1-8])(\d{{6}}){_STOP}")
_SAYS_RESIDENT = re.compile(r"주민|등록\s?번호|외국인")
_BARCODE = "880"  # Korean products; their thirteen digits look like somebody born in 1988
_FULL_WIDTH = {0xFF10 + digit: 0x30 + digit for digit in range(10)}
_LATEST_BIRTH = 2035  # only against nonsense such as a birth in 2099
_CHECK = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)

_AREA = r"(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50[2-8]?)"
_MOBILE = re.compile(
    rf"{_EDGE}(?:\+?82{_JOINT}?(?:\(0\){_JOINT}?|0)?1[016-9]"
    rf"|\(?01[016-9]\)?)({_JOINT}{{0,2}})(\d{{3,4}}){_JOINT}?(\d{{4}}){_STOP}"
)
_LANDLINE = re.compile(
    rf"{_EDGE}(?:\+82{_JOINT}?(?:\(0\){_JOINT}?|0)?{_AREA}{_JOINT}|\(0{_AREA}\) ?|0{_AREA}(?:{_DASH}|\) ?))"
    rf"[2-9]\d{{2,3}}{_JOINT}\d{{4}}{_STOP}"
)
_SPACED_LANDLINE = re.compile(rf"{_EDGE}0{_AREA}[. ]{{0,2}}[2-9]\d{{2,3}}[. ]?\d{{4}}{_STOP}")
_SAYS_PHONE = re.compile(r"전화|연락처|문의|팩스|휴대폰|핸드폰|tel|fax|phone|☎|📞", re.IGNORECASE)

_CARD = re.compile(rf"{_EDGE}(?:(\d{{4}})([- ]?)\d{{4}}\2\d{{4}}\2\d{{4}}|3[47]\d{{2}}([- ]?)\d{{6}}\3\d{{5}}){_STOP}")
_CARD_ISSUER = re.compile(r"4|5[1-5]|2[2-7]|3[457]|6|9")  # Visa, Mastercard, Amex and JCB, Discover and UnionPay, Korean
_SAYS_CARD = re.compile(r"카드|card", re.IGNORECASE)
_TEST_CARDS = frozenset(
    "4111111111111111 4242424242424242 4012888888881881 5555555555554444 5105105105105100 378282246310005 "
    "6011111111111117".split()
)
_ACCOUNT = re.compile(rf"{_EDGE}\d{{2,6}}(?:{_DASH}\d{{1,8}}){{1,4}}{_STOP}|{_EDGE}\d{{10,14}}{_STOP}")
_SAYS_ACCOUNT = re.compile(r"계좌|입금|송금|무통장")
_PASSPORT = re.compile(r"(?<![A-Za-z0-9])[A-Z](?:\d{8}|\d{3}[A-Z]\d{4})(?![A-Za-z0-9])")
_SAYS_PASSPORT = re.compile(r"여권")
_LICENCE = re.compile(
    rf"(?:{_EDGE}\d{{2}}|(?:서울|부산|경기|강원|충북|충남|전북|전남|경북|경남|제주|대구|인천|광주|대전|울산) ?\d{{2}})"
    rf"{_DASH}(?:\d{{2}}{_DASH})?\d{{6}}{_DASH}\d{{2}}{_STOP}"
)
_SAYS_LICENCE = re.compile(r"면허")
_BESIDE = 30
"""How far before a number, on its line, the word may stand that says what it is."""


def find(text: str) -> list[PersonalData]:
    """From left to right, none inside another: `제 번호는 010-1234-5678이에요.` → `[PersonalData("phone", 6, 19)]`"""
    if "@" not in text and "여권" not in text and not _NINE_DIGITS.search(text):
        return []
    text = without_code(text).translate(_FULL_WIDTH)  # ０１０: as long as before, so offsets hold
    found: list[PersonalData] = []
    taken = bytearray(len(text))
    for piece in _all(text):  # the surer kinds come first and keep their place
        if not any(taken[piece.start : piece.end]):
            taken[piece.start : piece.end] = b"\1" * (piece.end - piece.start)
            found.append(piece)
    return sorted(found, key=lambda piece: piece.start)


def mask(text: str, kinds: Collection[str] = tuple(LABELS)) -> str:
    """The text with a label in place of each piece: `010-1234-5678로 전화 주세요.` → `[전화번호]로 전화 주세요.`"""
    parts, end = [], 0
    for piece in find(text):
        if piece.kind in kinds:
            parts += [text[end : piece.start], LABELS[piece.kind]]
            end = piece.end
    return "".join([*parts, text[end:]]) if parts else text


def _all(text: str) -> Iterator[PersonalData]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            domain, ending = match.groups()
            if not (ending.lower() in _FILE or _RESERVED.fullmatch(domain) or _NO_PERSON.match(match[0])):
                yield PersonalData("email", *match.span())
    for match in _RESIDENT.finditer(text):
        if kind := _resident(text, match):
            yield PersonalData(kind, *match.span())
    for kind, pattern, word in (("passport", _PASSPORT, _SAYS_PASSPORT), ("driver_licence", _LICENCE, _SAYS_LICENCE)):
        for match in pattern.finditer(text) if word.search(text) else ():
            if _says(word, text, match):
                yield PersonalData(kind, *match.span())
    for match in _CARD.finditer(text):
        if _card(text, match):
            yield PersonalData("card", *match.span())
    yield from _phones(text)
    for match in _ACCOUNT.finditer(text) if _SAYS_ACCOUNT.search(text) else ():
        if 10 <= sum(map(str.isdecimal, match[0])) <= 16 and _says(_SAYS_ACCOUNT, text, match):
            yield PersonalData("account", *match.span())


def _phones(text: str) -> Iterator[PersonalData]:
    for match in _MOBILE.finditer(text):
        digits = match[2] + match[3]
        # 010 1010 1101 is binary; 010-0000-0000 stands for any number
        if len(set(digits)) > 1 and not (" " in match[1] and set(digits) <= set("01")):
            yield PersonalData("phone", *match.span())
    for match in _LANDLINE.finditer(text):
        yield PersonalData("phone", *match.span())
    for match in _SPACED_LANDLINE.finditer(text) if _SAYS_PHONE.search(text) else ():
        if _says(_SAYS_PHONE, text, match):
            yield PersonalData("phone", *match.span())


def _resident(text: str, match: re.Match[str]) -> str:
    """resident_number, foreigner_number, or "" for digits that are neither."""
    birth, joint, sex, _ = match.groups()
    year = (1900 if sex in "1256" else 2000) + int(birth[:2])
    month, day = int(birth[2:4]), int(birth[4:])
    if not (1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1] and year <= _LATEST_BIRTH):
        return ""
    # Numbers given out since October 2020 have no check digit, but without a dash it is the only sign there is
    if joint in ("", " ") and not _says(_SAYS_RESIDENT, text, match):
        digits = birth + sex + match[4]
        if not _check_digit(digits) or (digits.startswith(_BARCODE) and _is_barcode(digits)):
            return ""
    return "resident_number" if sex in "1234" else "foreigner_number"


def _check_digit(digits: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(digits, _CHECK, strict=False))
    return (11 - total % 11) % 10 == int(digits[-1])


def _is_barcode(digits: str) -> bool:
    return sum(int(digit) * (1 + 2 * (place % 2)) for place, digit in enumerate(digits)) % 10 == 0


def _card(text: str, match: re.Match[str]) -> bool:
    digits = "".join(filter(str.isdecimal, match[0]))
    if digits in _TEST_CARDS or not _CARD_ISSUER.match(digits):
        return False
    joint = match[2] if match[1] else match[3]
    if not joint and not _says(_SAYS_CARD, text, match):  # one long number in ten passes Luhn's test
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


def _says(word: re.Pattern[str], text: str, match: re.Match[str]) -> bool:
    """Does `word` stand shortly before the number, on its line?"""
    start = max(0, match.start() - _BESIDE)
    start = max(start, text.rfind("\n", start, match.start()) + 1)
    return bool(word.search(text, start, match.start()))
