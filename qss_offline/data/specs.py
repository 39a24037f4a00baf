"""What a dataset is to be: read from TOML or given as arguments, checked, and named."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import parse_env_id

from qss_offline.data.environment_names import parse_name
from qss_offline.data.environments import (
    env_id_of_file,
    resolve_env_id,
    without_folder,
    without_source,
)
from qss_offline.data.policies import expert_fingerprint
from qss_offline.errors import UserError, nearest
from qss_offline.files import read_regular_file

NAMESPACE = "qss"
DEFAULT_SHARDS = 8
_MAX_SHARDS = 4096
# Longer arguments of an environment are a digest in a dataset's name.
_SHORT = 40
_MAX_SOURCE_BYTES = 10_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True)
class DatasetSpec:
    """A recording of behaviour. The same spec gives the same bytes on the same machine.

    Attributes:
        env_id: Gymnasium id or short name; stored as the full id of the newest version.
        random_action_prob: probability of a uniformly random action at each step, in [0, 1].
        transitions: steps to record, over all episodes, at least 1.
        seed: of everything random, at least 0.
        shards: independent parts with a seed each; part of the data's identity, as more
            shards cut more episodes short.
        expert: weights (`….safetensors`) that act at the other steps; unused at 1.
        name: replaces the name that is made of the settings.

    Raises:
        UserError: a value is out of range, the environment is unknown, or an expert is missing.
    """

    env_id: str
    random_action_prob: float = 1.0
    transitions: int = 100_000
    seed: int = 0
    shards: int = DEFAULT_SHARDS
    expert: Path | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "env_id", resolve_env_id(self.env_id))
        probability = self.random_action_prob
        if isinstance(probability, bool) or not isinstance(probability, int | float):
            raise UserError(f"random_action_prob: expected a number, got {probability!r}")
        if not 0.0 <= probability <= 1.0:
            raise UserError(f"random_action_prob: {probability} is not between 0 and 1")
        object.__setattr__(self, "random_action_prob", float(probability))
        for field, least, most in (
            ("transitions", 1, 10**12),
            ("seed", 0, 2**63 - 1),
            ("shards", 1, _MAX_SHARDS),
        ):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int):
                raise UserError(f"{field}: expected a whole number, got {value!r}")
            if not least <= value <= most:
                raise UserError(f"{field}: {value} is not between {least} and {most}")
        if self.expert is not None:
            object.__setattr__(self, "expert", Path(self.expert))
        elif self.random_action_prob < 1.0:
            raise UserError(
                f"random_action_prob: {probability} needs an expert for the other steps "
                "(expert = path of its .safetensors), or set it to 1"
            )
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise UserError(
                f"name: {self.name!r} may hold letters, digits, _ and - only, "
                "and starts with a letter or digit"
            )

    @property
    def behaviour_expert(self) -> Path | None:
        """The expert where it ever acts, None where all is random."""
        return self.expert if self.random_action_prob < 1.0 else None

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Transitions of each shard; none is empty."""
        shards = min(self.shards, self.transitions)
        size, rest = divmod(self.transitions, shards)
        return tuple(size + (index < rest) for index in range(shards))

    @property
    def base_id(self) -> str:
        """The id's common part, such as `qss/InvertedPendulum/v5-random-100-n100000-s0`."""
        env_id, _, arguments = without_source(self.env_id).partition("?")
        namespace, name, version = parse_env_id(env_id)
        parts = [NAMESPACE, *([namespace] if namespace else []), name]
        folder = "/".join(_plain(part) for part in parts)
        return f"{folder}/{self.name or self._settings_name(version, arguments)}"

    def _settings_name(self, version: int | None, arguments: str) -> str:
        percent = f"{100 * self.random_action_prob:.10g}"
        parts = [] if version is None else [f"v{version}"]
        if arguments:
            digest = sha256(arguments.encode()).hexdigest()[:8]
            parts.append(_plain(arguments) if len(arguments) <= _SHORT else f"args-{digest}")
        parts += ["random", _plain(percent)]
        if self.behaviour_expert is not None:
            parts.append(_plain(self.behaviour_expert.stem))
        parts += [f"n{self.transitions}", f"s{self.seed}"]
        if self.shards != DEFAULT_SHARDS:
            parts.append(f"k{self.shards}")
        return "-".join(parts)

    @property
    def obs_id(self) -> str:
        """Minari id of the dataset without actions."""
        return f"{self.base_id}-obs-v0"

    @property
    def act_id(self) -> str:
        """Minari id of its twin with actions."""
        return f"{self.base_id}-act-v0"

    def identity(self) -> dict[str, str | int | float | None]:
        """Return what settles the data, as plain JSON values: equal identity, equal data.

        Raises:
            UserError: the expert, or the environment's file, can't be read.
        """
        expert = self.behaviour_expert
        environment = parse_name(self.env_id)
        held = None
        if environment.is_file:
            held = sha256(read_regular_file(Path(environment.source), _MAX_SOURCE_BYTES))
        return {
            "env_id": without_folder(self.env_id),
            "random_action_prob": self.random_action_prob,
            "transitions": self.transitions,
            "seed": self.seed,
            "shards": self.shards,
            "expert_sha256": None if expert is None else expert_fingerprint(expert),
            **({} if held is None else {"environment_sha256": held.hexdigest()}),
        }


def _plain(text: str) -> str:
    """Return `text` with what a Minari id can't hold replaced by an underscore."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


@dataclass(frozen=True)
class Family:
    """Datasets that differ in their randomness alone.

    Attributes:
        specs: what is to be recorded, one for each randomness.
        paper_returns: from a random_action_prob to the return of the behaviour that the paper
            reports for it (π_o of its Table 1); for comparison only.
    """

    specs: tuple[DatasetSpec, ...]
    paper_returns: Mapping[float, float]


_FAMILY_KEYS = {"random_action_probs", "paper_returns"} | {
    field.name for field in fields(DatasetSpec) if field.name != "random_action_prob"
}


def read_family(path: Path) -> Family:
    """Read a TOML file that describes a family of datasets, one for each randomness.

    Keys: those of `DatasetSpec`, with `random_action_probs` (a list) in the place of
    `random_action_prob`, and `paper_returns` (a table, such as `{ "0.25" = -12.5 }`). A relative
    `expert` is looked up beside the file.

    Raises:
        UserError: the file can't be read or isn't TOML, a key is unknown or its value wrong.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    try:
        return Family(_specs(table, path.parent), _paper_returns(table.get("paper_returns", {})))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _paper_returns(table: object) -> dict[float, float]:
    if not isinstance(table, dict):
        raise UserError(f"paper_returns: expected a table of numbers, got {table!r}")
    returns: dict[float, float] = {}
    for key, value in table.items():
        try:
            level = float(key)
        except ValueError:
            level = math.nan
        if not 0.0 <= level <= 1.0:
            raise UserError(f"paper_returns: {key!r} is no random_action_prob from 0 to 1")
        if level in returns:
            raise UserError(f"paper_returns: {level:g} is there twice")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise UserError(f"paper_returns: expected a number for {key!r}, got {value!r}")
        returns[level] = float(value)
    return returns


def _specs(table: dict[str, Any], folder: Path) -> tuple[DatasetSpec, ...]:
    for key in table:
        if key not in _FAMILY_KEYS:
            raise UserError(f"unknown key {key!r}{nearest(key, sorted(_FAMILY_KEYS))}")
    if "env_id" not in table:
        raise UserError('env_id is missing, such as env_id = "InvertedPendulum-v5"')
    table = {**table, "env_id": env_id_of_file(table["env_id"], "env_id")}
    settings = {key: value for key, value in table.items() if key != "paper_returns"}
    levels = settings.pop("random_action_probs", [1.0])
    if not isinstance(levels, list) or not levels:
        raise UserError(f"random_action_probs: expected a list of numbers, got {levels!r}")
    if len({float(x) for x in levels if isinstance(x, int | float)}) != len(levels):
        raise UserError(f"random_action_probs: expected different numbers, got {levels!r}")
    if len(levels) > 1 and "name" in settings:
        raise UserError("name: several datasets can't share one; leave it out")
    if "expert" in settings:
        if not isinstance(settings["expert"], str):
            raise UserError(f"expert: expected a path, got {settings['expert']!r}")
        settings["expert"] = folder / settings["expert"]
    return tuple(DatasetSpec(random_action_prob=level, **settings) for level in levels)
