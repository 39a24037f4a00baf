"""Resuming: a run's folder says everything, and an option that contradicts it is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from qss_offline.cli.command import given_options
from qss_offline.data.environments import env_id_of_file, resolve_env_id
from qss_offline.errors import UserError
from qss_offline.runs.folder import RunFolder, parse_seeds, read_json
from qss_offline.settings_json import settings_of

Settings = TypeVar("Settings")

_FLAGS = {"change": "--set"}


def plain_options(options: Mapping[str, Any], *but: str) -> dict[str, Any]:
    """Return a command's options as `config.json` keeps them, but for some."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if name not in but
    }


def run_to_resume(
    settings_type: type[Settings],
    method: str,
    out: Path | None,
    options: Mapping[str, Any],
    command: Callable[..., Any],
) -> tuple[RunFolder, Settings]:
    """Return the folder of a run to go on with, and everything that it was asked to do.

    Args:
        settings_type: what its `config.json` holds.
        method: of the run.
        out: its folder; None takes the newest of the method under `runs/`.
        options: those of the command that say what is trained, by name.
        command: its function, whose defaults options have where they weren't given.

    Raises:
        UserError: there is no such run, it is of another method, its settings can't be read, or an
            option contradicts it.
    """
    folder = RunFolder(_newest(method) if out is None else out)
    folder.check(resume=True)
    config = read_json(folder.config)
    if config.get("method") != method:
        raise UserError(
            f"{folder.path} holds no run of this command: its method is "
            f"{config.get('method', 'unknown')!s:.40}, not {method}"
        )
    parameters = inspect.signature(command).parameters
    defaults = {name: parameters[name].default for name in options}
    _check_options(folder, config, options, defaults)
    # After what the user named: a module is imported only where `--env` names it.
    config["env_id"] = env_id_of_file(config.get("env_id"), folder.config)
    return folder, settings_of(settings_type, config, str(folder.config))


def _newest(method: str) -> Path:
    """Return the newest run folder of a method under `runs/`.

    Raises:
        UserError: there is none.
    """
    found = []
    for path in Path("runs").glob("*/config.json"):
        try:
            if read_json(path).get("method") == method:
                found.append(path)
        except UserError:
            continue
    if not found:
        raise UserError(
            "runs/ holds no run of this command to resume; give its folder with --out, or leave "
            "out --resume to start one"
        )
    return max(found, key=lambda path: path.stat().st_mtime).parent


def _check_options(
    folder: RunFolder,
    config: Mapping[str, Any],
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> None:
    asked, stored = given_options(), config.get("options")
    given = plain_options(options)
    usual = plain_options(defaults)
    for name, value in given.items():
        if value == usual[name] if asked is None else name not in asked:
            continue
        flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
        if not isinstance(stored, dict) or name not in stored:
            raise UserError(
                f"{folder.path} doesn't say with which {flag} it was started; leave {flag} out to "
                "resume it"
            )
        if name == "env":
            same = resolve_env_id(value) == env_id_of_file(config.get("env_id"), folder.config)
        elif name == "seeds":
            same = list(parse_seeds(value)) == config.get("seeds")
        else:
            same = value == stored[name]
        if not same:
            raise UserError(
                f"{folder.path} was started with {flag} {_shown(stored[name])}, not "
                f"{_shown(value)}; leave {flag} out to resume it, or --resume to start another run"
            )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "unset" if value is None else str(value)
