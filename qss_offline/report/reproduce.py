"""The command that makes a run again."""

from __future__ import annotations

import shlex
from typing import Any

from qss_offline.changes import differences
from qss_offline.data import minari_store
from qss_offline.data.behaviour import expert_path
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.presets import PRESETS
from qss_offline.trained_run import TrainedRun


def command(run: TrainedRun) -> tuple[str, str | None]:
    """Return the command line that repeats a run, and a remark where it alone isn't enough."""
    config, preset = run.config, run.config["preset"]
    arguments = ["python", "-m", "recipes.random_obs", "--env", run.env_id]
    recording = _recording(run)
    arguments += recording or ["--dataset", run.dataset_id]
    arguments += ["--seeds", ",".join(map(str, run.seeds)) + ("," if len(run.seeds) == 1 else "")]
    # Results name changed settings after the preset.
    name = run.preset_name.partition(" with ")[0]
    arguments += ["--preset", name]
    remark = None
    named = PRESETS.get(name)
    if named is not None:
        inverse = preset["inverse"]
        steps = inverse["rounds"] * inverse["steps_per_round"]
        spent = named.spend(preset["updates"], steps, inverse["rounds"])
        if spent.updates != named.updates:
            arguments += ["--updates", str(spent.updates)]
        if spent.inverse != named.inverse:
            arguments += ["--online-steps", str(steps), "--online-rounds", str(inverse["rounds"])]
        for change in differences(spent, preset):
            arguments += ["--set", change]
    else:
        remark = f"The preset {name} is unknown here; config.json has all settings."
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


def _recording(run: TrainedRun) -> list[str] | None:
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
