"""What a caller asks of a run on a recording, made into its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.data.environments import has_discrete_actions
from qss_offline.engine.device import choose_device
from qss_offline.errors import UserError
from qss_offline.overrides import changed, with_changes
from qss_offline.presets import named_method, own_method, own_power
from qss_offline.presets import preset as find_preset
from qss_offline.runs.config import Method, Preset, RunConfig
from qss_offline.runs.folder import parse_seeds
from qss_offline.runs.portfolio_config import portfolio_beside


@dataclass(frozen=True)
class TrainOptions:
    """Everything of a run on a recording but the recording; `qss_offline.train` explains it.

    What is None is the preset's, or doesn't apply.
    """

    method: str | None = None
    preset: str = "default"
    seeds: int | str | Sequence[int] = 1
    updates: int | None = None
    online_steps: int | None = None
    online_rounds: int | None = None
    offline_only: bool = False
    actions: str | None = None
    error_power: float | None = None
    changes: Sequence[str] | Mapping[str, Any] = ()
    episodes: int = 10
    device: str = "auto"
    tf32: bool = False

    def __post_init__(self) -> None:
        """Refuse budgets that aren't whole numbers; numpy's are."""
        for name in ("updates", "online_steps", "online_rounds", "episodes"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise UserError(f"{name} must be a whole number, not {value!r}")
            object.__setattr__(self, name, int(value))

    def config(self, dataset_id: str, env_id: str | None) -> RunConfig:
        """Return the settings of a run.

        Args:
            dataset_id: what it learns from.
            env_id: where it acts; None acts nowhere.

        Raises:
            UserError: an option is unknown, out of range, or doesn't apply.
        """
        method = self._method(env_id)
        self._check_applies(method)
        changes = change_list(self.changes)
        named = find_preset(self.preset, method)
        preset = changed(named, changes)
        preset = preset.spend(self.updates, self.online_steps, self.online_rounds)
        cloning, cloning_updates = self._cloning(preset) if method == "bco" else (None, 0)
        portfolio = None
        if method == "auto":
            # Whoever trains D3G for less has less patience with the others, too.
            share = min(1.0, preset.updates / named.updates)
            portfolio = portfolio_beside(preset.algorithm, share)
        return RunConfig(
            method,
            env_id,
            dataset_id,
            seed_numbers(self.seeds),
            with_changes(self.preset, changes),
            preset,
            cloning,
            cloning_updates,
            portfolio,
            self.episodes,
            choose_device(self.device),
            self.tf32,
            self.actions,
            self.offline_only,
        )

    def _method(self, env_id: str | None) -> Method:
        """Return the method that is asked for, or the preset's own."""
        if self.method is not None:
            return named_method(self.method)
        own = own_method(self.preset)
        return "d3g" if own == "auto" and not has_race(env_id, self.online_steps) else own

    def _check_applies(self, method: Method) -> None:
        if method != "bco" and self.error_power is not None:
            raise UserError(
                f"--error-power is of BCO's cloning and doesn't apply to method {method}"
            )
        if self.offline_only:
            online = {"steps": self.online_steps, "rounds": self.online_rounds}
            for name, value in online.items():
                if value is not None:
                    raise UserError(
                        f"--online-{name} doesn't apply to --offline-only: leave out one of them"
                    )

    def _cloning(self, preset: Preset) -> tuple[CloningConfig, int]:
        """Return the settings of BCO's policy, and its updates in a round."""
        rounds, updates = preset.inverse.rounds, preset.updates
        if updates % rounds:
            raise UserError(
                f"{updates} updates can't be spread evenly over {rounds} rounds; choose a "
                "multiple, or other --online-rounds"
            )
        # The sizes of D3G's networks, so that the two can be compared.
        d3g = preset.algorithm
        power = own_power(self.preset) if self.error_power is None else self.error_power
        config = CloningConfig(d3g.hidden_dims, d3g.batch_size, d3g.learning_rate, power)
        return config, updates // rounds


def in_a_box(method: str | None) -> str | None:
    """Return what `check_acting` calls a method that takes continuous actions alone."""
    return f"method {method}" if method in ("auto", "bco") else None


def has_race(env_id: str | None, online_steps: int | None) -> bool:
    """Return whether methods can be raced: on online steps, of continuous actions.

    Args:
        env_id: where policies act; None where that isn't known yet.
        online_steps: that are asked for; None are the preset's.
    """
    return online_steps != 0 and (env_id is None or not has_discrete_actions(env_id))


def change_list(changes: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Return changed settings as `name=value`, from a mapping too.

    Raises:
        UserError: they are neither.
    """
    if isinstance(changes, Mapping):
        return tuple(f"{name}={value}" for name, value in changes.items())
    # A text is a sequence, too, of its letters.
    if isinstance(changes, str) or not isinstance(changes, Iterable):
        raise UserError(
            f"changes must be settings by name, or a list such as ['gamma=0.97'], not {changes!r}"
        )
    listed = tuple(changes)
    for one in listed:
        if not isinstance(one, str):
            raise UserError(f"changes must be texts such as 'gamma=0.97', not {one!r}")
    return listed


def seed_numbers(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    """Return the seeds: 5 is 0 to 4, as "5" is; "100-104", "0,3,7" and [0, 3, 7] name them.

    Raises:
        UserError: there are none, one is there twice, or it is no such text.
    """
    if isinstance(seeds, int | Integral | str):
        return parse_seeds(str(seeds))
    if seeds is None or isinstance(seeds, float):
        raise UserError(f"seeds must be a whole number, a text or a list of numbers, not {seeds}")
    return parse_seeds(",".join(map(str, seeds)) + ",")
