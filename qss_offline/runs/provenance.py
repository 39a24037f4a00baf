"""What a measurement was made on."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qss_offline.files import write_json
from qss_offline.runs.folder import versions

_CODE = ("*.py", "*.toml", "constraints.txt")
"""What results are made by."""


def machine() -> dict[str, Any]:
    """Processor, cores, versions, commit, command line and date."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "system": platform.platform(),
        "versions": versions(),
        "commit": _commit(),
        "command": _command(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results, and what they were made on, which stays where all were there already.

    Args:
        folder: gets `provenance.json` and a file for each of them.
        results: by name.
    """

    def held() -> list[bytes | None]:
        return [path.read_bytes() if path.exists() else None for path in paths]

    provenance = folder / "provenance.json"
    paths = [folder / f"{name}.json" for name in results]
    before = held()
    for path, one in zip(paths, results.values(), strict=True):
        write_json(path, one)
    if held() != before or not provenance.exists():
        write_json(provenance, {"machine": machine()})


def _commit() -> str | None:
    """The commit of a clone, with a mark where its code has changes; None outside of one.

    Results and docs may: a command that writes into them would mark what it writes.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = commit and _git(root, "status", "--porcelain", "-uno", "--", *_CODE)
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git says, None if nothing."""
    try:
        found = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None


def _command() -> str:
    """The command line, as a shell takes it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        program = [Path(sys.argv[0]).name]
    else:
        program = ["python", "-m", spec.name.removesuffix(".__main__")]
    return shlex.join([*program, *sys.argv[1:]])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
