"""Personal data in Korean text: what is found, what is not, and how it is masked. All numbers are made up."""

from __future__ import annotations

import pytest

from align_ko.curation.personal_data import LABELS, PersonalData, find, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("제 번호는 010-1234-5678이에요.", "제 번호는 [전화번호]이에요."),
        ("010 9876 5432로 문자 주세요.", "[전화번호]로 문자 주세요."),
        ("01098765432", "[전화번호]"),
        ("(010) 9876-5432", "[전화번호]"),
        ("０１０－９８７６－５４３２", "[전화번호]"),
        ("해외에서는 +82 10-9876-5432, 국내에서는 02) 345-6789", "해외에서는 [전화번호], 국내에서는 [전화번호]"),
        ("+82-2-345-6789", "[전화번호]"),
        ("사무실은 031-345-6789예요.", "사무실은 [전화번호]예요."),
        ("인터넷 전화 070-4567-8901", "인터넷 전화 [전화번호]"),
        ("연락처 02 345 6789", "연락처 [전화번호]"),
        ("주민번호는 850315-2345678입니다.", "주민번호는 [주민등록번호]입니다."),
        ("주민등록번호 8503152345678", "주민등록번호 [주민등록번호]"),
        ("200229-3456789", "[주민등록번호]"),  # 2020 had a 29 February
        ("외국인등록번호 850315-6345678", "외국인등록번호 [외국인등록번호]"),
        ("카드는 4539-5787-6362-1486이고", "카드는 [카드번호]이고"),
        ("카드 번호 4539578763621486", "카드 번호 [카드번호]"),
        ("아멕스 3714 496353 98431", "아멕스 [카드번호]"),
        ("계좌번호는 국민은행 123-45-678901입니다.", "계좌번호는 국민은행 [계좌번호]입니다."),
        ("110-234-567890으로 송금했어요. 입금은 110-234-567890", "110-234-567890으로 송금했어요. 입금은 [계좌번호]"),
        ("minsu.kim@naver.com으로 보내 주세요.", "[이메일]으로 보내 주세요."),
        ("여권 번호는 M12345678이에요.", "여권 번호는 [여권번호]이에요."),
        ("여권번호 M123A4567", "여권번호 [여권번호]"),
        ("운전면허 번호는 11-23-456789-01입니다.", "운전면허 번호는 [운전면허번호]입니다."),
    ],
)
def test_masked(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "불이 나면 119, 범죄 신고는 112, 상담은 1588-1234나 080-123-4567로 하세요.",
        "010-0000-0000, 010-XXXX-1234",
        "853315-2345678, 850230-1234567, 190229-3456789",  # no such days
        "850315-2******",
        "2024-03-15 12:30:00, 1700000000000, 20240315-1234",
        "ISBN 978-89-364-3426-7, 바코드 8801043014830",
        "1,234,567,890원, 3.14159265358979323846, 192.168.100.200, v10.1234.5678",
        "이진수 010 1010 1101을 더하면",
        "1234-5678-9012-3456",  # no card begins so
        "4539-5787-6362-1487",  # the last digit is not Luhn's
        "4111-1111-1111-1111은 시험용 번호입니다.",
        "주문 번호 4539578763621486",  # sixteen digits that no word calls a card
        "123-45-678901",  # an account, if anything says so
        "사업자등록번호 123-45-67890",
        "제품 번호 M12345678",
        "11-23-456789-01",
        "hong@example.com, test@shop.example, git@github.com, icon@2x.png, react@18.2.0, @app.route",
        "예를 들면 다음과 같아요.\n```python\nphone = '010-1234-5678'\n```\n`a@b.com`도요.",
    ],
)
def test_not_found(text: str) -> None:
    assert find(text) == []


def test_spans_kinds_and_choice() -> None:
    text = "010-9876-5432, minsu@daum.net"
    assert find(text) == [PersonalData("phone", 0, 13), PersonalData("email", 15, 29)]
    assert mask(text, kinds=("email",)) == "010-9876-5432, [이메일]"
    assert {piece.kind for piece in find(text)} <= set(LABELS)
    assert find("") == find("숫자가 없는 글이에요.") == []


@pytest.mark.parametrize(
    "piece", ["0", "010-1234-5678 ", "a@", "a.", "1-", "계좌 12-", "여권M1234", "면허11-", "\ud83d1", "4 "]
)
def test_long_odd_text(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    assert find(mask(text)) == []
