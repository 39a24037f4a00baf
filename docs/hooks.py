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
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside docs/, and what these pages link to in turn."""
    pages = [DOCS / file.src_uri for file in files.documentation_pages()]
    for page in pages:
        for target in _targets(page):
            if _uri(target) in files.src_uris or not target.exists():
                continue
            text = _as_page(target)
            source = {"abs_src_path": str(target)} if text is None else {"content": text}
            file = File.generated(
                config, _uri(target), inclusion=InclusionLevel.NOT_IN_NAV, **source
            )
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
    """Return the files that a page links to, and folders with what is in them."""
    targets = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        target = _resolved(page, link)
        targets += [target, *_inside(target)]
    return targets


def _inside(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else []


def _resolved(page: Path, link: str) -> Path:
    return Path(os.path.normpath(page.parent / unquote(link)))


def _uri(path: Path) -> str:
    """Return a file's place on the site: source text and folders become pages."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    uri = f"repository/{path.relative_to(ROOT).as_posix()}"
    return f"{uri}.md" if path.suffix == ".py" or path.is_dir() else uri


def _as_page(path: Path) -> str | None:
    """Return the page that shows a folder or source text, None of anything else."""
    if path.is_dir():
        text = "\n".join(f"- [{one.name}]({path.name}/{one.name})" for one in _inside(path))
    elif path.suffix == ".py":
        text = f"````python\n{path.read_text()}````\n"
    else:
        return None
    return f"{UNSEARCHED}# {path.relative_to(ROOT)}\n\n{text}"
