"""The public API: every name of `align_ko`, with the examples that document it."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import align_ko

ROOT = next(folder for folder in Path(__file__).parents if (folder / "setup.cfg").is_file())


def test_examples_of_the_docstring_run():
    assert doctest.testmod(align_ko).failed == 0


def test_example_of_the_readme_runs(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(import align_ko\n.*?)^```", text, re.M | re.S)
    assert len(examples) == 1
    exec(examples[0], {})
    assert capsys.readouterr().out == "True ()\n"


def test_every_name_is_documented_and_imported_on_first_use():
    for name in align_ko.__all__:
        assert getattr(align_ko, name).__doc__
    code = "import sys, align_ko; print(sorted({'torch', 'numpy', 'align_ko.korean'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="module 'align_ko' has no attribute 'asess'"):
        align_ko.asess  # noqa: B018
