"""Files of the repository that pages link to become part of the site."""

import os.path
import re
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^()\s#]+)(?=(?:#[^()\s]*)?\))")
SOURCE = "---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n````python\n{text}````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside docs/, and what these pages link to in turn."""
    pages = [DOCS / file.src_uri for file in files.documentation_pages()]
    for page in pages:
        for target in _targets(page):
            uri = _uri(target)
            if uri in files.src_uris or not target.is_file():
                continue
            if target.suffix == ".py":
                text = SOURCE.format(name=target.relative_to(ROOT), text=target.read_text())
                file = File.generated(config, uri, content=text)
            else:
                file = File.generated(config, uri, abs_src_path=str(target))
            file.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(file)
            if target.suffix == ".md":
                pages.append(target)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Point links at where the site has the files."""
    uri = page.file.src_uri
    elsewhere = uri.startswith("repository/")
    original = ROOT / uri.removeprefix("repository/") if elsewhere else DOCS / uri
    here = Path(uri).parent

    def moved(match: re.Match[str]) -> str:
        return os.path.relpath(_uri(_resolved(original, match[1])), here)

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def _targets(page: Path) -> list[Path]:
    """Return the files that a page links to."""
    return [_resolved(page, link) for link in LINK.findall(FENCE.sub("", page.read_text()))]


def _resolved(page: Path, link: str) -> Path:
    return Path(os.path.normpath(page.parent / unquote(link)))


def _uri(path: Path) -> str:
    """Return a file's place on the site: source text becomes a page."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    uri = f"repository/{path.relative_to(ROOT).as_posix()}"
    return f"{uri}.md" if path.suffix == ".py" else uri
