"""No number that changed: precision, missing values, whole numbers, tensors, units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import minari
import numpy as np
import pyarrow as pa
import pytest
from gymnasium import spaces
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

from qss_offline.data import (
    About,
    DatasetSpec,
    ImportRules,
    build_dataset,
    load_transitions,
    merge_datasets,
    plan_arrays,
    plan_frame,
    plan_minari,
    plan_replay_buffer,
    sample_dataset,
    split_dataset,
    verify_dataset,
)
from qss_offline.data.local import read_metadata
from qss_offline.errors import UserError
from qss_offline.runs.folder import RunFolder
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import TrainingRun

from .logs import D3rlpyBuffer, D3rlpyEpisode, make_log, same_rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


def steps_of(plan: Any) -> Any:
    found = plan.transitions
    return found.next_observations.astype(np.float64) - found.observations.astype(np.float64)


@given(
    offset=st.sampled_from((0.0, 1.0, 1e3, 1e5, 4.5e6, 1.7e9, -1e12)),
    scale=st.sampled_from((1e-9, 1e-6, 1e-3, 0.05, 1.0, 1e4)),
    column=st.integers(0, 2),
    layout=st.sampled_from(("next", "one more")),
)
def test_steps_that_float32_cannot_hold_are_refused_by_column(
    offset: float, scale: float, column: int, layout: str
) -> None:
    """Either all steps are what was recorded, but for a twentieth, or the column is named."""
    assume(scale >= 1e-14 * abs(offset))  # float64 holds it, but for its last digits
    log = make_log([20, 15], obs_dim=3, apart=3.0)
    rows = log.rows()
    if layout == "one more":
        rows["observations"] = np.concatenate(log.states)
        del rows["next_observations"]
    for name in {"observations", "next_observations"} & set(rows):
        rows[name] = rows[name].copy()
        rows[name][:, column] = offset + scale * rows[name][:, column]
    recorded = np.concatenate([np.diff(one, axis=0) for one in log.states])
    recorded[:, column] *= scale
    name = f"observations[{column}]"
    try:
        plan = plan_arrays(**rows)
    except UserError as error:
        assert f"--offset {name} " in str(error) and f"--ignore {name} " in str(error)
        assert np.spacing(np.float32(abs(offset))) > 0.02 * scale
        plan = plan_arrays(**rows, rules=ImportRules(offset=(name,)))
        assert plan.metadata["observation_offsets"].keys() == {name}
        left = plan_arrays(**rows, rules=ImportRules(ignore=(name,)))
        same_rows(left.transitions, log.rows() | {
            key: np.delete(log.rows()[key], column, axis=1)
            for key in ("observations", "next_observations")
        })  # fmt: skip
        kept = plan_arrays(**rows, rules=ImportRules(rounding="keep"))
        assert any(repr(name) in line for line in kept.report.notices)
    # What float64 itself lost at this offset was never recorded.
    exact = max(0.2 * scale, 4 * float(np.spacing(abs(offset))))
    np.testing.assert_allclose(steps_of(plan)[:, column], recorded[:, column], atol=exact)
    others = [k for k in range(3) if k != column]
    np.testing.assert_allclose(steps_of(plan)[:, others], recorded[:, others], atol=1e-5)


@given(begin=st.sampled_from((0, 10**6, 2**40, 1_700_000_000_000_000_000)), step=st.integers(1, 50))
def test_whole_numbers_keep_their_steps_or_are_refused(begin: int, step: int) -> None:
    clock = begin + step * np.arange(30, dtype=np.int64)
    table = {"obs_0": clock, "obs_1": np.sin(clock % 97), "reward": clock % 7, "episode": clock * 0}
    try:
        plan = plan_frame(table)
    except UserError as error:
        assert "--offset obs_0" in str(error)
        plan = plan_frame(table, rules=ImportRules(offset=("obs_0",)))
        assert plan.metadata["observation_offsets"] == {"obs_0": begin}
    assert (steps_of(plan)[:, 0] == step).all()


def test_spreads_between_episodes_count_too() -> None:
    """A goal in metres of a grid: constant in each episode, and another in the next."""
    rows = make_log([5, 5, 5]).rows()
    goal = 5e6 + 0.1 * rows["episodes"][:, None]
    for name in ("observations", "next_observations"):
        rows[name] = np.hstack([rows[name], goal])
    with pytest.raises(UserError, match=r"can't hold how 'observations\[2\]' changes"):
        plan_arrays(**rows)
    with pytest.raises(UserError, match=r"rewards: float32 can't hold"):
        plan_arrays(**make_log([5]).rows() | {"rewards": 1e9 + np.arange(5) * 0.01})
    constant = make_log([5]).rows()
    constant["observations"][:, 0] = constant["next_observations"][:, 0] = 1e9 + 0.3
    assert len(plan_arrays(**constant).transitions) == 5


@pytest.mark.parametrize("role", ["observations", "rewards", "actions"])
def test_what_every_episode_holds_is_refused_whichever_are_left_out(
    role: str, minari_root: Path
) -> None:
    rows = {name: np.array(column) for name, column in make_log([5, 5]).rows().items()}
    for name in {role, f"next_{role}"} & rows.keys():
        rows[name] = rows[name] * 1e-3 + 1e9
    rows["rewards"][7] = np.nan
    plan = plan_arrays(**rows, rules=ImportRules(skip_bad=True))
    assert plan.report.kept.episodes == 1
    with pytest.raises(UserError, match="float32 can't hold"):
        plan.store("mine/x")
    assert not minari.list_local_datasets()


def test_an_offset_belongs_to_no_environment(minari_root: Path) -> None:
    log = make_log([6], obs_dim=4)
    given = {k: v for k, v in log.rows().items() if k != "actions"}
    rules = ImportRules(offset=("observations[1]",))
    with pytest.raises(UserError, match="no longer those of InvertedPendulum-v5"):
        plan_arrays(**given, rules=rules).store("mine/x", about=About(env_id="InvertedPendulum"))
    assert not minari.list_local_datasets()
    stored = plan_arrays(**given, rules=rules).store("mine/x")
    offsets = read_metadata(stored.obs_id)["observation_offsets"]
    assert offsets == {"observations[1]": given["observations"][0, 1]}


def test_what_was_subtracted_is_known_to_whatever_is_made_of_it(minari_root: Path) -> None:
    log = make_log([6, 5], obs_dim=4)
    given = {k: v for k, v in log.rows().items() if k != "actions"}
    rules = ImportRules(offset=("observations[1]",))

    def offsets(dataset_id: str) -> Any:
        return read_metadata(dataset_id).get("observation_offsets")

    first = plan_arrays(**given, rules=rules).store("mine/first").obs_id
    by = offsets(first)["observations[1]"]
    same = plan_arrays(**given, rules=rules).store("mine/same").obs_id
    moved = {k: v + 30 if "observations" in k else v for k, v in given.items()}
    other = plan_arrays(**moved, rules=rules).store("mine/other").obs_id
    made = [
        merge_datasets([first, same], "mine/merged"),
        sample_dataset(first, "mine/sample", episodes=1),
        *split_dataset(first, {"mine/part": 0.5}),
        plan_minari(first).store("mine/again"),
    ]
    assert [offsets(one.obs_id) for one in made] == [{"observations[1]": by}] * 4
    with pytest.raises(UserError, match="offsets of 'mine/first-obs-v0' and 'mine/other-obs-v0'"):
        merge_datasets([first, other], "mine/mixed")
    twice = plan_minari(other, rules=rules).store("mine/twice").obs_id
    earlier = offsets(other)["observations[1]"]
    there = load_transitions(other).transitions.observations[0, 1]
    assert offsets(twice) == {"observations[1]": pytest.approx(earlier + there)}


@pytest.mark.parametrize(
    "rules", [ImportRules(offset=("observations[1]",)), ImportRules(ignore=("observations[1]",))]
)
def test_observations_that_were_changed_are_no_environments(
    minari_root: Path, rules: ImportRules
) -> None:
    whole = build_dataset(DatasetSpec("InvertedPendulum", transitions=200), workers=1).obs_id
    assert load_transitions(whole).info.env_id == "InvertedPendulum-v5"
    assert load_transitions(plan_minari(whole).store("mine/same").obs_id).info.env_id
    stored = plan_minari(whole, rules=rules).store("mine/changed").obs_id
    assert load_transitions(stored).info.env_id is None
    run = TrainOptions("bco").config(stored, "InvertedPendulum-v5")
    words = "imported with --offset" if rules.offset else "3 numbers"
    with pytest.raises(UserError, match=words):
        TrainingRun(run, RunFolder(minari_root / "run"), False)


KINDS = ("nan", "masked", "null", "none")


def holed(kind: str, column: Any, holes: Any) -> Any:
    if kind == "masked":
        return np.ma.masked_array(np.where(holes, -999.0, column), holes)
    gone = np.where(holes, np.nan, column)
    if kind == "nan":
        return gone
    cells = [None if hole else float(x) for x, hole in zip(column, holes, strict=True)]
    return pa.chunked_array([pa.array(cells)]) if kind == "null" else cells


@given(data=st.data())
@settings(max_examples=80)
def test_missing_values_are_refused_left_out_or_interpolated(data: st.DataObject) -> None:
    lengths = [8, 1, 7]
    log = make_log(lengths, seed=data.draw(st.integers(0, 5)))
    rows = log.rows()
    kind = data.draw(st.sampled_from(KINDS))
    own = data.draw(st.booleans())
    column = data.draw(
        st.sampled_from(("obs_0", "obs_1", "reward", "action") + ("next_obs_1",) * own)
    )
    holes = np.array(data.draw(st.lists(st.booleans(), min_size=16, max_size=16)))
    table: dict[str, Any] = {
        "obs_0": rows["observations"][:, 0], "obs_1": rows["observations"][:, 1],
        "action": rows["actions"][:, 0], "reward": rows["rewards"],
        "terminated": rows["terminations"], "truncated": rows["truncations"],
        "episode": rows["episodes"],
    }  # fmt: skip
    if own:
        table |= {f"next_obs_{k}": rows["next_observations"][:, k] for k in range(2)}
    table[column] = holed(kind, table[column], holes)
    frame = pa.table(table) if kind == "null" else table
    last = rows["terminations"] | rows["truncations"]
    needed = holes.copy()
    if not own:  # a step needs the next row's observation, and its last one is unknown
        if column.startswith("obs"):
            needed |= np.append(holes[1:], False)
        needed |= last
    if not holes[~last].any() and not holes.any():
        return
    complete = ~needed
    if (needed == (last if not own else False)).all():
        return
    with pytest.raises(UserError, match=f"values are missing: .*'{column}'"):
        plan_frame(frame)
    rules = ImportRules(missing="drop-step")
    if not complete.any():
        with pytest.raises(UserError, match="no step is left"):
            plan_frame(frame, rules=rules)
        return
    found = plan_frame(frame, rules=rules).transitions
    expected = {k: v for k, v in rows.items() if k not in ("terminations", "truncations")}
    for name in ("observations", "next_observations", "rewards", "actions"):
        np.testing.assert_array_equal(
            getattr(found, name), expected[name][complete].astype(np.float32), err_msg=name
        )
    assert (found.terminations == (rows["terminations"] & complete)[complete]).all()


@given(data=st.data(), layout=st.sampled_from(("as many", "next", "one more")))
def test_interpolation_is_linear_and_stays_in_the_episode(data: st.DataObject, layout: str) -> None:
    lengths = [9, 6]
    lines = [3.0 * np.arange(n + 1)[:, None] + 100 * k for k, n in enumerate(lengths)]
    rows: dict[str, Any] = {
        "observations": np.concatenate([one[:-1] for one in lines]),
        "next_observations": np.concatenate([one[1:] for one in lines]),
        "rewards": np.arange(15.0), "terminations": np.isin(np.arange(15), (8, 14)),
    }  # fmt: skip

    def holed(column: Any) -> tuple[Any, Any]:
        size = len(column)
        holes = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
        return np.where(holes[:, None], np.nan, column), holes

    given = {name: column for name, column in rows.items() if name != "next_observations"}
    if layout == "one more":
        given["observations"], holes = holed(np.concatenate(lines))
    else:
        given["observations"], holes = holed(rows["observations"])
    if layout == "next":
        given["next_observations"], _ = holed(rows["next_observations"])
    try:
        plan = plan_arrays(**given, rules=ImportRules(missing="interpolate"))
    except UserError as error:
        assert "no step is left" in str(error) or "no episode holds two" in str(error)
        return
    kept = plan.transitions.rewards.astype(int)
    np.testing.assert_allclose(plan.transitions.observations, rows["observations"][kept], rtol=1e-6)
    np.testing.assert_allclose(
        plan.transitions.next_observations, rows["next_observations"][kept], rtol=1e-6
    )
    if layout == "one more":  # whatever lies between two that are there is filled in
        between = [np.ptp(np.flatnonzero(~part)) if not part.all() else 0
                   for part in (holes[:10], holes[10:])]  # fmt: skip
        assert len(kept) == sum(between)


def test_tensors_of_any_type() -> None:
    import torch

    rows = make_log([4, 3]).rows()
    given: dict[str, Any] = {name: torch.from_numpy(column.copy()) for name, column in rows.items()}
    given["observations"].requires_grad_()
    same_rows(plan_arrays(**given).transitions, rows)
    half = {name: given[name].detach().to(torch.bfloat16)
            for name in ("observations", "next_observations")}  # fmt: skip
    found = plan_arrays(**given | half).transitions
    np.testing.assert_array_equal(found.observations, half["observations"].float().numpy())


def test_observations_in_dicts_are_flattened_as_gymnasium_does() -> None:
    rows = make_log([4, 3], obs_dim=5).rows()

    def nested(matrix: Any) -> dict[str, Any]:
        return {"z": matrix[:, 0], "arm": {"vel": matrix[:, 3:], "pos": matrix[:, 1:3]}}

    box = spaces.Box(-9, 9, (2,))
    space = spaces.Dict(
        {"z": spaces.Box(-9, 9, (1,)), "arm": spaces.Dict({"vel": box, "pos": box})}
    )
    found = plan_arrays(**rows | {
        name: nested(rows[name]) for name in ("observations", "next_observations")
    })  # fmt: skip
    first = {"z": rows["observations"][0, :1], "arm": {
        "vel": rows["observations"][0, 3:], "pos": rows["observations"][0, 1:3]}}  # fmt: skip
    np.testing.assert_allclose(found.transitions.observations[0], spaces.flatten(space, first))
    assert found.names[0] == "observations.arm.pos[0]"


# --- whole-number actions, and refusals that publish nothing -----------------------------------


@pytest.mark.parametrize(
    ("space", "kept"), [("CONTINUOUS", True), ("DISCRETE", False), (None, True)]
)
def test_whole_number_actions_of_buffers(space: str | None, kept: bool) -> None:
    actions = np.array([[10], [20], [30], [40]], np.int32)
    episodes = [D3rlpyEpisode(np.arange(8.0).reshape(4, 2), actions, np.arange(4.0), True)]
    plan = plan_replay_buffer(D3rlpyBuffer(episodes, space))
    if kept:
        assert plan.transitions.actions is not None
        assert plan.transitions.actions[:, 0].tolist() == [10, 20, 30]
    else:
        assert plan.transitions.actions is None
        assert "discrete" in plan.report.notices[0]


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, np.float64, np.float16])
def test_stored_actions_lie_in_their_space(minari_root: Path, dtype: Any) -> None:
    high = 0.1 if np.dtype(dtype).kind == "f" else 5
    space = spaces.Box(0, high, (1,), dtype)
    actions = np.array([[high], [0], [high]], dtype)
    buffer = EpisodeBuffer(
        id=0, observations=np.random.default_rng(0).normal(size=(4, 2)), actions=actions,
        rewards=[0.0] * 3, terminations=[False, False, True], truncations=[False] * 3,
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "ext/r-v0", [buffer], observation_space=spaces.Box(-99, 99, (2,), np.float64),
        action_space=space,
    )  # fmt: skip
    stored = plan_minari("ext/r-v0").store("mine/x")
    assert stored.act_id is not None
    dataset = minari.load_dataset(stored.act_id)
    episode = next(iter(dataset))
    assert all(dataset.action_space.contains(one) for one in episode.actions)
    np.testing.assert_array_equal(episode.actions, actions.astype(np.float32))


@pytest.mark.parametrize("role", ["observations", "actions"])
def test_numbers_of_a_minari_dataset_can_be_ignored(role: str, minari_root: Path) -> None:
    """What is left has the source's space no more."""
    rows = make_log([6, 5], act_dim=2).rows()
    source = plan_arrays(**rows).store("ext/a", action_space=spaces.Box(-1, 1, (2,), np.float32))
    assert source.act_id is not None
    left = ImportRules(ignore=(f"{role}[0]",))
    stored = plan_minari(source.act_id, rules=left).store("mine/x")
    assert stored.act_id is not None
    found = load_transitions(stored.act_id).transitions.columns()
    np.testing.assert_array_equal(found[role], rows[role][:, 1:].astype(np.float32))


def test_minari_datasets_beyond_float32(minari_root: Path) -> None:
    states = np.column_stack((1.7e9 + np.arange(41) * 0.02, np.arange(41) % 5))
    buffer = EpisodeBuffer(
        id=0, observations=states, actions=np.zeros((40, 1), np.float32), rewards=[0.0] * 40,
        terminations=[False] * 40, truncations=[False] * 39 + [True],
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "ext/clock-v0", [buffer], observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float64),
        action_space=spaces.Box(-1, 1, (1,)),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"--offset observations\[0\]"):
        plan_minari("ext/clock-v0")
    plan = plan_minari("ext/clock-v0", rules=ImportRules(offset=("observations[0]",)))
    np.testing.assert_allclose(steps_of(plan)[:, 0], 0.02, rtol=1e-3)
    assert plan.metadata["observation_offsets"] == {"observations[0]": 1.7e9}
    left = plan_minari("ext/clock-v0", rules=ImportRules(ignore=("observations[0]",)))
    np.testing.assert_array_equal(left.transitions.observations[:, 0], states[:-1, 1])


@pytest.mark.parametrize("fault", ["action outside", "action is the next state"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_refused_import_leaves_everything_as_it_was(
    minari_root: Path, fault: str, overwrite: bool
) -> None:
    log = make_log([6, 5])
    box = spaces.Box(-1, 1, (1,), np.float32)
    good = log.rows()
    if overwrite:
        before = plan_arrays(**good).store("mine/x", action_space=box)
    if fault == "action outside":
        bad = good | {"actions": good["actions"] * 0 + 1.25}
        with pytest.raises(UserError, match=r"actions: number 0 of row 0 is 1\.25"):
            plan_arrays(**bad).store("mine/x", action_space=box, overwrite=True)
        assert len(minari.list_local_datasets()) == (2 if overwrite else 0)
        if overwrite:
            assert load_transitions(before.ids[1]).info.digest == before.act_digest
            assert verify_dataset(before.ids[1]).ok
    else:
        # Position control: nothing is wrong, and it is said on import and by the check.
        plan = plan_arrays(**good | {"actions": good["next_observations"]})
        stored = plan.store("mine/x", overwrite=True)
        assert len(plan.report.left_out) + len(plan.report.notices) == 2
        assert "equals the next observation's" in plan.report.notices[0]
        checks = {check.name: check for check in verify_dataset(stored.obs_id).checks}
        assert "tell action 0, 1" in checks["no byte of the twin's actions"].detail
        assert verify_dataset(stored.obs_id).ok
