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

    `half_cheetah`, `half-cheetah` and `HalfCheetah-v5` are one; a path holds a slash or ends in
    `.toml`.

    Raises:
        UserError: there is no family of that name.
    """
    text = str(named)
    if "/" in text or text.endswith(".toml"):
        return Path(named)
    name = _file_name(text)
    if name not in family_names():
        hint = nearest(name, family_names()) or f"; there are {', '.join(family_names())}"
        raise UserError(f"no family of datasets is called {text!r}{hint}; a file ends in .toml")
    return families_folder() / f"{name}.toml"


def expert_path(env_id: str) -> Path:
    """Return where an environment's expert is, or would be: one file for all its versions."""
    return families_folder() / "experts" / f"{_file_name(env_id)}.safetensors"


def _file_name(env_id: str) -> str:
    """Return `hopper_medium` for Hopper_medium, Hopper-medium and any version of it."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", env_name_of(env_id)).lower()
    return name.replace("/", "_").replace("-", "_")
