"""Pages run as a reader would: `python tests/stories.py PAGE HEADING FOLDER`, `qss` on PATH."""

import re
import subprocess
import sys
from pathlib import Path

FENCE = re.compile(r'^```(\w+)(?: title="(\S+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)


def section(page: str, heading: str) -> str:
    """Return what stands under a heading."""
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE
    )
    assert found is not None, heading
    return found[1]


def commands_and_files(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the lines of the shell, and files by their names."""
    lines, files = [], {}
    for language, name, body in FENCE.findall(text):
        if name:
            files[name] = body
        elif language == "bash":
            lines += [line for line in body.splitlines() if line.strip()]
    return lines, files


def follow(text: str, folder: Path, changes: dict[str, str] | None = None) -> str:
    """Write a section's files into a folder, run its commands there, and return what they said.

    Args:
        text: the section.
        folder: where.
        changes: other words for some of the commands', such as smaller budgets.
    """
    lines, files = commands_and_files(text)
    for name, body in files.items():
        (folder / name).write_text(body)
    said = []
    for line in lines:
        for old, new in (changes or {}).items():
            line = line.replace(old, new)
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)
        said.append(f"$ {line}\n{done.stdout}{done.stderr}")
        if done.returncode:
            raise AssertionError("".join(said))
    return "\n".join(said)


if __name__ == "__main__":
    page, heading, out = sys.argv[1:]
    print(follow(section(Path(page).read_text(), heading), Path(out)))
