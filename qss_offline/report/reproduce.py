"""The command that makes a run again."""

from __future__ import annotations

import shlex
from typing import Any

from qss_offline.changes import differences
from qss_offline.cloned_run import ClonedRun
from qss_offline.data import minari_store
from qss_offline.data.behaviour import expert_path
from qss_offline.data.environments import env_id_of_file
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.finished_run import FinishedRun
from qss_offline.presets import PRESETS


def command(run: FinishedRun) -> tuple[str, str | None]:
    """Return the command line that repeats a run, and a remark where it alone isn't enough."""
    config = run.config
    recipe, settings, remark = _cloned(run) if isinstance(run, ClonedRun) else _trained(run)
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
        if source not in minari_store.local_dataset_ids():
            remark = " ".join(filter(None, (remark, f"It takes {source} to be there.")))
    return shlex.join(arguments), remark


def _trained(run: FinishedRun) -> tuple[str, list[str], str | None]:
    """Return the recipe of offline D3G, its settings, and a remark."""
    preset = run.config["preset"]
    # Results name changed settings after the preset.
    name = run.config["preset_name"].partition(" with ")[0]
    arguments = ["--preset", name]
    named = PRESETS.get(name)
    if named is None:
        remark = f"The preset {name} is unknown here; config.json has all settings."
        return "recipes.random_obs", arguments, remark
    spent = named.spend(preset["updates"], *_online_budget(run))
    if spent.updates != named.updates:
        arguments += ["--updates", str(spent.updates)]
    if spent.inverse != named.inverse:
        arguments += _spent_online(run)
    for change in differences(spent, preset):
        arguments += ["--set", change]
    return "recipes.random_obs", arguments, None


def _cloned(run: ClonedRun) -> tuple[str, list[str], str | None]:
    """Return the recipe of BCO, its settings, and a remark."""
    settings = run.settings
    arguments = [] if run.error_power is None else ["--error-power", f"{run.error_power:g}"]
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
    rounds = int(run.inverse_settings["rounds"])
    return rounds * int(run.inverse_settings["steps_per_round"]), rounds


def _spent_online(run: FinishedRun) -> list[str]:
    steps, rounds = _online_budget(run)
    return ["--online-steps", str(steps), "--online-rounds", str(rounds)]


def _recording(run: FinishedRun) -> list[str] | None:
    """Return the arguments that record the dataset anew, None where it isn't a recipe's own."""
    try:
        spec = minari_store.read_metadata(run.dataset_id).get("spec")
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
