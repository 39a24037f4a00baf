"""How the online budget of an inverse fit is spent, and what is fitted with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.validation import check_positive
from qss_offline.errors import UserError
from qss_offline.runs.work import STEP, inverse_update


@dataclass(frozen=True)
class InverseFitConfig:
    """How the online budget is spent; `rounds * steps_per_round` environment steps in all.

    One round of no steps fits the IDM on nothing but steps whose actions are known already.

    Attributes:
        rounds: rounds of acting and fitting; the policy is evaluated after each.
        steps_per_round: environment steps of a round; 0 where there is one round alone.
        updates_per_round: gradient steps of the IDM in a round; the bilinear form needs none, and
            counts all.
        exploration_noise: standard deviation of the noise of rounds that a policy acts in, in units
            of half the action box; where actions are discrete, the probability of a uniformly
            random one.
        known_updates: gradient steps of the IDM on steps whose actions are known already, before
            the first round; without such steps there are none.
        model: the inverse dynamics model.
    """

    rounds: int = 3
    steps_per_round: int = 1000
    updates_per_round: int = 3000
    exploration_noise: float = 0.1
    known_updates: int = 10_000
    model: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)

    def __post_init__(self) -> None:
        """Refuse a budget that can't be spent."""
        check_positive(self, "rounds", "updates_per_round", "known_updates")
        if not isinstance(self.steps_per_round, int):
            raise UserError(f"online steps must be a whole number, not {self.online_steps!r}")
        if self.steps_per_round < 0 or (self.steps_per_round == 0 and self.rounds > 1):
            raise UserError(
                f"steps_per_round must be above 0, not {self.steps_per_round}; without online "
                "steps there is one round"
            )
        if self.exploration_noise < 0:
            raise UserError(f"exploration_noise must be at least 0, not {self.exploration_noise}")

    @property
    def online_steps(self) -> int:
        """Environment steps in all."""
        return self.rounds * self.steps_per_round

    def updates(self, known: bool) -> int:
        """Return the gradient steps of the IDM in all, with or without known steps."""
        return self.rounds * self.updates_per_round + (self.known_updates if known else 0)

    def work(self, known: bool) -> float:
        """Return the work of one seed's IDM, in updates of offline D3G (`runs/work.py`)."""
        return self.updates(known) * inverse_update(self.model) + self.online_steps * STEP
