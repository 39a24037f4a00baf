"""Datasets without actions: collecting, importing, storing, loading, sharing. No torch here."""

from qss_offline.data.build import FamilyMember, build_dataset, build_datasets, build_family
from qss_offline.data.card import dataset_card, write_card
from qss_offline.data.collect import collect
from qss_offline.data.edit import merge_datasets, sample_dataset, split_dataset
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.export import export_dataset
from qss_offline.data.hub import pull_dataset, push_dataset
from qss_offline.data.importing import (
    About,
    ColumnNames,
    ImportPlan,
    ImportRules,
    RoleReport,
    from_arrays,
    from_file,
    from_frame,
    from_minari,
    from_replay_buffer,
    plan_arrays,
    plan_file,
    plan_frame,
    plan_minari,
    plan_replay_buffer,
)
from qss_offline.data.listing import Summary, describe, list_datasets
from qss_offline.data.load import (
    DatasetInfo,
    LoadedDataset,
    load_transitions,
    observation_statistics,
)
from qss_offline.data.minari_format import BehaviourReturns
from qss_offline.data.policies import MLPExpert, load_expert, save_expert
from qss_offline.data.record_policy import collect_with_policy
from qss_offline.data.specs import DatasetSpec, Family, load_family, read_family
from qss_offline.data.statistics import Statistics, dataset_statistics
from qss_offline.data.transitions import Transitions
from qss_offline.data.verify import Check, Verification, verify_dataset
from qss_offline.data.write import DatasetPair, StoredDatasets, write_pair

__all__ = [
    "About",
    "BehaviourReturns",
    "Check",
    "ColumnNames",
    "DatasetInfo",
    "DatasetPair",
    "DatasetSpec",
    "Family",
    "FamilyMember",
    "ImportPlan",
    "ImportRules",
    "LoadedDataset",
    "MLPExpert",
    "RoleReport",
    "Statistics",
    "StoredDatasets",
    "Summary",
    "Transitions",
    "Verification",
    "build_dataset",
    "build_datasets",
    "build_family",
    "collect",
    "collect_with_policy",
    "dataset_card",
    "dataset_statistics",
    "describe",
    "export_dataset",
    "from_arrays",
    "from_file",
    "from_frame",
    "from_minari",
    "from_replay_buffer",
    "list_datasets",
    "load_expert",
    "load_family",
    "load_transitions",
    "make_env",
    "merge_datasets",
    "observation_statistics",
    "plan_arrays",
    "plan_file",
    "plan_frame",
    "plan_minari",
    "plan_replay_buffer",
    "pull_dataset",
    "push_dataset",
    "read_family",
    "resolve_env_id",
    "sample_dataset",
    "save_expert",
    "split_dataset",
    "verify_dataset",
    "write_card",
    "write_pair",
]
