"""A recipe file as a tree of text in which every value knows its file and line.

Nothing is interpreted here: `5e-7` and `no` stay the words that were written until pydantic knows the field's type. PyYAML's
own resolver would read `5e-7` as text and `no` as False.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import yaml

from align_ko.errors import UserError, nearest

COMMAND_LINE = "command line"
MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000  # after aliases are expanded: ten lines of them can stand for more values than memory holds
MAX_DEPTH = 30


@dataclass(frozen=True)
class Place:
    """Where something was written; no line for the command line and for defaults."""

    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Scalar:
    """One value as written; `plain` is False when it stood in quotes."""

    text: str
    place: Place
    plain: bool = True

    @property
    def is_null(self) -> bool:
        """`key:`, `key: null` and `key: ~`."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True)
class Table:
    """A mapping; `place` is the line of the key that it stands under."""

    entries: dict[str, Node]
    place: Place
    key_places: dict[str, Place]
    """The line of each key, where an unknown one is reported."""


Node = Scalar | Items | Table


def read_recipe_file(path: str | Path) -> Table:
    """The recipe at `path`, laid over the recipes that it extends."""
    return _read(str(path), None, ())


def parse_text(text: str, place: Place, key: str) -> Node:
    """`[a, b]` or `{a: 1}` from the command line as a tree, every part placed there."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        problem = f"cannot read '{text}': {getattr(error, 'problem', error)}"
        raise UserError(problem, **_at(place), key=key) from None
    except RecursionError:
        raise _too_deep(place) from None
    return Scalar("", place) if node is None else _Reader(place).read(node, place)


@overload
def merge(base: Table, over: Table) -> Table: ...
@overload
def merge(base: Node, over: Node) -> Node: ...
def merge(base: Node, over: Node) -> Node:
    """`over` laid over `base`: mappings merge key by key, anything else is replaced."""
    if not isinstance(base, Table) or not isinstance(over, Table):
        return over
    entries = dict(base.entries)
    for key, node in over.entries.items():
        entries[key] = merge(entries[key], node) if key in entries else node
    if over.place.file == COMMAND_LINE:  # a key that the mapping lacks is the file's mistake, not the flag's
        return Table(entries, base.place, over.key_places | base.key_places)
    return Table(entries, over.place, base.key_places | over.key_places)


class Word(str):
    """Text without quotes, which may still turn out to be a number or true."""


def values_of(node: Node) -> Any:
    """The tree as dicts, lists, None, and text: Word where it was not in quotes."""
    if isinstance(node, Table):
        return {name: values_of(item) for name, item in node.entries.items()}
    if isinstance(node, Items):
        return [values_of(item) for item in node.items]
    if node.is_null:
        return None
    return Word(node.text) if node.plain else node.text


def node_at(node: Node | None, steps: Iterable[str | int]) -> Node | None:
    """The node that `steps` lead to, or None."""
    for step in steps:
        if isinstance(node, Table):
            node = node.entries.get(str(step))
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return None
    return node


@overload
def node_of(value: Mapping[str, Any], place: Place = ...) -> Table: ...
@overload
def node_of(value: Any, place: Place = ...) -> Node: ...
def node_of(value: Any, place: Place = Place()) -> Node:
    """A Python value (a default, or an argument) as a tree."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        entries: dict[str, Node] = {str(key): node_of(item, place) for key, item in value.items()}
        return Table(entries, place, dict.fromkeys(entries, place))
    if isinstance(value, list | tuple):
        return Items(tuple(node_of(item, place) for item in value), place)
    if value is None:
        return Scalar("null", place)
    return Scalar(str(value).lower() if isinstance(value, bool) else str(value), place, not isinstance(value, str))


def _read(path: str, named_at: Place | None, children: tuple[str, ...]) -> Table:
    """One file and its parents; `named_at` is the `extends` line that led here, `children` the chain so far."""
    try:
        real = os.path.realpath(path)
    except ValueError as error:  # a null byte, half a surrogate pair
        raise _unreadable(path, named_at, f"this recipe file cannot be read: {error}", None) from None
    if real in children:
        chain = " → ".join(_short(item) for item in (*children[children.index(real) :], real))
        raise UserError(f"recipes extend each other in a circle: {chain}", **_at(named_at), key="extends")
    tree = _compose_file(path, named_at)
    parent = tree.entries.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, Scalar) or parent.is_null:
        raise UserError("is not the path of a recipe", **_at(parent.place), key="extends", expected="one path")
    parent_path = os.path.normpath(os.path.join(os.path.dirname(path), parent.text))
    return merge(_read(parent_path, parent.place, (*children, real)), tree)


def _compose_file(path: str, named_at: Place | None) -> Table:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _unreadable(path, named_at, f"more than {MAX_BYTES // 1024} KiB: this is no recipe", None)
        text = content.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise _unreadable(path, named_at, "no such recipe file", _similar_file(path)) from None
    except IsADirectoryError:
        raise _unreadable(path, named_at, "this is a folder, not a recipe file", _similar_file(path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError("not UTF-8 text", file=path, line=line, expected="a file saved as UTF-8") from None
    except OSError as error:  # no permission, a name that is too long
        raise _unreadable(path, named_at, f"this recipe file cannot be read: {error}", None) from None
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if "end of stream" in str(error.problem) and error.context_mark:
            mark = error.context_mark  # an open quote or bracket: where it was opened, not the end of the file
        where = Place(path, mark.line + 1 if mark else None)
        problem = f"{error.context}, {error.problem}" if error.context else f"{error.problem}"
        raise UserError(f"broken YAML: {problem}", **_at(where)) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise UserError(
            f"broken YAML: character U+{ord(text[error.position]):04X} is not allowed", file=path, line=line
        ) from None
    except RecursionError:
        raise _too_deep(Place(path)) from None
    if node is None:
        raise UserError("the recipe is empty", file=path, expected="a mapping of keys to values")
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1
        raise UserError("the recipe is not a mapping", file=path, line=line, expected="lines such as 'key: value'")
    tree = _Reader().read(node, Place(path, node.start_mark.line + 1))
    assert isinstance(tree, Table)
    return dataclasses.replace(tree, place=Place(path))


class _Reader:
    """PyYAML's nodes as ours. `fixed`: the place of every value (command line)."""

    def __init__(self, fixed: Place | None = None) -> None:
        self.fixed = fixed
        self.count = 0

    def read(self, node: yaml.Node, place: Place, above: tuple[yaml.Node, ...] = ()) -> Node:
        if any(node is other for other in above):
            raise UserError("this YAML alias contains itself", **_at(place))
        if len(above) > MAX_DEPTH:
            raise _too_deep(place)
        self.count += 1
        if self.count > MAX_VALUES:
            raise UserError(f"more than {MAX_VALUES} values, with YAML aliases written out", **_at(place), expected="a recipe")
        if node.tag and not node.tag.startswith("tag:yaml.org,2002:"):
            raise UserError(f"the YAML tag {node.tag} means nothing here", **_at(place), expected="a plain value")
        above = (*above, node)
        if isinstance(node, yaml.ScalarNode):
            return Scalar(node.value, place, node.style is None)
        if isinstance(node, yaml.SequenceNode):
            return Items(tuple(self.read(child, self._place(child, place), above) for child in node.value), place)
        entries: dict[str, Node] = {}
        key_places: dict[str, Place] = {}
        for key, child in node.value:
            key_place = self._place(key, place)
            if not isinstance(key, yaml.ScalarNode):
                raise UserError("a key must be one word", **_at(key_place))
            if key.value in entries:
                first = key_places[key.value].line
                where = f" (first on line {first})" if first else ""
                raise UserError(f"this key stands twice{where}", **_at(key_place), key=key.value)
            # A value is reported on its own line if it has one; an empty value and a block at their key's.
            inline = isinstance(child, yaml.ScalarNode) and child.style not in ("|", ">")
            entries[key.value] = self.read(child, self._place(child, place) if inline else key_place, above)
            key_places[key.value] = key_place
        return Table(entries, place, key_places)

    def _place(self, child: yaml.Node, above: Place) -> Place:
        return self.fixed or Place(above.file, child.start_mark.line + 1)


def _too_deep(place: Place) -> UserError:
    return UserError(f"nested more than {MAX_DEPTH} levels deep", **_at(place), expected="a recipe")


def _at(place: Place | None) -> dict[str, Any]:
    return {"file": place.file, "line": place.line} if place else {}


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _unreadable(path: str, named_at: Place | None, problem: str, similar: str | None) -> UserError:
    if named_at is None:
        return UserError(problem, file=path, nearest=similar)
    return UserError(f"{problem}: {path}", **_at(named_at), key="extends", nearest=similar)


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
