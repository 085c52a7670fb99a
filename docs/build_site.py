"""Build the documentation as a site in two languages: build/site/ (English) and build/site/ko/ (Korean).

    make docs

A page NAME.md has its Korean twin in NAME.ko.md beside it; without one the English page stands in both. The pages are copied
with the files that they link to, at the paths of the repository, so that a link which works on GitHub works in the site. The
reference of recipe keys is made of the fields that read the recipes. Zensical stops at a link that leads nowhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from align_ko.errors import missing_package, run_script
from align_ko.recipe.keys import describe, dict_values, keys_of, list_items, range_words, record_of, shown
from align_ko.recipe.record import MISSING, Key, Kind
from align_ko.recipe.schema import RECIPES
from align_ko.recipe.yaml_lines import text_of

ROOT = Path(__file__).parents[1]
LANGUAGES = ("en", "ko")
SECTIONS: dict[tuple[str, str], str] = {
    ("Start", "시작하기"): "README docs/story docs/quickstart docs/install docs/own_data docs/large_models",
    ("How to", "방법"): "docs/symptoms docs/methods docs/evaluation docs/chat docs/checks docs/machines docs/support",
    ("Models", "모델"): "recipes/*/README",
    ("Recipe keys", "레시피 키"): "docs/keys/*",
    ("Background", "더 깊이"): "docs/* metrics/*/README CHANGELOG",
}
"""Title in each language → pages, without their ending; a page stands in the first section that names it."""
STYLE = (
    ".md-typeset, .md-typeset a { word-break: keep-all; overflow-wrap: break-word }"
    ".md-typeset td:first-child code { white-space: nowrap }"
)
"""Korean lines break between words, keys do not break."""
PAGES = ("README", "CHANGELOG", "docs/*", "recipes/*/README", "metrics/*/README")

# -------------------- the reference of recipe keys

WORDS = {
    "en": {
        "head": "# Keys of {name}.yaml\n\n{doc} Every key is a flag too: `--key value`. A recipe that `extends` another"
        " contains only what differs.\n",
        "columns": "key | what may stand there | default | meaning",
        "required": "**required**",
        "trl": "Any field of TRL's {config}; type, default and meaning are TRL's.",
    },
    "ko": {
        "head": "# {name}.yaml의 키\n\n모든 키는 명령줄 옵션(`--키 값`)으로도 쓸 수 있습니다. `extends`로 다른 레시피를"
        " 이어받으면 달라지는 값만 적으면 됩니다. 아래 표는 레시피를 읽는 코드에서 만든 것이어서 설명이 영어입니다.\n",
        "columns": "키 | 쓸 수 있는 값 | 기본값 | 설명",
        "required": "**필수**",
        "trl": "TRL {config}의 필드를 모두 쓸 수 있습니다. 형식, 기본값, 설명은 TRL의 것입니다.",
    },
}


def rows_of(owner: Kind, above: str = "") -> Iterator[tuple[str, Key]]:
    """Every key below a record by its dotted name; NAME stands for a free key of a mapping, N for a place in a list."""
    for name, key in keys_of(owner).items():
        below, values, items = record_of(key.type), dict_values(key.type), list_items(key.type)
        if key.help or not below:
            yield f"{above}{name}", key
        if inside := below or record_of(values or items or str):
            yield from rows_of(inside, f"{above}{name}.{'' if below else 'NAME.' if values else 'N.'}")


def cell(text: str) -> str:
    """Text for a table: neither a column's mark nor, outside `code`, a tag."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def keys_page(name: str, language: str) -> str:
    """Markdown of all keys of a recipe, those of TRL's config in a table of their own."""
    owner, words = RECIPES[name], WORDS[language]
    tables: dict[bool, str] = {False: "", True: ""}
    for key_name, key in rows_of(owner):
        kind, limits = describe(key.type), "" if list_items(key.type) else range_words(key.type)
        kind = limits if limits.startswith("a ") else f"{kind}, {limits}" if limits else kind
        default = words["required"] if key.default is MISSING else f"`{shown(text_of(key.default))}`"
        row = f"| `{key_name}` | {cell(kind)} | {cell(default)} | {cell(key.help.replace('%%', '%'))} |\n"
        tables[key_name.startswith("training.")] += row
    head = f"\n| {words['columns']} |\n|---|---|---|---|\n"
    text = words["head"].format(name=name, doc=" ".join((owner.__doc__ or "").split())) + head + tables[False]
    if tables[True]:
        config = record_of(keys_of(owner)["training"].type)
        text += f"\n## training\n\n{words['trl'].format(config=getattr(config, 'name', ''))}\n{head}{tables[True]}"
    return text


# -------------------- the site


def copy_pages(language: str, place: Path) -> None:
    """The pages in one language and the files that they link to, at the paths of the repository."""

    def write(path: Path, content: bytes) -> None:
        target = place / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    for page in (page for pattern in PAGES for page in ROOT.glob(f"{pattern}.md") if not page.name.endswith(".ko.md")):
        twin = page.with_suffix(".ko.md")
        text = (twin if language == "ko" and twin.exists() else page).read_text(encoding="utf-8")
        write(page, re.sub(r"\.ko\.md(?=[)#])", ".md", text).encode())
        for link in re.findall(r"\]\(([^)\s#:]+)", text):
            linked = (page.parent / link).resolve()
            if linked.is_file() and linked.suffix != ".md":
                write(linked, linked.read_bytes())
    for name in RECIPES:
        write(ROOT / f"docs/keys/{name}.md", keys_page(name, language).encode())
    write(ROOT / "style.css", STYLE.encode())


def configuration(language: str, names: set[str]) -> dict[str, object]:
    """Zensical's settings for the pages `names`; a page's title is its first heading."""
    nav: list[dict[str, list[str]]] = []
    left = set(names)
    for titles, patterns in SECTIONS.items():
        pages = [name for pattern in patterns.split() for name in sorted(left) if fnmatchcase(name, f"{pattern}.md")]
        pages = list(dict.fromkeys(pages))
        left -= set(pages)
        nav.append({titles[LANGUAGES.index(language)]: pages})
    top = "./" if language == "en" else "../"
    alternate = [{"name": "English", "link": top, "lang": "en"}, {"name": "한국어", "link": f"{top}ko", "lang": "ko"}]
    return {
        "site_name": "align_ko",
        "docs_dir": f"docs/{language}",
        "site_dir": "site" if language == "en" else "site/ko",
        "nav": nav,
        "extra_css": ["style.css"],
        "extra": {"alternate": alternate, "generator": False},
        "theme": {"language": language, "font": False, "features": ["navigation.sections", "content.code.copy", "toc.follow"]},
    }


def main() -> None:
    """Build both sites; exit 1 where Zensical warns."""
    if not shutil.which("zensical"):
        raise missing_package("zensical")
    build = ROOT / "build"
    for part in ("docs", "site"):
        shutil.rmtree(build / part, ignore_errors=True)
    for language in LANGUAGES:
        place, settings = build / "docs" / language, build / f"docs.{language}.yml"
        copy_pages(language, place)
        names = {str(path.relative_to(place)) for path in place.rglob("*.md")}
        settings.write_text(json.dumps(configuration(language, names), ensure_ascii=False, indent=1), encoding="utf-8")
        command = ["zensical", "build", "--strict", "--clean", "--config-file", str(settings)]
        if subprocess.run(command, check=False).returncode:
            sys.exit(1)
    print(f"{(build / 'site').relative_to(ROOT)}: built")


if __name__ == "__main__":
    run_script(main)
