"""Types of recipe fields with their ranges. A value from a file is text until pydantic knows its field's type."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator, Field, WrapValidator
from pydantic_core import PydanticCustomError

from align_ko.recipe.yaml_lines import Word

LARGEST = 2**63 - 1


def _yes_or_no(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() not in ("true", "yes", "on", "false", "no", "off"):
        raise PydanticCustomError("bool_parsing", "not true or false")
    return value.lower() in ("true", "yes", "on")


def guess(value: object) -> Any:
    """A value of a mapping with free content, by YAML 1.2's rules: `5e-7` → 5e-07, `no` → "no", `"5"` → "5"."""
    if isinstance(value, dict):
        return {key: guess(item) for key, item in value.items()}
    if isinstance(value, list):
        return [guess(item) for item in value]
    if not isinstance(value, Word):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if re.fullmatch(r"[+-]?[0-9][0-9_]*", value) and len(value) < 20:
        return int(value)
    is_number = re.fullmatch(r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value)
    if is_number and math.isinf(float(value)):
        raise PydanticCustomError("finite_number", "not finite")
    return float(value) if is_number else str(value)


def _keep_whole(value: object, to_float: Callable[[object], float]) -> float:
    """transformers distinguishes `save_steps: 100` from `save_steps: 0.1` by type."""
    number = to_float(value)
    is_whole = re.fullmatch(r"[+-]?[0-9_]+(\.0+)?", str(value)) and abs(number) < LARGEST
    return int(str(value).partition(".")[0]) if is_whole else number


YesNo = Annotated[bool, BeforeValidator(_yes_or_no)]
"""true or false; yes, no, on and off too, never 1 or 0."""
Free = Annotated[Any, BeforeValidator(guess)]
"""A value of a mapping whose keys are not ours."""
Text = Annotated[str, MinLen(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
ShareAboveZero = Annotated[float, Gt(0), Le(1)]
Whole = Annotated[int, Ge(-LARGEST), Le(LARGEST)]
AtLeastOne = Annotated[int, Ge(1), Le(LARGEST)]
ZeroOrMore = Annotated[int, Ge(0), Le(LARGEST)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
TrlNumber = Annotated[float, WrapValidator(_keep_whole), Field(allow_inf_nan=False)]
