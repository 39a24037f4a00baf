"""Which datasets are here, and what is known about each."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from qss_offline.data.load import load_transitions
from qss_offline.data.local import local_dataset_ids, minari_root, read_metadata
from qss_offline.data.metadata import env_id_of
from qss_offline.data.spaces import is_placeholder, read_space
from qss_offline.errors import UserError

# Describing a dataset to a person needs none of this.
_BULKY = ("observation_space", "action_space", "env_spec", "eval_env_spec")


@dataclass(frozen=True)
class Summary:
    """One line about a local dataset.

    Attributes:
        dataset_id: Minari id.
        env_id: Gymnasium id, None where unknown.
        observation_only: whether it holds no actions; None where that is unknown.
        total_steps: rows.
        total_episodes: episodes.
        problem: why it can't be used, None where it looks sound. Only metadata are read.
    """

    dataset_id: str
    env_id: str | None
    observation_only: bool | None
    total_steps: int
    total_episodes: int
    problem: str | None = None


def list_datasets() -> list[Summary]:
    """Return one line for each local dataset, read from its metadata alone.

    Raises:
        UserError: the Minari root can't be used.
    """
    root = minari_root()
    # Many datasets share a few spaces, and to make one takes longer than all the rest.
    without_actions: dict[str, bool] = {}
    summaries = []
    for dataset_id in local_dataset_ids():
        try:
            metadata = read_metadata(dataset_id, root)
            described = metadata["action_space"]
            if described not in without_actions:
                space = read_space(metadata, "action_space")
                without_actions[described] = is_placeholder(space)
            env_id = env_id_of(metadata)
        except UserError as error:
            summaries.append(Summary(dataset_id, None, None, 0, 0, str(error)))
            continue
        summaries.append(
            Summary(
                dataset_id,
                env_id,
                without_actions[described],
                metadata["total_steps"],
                metadata["total_episodes"],
            )
        )
    return summaries


def describe(dataset_id: str) -> dict[str, Any]:
    """Return what is known about a dataset, as plain JSON values; no bound is None.

    Raises:
        UserError: it can't be loaded.
    """
    info = asdict(load_transitions(dataset_id).info)
    for name in ("action_low", "action_high"):
        if info[name] is not None:
            info[name] = [bound if math.isfinite(bound) else None for bound in info[name].tolist()]
    metadata = read_metadata(dataset_id)
    more = {key: value for key, value in metadata.items() if key not in info.keys() | set(_BULKY)}
    return info | {"metadata": more}
