"""A few online steps that fit I(s, s') and turn a proposal τ into a policy (Section 5.3).

Each round takes a stated number of environment steps, then trains the IDM on the steps so far. The
first round acts at random, so that an untrained IDM is never asked; later rounds act with
π(s) = I(s, s + τ(s)) and noise, so that the IDM learns from the states and steps that τ proposes.
Where there is another recording of the same environment that does have actions, the IDM learns
from it first, and acts from the first round on.

Departures from the authors' script: it acts with an untrained IDM in the first round and evaluates
it, knows no recordings with actions, and has the IDM learn from steps with actions alone (here
`recorded_coef` lets it learn from the recording, too).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import torch

from qss_offline.algorithms.networks import Network
from qss_offline.data.transitions import Transitions
from qss_offline.evaluation.policies import ObservationScale, Policy
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.interaction import ActionSteps
from qss_offline.training.inverse.models import InverseModels


class InverseFitter(InverseModels):
    """Turns the proposals of S seeds into policies (Eq. 9).

    Args:
        seeds: the S seeds.
        proposals: τ of each seed, each `(1, P)`.
        scales: what each seed's observations go through.
        make_env: makes the environment; None where there is none.
        config: the budget.
        known: steps of the same environment whose actions are known.
        recordings: what each seed learned from, for models that learn from it, too.
        device: where models are trained.

    Raises:
        UserError: as for `InverseModels`.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        proposals: Sequence[Network],
        scales: Sequence[ObservationScale],
        make_env: Callable[[], gym.Env[Any, Any]] | None,
        config: InverseFitConfig,
        known: ActionSteps | None = None,
        recordings: Sequence[Transitions] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seeds, scales, make_env, config, known, recordings, device)
        self.proposals = proposals

    def run_round(self, tick: Tick = no_tick) -> None:
        """Take one round of steps with every seed, and train every IDM on its steps so far.

        Args:
            tick: called with the work of one seed so far (`runs/work.py`).
        """
        self.fit_round(self.policy, tick)

    def policy(self, index: int) -> Policy:
        """Return the policy of the seed at `index`, on a copy of the model as it is now."""
        return self.heading_for(self.proposals[index], index)
