"""The race: who acts in a round, for how many steps, and who is left.

All members that are left share a round's steps alike, each from a reset on, so that what an
episode of theirs would return can be compared: successive halving (Karnin, Koren and Somekh, ICML
2013) over a few rounds. After each, the better half stays, and so the last round may be the
winner's alone. How they did in earlier rounds, on a worse IDM, counts between equals only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qss_offline.errors import UserError, shown
from qss_offline.runs.portfolio_config import MEMBERS
from qss_offline.runs.values import MISSING, number, whole


@dataclass(frozen=True)
class Heat:
    """What a member did in a round.

    Attributes:
        member: its name.
        steps: environment steps.
        reward: the sum of their rewards.
        episode_steps: how long its episodes are expected to be.
    """

    member: str
    steps: int
    reward: float
    episode_steps: float

    @property
    def mean(self) -> float:
        """Return of an episode of that length at this pace."""
        return self.reward / self.steps * self.episode_steps


class Pace:
    """Counts a member's steps in a round, and judges by all of them.

    Steps are few and may end before an episode does: whole episodes are then the short ones, and
    who never falls has none. So the length of an episode is estimated from cut ones, too: steps
    over terminations (the maximum-likelihood estimate at a constant rate), at most the time limit,
    which also stands where nothing has terminated yet. Who is judged too well by it is found out in
    the next round, in which shares are longer.

    Args:
        limit: environment steps after which an episode is cut; None where there is no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._reward, self._steps, self._terminations = 0.0, 0, 0

    def __call__(self, reward: float, terminated: bool) -> None:
        """Take a step's reward, and whether it terminated the episode."""
        self._reward += reward
        self._steps += 1
        self._terminations += terminated

    def heat(self, member: str) -> Heat:
        """Return what a member did."""
        limit = float(self._limit or self._steps)
        length = min(limit, self._steps / self._terminations) if self._terminations else limit
        return Heat(member, self._steps, self._reward, length)


class Race:
    """A race of one seed.

    Args:
        members: names; of equals the earlier one wins.
    """

    def __init__(self, members: Sequence[str] = MEMBERS) -> None:
        self.members = tuple(members)
        self.rounds: list[tuple[Heat, ...]] = []

    @property
    def field(self) -> tuple[str, ...]:
        """Who acts in the next round, the best first."""
        if not self.rounds:
            return self.members
        standing = self.standing
        return standing[: math.ceil(len(standing) / 2)]

    @property
    def standings(self) -> list[tuple[str, ...]]:
        """Who acted in each round, the best first."""
        means: list[dict[str, float]] = []
        found = []
        for heats in self.rounds:
            means.insert(0, {heat.member: heat.mean for heat in heats})
            keys = {member: tuple(-one[member] for one in means) for member in means[0]}
            found.append(
                tuple(sorted((m for m in self.members if m in keys), key=keys.__getitem__))
            )
        return found

    @property
    def standing(self) -> tuple[str, ...]:
        """Who acted in the last round, the best first; all members before the first."""
        return self.standings[-1] if self.rounds else self.members

    @property
    def leader(self) -> str:
        """Who would win now."""
        return self.standing[0]

    def shares(self, steps: int, able: Sequence[str] | None = None) -> dict[str, int]:
        """Return the steps of each member of the field in the next round; they add up.

        Args:
            steps: of the round.
            able: who of the field can act; None takes all.

        Raises:
            UserError: there are fewer steps than members.
        """
        field = self.field if able is None else able
        if steps < len(field):
            raise UserError(
                f"{steps} online steps a round are too few to race {len(field)} members; give more "
                "--online-steps, or choose a --method"
            )
        each, more = divmod(steps, len(field))
        return {member: each + (index < more) for index, member in enumerate(field)}

    def add(self, heats: Sequence[Heat]) -> None:
        """Take what a round came to."""
        self.rounds.append(tuple(heats))

    def plain(self) -> list[list[dict[str, Any]]]:
        """Return the rounds as JSON holds them."""
        return [[dict(vars(heat)) for heat in heats] for heats in self.rounds]

    @staticmethod
    def of_file(rounds: object, where: object, members: Sequence[str] = MEMBERS) -> Race:
        """Undo `plain`, of an untrusted file.

        Raises:
            UserError: the file holds something else.
        """
        if not isinstance(rounds, list) or not all(isinstance(heats, list) for heats in rounds):
            raise UserError(f"{where}: race is {shown(rounds)}, expected a list of lists")
        race = Race(members)
        left = set(race.members)
        for heats in rounds:
            found = [_heat(heat, left, where) for heat in heats]
            left = {heat.member for heat in found}
            if not found or len(left) < len(found):
                raise UserError(f"{where}: a round of the race names a member twice, or none")
            race.add(found)
        return race


def _heat(heat: object, members: set[str], where: object) -> Heat:
    member = heat.get("member") if isinstance(heat, dict) else None
    if not isinstance(heat, dict) or not isinstance(member, str) or member not in members:
        raise UserError(f"{where}: the race holds {shown(heat)}")
    steps = whole(heat.get("steps"), f"{where}: steps of the race")
    if not steps:
        raise UserError(f"{where}: a member of the race took no steps")
    reward, length = (
        number(heat.get(name, MISSING), f"{where}: {name} of the race")
        for name in ("reward", "episode_steps")
    )
    if not math.isfinite(reward * length):
        raise UserError(f"{where}: the race holds {shown(heat)}, which can't be compared")
    return Heat(member, steps, reward, length)


RACE_HEADER = ("seed", "member", "return of an episode, by round", "steps", "")
"""Columns of `race_table`."""


def race_table(seeds: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return what each member did, a line for each seed and member, the winner's first.

    Args:
        seeds: those of a run's results; those that didn't race, as offline, have no line.
    """
    rows: list[tuple[str, ...]] = []
    for seed in (one for one in seeds if "race" in one):
        race = Race.of_file(seed["race"], f"seed {seed['seed']}")
        heats = [{heat.member: heat for heat in heats} for heats in race.rounds]
        # Whoever stayed longest, and of these the best, comes first.
        order = [m for found in reversed(race.standings) for m in found]
        for member in dict.fromkeys(order or race.members):
            own = [found[member] for found in heats if member in found]
            rows.append(
                (
                    str(seed["seed"]),
                    member,
                    ", ".join(f"{heat.mean:.1f}" for heat in own) or "never acted",
                    f"{sum(heat.steps for heat in own):,}",
                    "won" if race.rounds and member == race.leader else "",
                )
            )
    return rows
