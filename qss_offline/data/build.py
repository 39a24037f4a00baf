"""From a spec to a pair of Minari datasets that are on disk, whole, and checked."""

from __future__ import annotations

from typing import Any

from qss_offline.data import columns, minari_store
from qss_offline.data.collect import collect
from qss_offline.data.minari_store import DatasetPair
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.reporting import Notice, ProgressFactory, no_progress, print_notice


def build_dataset(
    spec: DatasetSpec,
    workers: int | None = None,
    overwrite: bool = False,
    *,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> DatasetPair:
    """Collect what `spec` describes and write it as a pair of Minari datasets.

    A pair that is there already, is of the same spec, and agrees with its digests is kept. Two
    builders of the same pair wait for each other. Nothing is visible before it is whole.

    Args:
        spec: what to record.
        workers: processes; by default what is quickest.
        overwrite: build and replace the pair even if it is there.
        notice: told what is skipped or waited for.
        progress: makes the reporters of collecting and writing.

    Raises:
        UserError: the spec can't be collected, another dataset has the id, one of the pair is
            missing or damaged, the root can't be written to, or the disk is full.
    """
    identity = spec.identity()
    with minari_store.stage(spec.base_id, notice) as stage:
        if not overwrite:
            existing = _existing(spec, identity)
            if existing is not None:
                notice(f"{spec.obs_id} and its twin are there already: kept")
                return existing
        with progress("collecting", spec.transitions, "transitions") as report:
            transitions = collect(spec, workers, report)
        return minari_store.write_pair(
            transitions,
            spec,
            stage_=stage,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )


def _existing(spec: DatasetSpec, identity: dict[str, Any]) -> DatasetPair | None:
    """Return the pair that is there, None where neither of the two is.

    Raises:
        UserError: it is another one, incomplete or damaged.
    """
    root = minari_store.minari_root()
    there = [name for name in (spec.obs_id, spec.act_id) if (root / name).exists()]
    if not there:
        return None
    mend = "delete it or build with overwrite"
    digests = {}
    for dataset_id in there:
        metadata = minari_store.read_metadata(dataset_id)
        recorded = metadata.get("spec")
        if recorded != identity:
            difference = _difference(recorded, identity)
            raise UserError(
                f"dataset {dataset_id!r} exists and is another one ({difference}); {mend}, "
                "or give yours a name"
            )
        path = minari_store.data_folder(dataset_id) / columns.FILE_NAME
        sidecar = None
        try:
            if path.exists():
                sidecar = columns.read_sidecar(
                    path, metadata["total_steps"], metadata["total_episodes"], metadata["digest"]
                )
        except (columns.StaleSidecarError, KeyError):
            sidecar = None
        if sidecar is None or len(sidecar.transitions) != spec.transitions:
            raise UserError(
                f"dataset {dataset_id!r} exists but was changed since it was built; {mend}"
            )
        digests[dataset_id] = sidecar.info.digest
    if len(there) == 1:
        missing = spec.act_id if there == [spec.obs_id] else spec.obs_id
        raise UserError(f"dataset {there[0]!r} exists without its twin {missing!r}; {mend}")
    returns = minari_store.recorded_returns(metadata)
    if returns is None:
        raise UserError(
            f"dataset {there[-1]!r} exists without the returns of its behaviour; {mend}"
        )
    return DatasetPair(
        obs_id=spec.obs_id,
        act_id=spec.act_id,
        obs_digest=digests[spec.obs_id],
        act_digest=digests[spec.act_id],
        transitions=metadata["total_steps"],
        episodes=metadata["total_episodes"],
        behaviour_return=returns,
        built=False,
    )


def _difference(recorded: object, identity: dict[str, Any]) -> str:
    """Name what differs first, in words."""
    if not isinstance(recorded, dict):
        return "it was not built from a spec"
    for key, value in identity.items():
        if recorded.get(key) != value:
            return f"its {key} is {recorded.get(key)!r}, not {value!r}"
    return "its spec has other keys"
