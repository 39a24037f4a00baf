"""A comparison from settings to table: cells, what is missing, what failed, what is kept."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.analysis.plots.comparison import png
from qss_offline.analysis.plots.style import GREY
from qss_offline.cli.reproduce import table1
from qss_offline.comparison import study
from qss_offline.comparison.cells import Cell
from qss_offline.comparison.config import (
    METHODS,
    ComparisonConfig,
    KnownActions,
    Restriction,
)
from qss_offline.comparison.grid import known_recordings, make_cells, recordings, run_cells
from qss_offline.comparison.paper_results import reported
from qss_offline.comparison.presets import COMPARISONS, comparison
from qss_offline.comparison.table import (
    METRICS,
    Row,
    markdown,
    read_csv,
    rows,
    show,
    summarise,
    with_earlier,
    write_csv,
)
from qss_offline.data.families import family_path
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.launch.local import LocalLauncher
from qss_offline.runs.folder import read_json
from qss_offline.statistics import Interval
from tests.small_run import PRESET

SMALL = ComparisonConfig(
    name="small",
    families=("inverted_pendulum",),
    random_action_probs=(1.0,),
    methods=("d3g", "bco"),
    seeds=2,
    d3g=replace(PRESET, updates=100),
    cloning=CloningConfig((16, 16), 32),
    cloning_updates=50,
    baseline_updates=20,
    baseline_hidden_dims=(16, 16),
    baseline_batch_size=16,
    baseline_learning_rate=1e-3,
    baseline_evaluations=2,
    episodes=2,
)
WITH_KNOWN = replace(SMALL.d3g, inverse=replace(SMALL.d3g.inverse, known_updates=60))
SPEC = DatasetSpec("InvertedPendulum", transitions=500, shards=1)


def cells_of(settings: ComparisonConfig, tmp_path: Path) -> list[Cell]:
    return make_cells(settings, [SPEC], tmp_path / "runs")


def row(seed: int, value: float, method: str = "d3g", metric: str = "last") -> Row:
    return Row("InvertedPendulum-v5", 1.0, method, seed, metric, value, 200, 100, "small", 1.5)


def test_cells_run_and_run_again_only_where_something_is_missing(
    minari_root: Path, tmp_path: Path
) -> None:
    cells = cells_of(SMALL, tmp_path)
    assert run_cells(cells, [SPEC], launcher=LocalLauncher(1)) == []
    first = rows(cells)
    assert {(r.method, r.seed, r.metric) for r in first} == {
        (method, seed, metric)
        for method in ("d3g", "bco")
        for seed in (0, 1)
        for metric in ("last", "best")
    }
    assert {r.online_steps for r in first if r.metric == "last"} == {200}
    assert {r.updates for r in first if r.method == "d3g"} == {100}
    assert {r.updates for r in first if r.method == "bco" and r.metric == "last"} == {100}
    assert all(r.mean_return > 0 and r.seconds > 0 for r in first)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("result.json")}

    more = cells_of(replace(SMALL, seeds=3), tmp_path)
    assert [cell.missing() for cell in more] == [(2,), (2,)]
    assert run_cells(more, [SPEC], launcher=LocalLauncher(1)) == []
    assert all(p.stat().st_mtime_ns == time for p, time in times.items())
    kept = [r for r in rows(more) if r.seed < 2]
    assert sorted(map(str, kept)) == sorted(map(str, first))


def test_two_recordings_of_one_environment_and_level_are_not_mixed_up(
    minari_root: Path, tmp_path: Path
) -> None:
    other = replace(SPEC, seed=1)
    with pytest.raises(UserError, match="one environment and level"):
        make_cells(SMALL, [SPEC, other], tmp_path / "runs")
    settings = replace(SMALL, methods=("bco",), seeds=1)
    assert run_cells(cells_of(settings, tmp_path), [SPEC], launcher=LocalLauncher(1)) == []
    with pytest.raises(UserError, match=rf"holds runs on {SPEC.obs_id}, not on {other.obs_id}"):
        make_cells(settings, [other], tmp_path / "runs")
    assert len(rows(make_cells(settings, [SPEC], tmp_path / "runs"))) == 2


def returns_of(name: str, updates: int | None = None) -> list[Row]:
    """What a comparison says of one run of BCO in Reacher."""
    updates = comparison("table1").updates("bco") if updates is None else updates
    one = replace(row(0, 1.0, "bco"), env_id="Reacher-v5", preset=name, updates=updates)
    return [replace(one, metric=metric) for metric in METRICS]


ASKED: dict[str, Any] = {
    "methods": "bco", "families": "reacher", "levels": "100", "seeds": 1,
}  # fmt: skip


def test_families_of_ones_own_and_other_settings_have_names_of_their_own(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows must not be taken for those of the comparison's own recordings."""
    family = tmp_path / "mine.toml"
    family.write_text('env_id = "Reacher"\ntransitions = 500\nrandom_action_probs = [1.0]\n')
    monkeypatch.chdir(tmp_path)
    mine = {"families": str(tmp_path / "mine.toml"), "levels": "100", "methods": "bco"}
    monkeypatch.setattr(study, "run_cells", lambda *_, **__: [])
    table1(**mine)
    assert read_json(Path("runs/table1-mine/provenance.json"))["preset"] == "table1-mine"
    table1(methods="bco", cloning_power=0.5)
    provenance = read_json(Path("runs/table1-cloning-power-0.5/provenance.json"))
    assert provenance["preset"] == "table1-cloning-power-0.5"
    with pytest.raises(UserError, match="error_power must be above 0 and at most 2"):
        table1(methods="bco", cloning_power=3.0, show_only=True)


def test_a_family_by_another_name_is_the_comparisons_own() -> None:
    own = study.ComparisonOptions("table1").config()
    for name in ("Reacher-v5", "reacher", str(family_path("reacher"))):
        config = study.ComparisonOptions("table1", families=name).config()
        assert (config.name, config.families) == (own.name, ("reacher",))
    with pytest.raises(UserError, match="did you mean reacher"):
        study.ComparisonOptions("table1", families="reachr").config()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_published_results_are_only_read(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("results/table1/returns.csv"), returns_of("table1"))
    write_json(Path("results/table1/provenance.json"), {"processor": "a slide rule"})
    before = contents(tmp_path / "results")
    table1(**ASKED, show_only=True)
    assert "returns of results/table1/returns.csv" in capsys.readouterr().out
    assert not Path("runs").exists(), "showing writes nothing"
    ran = []

    def run_nothing(cells: Any, *_: object, **__: object) -> list[str]:
        ran.append(len(cells))
        return []

    monkeypatch.setattr(study, "run_cells", run_nothing)
    table1(**ASKED)
    assert ran == [1], "what is published isn't what this user ran"
    assert contents(tmp_path / "results") == before
    assert read_json(Path("runs/table1/provenance.json"))["missing"] != []
    table1(**ASKED, show_only=True)
    assert "runs/table1/returns.csv" in capsys.readouterr().out


def test_returns_of_other_settings_are_not_taken_for_these(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("results/table1")
    write_csv(out / "returns.csv", returns_of("table1"))
    before = (out / "returns.csv").read_bytes()
    # Whoever made the figures stays named beside them.
    write_json(out / "provenance.json", {"processor": "a slide rule"})
    table1(**ASKED, out=out)
    assert read_json(out / "provenance.json")["processor"] == "a slide rule"
    assert "Nothing was run: results/table1/returns.csv holds all" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds the comparison 'table1', not 'table1-actions-25-2'"):
        table1(**ASKED, actions_level=25.0, actions_seed=2, out=out)
    with pytest.raises(UserError, match="holds the comparison 'table1', not 'bodies-reacher'"):
        table1(**{**ASKED, "preset": "bodies"}, out=out, show_only=True)
    write_csv(out / "returns.csv", returns_of("table1", 7))
    with pytest.raises(UserError, match="returns of bco after 7 updates, not "):
        table1(**ASKED, out=out)
    write_csv(out / "returns.csv", returns_of("table1"))
    assert (out / "returns.csv").read_bytes() == before
    for wrong, words in (
        ({"levels": "abc"}, "percentages such as 0,25,100, not 'abc'"),
        ({"levels": "0,250"}, "percentages from 0 to 100"),
        ({"families": "reachr"}, "did you mean reacher"),
        ({"baseline_updates": -5}, "above 0, not -5"),
    ):
        with pytest.raises(UserError, match=words):
            table1(**{**ASKED, **wrong})


def test_a_run_whose_returns_are_known_is_not_made_again(minari_root: Path, tmp_path: Path) -> None:
    cells = cells_of(replace(SMALL, methods=("bco",)), tmp_path)
    known = {row(seed, 1.0, "bco").run for seed in (0, 1)}
    assert run_cells(cells, [SPEC], known, launcher=LocalLauncher(1)) == []
    assert not (tmp_path / "runs").exists()


def test_known_actions_reach_d3g_and_bco(minari_root: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "inverted_pendulum.toml")
    known_actions = KnownActions(1.0, 7)
    settings = replace(SMALL, seeds=1, known=known_actions, d3g=WITH_KNOWN, families=(path,))
    family = tmp_path / "inverted_pendulum.toml"
    family.write_text(
        'env_id = "InvertedPendulum-v5"\ntransitions = 500\nseed = 0\nshards = 1\n'
        "random_action_probs = [1.0]\n"
    )
    known = known_recordings(settings)
    assert [spec.seed for spec in known] == [7]
    cells = make_cells(settings, [SPEC], tmp_path / "runs", known)
    assert run_cells(cells, [SPEC], launcher=LocalLauncher(1), with_actions=known) == []
    for cell in cells:
        assert read_json(cell.folder.path / "config.json")["actions_from"] == known[0].act_id
    # As many updates more as the IDM learned from them, and no more online steps.
    plain = cells_of(replace(settings, known=None), tmp_path)
    for cell, without in zip(cells, plain, strict=True):
        assert 0 < cell.units - without.units < 60
    assert {r.online_steps for r in rows(cells) if r.metric == "last"} == {200}
    online = load_checkpoint(cells[0].folder.seed(0).online)
    assert online.metadata["update"] == 60 + 400
    # Nothing goes on without them that began with them.
    (failure, _) = run_cells(cells_of(replace(settings, seeds=2, known=None), tmp_path), [SPEC])
    assert "actions_from" in failure
    with pytest.raises(UserError, match="one of the recordings to learn from"):
        make_cells(settings, known, tmp_path / "runs", known)
    with pytest.raises(UserError, match="from 0 to 100%"):
        KnownActions(50, 7)


def test_another_setting_is_refused_and_the_failure_reported(
    minari_root: Path, tmp_path: Path
) -> None:
    settings = replace(SMALL, methods=("bco",), seeds=1)
    cells = cells_of(settings, tmp_path)
    assert run_cells(cells, [SPEC], launcher=LocalLauncher(1)) == []
    other = cells_of(replace(settings, seeds=2, cloning_updates=60), tmp_path)
    notices: list[str] = []
    failures = run_cells(other, [SPEC], launcher=LocalLauncher(1), notice=notices.append)
    assert len(failures) == 1
    assert "cloning_updates = 50, not 60" in failures[0]
    assert notices and "failed" in notices[0]
    assert len(rows(other)) == 2, "the failed seed is missing, the other one there"


def test_a_crash_in_one_cell_is_noted_and_mended(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qss_offline.comparison import cells as module

    (cell,) = cells_of(replace(SMALL, methods=("bco",), seeds=1), tmp_path)

    def crash(*_: object) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patched:
        patched.setattr(module, "_run_timed", crash)
        (failure,) = run_cells([cell], [SPEC], launcher=LocalLauncher(1))
    assert failure == f"{cell.folder.path}: RuntimeError: out of luck"
    failed = cell.folder.seed(0).path / "failed.txt"
    assert failed.read_text().startswith("RuntimeError: out of luck\n\nTraceback")
    assert run_cells([cell], [SPEC], launcher=LocalLauncher(1)) == []
    assert not failed.exists()


def test_methods_with_actions_and_with_pseudo_labels(minari_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("d3rlpy")
    settings = replace(SMALL, methods=("pseudo-td3+bc", "bc"), seeds=1)
    cells = cells_of(settings, tmp_path)
    assert run_cells(cells, [SPEC], launcher=LocalLauncher(1)) == []
    found = {(r.method, r.metric): r for r in rows(cells)}
    assert found["pseudo-td3+bc", "last"].online_steps == 200
    assert found["bc", "last"].online_steps == 0
    assert found["bc", "last"].updates == 20
    labeller = cells[0].labeller
    assert labeller is not None
    assert labeller.folder.seed(0).result.exists(), "the labels came from a run of BCO"


def test_pseudo_labels_are_not_the_recorded_actions(minari_root: Path, tmp_path: Path) -> None:
    from qss_offline.comparison.cells import _labels
    from qss_offline.data.load import load_transitions

    settings = replace(SMALL, methods=("bco",), seeds=1)
    (bco,) = cells_of(settings, tmp_path)
    run_cells([bco], [SPEC], launcher=LocalLauncher(1))
    labels = _labels(replace(bco, method="pseudo-td3+bc"), 0)
    recorded = load_transitions(bco.act_id).transitions.actions
    assert recorded is not None
    assert labels.shape == recorded.shape
    assert np.abs(labels).max() <= 3.0
    assert not np.allclose(labels, recorded)


def test_unknown_methods_and_levels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        replace(SMALL, methods=("d3gg",))
    family = tmp_path / "inverted_pendulum.toml"
    family.write_text('env_id = "InvertedPendulum-v5"\nrandom_action_probs = [1.0]\n')
    mine = replace(SMALL, families=(str(family),))
    with pytest.raises(UserError, match=r"no random_action_prob 0\.25: it has 1"):
        recordings(replace(mine, random_action_probs=(0.25,)))
    (fresh,) = recordings(replace(mine, data_seed=7))
    assert fresh.seed == 7
    (spec,) = recordings(mine, transitions=123)
    assert spec.transitions == 123


def test_a_restricted_method_is_asked_for_its_levels_and_seeds_only() -> None:
    settings = replace(SMALL, only={"bco": Restriction(1, (1.0,))})
    assert settings.seeds_of("bco", 1.0) == (0,)
    assert settings.seeds_of("bco", 0.5) == ()
    assert settings.seeds_of("d3g", 0.5) == (0, 1)
    fresh = replace(settings, first_seed=10)
    assert fresh.seeds_of("bco", 1.0) == (10,)
    assert fresh.seeds_of("d3g", 0.5) == (10, 11)


def test_every_shipped_comparison_finds_its_recordings() -> None:
    for settings in COMPARISONS.values():
        specs = recordings(settings)
        assert len(specs) == len(settings.families) * len(settings.random_action_probs)


def test_returns_survive_their_file(tmp_path: Path) -> None:
    table = [row(1, 1 / 3), row(0, -42.5, "bco", "best")]
    write_csv(tmp_path / "returns.csv", table)
    assert sorted(map(str, read_csv(tmp_path / "returns.csv"))) == sorted(map(str, table))
    header = (tmp_path / "returns.csv").read_text().splitlines()[0]
    assert header.startswith(
        "env_id,random_action_prob,method,seed,metric,mean_return,online_steps,updates,preset"
    )
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="expected the columns"):
        read_csv(tmp_path / "other.csv")
    text = (tmp_path / "returns.csv").read_text().replace("-42.5", "much")
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(UserError, match="much"):
        read_csv(tmp_path / "other.csv")


def test_fresh_rows_replace_earlier_ones_of_the_same_run() -> None:
    merged = with_earlier([row(0, 2.0)], [row(0, 1.0), row(1, 3.0)])
    assert merged == [row(0, 2.0), row(1, 3.0)]


def test_the_table_shows_means_intervals_and_what_is_missing(tmp_path: Path) -> None:
    cells = cells_of(replace(SMALL, methods=("d3g", "bco", "td3+bc")), tmp_path)
    table = [row(0, 10.0), row(1, 20.0), row(0, 7.0, "bco")]
    text = markdown(cells, table, {SPEC.obs_id: Interval(5.1, 5.0, 5.2)})
    for line in (
        "| 100% | recorded | 5.1 | 8.6 ± 0.3 |",
        "| 100% | d3g | 15.0 (10.0; 20.0) | 1,000 ± 0 |",
        "| 100% | bco | 7.0 (1 seed), 1 of 2 seeds | 31 ± 4.7 |",
        "| 100% | td3+bc | missing | - |",
        "| d3g | 15.0 (2 seeds) | missing |",  # over all levels
        "| bco | missing | missing |",  # one of two seeds is missing
        "| d3g | 100 | 200 | 2 |",  # budgets
    ):
        assert line in text, line
    five = summarise([row(seed, 10.0 * seed) for seed in range(5)], "last")
    (summary,) = five.values()
    assert re.fullmatch(r"20\.0 \[\d+\.0; \d+\.0\] \(5 seeds\)", show(summary, 5))
    image = png(cells, table, {SPEC.obs_id: Interval(5.1, 5.0, 5.2)})
    assert image.startswith(b"\x89PNG")


def test_a_single_level_shows_what_was_recorded(tmp_path: Path) -> None:
    """The dotted line of recorded behaviour is grey."""
    cells = cells_of(SMALL, tmp_path)
    known, unknown = (
        imread(io.BytesIO(png(cells, [row(0, 10.0, "d3g")], behaviour)))[..., :3]
        for behaviour in ({SPEC.obs_id: Interval(5.1, 5.0, 5.2)}, {})
    )
    shade = int(GREY[1:3], 16) / 255
    upper = slice(0, int(0.8 * len(known)))  # the legend is below
    grey = [(abs(image[upper] - shade).max(axis=-1) < 0.01).sum() for image in (known, unknown)]
    assert grey[0] > grey[1] + 50, "more than the edges of letters"


@pytest.mark.parametrize(
    "env_ids", [("InvertedPendulum-v5",), ("InvertedPendulum-v5", "Reacher-v5")]
)
def test_nothing_of_the_picture_is_cut_off(tmp_path: Path, env_ids: tuple[str, ...]) -> None:
    """What is drawn stays away from the edges, the longest legend too."""
    every = cells_of(replace(SMALL, methods=METHODS), tmp_path)
    cells = [replace(cell, env_id=env_id) for env_id in env_ids for cell in every]
    table = [
        replace(row(0, 10.0, method), env_id=env_id) for env_id in env_ids for method in METHODS
    ]
    pixels = imread(io.BytesIO(png(cells, table, {})))[..., :3]
    edges = pixels[:, :2], pixels[:, -2:], pixels[:2], pixels[-2:]
    assert all(float(edge.min()) == 1.0 for edge in edges)


def test_a_table_is_written_without_its_recordings(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "run_cells", lambda *_, **__: [])
    shown: list[tuple[bytes, str]] = []
    for written in (-40.5, None):
        out = tmp_path / str(written)
        write_csv(out / "returns.csv", [])
        if written is not None:
            obs_id = "qss/Reacher/v5-random-100-n100000-s0-obs-v0"
            known = {obs_id: {"estimate": written, "low": -41.0, "high": -40.0}}
            write_json(out / "provenance.json", {"recordings": known})
        for _ in range(2):
            # The second time from what the first has written.
            table1(families="reacher", levels="100", methods="bco", runs=tmp_path, out=out)
            shown.append(((out / "table.png").read_bytes(), (out / "table.md").read_text()))
    assert shown[0] == shown[1]
    assert shown[2] == shown[3]
    assert "| 100% | recorded | -40.5 |" in shown[0][1]
    assert "| 100% | recorded | - |" in shown[2][1]


def test_the_paper_is_quoted_where_it_has_a_figure() -> None:
    figure = reported("Reacher-v5", "d3g", 0.0)
    assert figure is not None
    assert (figure.mean, figure.std) == (-14.7, 30.5)
    assert reported("Reacher-v5", "d3g", 0.1) is None
    assert reported("Hopper-v5", "d3g", 0.0) is None
    assert reported("Reacher-v5?frame_skip=4", "d3g", 0.0) is None
    assert reported("Reacher-v5", "iql", 0.0) is None


def test_beyond_shares_nothing_with_what_its_settings_were_chosen_on() -> None:
    chosen, beyond = COMPARISONS["table1"], COMPARISONS["beyond"]
    assert beyond.data_seed not in (None, 0, 1, 2, 3, 5)
    assert beyond.seeds >= 5 and not set(beyond.seeds_of("d3g", 0.5)) & set(range(60))
    assert set(beyond.random_action_probs) > set(chosen.random_action_probs)
    specs = recordings(beyond)
    assert len(specs) == 14
    assert not {s.obs_id for s in specs} & {s.obs_id for s in recordings(chosen)}
