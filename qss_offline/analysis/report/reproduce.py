"""The command that makes a run again, on a recording or online."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qss_offline.data.environments import env_id_of_file
from qss_offline.data.families import expert_path
from qss_offline.data.local import local_dataset_ids, read_metadata
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.online.config import EvaluationPlan, OnlineSettings
from qss_offline.online.presets import ALGORITHMS, ONLINE_PRESETS, online_preset
from qss_offline.overrides import differences
from qss_offline.presets import own_method, preset_of
from qss_offline.runs.config import RunConfig
from qss_offline.runs.reader import FinishedRun, OnlineRun
from qss_offline.settings_json import settings_of


def command(run: FinishedRun) -> tuple[str, str | None]:
    """Return the command lines that repeat a run, and a remark where they aren't enough."""
    config = run.config
    arguments = ["qss", "train", run.dataset_id]
    if config.env_id is not None:
        arguments += ["--env", config.env_id]
    name = config.preset_name.partition(" with ")[0]
    if preset_of(name, run.method) is None or run.method != own_method(name):
        arguments += ["--method", run.method]
    arguments += ["--seeds", seeds_option(run.seeds)]
    settings, remark = _settings(config)
    arguments += settings
    if config.evaluation_episodes != 10:
        arguments += ["--episodes", str(config.evaluation_episodes)]
    arguments += ["--device", config.device]
    if config.tf32:
        arguments += ["--tf32"]
    if config.actions_from:
        arguments += ["--actions", config.actions_from]
        if config.actions_from not in local_dataset_ids():
            there = f"It takes {config.actions_from} to be there."
            remark = " ".join(filter(None, (remark, there)))
    recording = _recording(run)
    first = "" if recording is None else f"{shlex.join(recording)}\n"
    return first + shlex.join(arguments), remark


def _settings(config: RunConfig) -> tuple[list[str], str | None]:
    """Return the preset and what was changed of it, and a remark."""
    # Results name changed settings after the preset.
    name = config.preset_name.partition(" with ")[0]
    arguments = ["--preset", name]
    named = preset_of(name, config.method)
    if named is None:
        return arguments, f"The preset {name} is unknown here; config.json has all settings."
    inverse = config.inverse
    spent = named.spend(config.updates, inverse.online_steps, inverse.rounds)
    if config.offline_only:
        arguments += ["--offline-only"]
    elif spent.inverse != named.inverse:
        arguments += ["--online-steps", str(inverse.online_steps)]
        arguments += ["--online-rounds", str(inverse.rounds)]
    if spent.updates != named.updates:
        arguments += ["--updates", str(spent.updates)]
    measured = spent.with_recording(config.facts)
    changes = differences(measured, config.preset)
    if config.method != "bco":
        for change in changes:
            arguments += ["--set", change]
        return arguments, None
    if config.error_power != config.facts.error_power:
        arguments += ["--error-power", f"{config.error_power:g}"]
    sizes = "hidden_dims", "batch_size", "learning_rate"
    alike = all(getattr(named.algorithm, s) == getattr(config.cloning, s) for s in sizes)
    if changes or not alike:
        return arguments, "The preset has other settings; config.json has them all."
    return arguments, None


def _recording(run: FinishedRun) -> list[str] | None:
    """Return the command that records the dataset anew, None where there is none."""
    try:
        spec = read_metadata(run.dataset_id).get("spec")
    except UserError:
        return None
    if not isinstance(spec, dict):
        return None
    return recording_command(spec, run.dataset_id)


def recording_command(spec: dict[str, Any], dataset_id: str) -> list[str] | None:
    """Return what records a dataset again, None where it would make another.

    Args:
        spec: as the dataset's metadata hold it.
        dataset_id: its id.
    """
    names = ("env_id", "random_action_prob", "transitions", "seed")
    try:
        given = {name: spec[name] for name in names}
        given["env_id"] = env_id_of_file(given["env_id"], dataset_id)
        # Of experts the command finds the environment's own. Another, or a name, shows in the id.
        expert = expert_path(given["env_id"]) if given["random_action_prob"] < 1 else None
        if DatasetSpec(**given, expert=expert).obs_id != dataset_id:
            return None
    except (KeyError, TypeError, UserError):
        return None
    return [
        "qss", "data", "record", given["env_id"],
        "--randomness", f"{given['random_action_prob']:g}",
        "--transitions", str(given["transitions"]),
        "--seed", str(given["seed"]),
    ]  # fmt: skip


def online_settings(run: OnlineRun) -> OnlineSettings:
    """Return what an online run was asked to do.

    Raises:
        UserError: its `config.json` is of another version of this package.
    """
    return settings_of(OnlineSettings, dict(run.config), str(run.path.parent / "config.json"))


def online_command(run: OnlineRun) -> tuple[str, str | None]:
    """Return the command line that repeats an online run, and a remark where it isn't enough.

    Raises:
        UserError: as `online_settings`.
    """
    settings = online_settings(run)
    config, plan = settings.config, settings.plan
    name = settings.preset_name.partition(" with ")[0]
    arguments = ["qss", "train-online", settings.env_id, "--algo", settings.algorithm]
    arguments += ["--preset", name, "--seeds", seeds_option(settings.seeds)]
    remark = None
    if name in ONLINE_PRESETS and settings.algorithm in ALGORITHMS:
        try:
            here = env_id_of_file(settings.env_id, run.path)
            named = online_preset(name, settings.algorithm, here)
        except UserError:
            # An environment that isn't here; γ is said then.
            named = online_preset(name, settings.algorithm)
        if settings.start_run is not None:
            # The networks that it starts from settle these, whatever the preset says.
            named = replace(named, algorithm=config.algorithm)
            named = replace(named, normalize_observations=config.normalize_observations)
        for option in ("steps", "warm_up", "updates_per_step"):
            if getattr(config, option) != getattr(named, option):
                arguments += [f"--{option.replace('_', '-')}", str(getattr(config, option))]
                named = replace(named, **{option: getattr(config, option)})
        for change in differences(named, config):
            arguments += ["--set", change]
    else:
        remark = f"The preset {name} is unknown here; config.json has all settings."
    usual = EvaluationPlan()
    if plan.interval != usual.interval:
        arguments += ["--evaluate-every", str(plan.interval)]
    if plan.episodes != usual.episodes:
        arguments += ["--episodes", str(plan.episodes)]
    if settings.start_run is not None:
        arguments += ["--start", settings.start_run]
    arguments += ["--device", settings.device]
    if settings.tf32:
        arguments += ["--tf32"]
    return shlex.join(arguments), remark


def seeds_option(seeds: Sequence[int]) -> str:
    """Return seeds as `--seeds` takes them: of one number that is how many, so it gets a comma."""
    return ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")
