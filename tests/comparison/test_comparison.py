"""A comparison from settings to tables: runs, what is missing, what failed, what is kept."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from qss_offline.analysis.plots.comparison import png
from qss_offline.cli.cells import cell
from qss_offline.cli.reproduce import table1
from qss_offline.comparison import grid
from qss_offline.comparison.config import (
    METHODS,
    ComparisonConfig,
    Recorded,
    evaluation_episodes,
)
from qss_offline.comparison.entry import Entry
from qss_offline.comparison.paper_results import reported
from qss_offline.comparison.presets import COMPARISONS, comparison
from qss_offline.comparison.rows import (
    MemberRow,
    PointRow,
    Row,
    member_rows,
    points,
    read_rows,
    rows,
    with_earlier,
    write_rows,
)
from qss_offline.comparison.study import ComparisonOptions, Study
from qss_offline.comparison.table import kept, markdown, normalised_scores, sections
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import Evaluation
from qss_offline.evaluation.normalization import REFERENCES, normalised
from qss_offline.files import write_json
from qss_offline.launch.local import LocalLauncher
from qss_offline.presets import PRESETS
from qss_offline.runs.folder import read_json
from qss_offline.runs.portfolio_config import MEMBERS
from tests.published import needs_published
from tests.small_run import PRESET, RACED
from tests.test_dependencies import ROOT

SMALL = ComparisonConfig(
    name="small",
    recorded=(Recorded("inverted_pendulum", (1.0,)),),
    methods=("d3g", "bco"),
    seeds=2,
    preset="small",
    updates=100,
    rival_updates=20,
    rival_evaluations=2,
    first_seed=7,
    first_recording=3,
    transitions=500,
)
ONE = replace(SMALL, seeds=1)
HOPPER = "hopper", "Hopper-v5", 0.0


@pytest.fixture(autouse=True)
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {"auto": RACED, "d3g": PRESET, "bco": PRESET}
    monkeypatch.setitem(PRESETS, "small", methods)  # type: ignore[arg-type]


def entries_of(settings: ComparisonConfig, tmp_path: Path) -> list[Entry]:
    return grid.entries(settings, tmp_path / "runs")


def ran(entries: list[Entry], **options: Any) -> list[str]:
    return grid.run_missing(grid.missing(entries), LocalLauncher(1), **options)


def row(seed: int, value: float, method: str = "d3g", metric: str = "last", **others: Any) -> Row:
    one = Row("hopper", "Hopper-v5", 0.0, method, seed, metric, value, value / 3000, 3000, 100, 1.5,
              "small", "qss/some-obs-v0")  # fmt: skip
    return replace(one, **others)


def test_runs_are_made_once_each_on_a_recording_of_its_own(
    minari_root: Path, tmp_path: Path
) -> None:
    entries = entries_of(SMALL, tmp_path)
    assert [(e.seed, e.spec.seed) for e in entries if e.method == "d3g"] == [(7, 3), (8, 4)]
    assert ran(entries) == []
    first = rows(entries)
    assert {(r.method, r.seed, r.metric) for r in first} == {
        *((m, s, k) for m in ("d3g", "bco") for s in (7, 8) for k in ("last", "best")),
        ("behaviour", 7, "last"),
        ("behaviour", 8, "last"),
    }
    own = [r for r in first if r.method != "behaviour"]
    assert {r.online_steps for r in own if r.metric == "last"} == {200}
    assert {r.updates for r in own} == {100}
    assert all(r.mean_return > 0 and r.seconds > 0 for r in own)
    assert all(r.score == pytest.approx((r.mean_return - 5.3) / 994.7) for r in first)
    recorded = {r.mean_return for r in first if r.method == "behaviour"}
    assert len(recorded) == 2, "two recordings"
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("result.json")}

    more = entries_of(replace(SMALL, methods=("d3g", "bco", "bco-mean")), tmp_path)
    assert {entry.method for entry in grid.missing(more)} == {"bco-mean"}
    assert ran(more) == []
    assert all(p.stat().st_mtime_ns == time for p, time in times.items())
    powers = {
        entry.method: read_json(entry.folder.config)["cloning"]["error_power"]
        for entry in more
        if entry.method != "d3g"
    }
    assert powers["bco-mean"] == 2.0


def test_short_episodes_are_evaluated_more_often(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluation_episodes("Hopper-v5") == 10
    for module in ("training.rounds", "baselines.offline"):
        monkeypatch.setattr(
            f"qss_offline.{module}.evaluate",
            lambda policy, env_id, episodes, *_, **__: Evaluation(
                (0.0,) * episodes, (50,) * episodes, np.zeros((episodes, 10)), (0.0,) * episodes
            ),
        )
    few = replace(ONE, recorded=(Recorded("reacher", (1.0,)),), methods=("d3g", "bc"))
    entries = entries_of(replace(few, updates=50), tmp_path)
    assert ran(entries) == []
    evaluations = [
        seed["last"]["returns"]
        for entry in entries
        for seed in read_json(entry.folder.results)["seeds"]
    ]
    assert [len(returns) for returns in evaluations] == [100, 100], "of 50 steps each"


def test_a_race_tells_what_each_of_its_members_returned(minari_root: Path, tmp_path: Path) -> None:
    (entry,) = entries_of(replace(ONE, methods=("auto",), updates=50), tmp_path)
    assert ran([entry]) == []
    members = member_rows([entry])
    assert [m.member for m in members] == list(MEMBERS)
    assert sum(m.won for m in members) == 1
    (last,) = (r for r in rows([entry]) if (r.method, r.metric) == ("auto", "last"))
    (won,) = (m for m in members if m.won)
    assert won.mean_return == last.mean_return, "the same episodes as the last evaluation"
    path = entry.folder.seed(7).path / "members.json"
    for damage in ('{"returns": {"bco": 5}}', '{"returns": 3}', "{}"):
        path.write_text(damage)
        with pytest.raises(UserError, match="holds no returns of members"):
            member_rows([entry])
    # A race that is done but whose members haven't acted goes on with that alone.
    path.unlink()
    before = entry.folder.results.stat().st_mtime_ns
    assert [e.key for e in grid.missing([entry])] == [entry.key]
    assert ran([entry]) == []
    assert member_rows([entry]) == members
    assert entry.folder.results.stat().st_mtime_ns == before


def test_a_run_on_another_recording_is_not_taken_for_this_one(
    minari_root: Path, tmp_path: Path
) -> None:
    assert ran(entries_of(replace(ONE, methods=("bco",)), tmp_path)) == []
    other = replace(ONE, methods=("bco",), first_recording=9)
    with pytest.raises(UserError, match=r"holds a run on .*-s3-obs-v0, not on .*-s9-obs-v0"):
        entries_of(other, tmp_path)


def test_what_takes_other_settings_fails_alone(minari_root: Path, tmp_path: Path) -> None:
    assert ran(entries_of(ONE, tmp_path)) == []
    notices: list[str] = []
    others = entries_of(replace(SMALL, updates=200), tmp_path)
    assert len(grid.missing(others)) == 4, "what is there is of other settings"
    failures = ran(others, notice=notices.append)
    assert len(failures) == 2 and len(notices) == 2
    assert all("preset.updates = 100, not 200" in failure for failure in failures)
    assert {r.seed for r in rows(others)} == {8}, "the other seed is there"


def test_known_runs_are_not_made_again(minari_root: Path, tmp_path: Path) -> None:
    entries = entries_of(SMALL, tmp_path)
    assert grid.missing(entries, {entry.key for entry in entries}) == []
    assert not (tmp_path / "runs").exists()


def test_methods_with_actions_and_with_labels(minari_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("d3rlpy")
    entries = entries_of(replace(ONE, methods=("pseudo-iql", "bc")), tmp_path)
    left = grid.missing(entries)
    assert [e.method for e in left] == ["bco", "pseudo-iql", "bc"], "whose labels, first"
    assert grid.run_missing(left, LocalLauncher(1)) == []
    found = {(r.method, r.metric): r for r in rows(entries)}
    assert found["bc", "last"].online_steps == 0
    assert found["pseudo-iql", "last"].online_steps == 200, "those of its labels"
    assert {found[name, "last"].updates for name in ("bc", "pseudo-iql")} == {20}


def test_labels_are_not_the_recorded_actions(minari_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("d3rlpy")
    from qss_offline.comparison.rivals import _labels
    from qss_offline.data.load import load_transitions

    (bco,) = entries_of(replace(ONE, methods=("bco",)), tmp_path)
    with pytest.raises(UserError, match="run bco first"):
        _labels(bco.folder, bco.seed)
    assert ran([bco]) == []
    labels = _labels(bco.folder, bco.seed)
    recorded = load_transitions(bco.spec.act_id).transitions.actions
    assert recorded is not None
    assert labels.shape == recorded.shape
    assert np.abs(labels).max() <= 3.0
    assert not np.allclose(labels, recorded)


def test_what_is_planned_is_what_is_run(minari_root: Path, tmp_path: Path) -> None:
    """A list made before anything is recorded has the cells that are launched then."""
    pytest.importorskip("d3rlpy")
    entries = entries_of(replace(ONE, methods=("auto", "d3g", "bco", "td3+bc")), tmp_path)
    planned = [[cell.name for cell in entry.planned()] for entry in entries]
    assert all(cell.seconds > 0 for entry in entries for cell in entry.planned())
    grid.build_datasets([entries[0].spec], 1, notice=lambda _: None)
    assert [[c.name for c in entry.begun().cells(None)] for entry in entries] == planned
    assert not (tmp_path / "runs").exists()


def test_printed_commands_come_to_the_same_and_are_gathered(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What other schedulers ran is only summed up by the command that printed it."""
    pytest.importorskip("d3rlpy")
    monkeypatch.chdir(tmp_path)
    small = replace(ONE, name="table1", methods=("auto", "bc"), updates=50)
    monkeypatch.setitem(COMPARISONS, "table1", small)
    table1(out=Path("whole"), runs=Path("at-once"), workers=1)
    capsys.readouterr()
    table1(runs=Path("apart"), print_commands=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1 + 1 + 1, "training, race, members; and BC"
    assert all(line.startswith("qss cell ") for line in lines)
    files = [Path(line.split()[2]) for line in lines]
    members = next(file for file in files if "members.cell" in file.name)
    with pytest.raises(UserError, match="its members act after the race"):
        cell(members)
    for file in files:
        cell(file)
    table1(runs=Path("apart"), dry_run=True)
    table1(runs=Path("apart"), workers=1)
    for name in ("curves.csv", "members.csv", "table.png"):
        assert (Path("apart") / name).read_bytes() == (Path("whole") / name).read_bytes(), name
    capsys.readouterr()
    table1(runs=Path("apart"), print_commands=True)
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("all is done: ")


def test_commands_are_printed_of_what_can_run_and_what_cannot_is_named(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(COMPARISONS, "table1", replace(ONE, name="table1"))
    lost, _ = grid.entries(COMPARISONS["table1"], Path("runs/table1"))
    write_json(lost.folder.config, {"dataset_id": lost.spec.obs_id})
    capsys.readouterr()
    with pytest.raises(UserError, match=rf"^1 run failed, the first with: {lost.folder.path}: "):
        table1(print_commands=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("qss cell ") and "bco" in line


def test_unknown_methods_levels_and_families_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        replace(SMALL, methods=("d3gg",))
    family = tmp_path / "mine.toml"
    family.write_text('env_id = "InvertedPendulum-v5"\nrandom_action_probs = [1.0]\n')
    mine = replace(ONE, recorded=(Recorded(str(family), (0.25,)),))
    with pytest.raises(UserError, match=r"no random_action_prob 0\.25: it has 1"):
        entries_of(mine, tmp_path)
    with pytest.raises(UserError, match="say its --levels, too"):
        ComparisonOptions("table1", families=str(family)).config()
    for wrong, words in (
        ({"levels": "abc"}, "percentages such as 0,25,100, not 'abc'"),
        ({"levels": "0,250"}, "percentages from 0 to 100"),
        ({"families": "reachr"}, "did you mean reacher"),
        ({"rival_updates": -5}, "above 0, not -5"),
        ({"seeds": 0}, "seeds must be above 0"),
    ):
        with pytest.raises(UserError, match=words):
            ComparisonOptions("table1", **wrong).config()
    (tmp_path / "other").mkdir()
    again = tmp_path / "other" / "mine.toml"
    again.write_text(family.read_text())
    two = tuple(Recorded(str(path), (1.0,)) for path in (family, again))
    with pytest.raises(UserError, match="two families have one name"):
        entries_of(replace(SMALL, recorded=two), tmp_path)


@pytest.mark.parametrize("name", ["seeds", "updates", "rival_updates", "transitions"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_that_are_no_budget_are_refused(name: str, value: int) -> None:
    with pytest.raises(UserError, match=str(value)):
        ComparisonOptions("table1", **{name: value}).config()


def test_a_family_by_another_name_is_the_comparisons_own() -> None:
    for name in ("Reacher-v5", "reacher"):
        config = ComparisonOptions("table1", families=name).config()
        assert [one.family for one in config.recorded] == ["reacher"]


def test_every_method_has_as_many_seeds_as_are_asked_for(tmp_path: Path) -> None:
    for settings in (SMALL, ComparisonOptions("table1", seeds=7).config()):
        entries = entries_of(replace(settings, methods=METHODS), tmp_path)
        for row in {(entry.family, entry.spec.random_action_prob) for entry in entries}:
            for method in METHODS:
                seeds = [
                    entry.seed
                    for entry in entries
                    if (entry.family, entry.spec.random_action_prob, entry.method) == (*row, method)
                ]
                first = settings.first_seed
                assert seeds == list(range(first, first + settings.seeds)), (row, method)


def test_every_shipped_comparison_finds_its_recordings(tmp_path: Path) -> None:
    for settings in COMPARISONS.values():
        entries = grid.entries(settings, tmp_path)
        assert {entry.method for entry in entries} == set(settings.methods)
        assert len({entry.key for entry in entries}) == len(entries)
        of_seeds: dict[tuple[str, float, int], set[str]] = {}
        for entry in entries:
            family, level, _, seed = entry.key
            of_seeds.setdefault((family, level, seed), set()).add(entry.spec.obs_id)
        assert all(len(ids) == 1 for ids in of_seeds.values()), "methods of a seed share it"
        assert len(set.union(*of_seeds.values())) == len(of_seeds), "seeds don't"


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def published(updates: int | None = None) -> list[Row]:
    """What a comparison says of one run of BCO in Reacher."""
    settings = comparison("table1")
    (entry,) = grid.entries(
        ComparisonOptions("table1", "bco", "100", "reacher", 1).config(), Path("runs/table1")
    )
    one = row(
        entry.seed, -9.0, "bco", family="reacher", env_id="Reacher-v5", random_action_prob=1.0,
        preset=settings.name, updates=entry.updates if updates is None else updates,
        dataset_id=entry.spec.obs_id,
    )  # fmt: skip
    return [one, replace(one, metric="best")]


ASKED: dict[str, Any] = {
    "methods": "bco", "families": "reacher", "levels": "100", "seeds": 1,
}  # fmt: skip


def test_published_results_are_only_read(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("results/table1/returns.csv"), Row, published())
    write_json(Path("results/table1/provenance.json"), {"processor": "a slide rule"})
    before = contents(tmp_path / "results")
    table1(**ASKED, show_only=True)
    assert "returns of results/table1/returns.csv" in capsys.readouterr().out
    assert not Path("runs").exists(), "showing writes nothing"
    asked = []
    monkeypatch.setattr(grid, "run_missing", lambda left, *_: asked.append(len(left)) or [])
    table1(**ASKED)
    assert asked == [1], "what is published isn't what this user ran"
    assert contents(tmp_path / "results") == before
    assert read_json(Path("runs/table1/provenance.json"))["missing"] == ["reacher-100-bco-310"]
    table1(**ASKED, show_only=True)
    assert "runs/table1/returns.csv" in capsys.readouterr().out


def test_where_nothing_was_run_or_published_there_is_nothing_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folders, place in (
        ({}, "results/table1/"),
        ({"runs": Path("a")}, "results/table1/"),
        ({"out": Path("b")}, "b/"),
        ({"preset": "paper"}, "results/paper/"),
    ):
        with pytest.raises(UserError, match=f"no {place}returns.csv; start it in the repository"):
            table1(**ASKED, **folders, show_only=True)
    assert capsys.readouterr().out == ""
    (entry,) = grid.entries(
        ComparisonOptions("table1", "bco", "100", "reacher", 1).config(), Path("runs/table1")
    )
    write_json(entry.folder.config, {"dataset_id": entry.spec.obs_id})
    table1(**ASKED, show_only=True)
    assert "1 run missing; returns of runs/table1. " in capsys.readouterr().out


def test_returns_of_other_settings_are_not_taken_for_these(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("results/table1")
    write_rows(out / "returns.csv", Row, published())
    before = (out / "returns.csv").read_bytes()
    # Whoever made the figures stays named beside them.
    write_json(out / "provenance.json", {"processor": "a slide rule"})
    table1(**ASKED, out=out)
    assert read_json(out / "provenance.json")["processor"] == "a slide rule"
    assert "Nothing was run: results/table1/returns.csv holds all" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds the comparison 'table1', not 'paper'"):
        table1(**{**ASKED, "preset": "paper"}, out=out)
    write_rows(out / "returns.csv", Row, published(7))
    with pytest.raises(UserError, match="returns of bco after 7 updates, not "):
        table1(**ASKED, out=out)
    elsewhere = [replace(one, dataset_id="qss/other-obs-v0") for one in published()]
    write_rows(out / "returns.csv", Row, elsewhere)
    with pytest.raises(UserError, match="holds returns on qss/other-obs-v0, not on qss/Reacher"):
        table1(**ASKED, out=out)
    write_rows(out / "returns.csv", Row, published())
    assert (out / "returns.csv").read_bytes() == before


def test_tables_are_the_same_without_the_runs(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published makes the tables and the figure that the runs made."""
    options = ComparisonOptions(
        "table1", "auto,bco", "100", "inverted_pendulum", 1, updates=50, transitions=500
    )
    monkeypatch.setitem(COMPARISONS, "table1", replace(COMPARISONS["table1"], preset="small"))
    study = Study(options, tmp_path / "runs", tmp_path / "out")
    assert study.run(LocalLauncher(1)) == []
    made = study.summary()
    study.write(made, png(made.shown), [])
    curves = read_rows(tmp_path / "out" / "curves.csv", PointRow)
    assert curves and sorted(map(str, curves)) == sorted(map(str, points(study.entries)))
    last = {row.key: row.mean_return for row in made.rows if row.metric == "last"}
    ends = {row.key: row.mean_return for row in sorted(curves, key=lambda row: row.online_steps)}
    assert ends.items() <= last.items(), "a curve ends in the last return"
    again = Study(options, tmp_path / "elsewhere", tmp_path / "out")
    assert again.missing() == []
    found = again.summary()
    assert found.sections() == made.sections()
    assert not found.ran and made.ran and not found.missing
    assert png(found.shown) == (tmp_path / "out" / "table.png").read_bytes()


def test_returns_survive_their_files(tmp_path: Path) -> None:
    table = [row(1, 1 / 3), row(0, -42.5, "bco", "best", score=None)]
    write_rows(tmp_path / "returns.csv", Row, table)
    assert sorted(map(str, read_rows(tmp_path / "returns.csv", Row))) == sorted(map(str, table))
    members = [MemberRow(*HOPPER, 0, "bco", 1, 1 / 3)]
    write_rows(tmp_path / "members.csv", MemberRow, members)
    assert read_rows(tmp_path / "members.csv", MemberRow) == members
    assert read_rows(tmp_path / "nothing.csv", MemberRow) == []
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="expected the columns"):
        read_rows(tmp_path / "other.csv", Row)
    text = (tmp_path / "returns.csv").read_text().replace("-42.5", "much")
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(UserError, match="much"):
        read_rows(tmp_path / "other.csv", Row)


def test_fresh_rows_replace_earlier_ones_of_the_same_run() -> None:
    merged = with_earlier([row(0, 2.0)], [row(0, 1.0), row(1, 3.0)])
    assert merged == [row(0, 2.0), row(1, 3.0)]
    first, second = (MemberRow(*HOPPER, seed, "bco", 1, 1.0) for seed in (0, 1))
    fresh = replace(first, mean_return=2.0)
    assert with_earlier([fresh], [first, second]) == [fresh, second]


def test_tables_say_what_is_known_missing_and_lost(tmp_path: Path) -> None:
    settings = replace(
        SMALL,
        recorded=(Recorded("hopper", (0.0,)), Recorded("hopper_medium", (0.0,))),
        methods=("auto", "bco", "td3+bc"),
        first_seed=0,
    )
    table = [
        row(0, 3140.0, "behaviour"),
        row(0, 1000.0, "auto"),
        row(1, 2000.0, "auto"),
        row(0, 1600.0, "bco"),
        row(0, 3000.0, "td3+bc"),
        row(1, 2500.0, "td3+bc"),
    ]
    low, high = REFERENCES["Hopper"]

    def at(score: float) -> float:
        return low + score * (high - low)

    members = [
        MemberRow(*HOPPER, 0, "bco", 1, at(0.5)),
        MemberRow(*HOPPER, 0, "d3g", 0, at(0.8)),
        MemberRow(*HOPPER, 1, "d3g", 1, at(0.8)),
        MemberRow(*HOPPER, 1, "bco", 0, at(0.5)),
    ]
    curves = [
        PointRow(*HOPPER, "td3+bc", seed, 0, updates, at(share))
        for seed, shares in enumerate(((0.1, 0.2, 0.3, 0.4, 0.5), (0.3, 0.4, 0.5, 0.6, 0.9)))
        for updates, share in zip((10, 20, 30, 40, 100), shares, strict=True)
    ]
    curves += [PointRow(*HOPPER, "auto", 0, 600, 0, 5.0)]
    text = markdown(sections(entries_of(settings, tmp_path), table, members, curves))
    for line in (
        "| Hopper, 0% | 3,140 | 1,500 (2) | 1,600 (1) | 2,750 (2) |",
        "| Hopper, half-trained, 0% | - | missing | missing | missing |",
        "| TD3+BC with actions | 1 | 2 | 0.87 | 0.47 | 0 |",
        "| BCO | 1 | 1 | 0.51 | 0.31 | 0 |",
        "| Hopper, 0% | 1,500 | 2,750 | TD3+BC with actions | actions | 2 of 2 |",
        "| Hopper, 0% | 1,000 | 1,600 | BCO | no actions | 1 of 1 |",
        "| Hopper, 0% | bco 1,581; d3g 2,519 | 62% of d3g; 100% |",
        "| environment | method | runs | " + " | ".join(f"{k}0%" for k in range(1, 11)) + " |",
        "| Hopper | TD3+BC with actions | 2 | 0.20 | 0.20 | 0.30 | 0.30 | 0.40 | 0.40 | 0.50 "
        "| 0.50 | 0.70 | 0.70 |",
        "| BCO | 100 | 3,000 | 2 |",
    ):
        assert line in text, line
    assert text.index("TD3+BC with actions | actions") < text.index("BCO | no actions"), (
        "largest first"
    )
    apart = [*table[:2], row(1, 1600.0, "bco")]
    assert "BCO | no actions" not in markdown(sections(entries_of(settings, tmp_path), apart)), (
        "unpaired"
    )
    lost = [replace(one, won=0) for one in members]
    with pytest.raises(UserError, match="none of them won"):
        sections(entries_of(settings, tmp_path), table, lost)


@pytest.mark.parametrize("lost", [{"auto"}, {"bco"}, {"td3+bc"}, {"auto", "bco", "td3+bc"}])
def test_a_policy_that_diverged_counts_as_random_actions(lost: set[str], tmp_path: Path) -> None:
    methods = ("auto", "bco", "td3+bc")
    settings = replace(SMALL, recorded=(Recorded("hopper", (0.0,)),), methods=methods, first_seed=0)

    def text(value: float) -> str:
        table = [
            row(seed, value if seed and method in lost else 1000.0, method)
            for method in methods for seed in (0, 1)
        ]  # fmt: skip
        members = [
            MemberRow(*HOPPER, 1, "d3g", 1, value if "auto" in lost else 900.0),
            MemberRow(*HOPPER, 1, "bco", 0, 500.0),
        ]
        curves = [
            PointRow(*HOPPER, method, 1, 0, 10, value if method in lost else 900.0)
            for method in methods
        ]
        png(table)
        return markdown(sections(entries_of(settings, tmp_path), table, members, curves))

    assert text(math.nan) == text(REFERENCES["Hopper"][0])


def test_what_has_no_scale_is_not_normalised(tmp_path: Path) -> None:
    """Returns of environments without known ends stand in the table and in nothing else."""
    of = {"family": "mine", "env_id": "Mine-v0"}
    table = [row(0, 10.0, "auto", **of), row(0, 70.0, "bco", **of)]
    race = [MemberRow("mine", "Mine-v0", 0.0, 0, name, won, value)
            for name, won, value in (("bco", 1, -8.0), ("d3g", 0, -4.0))]  # fmt: skip
    assert kept(race) is None
    bad = [replace(one, env_id="Reacher-v5", mean_return=-60.0 + one.won) for one in race]
    assert kept(bad) is None, "no better than random actions"
    assert normalised_scores([1.0], ("mine", "Mine-v0", 0.0)) is None
    assert png(table) == png([]), "nothing to draw"


def test_nothing_of_the_picture_is_cut_off() -> None:
    """What is drawn stays away from the edges, the longest legend and name too."""
    table = [
        row(seed, 100.0 * seed, method, family=family)
        for family in ("hopper", "hopper_medium")
        for method in ("behaviour", *METHODS)
        for seed in (0, 1)
    ]
    pixels = imread(io.BytesIO(png(table)))[..., :3]
    edges = pixels[:, :2], pixels[:, -2:], pixels[:2], pixels[-2:]
    assert all(float(edge.min()) == 1.0 for edge in edges)


def test_the_paper_is_quoted_where_it_has_a_figure(tmp_path: Path) -> None:
    figure = reported("Reacher-v5", "d3g", 0.0)
    assert figure is not None
    assert (figure.mean, figure.std) == (-14.7, 30.5)
    assert reported("Reacher-v5", "d3g", 0.1) is None
    assert reported("Hopper-v5", "d3g", 0.0) is None
    assert reported("Reacher-v5?frame_skip=4", "d3g", 0.0) is None
    assert reported("Reacher-v5", "iql", 0.0) is None
    settings = ComparisonOptions("table1", "auto,d3g", "0", "reacher", 1).config()
    of = {"family": "reacher", "env_id": "Reacher-v5"}
    text = markdown(sections(grid.entries(settings, tmp_path), [row(310, -4.25, "auto", **of)]))
    assert "| Reacher, 0% | -4.2 (1) | -14.7 ± 30.5 | -4.2 ± 0.6 |" in text
    text = markdown(sections(grid.entries(settings, tmp_path), []))
    assert "| Reacher, 0% | missing | missing | -14.7 ± 30.5 | -4.2 ± 0.6 |" in text


@needs_published
def test_what_is_published_is_of_the_comparison_as_it_is() -> None:
    """With its recordings and updates, or reading it would be refused."""
    published = ROOT / "results" / "table1"
    summary = Study(ComparisonOptions("table1"), Path("nothing/here"), published).summary()
    assert summary.shown and sorted(map(str, summary.shown)) == sorted(map(str, summary.rows))
    assert all(row.score == normalised(row.mean_return, row.env_id) for row in summary.rows)
    assert png(summary.shown) == (published / "table.png").read_bytes()
