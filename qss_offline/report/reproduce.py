"""The command that makes a run again."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import Any

from qss_offline.data import minari_store
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
    arguments += ["--preset", run.preset_name]
    remark = None
    named = PRESETS.get(run.preset_name)
    if named is not None:
        inverse = preset["inverse"]
        steps = inverse["rounds"] * inverse["steps_per_round"]
        spent = named.spend(preset["updates"], steps, inverse["rounds"])
        if spent.updates != named.updates:
            arguments += ["--updates", str(spent.updates)]
        if spent.inverse != named.inverse:
            arguments += ["--online-steps", str(steps), "--online-rounds", str(inverse["rounds"])]
        if json.loads(json.dumps(asdict(spent))) != preset:
            remark = (
                f"The settings are not those of the preset {run.preset_name} of this version; "
                "config.json has them all."
            )
    else:
        remark = f"The preset {run.preset_name} is unknown here; config.json has all settings."
    if config.get("evaluation_episodes", 10) != 10:
        arguments += ["--episodes", str(config["evaluation_episodes"])]
    if config.get("device", "cpu") != "cpu":
        arguments += ["--device", config["device"]]
    if config.get("tf32"):
        arguments += ["--tf32"]
    return shlex.join(arguments), remark


def _recording(run: TrainedRun) -> list[str] | None:
    """Return the arguments that record the dataset anew, None where it isn't a recipe's own."""
    try:
        spec = minari_store.read_metadata(run.dataset_id).get("spec")
    except UserError:
        return None
    if not isinstance(spec, dict):
        return None
    return _arguments_of(spec, run.dataset_id)


def _arguments_of(spec: dict[str, Any], dataset_id: str) -> list[str] | None:
    names = ("env_id", "random_action_prob", "transitions", "seed")
    try:
        given = {name: spec[name] for name in names}
        # What the recipe has no option for, an expert's weights or shards, shows in the id.
        if DatasetSpec(**given).obs_id != dataset_id:
            return None
    except (KeyError, TypeError, UserError):
        return None
    return [
        "--randomness", f"{given['random_action_prob']:g}",
        "--transitions", str(given["transitions"]),
        "--dataset-seed", str(given["seed"]),
    ]  # fmt: skip
