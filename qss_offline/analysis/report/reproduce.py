"""The command that makes a run again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from qss_offline.analysis.cloned_run import ClonedRun
from qss_offline.analysis.trained_run import TrainedRun
from qss_offline.data import minari_format
from qss_offline.data.environments import env_id_of_file
from qss_offline.data.policies import expert_path
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.overrides import differences
from qss_offline.presets import PRESETS, Preset
from qss_offline.runs.finished_run import FinishedRun


def command(run: FinishedRun) -> tuple[str, str | None]:
    """Return the command line that repeats a run, and a remark where it alone isn't enough."""
    config = run.config
    if isinstance(run, ClonedRun):
        recipe, settings, remark = _cloned(run)
    else:
        assert isinstance(run, TrainedRun)
        recipe, settings, remark = _trained(run)
    arguments = ["python", "-m", recipe, "--env", run.env_id]
    recording = _recording(run)
    arguments += recording or ["--dataset", run.dataset_id]
    arguments += ["--seeds", ",".join(map(str, run.seeds)) + ("," if len(run.seeds) == 1 else "")]
    arguments += settings
    if config.get("evaluation_episodes", 10) != 10:
        arguments += ["--episodes", str(config["evaluation_episodes"])]
    if config.get("device", "cpu") != "cpu":
        arguments += ["--device", config["device"]]
    if config.get("tf32"):
        arguments += ["--tf32"]
    if config.get("actions_from"):
        source = config["actions_from"]
        arguments += ["--actions-from", source]
        if source not in minari_format.local_dataset_ids():
            remark = " ".join(filter(None, (remark, f"It takes {source} to be there.")))
    return shlex.join(arguments), remark


def _trained(run: TrainedRun) -> tuple[str, list[str], str | None]:
    """Return the recipe of offline D3G, its settings, and a remark."""
    # Results name changed settings after the preset.
    name = run.preset_name.partition(" with ")[0]
    arguments = ["--preset", name]
    named = PRESETS.get(name)
    if named is None:
        remark = f"The preset {name} is unknown here; config.json has all settings."
        return "recipes.random_obs", arguments, remark
    spent = named.spend(run.updates, *_online_budget(run))
    if spent.updates != named.updates:
        arguments += ["--updates", str(spent.updates)]
    if spent.inverse != named.inverse:
        arguments += _spent_online(run)
    for change in differences(_as_measured(spent, run), run.preset):
        arguments += ["--set", change]
    return "recipes.random_obs", arguments, None


def _as_measured(preset: Preset, run: FinishedRun) -> Preset:
    """Return a preset with the power that the run measured, where it measures one."""
    if preset.algorithm.behaviour_power is not None:
        return preset
    measured = replace(preset.algorithm, behaviour_power=run.facts.error_power)
    return replace(preset, algorithm=measured)


def _cloned(run: ClonedRun) -> tuple[str, list[str], str | None]:
    """Return the recipe of BCO, its settings, and a remark."""
    settings = run.settings
    power = run.error_power
    arguments = [] if power == run.facts.error_power else ["--error-power", f"{power:g}"]
    arguments += ["--updates", str(run.updates)]
    sizes = "hidden_dims", "batch_size", "learning_rate"
    for name, named in PRESETS.items():
        spent = named.spend(None, *_online_budget(run))
        alike = all(getattr(named.algorithm, s) == getattr(settings.cloning, s) for s in sizes)
        normalised = named.algorithm.normalize_observations == settings.normalize_observations
        if alike and normalised and spent.inverse == settings.inverse:
            budget = [] if spent.inverse == named.inverse else _spent_online(run)
            return "recipes.bco", ["--preset", name, *budget, *arguments], None
    remark = "No preset has these settings; config.json has them all."
    return "recipes.bco", arguments, remark


def _online_budget(run: FinishedRun) -> tuple[int, int]:
    """Return online steps in all, and rounds."""
    return run.inverse_settings.online_steps, run.inverse_settings.rounds


def _spent_online(run: FinishedRun) -> list[str]:
    steps, rounds = _online_budget(run)
    return ["--online-steps", str(steps), "--online-rounds", str(rounds)]


def _recording(run: FinishedRun) -> list[str] | None:
    """Return the arguments that record the dataset anew, None where it isn't a recipe's own."""
    try:
        spec = minari_format.read_metadata(run.dataset_id).get("spec")
    except UserError:
        return None
    if not isinstance(spec, dict):
        return None
    return recording_arguments(spec, run.dataset_id)


def recording_arguments(spec: dict[str, Any], dataset_id: str) -> list[str] | None:
    """Return what makes the recipe record a dataset again, None where it would make another.

    Args:
        spec: as the dataset's metadata hold it.
        dataset_id: its id.
    """
    names = ("env_id", "random_action_prob", "transitions", "seed")
    try:
        given = {name: spec[name] for name in names}
        given["env_id"] = env_id_of_file(given["env_id"], dataset_id)
        # Of experts the recipe finds the environment's own. Another, or a name, shows in the id.
        expert = expert_path(given["env_id"]) if given["random_action_prob"] < 1 else None
        if DatasetSpec(**given, expert=expert).obs_id != dataset_id:
            return None
    except (KeyError, TypeError, UserError):
        return None
    return [
        "--randomness", f"{given['random_action_prob']:g}",
        "--transitions", str(given["transitions"]),
        "--dataset-seed", str(given["seed"]),
    ]  # fmt: skip
