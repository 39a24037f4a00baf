"""The run folder, presets and options."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.errors import UserError
from qss_offline.presets import PRESETS, preset
from qss_offline.runs.folder import RunFolder, SeedFolder, free_folder
from qss_offline.settings_json import from_plain, to_plain


def test_a_started_folder_is_resumed_with_the_same_settings_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = {"updates": 10, "seeds": (0, 1), "versions": {"torch": "1"}}
    folder.start(config, resume=False)
    folder.start({**config, "versions": {"torch": "2"}}, resume=True)
    with pytest.raises(UserError, match="qss resume"):
        folder.start(config, resume=False)
    with pytest.raises(UserError, match="started with updates = 10, not 20"):
        folder.start({**config, "updates": 20}, resume=True)


def test_settings_that_a_run_did_not_know_count_as_off(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.start({"preset": {"algorithm": {"gamma": 0.9}}}, resume=False)
    newer = {"gamma": 0.9, "clamp_targets": False, "average": None, "decay": 0.0}
    folder.start({"preset": {"algorithm": newer}}, resume=True)
    on = {"preset": {"algorithm": {**newer, "clamp_targets": True}}}
    with pytest.raises(UserError, match=r"preset\.algorithm\.clamp_targets = null, not true"):
        folder.start(on, resume=True)


def test_settings_that_a_dataclass_did_not_know_count_as_its_defaults(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    now = InverseDynamicsConfig(hidden_dims=(8, 8), step_inputs=True)
    then = {k: v for k, v in asdict(now).items() if k not in ("form", "recorded_coef")}
    folder.start({"preset": {"model": then}}, resume=False)
    folder.start({"preset": {"model": now}}, resume=True)
    with pytest.raises(UserError, match=r'preset\.model\.form = "network", not "bilinear"'):
        folder.start({"preset": {"model": replace(now, form="bilinear")}}, resume=True)
    gone = RunFolder(tmp_path / "gone")
    gone.start({"model": {**then, "dropout": 0.1}}, resume=False)
    with pytest.raises(UserError, match=r"model\.dropout = 0\.1, not null"):
        gone.start({"model": now}, resume=True)
    with pytest.raises(UserError, match=r"hidden_dims = \[8, 8\], not \[4, 4\]"):
        folder.start({"preset": {"model": replace(now, hidden_dims=(4, 4))}}, resume=True)


def test_settings_that_are_gone_are_left_out_where_they_were_off(tmp_path: Path) -> None:
    now = preset("paper").algorithm
    off = {"gap_units": False, "behaviour_coef": 0.0, "behaviour_weights": "advantage",
           "behaviour_power": 2.0}  # fmt: skip
    assert from_plain(ObservationalD3GConfig, {**to_plain(now), **off}, "run") == now
    folder = RunFolder(tmp_path / "off")
    folder.start({"algorithm": {**to_plain(now), **off}}, resume=False)
    folder.start({"algorithm": now}, resume=True)
    on = {"gap_units": True, "behaviour_coef": 1.0, "behaviour_weights": "plain",
          "behaviour_power": None}  # fmt: skip
    for name, value in on.items():
        then = {**to_plain(now), **off, name: value}
        with pytest.raises(UserError, match=f"no setting '{name}'.*another version"):
            from_plain(ObservationalD3GConfig, then, "run")
        folder = RunFolder(tmp_path / name)
        folder.start({"algorithm": then}, resume=False)
        with pytest.raises(UserError, match=rf"algorithm\.{name} = .*, not null"):
            folder.start({"algorithm": now}, resume=True)


def test_resuming_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no run to resume"):
        RunFolder(tmp_path).start({}, resume=True)


def test_metrics_are_cut_to_the_checkpoint_and_torn_lines_dropped(tmp_path: Path) -> None:
    folder = SeedFolder(tmp_path / "seed")
    for update in (1000, 2000, 3000):
        folder.append_metrics({"update": update, "q": 0.5})
    with folder.metrics.open("a") as file:
        file.write('{"update": 1500, "q"')
    folder.cut_metrics(2000)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [row["update"] for row in rows] == [1000, 2000]


def test_a_folder_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot write .*file/run/config\.json: Not a directory"):
        RunFolder(tmp_path / "file" / "run").start({}, resume=False)


def test_folder_names_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "run"
    assert free_folder(base) == base
    for name in ("run", "run-2"):
        RunFolder(tmp_path / name).start({}, resume=False)
    assert free_folder(base) == tmp_path / "run-3"
    inside = base / "seeds"
    inside.mkdir()
    for here, path in ((base, "."), (inside, "..")):
        monkeypatch.chdir(here)
        assert free_folder(Path(path)) == tmp_path / "run-3"


def test_the_paper_preset_adds_nothing_to_the_paper() -> None:
    paper = preset("paper")
    assert paper.updates == 1_000_000
    assert paper.algorithm.cycle_coef == 1.0
    assert paper.algorithm.hidden_dims == (256, 256)
    assert not paper.algorithm.normalize_observations
    assert not paper.algorithm.clamp_targets
    assert paper.algorithm.proposal_average_step_size is None
    assert paper.algorithm.twin_pessimism == 1.0
    assert paper.inverse.model.form == "network"
    assert not paper.inverse.model.step_inputs
    assert paper.inverse.model.average_step_size is None
    assert paper.inverse.online_steps == 100_000


def test_presets_are_found_or_suggested() -> None:
    assert set(PRESETS) == {"default", "quick", "paper"}
    assert preset("default") == preset("default", "auto")
    assert preset("paper") == preset("paper", "d3g")
    with pytest.raises(UserError, match="paper doesn't apply to method auto, but to d3g and bco"):
        preset("paper", "auto")
    with pytest.raises(UserError, match="did you mean default"):
        preset("defalt")


def test_budgets_are_spent_as_told() -> None:
    chosen = preset("default").spend(updates=7, online_steps=500, online_rounds=2)
    assert (chosen.updates, chosen.inverse.rounds, chosen.inverse.online_steps) == (7, 2, 500)
    none = preset("default").spend(updates=None, online_steps=0, online_rounds=5)
    assert (none.inverse.rounds, none.inverse.online_steps) == (1, 0)
    for wrong in ((0, None, None), (None, 100, 3), (None, None, 0), (None, -3, None)):
        with pytest.raises(UserError):
            preset("default").spend(*wrong)
