"""align_ko: Korean language models that answer naturally under plain greedy decoding.

>>> import align_ko
>>> align_ko.assess("네, 그렇습니다. 서울은 한국의 수도입니다.").natural
True
>>> [answer.codes for answer in align_ko.assess_each(["감사합니다. 감사합니다. 감사합니다. 감사합니다."])]
[['repetition']]

The names of `__all__` are imported on first use, so that `import align_ko` is fast. The first, `curate` and `build_pairs`
need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["assess", "assess_each", "build_pairs", "curate", "evaluate", "generate", "load"]

if TYPE_CHECKING:
    from align_ko.api import build_pairs, curate, evaluate, generate, load
    from align_ko.korean import assess, assess_each


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'align_ko' has no attribute '{name}'")
    home = "align_ko.korean" if name.startswith("assess") else "align_ko.api"
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
