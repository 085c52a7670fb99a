"""What a prompt asks for that would else be a fault: patterns to search it for."""

from __future__ import annotations

import re

SLANG = re.compile(r"신조어|줄임말|유행어|은어|채팅|초성|요즘 말|인터넷 용어")
SHORT = re.compile(
    r"한 ?단어|짧게|숫자|답만|정답|고르|선택|몇 |맞으면|구하|값[은을]|계산|(?:네|예)[,/ ]*아니|얼마"
    r"|\d ?[-+*/x×÷=] ?\d|O/X|OX|번호"
)
REPETITION = re.compile(
    r"반복해|되풀이해|번씩? (?:써|쓰|말|출력|적|따라|반복)|구구단[^?\n]{0,12}(?:써|쓰|알려|보여|출력|적|말해|만들|외워 ?[줘봐])"
    r"|구구단\W*$"
)
LISTED = re.compile("나열|목록|표로")
VERSE = re.compile(
    r"후렴|노래|가사|동요|(?<![가-힣0-9])시[를 ]|\d ?연|같은 형식|형식으로|행시|자장가|랩을"
    r"|표로|(?:바꿔|바꾸어|고쳐|수정해) ?(?:줘|주|봐|보|라|쓰|써|적)|바꾸시오|고치시오|문장을|예문|목록으로|나열|주문을 외|구호"
)
