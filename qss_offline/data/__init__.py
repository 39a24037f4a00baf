"""Datasets without actions: collecting, storing, loading and describing them. No torch here."""

from qss_offline.data.behaviour import MLPExpert, load_expert, save_expert
from qss_offline.data.build import build_dataset
from qss_offline.data.collect import collect
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.load import (
    DatasetInfo,
    LoadedDataset,
    load_transitions,
    observation_statistics,
)
from qss_offline.data.minari_store import BehaviourReturns, DatasetPair, write_pair
from qss_offline.data.specs import DatasetSpec, load_family
from qss_offline.data.transitions import Transitions

__all__ = [
    "BehaviourReturns",
    "DatasetInfo",
    "DatasetPair",
    "DatasetSpec",
    "LoadedDataset",
    "MLPExpert",
    "Transitions",
    "build_dataset",
    "collect",
    "load_expert",
    "load_family",
    "load_transitions",
    "make_env",
    "observation_statistics",
    "resolve_env_id",
    "save_expert",
    "write_pair",
]
