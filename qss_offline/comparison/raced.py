"""A run of method auto whose members all act at its end: how much choosing cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from qss_offline.errors import UserError
from qss_offline.evaluation.acting import let_act
from qss_offline.files import write_json
from qss_offline.launch.cell import Cell
from qss_offline.parallel.processes import Tick
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.portfolio_config import MEMBERS
from qss_offline.runs.values import number
from qss_offline.runs.work import EPISODE
from qss_offline.training.rounds import episode_seed
from qss_offline.training.runner import TrainingRun

TASK = "qss_offline.comparison.raced:let_members_act"


class RacedRun(TrainingRun):
    """A run of method auto with one seed, and its members' returns."""

    @property
    def done(self) -> bool:
        """Whether all of it is done."""
        return super().done and members_file(self.folder, self.config.seeds[0]).exists()

    def cells(self, shares: int | None) -> list[Cell]:
        """Return its cells, none where all is done."""
        if self.done:
            return []
        cells = super().cells(shares)
        if members_file(self.folder, self.config.seeds[0]).exists():
            return cells
        return [*cells, members_cell(self.config, self.folder, cells)]


def members_file(folder: RunFolder, seed: int) -> Path:
    """Return the file of the members' returns."""
    return folder.seed(seed).path / "members.json"


def members_cell(config: RunConfig, folder: RunFolder, before: list[Cell]) -> Cell:
    """Return the cell in which all members act, after a run's others."""
    (seed,) = config.seeds
    path = RunFolder(folder.path.resolve())
    assert config.env_id is not None
    settings = {
        "folder": str(path.path),
        "seed": seed,
        "env_id": config.env_id,
        "episodes": config.evaluation_episodes,
        "rounds": config.inverse.rounds,
    }
    return Cell(
        f"{path.path.name} members",
        TASK,
        settings,
        (str(path.seed(seed).path),),
        len(MEMBERS) * config.evaluation_episodes * EPISODE,
        environments=(config.env_id,),
        after=tuple(cell.name for cell in before),
    )


def let_members_act(settings: Mapping[str, Any], tick: Tick) -> None:
    """Let the last policy of every member act in the episodes of the last evaluation.

    Args:
        settings: those that `members_cell` makes.
        tick: called with the units done.

    Raises:
        UserError: the race isn't done.
    """
    folder, seed = RunFolder(Path(settings["folder"])), int(settings["seed"])
    episodes = int(settings["episodes"])
    if not folder.seed(seed).result.exists():
        raise UserError(f"{folder.path} isn't done: its members act after the race")
    begin = episode_seed(seed, int(settings["rounds"]))
    returns: dict[str, list[float]] = {}
    for name in MEMBERS:
        tick(len(returns) * episodes * EPISODE, f"{name} acts")
        policy = folder.seed(seed).member(name).policy
        # One that diverged has left none.
        if policy.exists():
            returns[name] = let_act(policy, episodes, begin, settings["env_id"])["returns"]
    write_json(members_file(folder, seed), {"returns": returns})


def member_returns(path: Path) -> dict[str, float]:
    """Read the mean return of each member.

    Raises:
        UserError: the file can't be read or holds something else.
    """
    held = read_json(path).get("returns")
    if not isinstance(held, dict) or not all(isinstance(one, list) for one in held.values()):
        raise UserError(f"{path} holds no returns of members")
    return {
        name: fmean(number(one, f"{path}: {name}") for one in held[name])
        for name in MEMBERS
        if held.get(name)
    }
