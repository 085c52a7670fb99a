"""A recipe file as plain values, and a map that knows the file and line of each. `5e-7` and `no` stay the words that were
written until pydantic knows the field's type; PyYAML's own resolver would read text and False."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from align_ko.errors import UserError, nearest

COMMAND_LINE = "command line"
MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000  # after aliases are expanded: ten lines of them can stand for more values than memory holds
MAX_DEPTH = 30
Steps = tuple[str | int, ...]


class Word(str):
    """Text without quotes, which may still turn out to be a number or true."""


@dataclass(frozen=True)
class Place:
    """Where something was written; no line for the command line and for defaults."""

    file: str | None = None
    line: int | None = None

    def error(self, key: str, problem: str, expected: str | None = None, nearest: str | None = None) -> UserError:
        """A UserError about the dotted `key`, which on the command line is a flag."""
        key = f"--{key}" if self.file == COMMAND_LINE and key else key
        return UserError(problem, file=self.file, line=self.line, key=key, expected=expected, nearest=nearest)


@dataclass(frozen=True)
class Tree:
    """`values`: dicts, lists, None and text, Word where it was not in quotes. `places`: of every value, that of its key."""

    values: Any
    places: dict[Steps, Place]

    def get(self, steps: Steps, default: object = None) -> Any:
        value = self.values
        for step in steps:
            if isinstance(value, dict) and str(step) in value:
                value = value[str(step)]
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return default
        return value

    def below(self, steps: Steps) -> Tree:
        """The part under `steps`, with its places."""
        count = len(steps)
        return Tree(self.get(steps), {path[count:]: place for path, place in self.places.items() if path[:count] == steps})

    def under(self, steps: Steps) -> Tree:
        """This tree as the value of the nested keys `steps`, which have no places."""
        values = self.values
        for step in reversed(steps):
            values = {step: values}
        return Tree(values, {(*steps, *path): place for path, place in self.places.items()})

    def merged(self, over: Tree) -> Tree:
        """`over` laid over this: mappings merge key by key, anything else is replaced."""
        return Tree(_merged(self.values, over.values), self.places | over.places)

    def place_of(self, key: str) -> Place:
        """Place of a dotted key, or of the nearest value above it that was written; a name may itself contain a dot."""
        known = {dotted(steps): place for steps, place in self.places.items()}
        above = [name for name in known if not name or f"{key}.".startswith((f"{name}.", f"{name}["))]
        return known[max(above, key=len)] if above else Place()


def dotted(steps: Steps) -> str:
    """("loss_weights", 1) → "loss_weights[1]"."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def text_of(value: object) -> Any:
    """A Python value (a default, or an argument) as a file would have it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): text_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [text_of(item) for item in value]
    if value is None or isinstance(value, str):
        return value
    return Word(str(value).lower() if isinstance(value, bool) else value)


def word_or_null(text: str) -> Word | None:
    """Text without quotes; `key:`, `key: null` and `key: ~` are None."""
    return None if text in ("", "~", "null", "Null", "NULL") else Word(text)


def parse_flag(text: str, key: str) -> Tree:
    """`[a, b]` or `{a: 1}` from the command line, every part placed there."""
    here = Place(COMMAND_LINE)
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise here.error(key, f"cannot read '{text}': {getattr(error, 'problem', error)}") from None
    except RecursionError:
        raise _too_deep(here) from None
    return _Reader(COMMAND_LINE, has_lines=False).tree(node)


def read_recipe_file(path: str | Path) -> Tree:
    """The recipe at `path`, laid over the recipes that it extends."""
    return _read(str(path), None, ())


def _merged(base: object, over: object) -> object:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: _merged(base[key], value) if key in base else value for key, value in over.items()}


def _read(path: str, named_at: Place | None, children: tuple[str, ...]) -> Tree:
    """One file and its parents; `named_at` is the `extends` line that led here, `children` the chain so far."""
    try:
        real = os.path.realpath(path)
    except ValueError as error:  # a null byte, half a surrogate pair
        raise _unreadable(path, named_at, f"this recipe file cannot be read: {error}") from None
    if named_at and real in children:
        chain = " → ".join(_short(item) for item in (*children[children.index(real) :], real))
        raise named_at.error("extends", f"recipes extend each other in a circle: {chain}")
    tree = _compose_file(path, named_at)
    if "extends" not in tree.values:
        return tree
    parent, place = tree.values.pop("extends"), tree.places[("extends",)]
    if not isinstance(parent, str):
        raise place.error("extends", "is not the path of a recipe", "one path")
    return _read(os.path.normpath(os.path.join(os.path.dirname(path), parent)), place, (*children, real)).merged(tree)


def _compose_file(path: str, named_at: Place | None) -> Tree:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _unreadable(path, named_at, f"more than {MAX_BYTES // 1024} KiB: this is no recipe")
        text = content.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise _unreadable(path, named_at, "no such recipe file", _similar_file(path)) from None
    except IsADirectoryError:
        raise _unreadable(path, named_at, "this is a folder, not a recipe file", _similar_file(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError("not UTF-8 text", file=path, line=line, expected="a file saved as UTF-8") from None
    except OSError as error:  # no permission, a name that is too long
        raise _unreadable(path, named_at, f"this recipe file cannot be read: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "end of stream" in str(error.problem) and error.context_mark:
            mark = error.context_mark  # an open quote or bracket: where it was opened, not the end of the file
        problem = f"{error.context}, {error.problem}" if error.context else error.problem
        expected = "forward slashes in paths, or single quotes around the text" if "escape" in str(error.problem) else None
        raise UserError(f"broken YAML: {problem}", file=path, line=mark.line + 1 if mark else None, expected=expected) from None
    except yaml.reader.ReaderError as error:
        line, code = text[: error.position].count("\n") + 1, ord(text[error.position])
        raise UserError(f"broken YAML: character U+{code:04X} is not allowed", file=path, line=line) from None
    except RecursionError:
        raise _too_deep(Place(path)) from None
    if node is None:
        raise UserError("the recipe is empty", file=path, expected="a mapping of keys to values")
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise UserError("the recipe is not a mapping", file=path, line=line, expected="lines such as 'key: value'")
    return _Reader(path).tree(node)


class _Reader:
    """PyYAML's nodes as a Tree."""

    def __init__(self, file: str, has_lines: bool = True) -> None:
        self.file, self.has_lines = file, has_lines
        self.places: dict[Steps, Place] = {}

    def tree(self, node: yaml.Node | None) -> Tree:
        return Tree(None if node is None else self.read(node, (), Place(self.file), ()), self.places)

    def read(self, node: yaml.Node, steps: Steps, place: Place, above: tuple[yaml.Node, ...]) -> object:
        self.places[steps] = place
        if any(node is other for other in above):
            raise place.error("", "this YAML alias contains itself")
        if len(above) > MAX_DEPTH:
            raise _too_deep(place)
        if len(self.places) > MAX_VALUES:
            raise place.error("", f"more than {MAX_VALUES} values, with YAML aliases written out", "a recipe")
        if node.tag and not node.tag.startswith("tag:yaml.org,2002:"):
            raise place.error("", f"the YAML tag {node.tag} means nothing here", "a plain value")
        above = (*above, node)
        if isinstance(node, yaml.ScalarNode):
            return word_or_null(node.value) if node.style is None else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*steps, n), self._place(child), above) for n, child in enumerate(node.value)]
        values: dict[str, object] = {}
        for key, child in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                raise place.error("", "a key must be one word")
            if key.value in values:
                first = self.places[*steps, key.value].line
                raise place.error(key.value, f"this key stands twice{f' (first on line {first})' if first else ''}")
            values[key.value] = self.read(child, (*steps, key.value), place, above)
        return values

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1 if self.has_lines else None)


def _too_deep(place: Place) -> UserError:
    return place.error("", f"nested more than {MAX_DEPTH} levels deep", "a recipe")


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _unreadable(path: str, named_at: Place | None, problem: str, similar: str | None = None) -> UserError:
    if named_at is None:
        return UserError(problem, file=path, nearest=similar)
    return named_at.error("extends", f"{problem}: {path}", nearest=similar)


def _similar_file(path: str) -> str | None:
    folder = os.path.dirname(path)
    try:
        names = [name for name in os.listdir(path if os.path.isdir(path) else folder or ".") if name.endswith(".yaml")]
    except OSError:
        return None
    if os.path.isdir(path):
        return os.path.join(path, sorted(names)[0]) if names else None
    name = nearest(os.path.basename(path), names)
    return os.path.join(folder, name) if name else None
