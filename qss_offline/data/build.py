"""From specs to pairs of Minari datasets that are on disk, whole, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces

from qss_offline.data import verify
from qss_offline.data.collect import collect_all, complete_returns, default_workers
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.data.local import check_base_id, minari_root, read_metadata
from qss_offline.data.minari_format import Description, env_metadata, returns_of
from qss_offline.data.publish import Stage, hold_stage
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.statistics import interval_of_mean
from qss_offline.data.transitions import Transitions
from qss_offline.data.write import Draft, StoredDatasets, write_drafts
from qss_offline.errors import UserError
from qss_offline.parallel.processes import Tick, available_cores, run_jobs
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice


def build_dataset(
    spec: DatasetSpec,
    workers: int | None = None,
    overwrite: bool = False,
    *,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Collect what `spec` describes and write it as a pair of Minari datasets.

    A pair that is there already, is of the same spec, and agrees with its digests is kept. Two
    builders of the same pair wait for each other. Nothing is visible before it is whole.

    Args:
        spec: what to record.
        workers: processes; by default what is quickest.
        overwrite: build and replace the pair even if it is there.
        notice: called with a line about what is skipped or waited for.
        progress: makes the reporters of collecting and writing.

    Raises:
        UserError: the spec can't be collected, another dataset has the id, one of the pair is
            missing or damaged, the root can't be written to, or the disk is full.
    """
    (pair,) = build_datasets([spec], workers, overwrite, notice=notice, progress=progress)
    return pair


def build_datasets(
    specs: Sequence[DatasetSpec],
    workers: int | None = None,
    overwrite: bool = False,
    *,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> list[StoredDatasets]:
    """Build several pairs side by side; see `build_dataset`.

    As many at a time as there are workers: their shards, then their episodes, keep every core
    busy, and whoever is interrupted loses no more than these.

    Raises:
        UserError: as for `build_dataset`; or two specs have one id.
    """
    ids = [spec.base_id for spec in specs]
    for base_id in ids:
        check_base_id(base_id)
        if ids.count(base_id) > 1:
            raise UserError(f"dataset {base_id!r}: two specs have this id; give one a name")
    pairs: dict[str, StoredDatasets] = {}
    together = workers or available_cores()
    for begin in range(0, len(specs), together):
        some = specs[begin : begin + together]
        with ExitStack() as stack:
            # Held in one order by everyone, so that no two builders wait for each other.
            stages = {
                spec.base_id: stack.enter_context(hold_stage(spec.base_id, notice))
                for spec in sorted(some, key=lambda spec: spec.base_id)
            }
            missing = []
            for spec in some:
                existing = None if overwrite else _existing(spec, spec.identity(), notice)
                if existing is None:
                    missing.append((spec, stages[spec.base_id]))
                else:
                    both = len(existing.ids) > 1
                    what = " and its twin are" if both else " is"
                    notice(f"{spec.obs_id}{what} there already: kept")
                    pairs[spec.obs_id] = existing
            if missing:
                for pair in _build(missing, workers, overwrite, progress):
                    pairs[pair.obs_id] = pair
    return [pairs[spec.obs_id] for spec in specs]


def _build(
    missing: Sequence[tuple[DatasetSpec, Stage]],
    workers: int | None,
    overwrite: bool,
    progress: ProgressFactory,
) -> list[StoredDatasets]:
    specs = [spec for spec, _ in missing]
    steps = sum(spec.transitions for spec in specs)
    with progress("collecting", steps, "transitions") as report:
        # Beside the datasets: there is room for large files.
        recorded = collect_all(specs, workers, report, missing[0][1].folder)
    drafts = [
        Draft(transitions, description_of(spec, transitions), stage)
        for transitions, (spec, stage) in zip(recorded, missing, strict=True)
    ]
    return write_drafts(drafts, overwrite=overwrite, workers=workers, progress=progress)


@dataclass(frozen=True)
class FamilyMember:
    """One pair of a family that is there and verified.

    Attributes:
        spec: what was recorded.
        pair: what is there.
        return_interval: the 95% interval of the behaviour's mean return; None where there are
            fewer than five episodes.
    """

    spec: DatasetSpec
    pair: StoredDatasets
    return_interval: tuple[float, float] | None


def build_family(
    specs: Sequence[DatasetSpec],
    workers: int | None = None,
    overwrite: bool = False,
    *,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> list[FamilyMember]:
    """Build what is missing of a family of datasets, and verify all of it, episode by episode.

    Args:
        specs: what to record.
        workers: processes; by default what is quickest.
        overwrite: build and replace every pair even if it is there.
        notice: called with a line about what is skipped or waited for.
        progress: makes the reporters of collecting, writing and verifying.

    Raises:
        UserError: as for `build_datasets`; or one of the datasets isn't sound.
    """
    pairs = build_datasets(specs, workers, overwrite, notice=notice, progress=progress)
    ids = [dataset_id for pair in pairs for dataset_id in pair.ids]
    steps = sum(pair.transitions * len(pair.ids) for pair in pairs)
    with progress("verifying", steps, "transitions") as report:
        for _ in run_jobs(_verify, ids, workers or default_workers(steps), report):
            pass
    return [_member(spec, pair) for spec, pair in zip(specs, pairs, strict=True)]


def _verify(dataset_id: str, tick: Tick) -> None:
    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Reporter]:
        yield lambda completed, note="": tick(completed)

    verify.require(dataset_id, progress=progress)


def _member(spec: DatasetSpec, pair: StoredDatasets) -> FamilyMember:
    transitions = load_transitions(pair.obs_id).transitions
    interval = interval_of_mean(complete_returns(transitions, spec))
    return FamilyMember(spec, pair, interval)


def _existing(spec: DatasetSpec, identity: dict[str, Any], notice: Notice) -> StoredDatasets | None:
    """Return what is there of a spec, None where nothing is.

    Of discrete actions that is the observation-only dataset alone, which names no twin.

    Raises:
        UserError: it is another one, incomplete or damaged.
    """
    root = minari_root()
    there = [name for name in (spec.obs_id, spec.act_id) if (root / name).exists()]
    if not there:
        return None
    mend = "delete it or build with overwrite"
    found = {}
    for dataset_id in there:
        metadata = read_metadata(dataset_id)
        recorded = metadata.get("spec")
        if recorded != identity:
            difference = _difference(recorded, identity)
            raise UserError(
                f"dataset {dataset_id!r} exists and is another one ({difference}); {mend}, "
                "or give yours a name"
            )
        info = found[dataset_id] = load_transitions(dataset_id, notice=notice).info
        if info.total_steps != spec.transitions or info.behaviour_return is None:
            raise UserError(
                f"dataset {dataset_id!r} exists but was changed since it was built; {mend}"
            )
    alone = there == [spec.obs_id] and "twin" not in metadata
    if len(there) == 1 and not alone:
        missing = spec.act_id if there == [spec.obs_id] else spec.obs_id
        raise UserError(f"dataset {there[0]!r} exists without its twin {missing!r}; {mend}")
    assert info.behaviour_return is not None
    return StoredDatasets(
        obs_id=spec.obs_id,
        act_id=None if alone else spec.act_id,
        obs_digest=found[spec.obs_id].digest,
        act_digest=None if alone else found[spec.act_id].digest,
        transitions=info.total_steps,
        episodes=info.total_episodes,
        behaviour_return=info.behaviour_return,
    )


def description_of(spec: DatasetSpec, transitions: Transitions) -> Description:
    """Return what the datasets of a spec say of themselves."""
    env = make_env(spec.env_id)
    try:
        observation_space, action_space = env.observation_space, env.action_space
    finally:
        env.close()
    assert isinstance(observation_space, spaces.Box)
    percent = f"{100 * spec.random_action_prob:g}%"
    return Description(
        base_id=spec.base_id,
        observation_space=observation_space,
        action_space=action_space if isinstance(action_space, spaces.Box) else None,
        text=f"{spec.env_id}, {percent} random behaviour",
        algorithm_name=f"{percent} uniformly random actions, else an expert's"
        if spec.behaviour_expert
        else "uniformly random actions",
        behaviour_return=returns_of(complete_returns(transitions, spec)),
        metadata=env_metadata(spec.env_id)
        | {
            "author": ["QSS Offline"],
            "random_action_prob": spec.random_action_prob,
            "seed": spec.seed,
            "spec": spec.identity(),
        },
    )


def _difference(recorded: object, identity: dict[str, Any]) -> str:
    """Name what differs first, in words."""
    if not isinstance(recorded, dict):
        return "it was not built from a spec"
    for key, value in identity.items():
        if recorded.get(key) != value:
            return f"its {key} is {recorded.get(key)!r}, not {value!r}"
    return "its spec has other keys"
