"""Hooks of the docs site (see mkdocs.yml): links that leave docs/, and our habits for the reference.

The pages are written to be read in the repository, where a link may lead anywhere. On the site, README.md is the home
page, a module of the package is its place in the reference, and every other file that a page links to is copied along.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!https?:)([^)#\s]+)(?=[)#])")
JOINED = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)$", re.MULTILINE)
HOME = "README.md"


def target(page: str, link: str) -> str:
    """The path in the repository that a page's link leads to; of a folder, the path of its README.md."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return f"{path}/{HOME}" if (ROOT / path).is_dir() else path


def place(path: str) -> str:
    """Where a file of the repository is on the site."""
    if path == HOME:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("src/p2l_sdk/") and path.endswith(".py"):
        module = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
        return f"reference/{module.split('.')[1]}.md#{module}"
    return path


def on_files(files: Files, config: Any) -> Files:
    """Adds README.md and whatever it and other pages link to outside docs/, page by page."""
    pages = [HOME, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    for path in pages:  # grows
        if not path.startswith("docs/"):
            files.append(File.generated(config, place(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            linked = {target(path, link) for link in LINK.findall((ROOT / path).read_text(encoding="utf-8"))}
            pages += sorted(new for new in linked - set(pages) if place(new) == new and (ROOT / new).is_file())
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points each link of a page at the place of its file on the site."""
    path = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    start = posixpath.dirname(page.file.src_uri) or "."
    return LINK.sub(lambda link: posixpath.relpath(place(target(path, link[1])), start), markdown)


def each_by_itself(line: re.Match[str]) -> str:
    """One line for each name of a line "a, b: two of one kind"."""
    return "\n".join(f"{line[1]}{name}: {line[3]}" for name in line[2].split(", "))


class Habits(griffe.Extension):
    """Two habits of the sources that the reference has to be told of."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """modeling/ is the package's `p2l_sdk.modeling`, though it lies at the top level of the repository."""
        if pkg.name == "p2l_sdk" and "modeling" not in pkg.members:
            pkg.set_member("modeling", loader.load("modeling"))

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """One line of a docstring may describe several parameters."""
        if obj.docstring:
            obj.docstring.value = JOINED.sub(each_by_itself, obj.docstring.value)
            if obj.filepath.name == "pipeline_p2l.py":  # describes keywords that transformers passes on
                obj.docstring.parser_options = {**obj.docstring.parser_options, "warnings": False}
