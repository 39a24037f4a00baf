"""Modules and files that environments come from, and where a class or function came from.

Whoever loads here has made sure that the user named it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import gymnasium

from qss_offline.errors import UserError, one_line, shown

EnvFactory: TypeAlias = Callable[..., "gymnasium.Env[Any, Any]"]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Gymnasium's remarks on versions and precision; they aren't the user's doing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load_module(name: str) -> ModuleType:
    """Import a module.

    Raises:
        UserError: it can't be imported.
    """
    with quiet():
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:
            # A module that is imported may raise anything, and so may a name that is none.
            raise UserError(
                f"environment: the module {shown(name)} can't be imported: {one_line(error)}"
            ) from error


def _module_name(path: Path) -> str:
    return (
        f"{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{sha256(str(path).encode()).hexdigest()[:12]}"
    )


def load_file(path: Path) -> ModuleType:
    """Load a file as a module whose name no other has; once a process.

    Raises:
        UserError: there is no such file, or it raises.
    """
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise UserError(f"environment: {shown(str(path))} is no file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"environment: {shown(str(path))} is no Python file (….py)")
    if str(path.parent) not in sys.path:
        # Behind everything else: what lies beside the file takes no installed package's place.
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with quiet():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(
            f"environment: {shown(str(path))} can't be loaded: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error
    return module


def importable_source(made: EnvFactory) -> str | None:
    """Return the module or file in which a fresh process finds a class or function by its name."""
    name, module_name = getattr(made, "__qualname__", None), getattr(made, "__module__", None)
    module = sys.modules.get(module_name or "")
    if module is None or module_name == "__main__" or getattr(module, str(name), None) is not made:
        return None
    path = getattr(module, "__file__", None)
    if path is not None and module_name == _module_name(Path(path)):
        return str(path)
    return module_name if _is_found_again(module) else None


def _is_found_again(module: ModuleType) -> bool:
    """Return whether the import system, without what is imported already, finds this module."""
    folders: Any = None
    parts = module.__name__.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        found = next((s for f in finders if f and (s := f(name, folders, None))), None)
        if found is None:
            return False
        folders = found.submodule_search_locations
    return found is not None and found.origin == getattr(module, "__file__", None)


def replaces(before: Any, made: EnvFactory) -> bool:
    """Return whether a callable is another's, from a cell or script that ran once more."""
    if before is made:
        return True
    if isinstance(before, type) and isinstance(made, type):
        return (before.__module__, before.__qualname__) == (made.__module__, made.__qualname__)
    try:
        return bool(_behaviour(before) == _behaviour(made))
    except Exception:
        # What a closure holds may refuse to be compared.
        return False


def _behaviour(function: Any) -> tuple[Any, ...]:
    code = function.__code__
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    return code.co_code, code.co_consts, code.co_names, function.__defaults__, cells
