"""The behaviour term: which recorded steps pull proposals, and how hard."""

import math

import pytest
import torch

from qss_offline.algorithms.behaviour import (
    BEHAVIOUR_WEIGHTS,
    BehaviourWeights,
    behaviour_loss,
    behaviour_weights,
)
from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.algorithms.qss import propose_next_obs
from qss_offline.engine.state import initial_state
from qss_offline.errors import UserError
from tests.algorithms.test_observational_d3g import OBS_DIM, batch, parameters


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plain", [1.0, 1.0, 1.0, 1.0]),
        # The mean of |A| is 2.
        ("advantage", [math.exp(-1.5), 1.0, math.exp(0.5), math.e]),
    ],
)
def test_weights_by_advantage(kind: BehaviourWeights, expected: list[float]) -> None:
    advantage = torch.tensor([[-3.0, 0.0, 1.0, 4.0]])
    torch.testing.assert_close(behaviour_weights(advantage, kind), torch.tensor([expected]))


def test_weights_of_each_seed_have_a_scale_of_their_own() -> None:
    advantage = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    both = behaviour_weights(torch.cat((advantage, 1000 * advantage)), "advantage")
    torch.testing.assert_close(both[0], both[1])


def test_hand_computed_term() -> None:
    """Q(s, s') is the second thing that it sees; s = 0, s' = 1 and −1, s'_τ = 3, s'_f = 0."""
    critic = Network(MLPShape((2, 1)), torch.zeros(1, 64))
    critic.weights[0][0, 1, 0] = 1.0
    obs, seen = torch.zeros(1, 2, 1), torch.tensor([[[1.0], [-1.0]]])
    none = torch.zeros(1, 2)
    drawn = ObservationBatch(obs, seen, none, none)
    better, worse = math.exp(1), math.exp(-1)
    for kind, expected in (("plain", (4 + 16) / 2), ("advantage", (4 * better + 16 * worse) / 2)):
        loss, _ = behaviour_loss(critic, drawn, torch.full_like(obs, 3.0), obs, kind)
        assert float(loss) == pytest.approx(expected)


def test_at_a_great_weight_proposals_go_to_what_was_recorded() -> None:
    errors = {}
    for coefficient in (0.0, 1e4):
        config = ObservationalD3GConfig((32,), learning_rate=1e-2, behaviour_coef=coefficient)
        algorithm = ObservationalD3G(config, OBS_DIM)
        state = initial_state(algorithm, [0])
        networks = parameters(state, "proposal")
        optimiser = torch.optim.Adam([networks.proposal.flat], 1e-2)
        drawn = batch()
        for _ in range(300):
            optimiser.zero_grad()
            loss, metrics = algorithm.proposal_loss(networks, drawn)
            loss.sum().backward()
            optimiser.step()
        assert ("behaviour_error" in metrics) == (coefficient > 0)
        proposed = propose_next_obs(networks.proposal, drawn.obs).detach()
        errors[coefficient] = float((proposed - drawn.next_obs).square().mean())
    assert errors[1e4] < 0.05 * errors[0.0]


@pytest.mark.parametrize("power", [2.0, 1.0, 0.5])
def test_hand_computed_powers(power: float) -> None:
    """Errors of 3 and 4 in two of two dimensions: ‖e‖² = 12.5, and nothing: ‖e‖² = 0."""
    critic = Network(MLPShape((4, 1)), torch.zeros(1, 64))
    obs = torch.zeros(1, 2, 2)
    seen = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    drawn = ObservationBatch(obs, seen, torch.zeros(1, 2), torch.zeros(1, 2))
    loss, _ = behaviour_loss(critic, drawn, obs, obs, "plain", power=power)
    nothing = 0.0 if power == 2 else 0.01**power
    assert float(loss) == pytest.approx((12.5 ** (power / 2) + nothing) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("share", "power", "found"),
    [(0.6, 2.0, False), (0.6, 1.0, True), (0.4, 1.0, False), (0.4, 0.5, True)],
)
def test_powers_ask_for_the_mean_the_median_and_the_mode(
    share: float, power: float, found: bool
) -> None:
    """A share of the steps leads to (2, 2), the others anywhere between (−2, −2) and (2, 2)."""
    generator = torch.Generator().manual_seed(0)
    seen = 4 * torch.rand(1, 400, 2, generator=generator) - 2
    seen[:, : int(400 * share)] = 2.0
    critic, obs = Network(MLPShape((4, 1)), torch.zeros(1, 64)), torch.zeros(1, 400, 2)
    drawn = ObservationBatch(obs, seen, torch.zeros(1, 400), torch.zeros(1, 400))
    step = seen.mean(dim=1, keepdim=True).clone().requires_grad_()
    optimiser = torch.optim.Adam([step], 1e-2)
    for _ in range(800):
        optimiser.zero_grad()
        behaviour_loss(critic, drawn, obs + step, obs, "plain", power=power)[0].sum().backward()
        optimiser.step()
    assert (float((step.detach() - 2).abs().max()) < 0.1) == found, step


def test_every_kind_is_a_setting() -> None:
    for kind in BEHAVIOUR_WEIGHTS:
        config = ObservationalD3GConfig((4,), behaviour_coef=1.0, behaviour_weights=kind)
        algorithm = ObservationalD3G(config, OBS_DIM)
        loss, _ = algorithm.proposal_loss(parameters(initial_state(algorithm, [0])), batch())
        assert bool(torch.isfinite(loss).all())
    for power in (0.0, 2.5):
        with pytest.raises(UserError, match="behaviour_power"):
            ObservationalD3GConfig(behaviour_power=power)
