"""The chat templates that ship: `default` is ours, the others are model families' published formats. No transformers here."""

from __future__ import annotations

from pathlib import Path

OWN = "tokenizer"  # in place of a name: the template that the checkpoint brings


def names() -> tuple[str, ...]:
    """`default` first, then the model families: gemma3, llama3, …"""
    found = sorted(path.stem for path in Path(__file__).parent.glob("*.jinja"))
    return ("default", *(name for name in found if name != "default"))


def path_of(template: str) -> Path:
    """The file of a template that ships, or `template` itself as a path."""
    return Path(__file__).parent / f"{template}.jinja" if template in names() else Path(template).expanduser()
