"""What a run on a recording is asked to do, whatever its method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.algorithms.ensemble import member_seeds
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.algorithms.validation import check_flag, check_positive
from qss_offline.data.facts import RecordingFacts
from qss_offline.errors import UserError, nearest
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.portfolio_config import LEAST_ROUNDS, PortfolioConfig
from qss_offline.runs.work import CLONING_UPDATE, EPISODE, GPU_SPEEDUP

Method = Literal["auto", "d3g", "bco"]
METHODS: tuple[Method, ...] = get_args(Method)

MOST_UPDATES_EACH = 100
"""What small budgets leave the IDM: so many updates a round for each online step of it, and so many
on steps known before for each update of D3G."""


@dataclass(frozen=True)
class Preset:
    """Settings of a whole run.

    Attributes:
        algorithm: offline D3G.
        inverse: the inverse fit.
        updates: updates of offline D3G, of each of an ensemble; of BCO its policy's, over all
            rounds.
        ensemble: a departure: how many times Q, τ and f of a seed are trained, apart from each
            other; the policy heads for the mean of what the τ propose.
    """

    algorithm: ObservationalD3GConfig
    inverse: InverseFitConfig
    updates: int
    ensemble: int = 1

    def __post_init__(self) -> None:
        """Refuse a run without updates."""
        check_positive(self, "updates", "ensemble")

    @property
    def offline_updates(self) -> int:
        """Updates of a seed's whole ensemble."""
        return self.updates * self.ensemble

    def with_recording(self, facts: RecordingFacts) -> Preset:
        """Return the preset with what a recording decides."""
        model = self.inverse.model
        if model.recorded_coef is None:
            able = model.form != "bilinear" and model.step_inputs
            model = replace(model, recorded_coef=facts.recorded_coef if able else 0.0)
        return replace(self, inverse=replace(self.inverse, model=model))

    def spend(
        self, updates: int | None, online_steps: int | None, online_rounds: int | None
    ) -> Preset:
        """Return the preset with other budgets; None keeps the preset's.

        Updates of the inverse dynamics model are fewer only where the budgets are very small.

        Args:
            updates: of offline D3G, or of BCO's policy.
            online_steps: environment steps in all, a multiple of the rounds; 0 fits on known
                steps alone, in one round.
            online_rounds: rounds of the inverse fit.

        Raises:
            UserError: a budget is not above 0, or the steps can't be spread over the rounds.
        """
        inverse = self.inverse
        if online_rounds is not None:
            # Refuses rounds that are not above 0 before anything is divided by them.
            inverse = replace(inverse, rounds=online_rounds)
        if online_steps == 0:
            inverse = replace(inverse, rounds=1, steps_per_round=0)
        elif online_steps is not None:
            if online_steps % inverse.rounds:
                raise UserError(
                    f"{online_steps} online steps can't be spread evenly over {inverse.rounds} "
                    "rounds; choose a multiple, or other --online-rounds"
                )
            steps = online_steps // inverse.rounds
            most = max(1, MOST_UPDATES_EACH * steps)
            most = min(inverse.updates_per_round, most)
            inverse = replace(inverse, steps_per_round=steps, updates_per_round=most)
        if updates is None:
            return replace(self, inverse=inverse)
        known = min(inverse.known_updates, max(1, MOST_UPDATES_EACH * updates))
        return replace(self, inverse=replace(inverse, known_updates=known), updates=updates)


@dataclass(frozen=True)
class RunConfig:
    """What a run is asked to do.

    Attributes:
        method: "d3g" learns which next states to aim for, "bco" repeats what was recorded, "auto"
            trains both and more, and races them on the online steps.
        env_id: where the policy acts; None where there is no simulator: nothing is evaluated, and
            no online steps are taken.
        dataset_id: what it learns from; actions that it may hold are not looked at.
        seeds: seeds of training; the dataset has its own.
        preset_name: where `preset` came from.
        preset: settings of training and of the inverse fit. BCO takes its inverse fit, and whether
            observations are normalised.
        cloning: BCO's policy; None for D3G.
        cloning_updates: its updates in a round; 0 for D3G.
        portfolio: what is trained and raced beside D3G with method auto; None for others.
        evaluation_episodes: episodes of each evaluation.
        device: "cpu" or "cuda".
        tf32: matrix products on a GPU in TF32 (10 bits of mantissa) instead of float32.
        actions_from: another recording of the same environment, one with actions, or folder of an
            earlier run, whose online steps have them: the inverse dynamics model learns from it
            before it takes online steps; None if there is none.
        offline_only: train Q, τ and f, and nothing else; an inverse fit of its own comes later.
        recording: what was measured of the recording; None before the run has measured it.
    """

    method: Method
    env_id: str | None
    dataset_id: str
    seeds: tuple[int, ...]
    preset_name: str
    preset: Preset
    cloning: CloningConfig | None = None
    cloning_updates: int = 0
    portfolio: PortfolioConfig | None = None
    evaluation_episodes: int = 10
    device: str = "cpu"
    tf32: bool = False
    actions_from: str | None = None
    offline_only: bool = False
    recording: RecordingFacts | None = None

    def __post_init__(self) -> None:
        """Refuse a run without episodes or actions to learn from, or settings of another method."""
        check_positive(self, "evaluation_episodes")
        check_flag(self, "tf32")
        if self.method not in METHODS:
            hint = nearest(self.method, METHODS) or f"; there are {', '.join(METHODS)}"
            raise UserError(f"unknown method {self.method!r}{hint}")
        if (self.method == "auto") != (self.portfolio is not None):
            raise UserError("method auto needs settings of its members (portfolio), others none")
        if self.portfolio is not None and not self.offline_only:
            self._check_race()
        if self.method != "bco":
            for seed in self.seeds:
                member_seeds(seed, self.preset.ensemble)
        if self.method == "bco":
            if self.cloning is None:
                raise UserError("method bco needs settings of its policy (cloning)")
            check_positive(self, "cloning_updates")
        elif self.cloning is not None or self.cloning_updates:
            raise UserError(f"cloning and cloning_updates are for method bco, not {self.method}")
        self._check_actions()

    def _check_race(self) -> None:
        """Refuse a race that can't be run, before anything is trained."""
        if not self.inverse.online_steps or self.inverse.rounds < LEAST_ROUNDS:
            raise UserError(
                f"method auto chooses by online steps, in {LEAST_ROUNDS} rounds at least; give "
                "--online-steps and --online-rounds, or choose --method d3g or bco"
            )

    def _check_actions(self) -> None:
        """Refuse a run that finds no actions to learn from, where it needs them."""
        if self.offline_only:
            if self.method == "bco":
                raise UserError(
                    f"method {self.method} can't learn offline only: it labels the recording with "
                    "actions first; give --actions, steps whose actions are known"
                )
            if self.actions_from is not None:
                raise UserError(
                    "--actions are for the inverse fit, which --offline-only leaves out; leave out "
                    "one of them"
                )
            return
        if self.env_id is None and self.inverse.online_steps:
            raise UserError(
                "online steps need an environment: name it with --env; without a simulator take "
                "--offline-only, or --online-steps 0 with --actions"
            )
        if not self.inverse.online_steps and self.actions_from is None:
            raise UserError(
                "without online steps the inverse dynamics model needs steps whose actions are "
                "known: give them with --actions, or take --offline-only"
            )

    @property
    def inverse(self) -> InverseFitConfig:
        """The online budget."""
        return self.preset.inverse

    @property
    def facts(self) -> RecordingFacts:
        """What was measured of the recording."""
        assert self.recording is not None, "training comes after measuring"
        return self.recording

    @property
    def error_power(self) -> float:
        """The power of errors against labels: of BCO its own, else what the recording asks for."""
        power = None if self.cloning is None else self.cloning.error_power
        return self.facts.error_power if power is None else power

    @property
    def updates(self) -> int:
        """Updates of offline D3G, of each of an ensemble; or of BCO's policy, over all rounds."""
        return self.cloning_updates * self.inverse.rounds or self.preset.updates

    @property
    def units(self) -> float:
        """Work of one seed, in updates of offline D3G (`runs/work.py`): what progress counts."""
        offline = 0 if self.method == "bco" else self.preset.offline_updates
        return offline + self.units_beside * self.rounds_work

    @property
    def update_units(self) -> float:
        """Work of one of `updates`."""
        return CLONING_UPDATE if self.method == "bco" else 1.0

    @property
    def units_beside(self) -> float:
        """Units of work of what follows D3G's training: environments stay on the CPU."""
        return GPU_SPEEDUP if self.device == "cuda" else 1.0

    @property
    def rounds_work(self) -> float:
        """Work of one seed in all rounds, on the CPU."""
        if self.offline_only:
            return 0.0
        evaluated = 0.0 if self.env_id is None else self.evaluation_episodes * EPISODE
        a_round = self.cloning_updates * CLONING_UPDATE + evaluated
        if self.portfolio is not None:
            a_round += self.portfolio.round_work
        return self.inverse.work(self.actions_from is not None) + self.inverse.rounds * a_round

    def with_recording(self, facts: RecordingFacts) -> RunConfig:
        """Return the settings with what was measured, and what it decides."""
        cloning = self.cloning
        if cloning is not None and cloning.error_power is None:
            cloning = replace(cloning, error_power=facts.error_power)
        portfolio = self.portfolio
        if portfolio is not None:
            portfolio = portfolio.with_power(facts.error_power)
        preset = self.preset.with_recording(facts)
        return replace(self, preset=preset, cloning=cloning, portfolio=portfolio, recording=facts)
