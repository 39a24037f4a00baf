"""The race: who acts in which round, and who wins.

A member that learns from labels goes on improving while it acts, because its steps teach the IDM
where the recording leads; D3G's proposals are learned before. So BCO acts in all rounds that the
others leave, then each of the others in one, and whoever leads then in the last. The mean of a
member's last two rounds counts: whoever leads after one may have been lucky, and the last round
tells. A round is one member's, from a reset on: the shorter its share, the less of an episode it
would show.

Recordings of deterministic behaviour show no way back to it, so that noise may cost a policy most
of its return. There members are compared without noise, and BCO has two rounds after the others:
what it does may change much from round to round (`docs/method.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from qss_offline.errors import UserError, shown
from qss_offline.runs.portfolio_config import LEAST_ROUNDS, MEMBERS
from qss_offline.runs.values import MISSING, number, whole

_AGAIN = 2
"""Rounds of BCO after the others' where behaviour was deterministic."""

_COUNTED = 2
"""Rounds of a member that count, its last ones."""


@dataclass(frozen=True)
class Heat:
    """What a member did in a round.

    Attributes:
        member: its name.
        steps: environment steps; 0 where its networks were no longer finite, and the round acted
            at random.
        reward: the sum of their rewards.
        episode_steps: how long its episodes are expected to be.
    """

    member: str
    steps: int
    reward: float
    episode_steps: float

    @property
    def mean(self) -> float:
        """Return of an episode of that length at this pace; NaN of no steps."""
        return self.reward / self.steps * self.episode_steps if self.steps else math.nan

    @staticmethod
    def diverged(member: str) -> Heat:
        """Return what a member did whose networks were no longer finite."""
        return Heat(member, 0, 0.0, 0.0)


class Pace:
    """Counts a member's steps in a round, and judges by all of them.

    Steps are few and may end before an episode does: whole episodes are then the short ones, and
    who never falls has none. So the length of an episode is estimated from cut ones, too: steps
    over terminations (the maximum-likelihood estimate at a constant rate), at most the time limit,
    which also stands where nothing has terminated yet.

    Args:
        limit: environment steps after which an episode is cut; None where that isn't known: then
            it is the longest that was cut, all of the round's steps where none was.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._reward, self._steps, self._terminations = 0.0, 0, 0
        self._length, self._longest_cut = 0, 0

    def __call__(self, reward: float, terminated: bool, truncated: bool = False) -> None:
        """Take a step's reward, and whether it terminated or truncated the episode."""
        self._reward += reward
        self._steps += 1
        self._length += 1
        self._terminations += terminated
        if truncated and not terminated:
            self._longest_cut = max(self._longest_cut, self._length)
        if terminated or truncated:
            self._length = 0

    def heat(self, member: str) -> Heat:
        """Return what a member did."""
        limit = float(self._limit or self._longest_cut or self._steps)
        length = min(limit, self._steps / self._terminations) if self._terminations else limit
        return Heat(member, self._steps, self._reward, length)


class Race:
    """A race of one seed.

    Args:
        deterministic: whether the recorded behaviour was.

    Attributes:
        rounds: what each round came to but the first, in which nobody acts.
    """

    def __init__(self, deterministic: bool = False) -> None:
        self._deterministic = deterministic
        self.rounds: list[Heat] = []

    @property
    def leader(self) -> str:
        """Who won, or would win now."""
        return max(MEMBERS, key=self._standing)

    @property
    def narrow(self) -> bool:
        """Whether another did as well in a round that counts as the leader in one of its own."""
        leader = self.leader
        others = (mean for member in MEMBERS if member != leader for mean in self._counted(member))
        return max(others, default=-math.inf) >= min(self._counted(leader), default=math.inf)

    def _standing(self, member: str) -> float:
        """Return the mean of what a member did in the rounds that count."""
        counted = self._counted(member)
        return fmean(counted) if counted else -math.inf

    def _counted(self, member: str) -> list[float]:
        """Return what a member did in the rounds that count; none where it diverged in the last."""
        own = [heat for heat in self.rounds if heat.member == member]
        if not own or not own[-1].steps:
            return []
        return [heat.mean for heat in own[-_COUNTED:] if heat.steps]

    def turn(self, rounds: int) -> str:
        """Return who acts in the next round, of so many with the first."""
        if len(self.rounds) + 2 == rounds:
            return self.leader
        place = self._place(rounds)
        return MEMBERS[::-1][place if 0 < place < len(MEMBERS) else 0]

    def noisy(self, rounds: int) -> bool:
        """Return whether the next round, of so many with the first, takes noise on actions."""
        if not self._deterministic:
            return True
        # All that are compared go without: in few rounds those of BCO before the others, too.
        return self._place(rounds) <= self._again(rounds) - _AGAIN

    def _again(self, rounds: int) -> int:
        """Return how many rounds BCO has after the others."""
        return min(_AGAIN, max(0, rounds - LEAST_ROUNDS)) if self._deterministic else 0

    def _place(self, rounds: int) -> int:
        """Return how many rounds the next is after the last one before the others."""
        return len(self.rounds) + 2 - (rounds - len(MEMBERS) - self._again(rounds))

    def add(self, heat: Heat) -> None:
        """Take what a round came to."""
        self.rounds.append(heat)

    def plain(self) -> list[dict[str, Any]]:
        """Return the rounds as JSON holds them."""
        return [dict(vars(heat)) for heat in self.rounds]

    @staticmethod
    def of_file(rounds: object, where: object) -> Race:
        """Undo `plain`, of an untrusted file.

        Raises:
            UserError: the file holds something else.
        """
        if not isinstance(rounds, list):
            raise UserError(f"{where}: race is {shown(rounds)}, expected a list")
        race = Race()
        for heat in rounds:
            race.add(_heat(heat, where))
        return race


def _heat(heat: object, where: object) -> Heat:
    member = heat.get("member") if isinstance(heat, dict) else None
    if not isinstance(heat, dict) or not isinstance(member, str) or member not in MEMBERS:
        raise UserError(f"{where}: the race holds {shown(heat)}")
    steps = whole(heat.get("steps"), f"{where}: steps of the race")
    reward, length = (
        number(heat.get(name, MISSING), f"{where}: {name} of the race")
        for name in ("reward", "episode_steps")
    )
    if not steps and (reward or length):
        raise UserError(f"{where}: a member of the race took no steps, and has a return")
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
        won = "won narrowly" if race.narrow else "won"
        for member in sorted(MEMBERS, key=lambda member: member != race.leader):
            own = [heat for heat in race.rounds if heat.member == member]
            did = (f"{heat.mean:.1f}" if heat.steps else "diverged" for heat in own)
            rows.append(
                (
                    str(seed["seed"]),
                    member,
                    ", ".join(did) or "never acted",
                    f"{sum(heat.steps for heat in own):,}",
                    won if own and own[-1].steps and member == race.leader else "",
                )
            )
    return rows
