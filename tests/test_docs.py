"""What README and docs link to, show and name exists, and what is measured is shown there."""

import importlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer

import qss_offline
from qss_offline.cli import program
from qss_offline.cli.training import random_obs
from tests.published import needs_published

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING")), *DOCS]
LINK = re.compile(r"\]\(([^()\s]+(?:\([^()]*\))?)\)")
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@needs_published
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_image_exists(page: Path) -> None:
    missing = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


def test_links_are_looked_at() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert len(LINK.findall(text)) > 50
    assert "behaviour-stochasticity" in anchors(ROOT / "docs" / "method.md")


def test_every_module_that_is_named_exists() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"python -m ((?:recipes|benchmarks)\.\w+)", text))
    assert "recipes.random_obs" in named and len(named) > 5
    assert [name for name in named if not (ROOT / f"{name.replace('.', '/')}.py").exists()] == []


def commands_of(text: str, programs: tuple[str, ...] = ("qss ",)) -> list[str]:
    """Return the commands that a page has in its blocks, and those of `qss` in its lines."""
    blocks = [line for block in CODE.findall(text) for line in block.splitlines()]
    inline = re.findall(r"`(qss [^`]+)`", CODE.sub("", text).replace("\n", " "))
    asked = [re.sub(r"^\$ ", "", line).partition("  #")[0].strip() for line in blocks]
    asked = [part.strip() for line in asked for part in line.split("&&")]
    return [line for line in asked if line.startswith(programs)] + inline


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    wrong = []
    for line in commands_of(page.read_text()):
        words = re.split(r"[\s|]+", line)[1:]
        command: Any = typer.main.get_command(program.app)
        while hasattr(command, "commands") and words:
            name = words.pop(0)
            if name in command.commands:
                command = command.commands[name]
            elif name.isidentifier():
                wrong.append(line)
                break
        if hasattr(command, "commands"):
            continue
        known = {option for one in command.params for option in one.opts + one.secondary_opts}
        asked = {word.partition("=")[0].strip(",.") for word in words if word.startswith("--")}
        if not asked <= known | {"--help", "-h"}:
            wrong.append(f"{line}: {sorted(asked - known)}")
    assert wrong == []


def options_of(command: Any) -> set[str]:
    """Return the options of a command and of those below it."""
    below = getattr(command, "commands", {}).values()
    own = {option for one in command.params for option in one.opts + one.secondary_opts}
    return own.union(*map(options_of, below))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_is_named_alone_exists(page: Path) -> None:
    """In tables and in the text; `random_obs` has the options of the command that it is."""
    recipe = typer.Typer()
    recipe.command()(random_obs)
    known = set[str]().union(
        *(options_of(typer.main.get_command(a)) for a in (program.app, recipe))
    )
    for path in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'add_argument\("(--[\w-]+)"', path.read_text()))
    alone = re.findall(r"`(--[^`]+)`", CODE.sub("", page.read_text()))
    named = {word for text in alone for word in re.findall(r"(?<![\w-])--[a-z0-9-]+", text)}
    assert sorted(named - known) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_of_the_package_that_is_named_exists(page: Path) -> None:
    names = re.findall(r"\bqss_offline(?:\.[a-z_]\w*)+", page.read_text())
    missing = []
    for name in set(names):
        found: Any = qss_offline
        for depth, part in enumerate(name.split(".")[1:], 2):
            path = ".".join(name.split(".")[:depth])
            if not hasattr(found, part) and find_spec(path) is not None:
                importlib.import_module(path)
            if not hasattr(found, part):
                missing.append(name)
                break
            found = getattr(found, part)
    assert missing == []


def test_commands_are_looked_at() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert len(commands_of(text)) > 30


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2].partition("\n\n")[0]
    named = re.findall(r"[\w/-]+\.md", navigation)
    here = [str(page.relative_to(ROOT / "docs")) for page in DOCS]
    assert sorted(name for name in named if not name.startswith("repository/")) == sorted(here)


def test_every_public_name_is_in_the_api_reference() -> None:
    page = (ROOT / "docs/api.md").read_text()
    shown = re.findall(r"^::: qss_offline\.(\w+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(qss_offline.__all__)


def test_messages_that_are_answered_are_messages_of_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "qss_offline").rglob("*.py"))
    # Literals that stand after each other are one.
    code = re.sub(r'"\s+f?"', "", code)
    page = (ROOT / "docs/faq.md").read_text()
    messages = re.findall(r"^```text\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    messages += re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert len(messages) > 20
    parts = [part.strip() for one in messages for part in " ".join(one.split()).split("…")]
    assert [part for part in parts if part.strip("; :") not in code] == []


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {qss_offline.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@needs_published
@pytest.mark.parametrize("folder", ["results", "benchmarks/results"])
def test_every_result_is_shown(folder: str) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    there = [path.name for path in (ROOT / folder).iterdir()]
    assert there
    # Whole names: `online` isn't shown by what shows `online_budget_means`.
    assert [n for n in there if not re.search(rf"\b{re.escape(n)}(?![\w-])", text)] == []
