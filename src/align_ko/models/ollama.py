"""An Ollama Modelfile for any chat template of plain turns. Ollama renders Go templates and has its own defaults, which sample.

What a template writes between the contents is read off rendered conversations, so there is no second copy of any template.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import FIXED_CONVERSATIONS, RefusedConversation, render
from align_ko.errors import UserError, missing_package
from align_ko.records import Message

_MARKS = [f"⟦{number}⟧" for number in range(4)]  # contents that no template writes
_GO = """
import json, sys, tempfile
from pathlib import Path
import go_template
file, conversations = Path(sys.argv[1]), json.loads(sys.stdin.buffer.read())
print(json.dumps([go_template.render(file, {"Messages": each}).decode() for each in conversations]))
"""


@dataclass(frozen=True)
class Turns:
    """What stands around the contents of a conversation, without bos, which llama.cpp writes itself."""

    first: str
    """Before the first question, where no system message stands."""
    system: tuple[str, str] | None
    """Before a system message, and between it and the first question; None where the template refuses one."""
    answer: str
    """Between a question and the answer to it."""
    question: str
    """Between an answer and the next question."""
    last: str
    """After the last question: here the model begins."""

    def text(self, messages: Sequence[Message]) -> str:
        """The conversation, its last message a question."""
        said = ""
        for place, message in enumerate(messages):
            before = {"assistant": self.answer, "system": (self.system or ("", ""))[0]}.get(message["role"])
            if before is None:
                before = self.first if place == 0 else self.question if place > 1 else (self.system or ("", ""))[1]
            said += before + message["content"]
        return said + self.last

    def go_template(self) -> str:
        question = f"{{{{ if eq $i 0 }}}}{self.first}{{{{ else if gt $i 1 }}}}{self.question}{{{{ end }}}}{{{{ .Content }}}}"
        answer = f"{{{{ else }}}}{self.answer}{{{{ .Content }}}}"
        body = f'{{{{ if eq .Role "user" }}}}{question}{answer}{{{{ end }}}}'
        if self.system:
            before, after = self.system
            body = f'{{{{ if eq .Role "system" }}}}{before}{{{{ .Content }}}}{after}{{{{ else }}}}{body}{{{{ end }}}}'
        return f"{{{{ range $i, $m := .Messages }}}}{body}{{{{ end }}}}{self.last}"


def questions(trimmed: bool = False) -> list[list[Message]]:
    """The fixed conversations up to their last question."""
    asked = [messages[:-1] for messages in FIXED_CONVERSATIONS]
    return [[{**one, "content": one["content"].strip()} for one in messages] for messages in asked] if trimmed else asked


def turns_of(tokenizer: PreTrainedTokenizerBase) -> Turns | None:
    """None for a template that writes more than fixed texts between the contents."""
    system, question, answer, further = (
        Message(role=role, content=mark) for role, mark in zip(("system", "user", "assistant", "user"), _MARKS, strict=True)
    )
    plain = _between(tokenizer, [question, answer, further])
    try:
        opened = _between(tokenizer, [system, question])
    except RefusedConversation:
        system_turn = None
    else:
        system_turn = (opened[0], opened[1])
    turns = Turns(plain[0], system_turn, plain[1], plain[2], plain[3])
    for messages in questions(trimmed=True):
        if turns.system is None and messages[0]["role"] == "system":
            continue
        if turns.text(messages) != _text(tokenizer, messages):
            return None
    return turns


def _text(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    return render(tokenizer, messages, add_generation_prompt=True).removeprefix(tokenizer.bos_token or "")


def _between(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[str]:
    return re.split("|".join(message["content"] for message in messages), _text(tokenizer, messages))


def modelfile(tokenizer: PreTrainedTokenizerBase, weights: str = ".") -> str | None:
    """A Modelfile for `weights` (a GGUF file beside it, or the folder): the template's turns, greedy, stop at eos. None for a
    template that has no such form."""
    turns = turns_of(tokenizer)
    if (
        turns is None
        or '"""' in turns.go_template()
        or "{{" in "".join([turns.first, turns.answer, turns.question, turns.last])
    ):
        return None
    return (
        f'FROM {weights}\nTEMPLATE """{turns.go_template()}"""\n'
        f'PARAMETER temperature 0\nPARAMETER repeat_penalty 1.0\nPARAMETER stop "{tokenizer.eos_token}"\n'
    )


def render_modelfile(file: Path, conversations: Sequence[Sequence[Message]]) -> list[str]:
    """What Go's template engine makes of each conversation. UserError for a template that it cannot read."""
    if not find_spec("go_template"):
        raise missing_package("go_template")
    found = re.search(r'^TEMPLATE """(.*?)"""', file.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if found is None:
        raise UserError("no TEMPLATE in it", file=file, expected='TEMPLATE """…""", as export.py writes it')
    values = [[{"Role": each["role"], "Content": each["content"]} for each in messages] for messages in conversations]
    with tempfile.TemporaryDirectory() as place:
        template = Path(place) / "template"
        template.write_text(found[1], encoding="utf-8", newline="\n")
        # another process: the package ends its own where a template has an error
        done = subprocess.run(
            [sys.executable, "-c", _GO, str(template)], input=json.dumps(values).encode(), capture_output=True, check=False
        )
    if done.returncode:
        raise UserError(f"Go refuses its TEMPLATE: {done.stderr.decode(errors='replace').strip()[-300:]}", file=file)
    return [str(text) for text in json.loads(done.stdout)]
