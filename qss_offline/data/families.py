"""The families of datasets and the experts that come with the package, found by name.

They lie in `datasets/` of a clone, and in `qss_offline/datasets` once the package is built.
"""

from __future__ import annotations

import re
from pathlib import Path

from qss_offline.data.environments import env_name_of
from qss_offline.errors import UserError, nearest

_PACKAGE = Path(__file__).parent.parent


def families_folder() -> Path:
    """Return the folder of the families' TOML files."""
    built = _PACKAGE / "datasets"
    return built if built.exists() else _PACKAGE.parent / "datasets"


def family_names() -> list[str]:
    """Return the names of the families that come with the package."""
    return sorted(path.stem for path in families_folder().glob("*.toml"))


def family_path(named: str | Path) -> Path:
    """Return the TOML file of a family, given its name, its environment's, or a path.

    `half_cheetah`, `half-cheetah`, `halfcheetah` and `HalfCheetah-v5` are one; a path holds a slash
    or ends in `.toml`.

    Raises:
        UserError: there is no family of that name.
    """
    text = str(named)
    if "/" in text or text.endswith(".toml"):
        return Path(named)
    names = family_names()
    for name in names:
        if _folded(name) == _folded(text):
            return families_folder() / f"{name}.toml"
    hint = nearest(text.replace("-", "_"), names) or f"; there are {', '.join(names)}"
    raise UserError(f"no family of datasets is called {text!r} (a file ends in .toml){hint}")


def expert_path(env_id: str) -> Path:
    """Return where an environment's expert is, or would be: one file for all its versions."""
    return families_folder() / "experts" / f"{own_family(env_id)}.safetensors"


def own_family(env_id: str) -> str:
    """Return the name of an environment's own family: `half_cheetah` for any HalfCheetah."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", env_name_of(env_id)).lower()
    return name.replace("/", "_").replace("-", "_")


def _folded(name: str) -> str:
    """Return letters and digits of a name without its version: those of one family are alike."""
    return re.sub(r"[^a-z0-9]", "", env_name_of(name.lower()))
