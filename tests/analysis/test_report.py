"""The report: what is in it, that it needs nothing else, and that a browser agrees."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import asdict, replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from qss_offline.analysis.plots import report as figures
from qss_offline.analysis.report import making, page
from qss_offline.analysis.report.book import Book
from qss_offline.analysis.report.comparison import Scores, Task, compare
from qss_offline.analysis.report.making import make_report
from qss_offline.analysis.report.offline_run import RunPart
from qss_offline.analysis.report.reproduce import command, recording_command
from qss_offline.analysis.report.sources import read_returns, run_methods, run_names, task_of
from qss_offline.analysis.report.tables import returns_table
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.online.config import EvaluationPlan, OnlineSettings
from qss_offline.online.presets import online_preset
from qss_offline.overrides import changed
from qss_offline.parallel.reporting import no_progress
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.reader import FinishedRun, load_online_run
from qss_offline.runs.results import EvaluationPoint, seed_results
from qss_offline.settings_json import to_plain
from qss_offline.statistics import Interval
from tests.patience import PATIENCE_S

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip

RETURNS = """env_id,random_action_prob,method,seed,metric,mean_return
"""


def csv(path: Path, rows: list[tuple[str, float, str, int, str, float]]) -> Path:
    path.write_text(RETURNS + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


class Elements(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def reported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two copies of a run and a table of returns."""
    root = tmp_path_factory.mktemp("reported")
    for name in ("one", "two"):
        shutil.copytree(finished, root / name)
    table = csv(
        root / "returns.csv",
        [
            ("Reacher-v5", 1.0, method, seed, metric, value + seed)
            for method, value in (("d3g", -8.0), ("bco", -30.0))
            for metric in ("last", "best")
            for seed in range(3)
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(finished.parent / "minari"))
        return make_report(
            [root / "one", root / "two", table], root / "report", video=False,
            notice=lambda message: None,
        )  # fmt: skip


def test_the_page_needs_nothing_else(reported: Path) -> None:
    text = reported.read_text()
    elements = Elements(text)
    assert elements.of("script", "iframe", "object", "embed", "base", "form") == []
    for attributes in elements.of("img", "video", "link", "source"):
        where = attributes.get("src") or attributes.get("href") or ""
        assert where.startswith("data:"), where[:80]
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org)", re.sub(
        r"<details>.*?</details>", "", text, flags=re.DOTALL)) == []  # fmt: skip
    (policy,) = [m["content"] for m in elements.of("meta") if "http-equiv" in m]
    assert policy is not None and policy.startswith("default-src 'none'")


def test_every_picture_has_an_alternative_text_with_its_numbers(reported: Path) -> None:
    pictures = Elements(reported.read_text()).of("img")
    assert len(pictures) >= 15
    for attributes in pictures:
        assert len(attributes["alt"] or "") > 30, attributes["alt"]
        data = (attributes["src"] or "").partition("base64,")[2]
        assert base64.b64decode(data).startswith(b"\x89PNG")


def test_the_report_holds_what_it_promises(reported: Path) -> None:
    text = reported.read_text()
    for words in (
        "qss data record InvertedPendulum-v5 --randomness 1 --transitions 2000 --seed 0",
        "qss train qss/InvertedPendulum/v5-random-100-n2000-s0-obs-v0 --env InvertedPendulum-v5 "
        "--method d3g --seeds 0,1 --preset small",
        "one: D3G (small), InvertedPendulum-v5", "two: D3G (small) (two), InvertedPendulum-v5",
        "2 of 2 seeds did not learn: last returns below",
        "Returns of the last evaluation", "Probabilities of improvement", "D3G over BCO",
        "D3G (small) over D3G (small) (two)", "fewer than 5 seeds",
        "Mean overestimation", "Outside the data", "the cycle error over updates",
        "Configuration", "Dataset card",
        "No video: qss render", "proposal_update_interval",
    ):  # fmt: skip
        assert words in text, words
    made = {path.name for path in reported.parent.iterdir()}
    for name in ("learning-curve", "last-against-best", "values", "cycle-error", "losses",
                 "value-against-return", "coverage"):  # fmt: skip
        assert {f"one-{name}.png", f"one-{name}.svg", f"two-{name}.png"} <= made
    assert {"performance-profiles.svg", "probability-of-improvement.png"} <= made
    svg = (reported.parent / "one-values.svg").read_text()
    assert "<text" in svg and "<dc:date>" not in svg


@pytest.mark.usefixtures("undrawn")
def test_untrusted_text_stays_text(trained: FinishedRun) -> None:
    assert "<script>" not in page.table(("<b>",), [("<script>x</script>",)], "<i>")
    assert page.paragraph('<img src=x onerror="a">').count("<") == 2
    results = {**trained.results, "versions": {"<script>alert(1)</script>": "1"}}
    (trained.folder.path / "results.json").write_text(json.dumps(results))
    written = make_report([trained.folder.path], video=False, notice=lambda message: None)
    assert written == trained.folder.path / "report" / "report.html"
    assert "<script" not in written.read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_missing_dataset_leaves_the_rest(
    trained: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    notices: list[str] = []
    written = make_report([trained.folder.path], video=False, notice=notices.append)
    text = written.read_text()
    assert (
        "Return over the online steps" in text
        and "The mean of 2 seeds" in text
        and "the cycle error over updates" in text
    )
    assert "No coverage: " in text and "No dataset card: " in text
    assert len(notices) == 4
    assert f"qss train {trained.dataset_id}" in text


def test_the_command_repeats_the_run(trained: FinishedRun) -> None:
    line, remark = command(trained)
    assert "--preset small" in line
    assert remark is not None and "unknown here" in remark
    from qss_offline.presets import preset

    spent = preset("default", "d3g").spend(500, 400, 2)
    config = replace(trained.config, preset_name="default", preset=spent, evaluation_episodes=3)
    line, remark = command(replace(trained, config=config))
    assert line.endswith(
        "--method d3g --seeds 0,1 --preset default --online-steps 400 --online-rounds 2 "
        "--updates 500 --episodes 3 --device cpu"
    )
    assert remark is None
    known = replace(config, actions_from="runs/earlier")
    line, remark = command(replace(trained, config=known))
    assert line.endswith("--actions runs/earlier")
    assert remark == "It takes runs/earlier to be there."
    other = replace(spent, algorithm=replace(spent.algorithm, gamma=0.5, hidden_dims=(8, 8)))
    # Results name changed settings beside the preset.
    config = replace(config, preset_name="default with gamma=0.5", preset=other)
    line, remark = command(replace(trained, config=config))
    assert remark is None
    assert "--preset default " in line and "--updates 500" in line
    arguments = shlex.split(line)
    given = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--set"]
    assert changed(spent, given) == other


def test_a_recording_of_the_environments_own_expert_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    expert = Path("datasets/experts/hopper.safetensors")
    spec = DatasetSpec("Hopper", 0.25, 500, 3, expert=expert)
    written = {
        "env_id": spec.env_id, "random_action_prob": 0.25, "transitions": 500, "seed": 3,
    }  # fmt: skip
    options = ["--randomness", "0.25", "--transitions", "500", "--seed", "3"]
    arguments = ["qss", "data", "record", "Hopper-v5", *options]
    assert recording_command(written, spec.obs_id) == arguments
    other = DatasetSpec("Hopper", 0.25, 500, 3, expert=expert.with_stem("hopper_medium"))
    assert recording_command(written, other.obs_id) is None
    assert recording_command({**written, "env_id": "Swimmer-v5"}, spec.obs_id) is None


def scores(**methods: list[float]) -> Scores:
    task = Task("Reacher-v5", 1.0)
    return {task: {name: dict(enumerate(values)) for name, values in methods.items()}}


def test_methods_are_compared_by_hand() -> None:
    found = compare(scores(BCO=[-42.8, -23.45], D3G=[-4.1, -23.45]))
    (one,) = found.improvements
    assert (one.method, one.other, one.tasks) == ("D3G", "BCO", 1)
    # -4.1 beats both; -23.45 beats one and ties with the other.
    assert one.found.estimate == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert not one.found.known and str(one) == "D3G over BCO 0.88 on 1 task"
    d3g = found.profiles["D3G"]
    above = dict(zip(np.round(d3g.thresholds, 2), d3g.fractions, strict=True))
    assert (above[0.4], above[0.9], above[1.0]) == (1.0, 0.5, 0.0)
    assert found.iqms["D3G"].estimate == pytest.approx(0.75)
    assert "fewer than 5 seeds" in " ".join(found.notes)
    five = compare(scores(BCO=[-42.8] * 5, D3G=[-4.1, -5.0, -6.0, -7.0, -8.0]))
    assert five.improvements[0].found.known and five.iqms["D3G"].known
    assert five.notes == ()


def test_scores_that_are_no_numbers_are_left_out_and_named() -> None:
    found = compare(scores(a=[-5.0, float("nan")], b=[float("inf")]))
    assert found.improvements == () and list(found.profiles) == ["a"]
    assert "a, seed 1 on Reacher-v5" in found.notes[0] and "b, seed 0" in found.notes[0]


def test_methods_of_different_recordings_are_not_compared() -> None:
    mine, other = Task("Reacher-v5", 1.0, "x/a-obs-v0"), Task("Reacher-v5", 1.0, "x/b-obs-v0")
    found = compare({mine: {"D3G": {0: -5.0}}, other: {"BCO": {0: -9.0}}})
    assert found.improvements == () and len(found.iqms) == 1
    assert "No two methods share a recording" in found.notes[-1]
    # Each is compared with the first that it shares a recording with, on what they share alone.
    several = {mine: {"D3G": {0: -5.0}, "IQL": {0: -9.0}},
               other: {"BCO": {0: -5.0}, "CQL": {0: -4.0}, "IQL": {0: -9.0}}}  # fmt: skip
    pairs = [(o.method, o.other, o.tasks) for o in compare(several).improvements]
    assert pairs == [("D3G", "IQL", 1), ("IQL", "BCO", 1), ("IQL", "CQL", 1)]


def test_long_names_leave_room_for_probabilities() -> None:
    name = "default with twin_pessimism=1 over BCO with error_power=2"
    figure = figures.improvement_figure(
        [(name, Interval(0.5, 0.2, 0.8)), ("a over b", Interval(0.9, 0.8, 1.0))]
    )
    figure.draw_without_rendering()
    (axis,) = figure.axes
    for drawn in (axis.title, axis.xaxis.label, *axis.get_yticklabels()):
        box = drawn.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, drawn
    first, second = (label.get_window_extent() for label in axis.get_yticklabels())
    assert not first.overlaps(second)
    assert axis.bbox.width > figure.bbox.width / 3


def test_what_cannot_be_compared_is_said() -> None:
    table = scores(a=[-5.0, -6.0, -7.0], b=[-5.0, -6.0])
    table[Task("Pendulum-v1", None)] = {"a": {0: -100.0}}
    table[Task("Hopper-v5", 1.0)] = {"a": {0: 100.0, 1: 50.0}, "b": {0: 90.0, 1: 40.0}}
    table[Task("Walker2d-v5", 1.0)] = {"c": {0: 100.0}}
    found = compare(table)
    assert found.shared == (Task("Reacher-v5", 1.0), Task("Hopper-v5", 1.0))
    notes = " ".join(found.notes)
    assert "Pendulum-v1" in notes and "of a; b over the 2 of 3 tasks" in notes
    assert "a: 1 seed beyond" in notes and "b: " not in notes


def test_the_default_method_is_held_against_each_other_one() -> None:
    found = compare(scores(**{"BCO": [1.0, 2.0], "D3G": [2.0, 3.0], "auto": [3.0, 4.0]}))
    assert [(one.method, one.other) for one in found.improvements] == [
        ("auto", "D3G"),
        ("auto", "BCO"),
    ]


def test_methods_say_their_presets_where_something_else_is_compared(tmp_path: Path) -> None:
    path, header = tmp_path / "r.csv", RETURNS.strip() + ",preset"
    path.write_text(
        f"{header}\nReacher-v5,1.0,d3g,1,last,2,mine\nReacher-v5,1.0,bco,1,last,1,mine\n"
    )
    assert set(read_returns(path, alone=True).papers) == {"D3G", "BCO"}
    assert set(read_returns(path).papers) == {"D3G (mine)", "BCO (mine)"}
    path.write_text(path.read_text() + "Reacher-v5,1.0,d3g,1,last,3,yours\n")
    both = {"D3G (mine)", "BCO (mine)", "D3G (yours)"}
    assert set(read_returns(path, alone=True).papers) == both


def test_tables_of_returns_are_checked(tmp_path: Path) -> None:
    path = csv(tmp_path / "r.csv", [("Reacher-v5", 0.5, "d3g", 1, "last", -5.0),
                                    ("Reacher-v5", 0.5, "behaviour", 0, "last", -20.0),
                                    ("Reacher-v5", 0.5, "d3g", 1, "best", -4.0)])  # fmt: skip
    found = read_returns(path)
    assert found.scores == {Task("Reacher-v5", 0.5): {"D3G": {1: -5.0}}}
    assert found.recorded == {Task("Reacher-v5", 0.5): -20.0}
    path.write_text("env_id,method\n")
    with pytest.raises(UserError, match="no column 'random_action_prob'"):
        read_returns(path)
    path.write_text(RETURNS + "Reacher-v5,half,d3g,1,last,2\n")
    with pytest.raises(UserError, match="half"):
        read_returns(path)
    path.write_text(RETURNS)
    with pytest.raises(UserError, match="no rows"):
        read_returns(path)
    with pytest.raises(UserError, match="does not exist"):
        making.make_report([tmp_path / "none.csv"], tmp_path / "out")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="utf-8"):
        read_returns(path)
    with pytest.raises(UserError, match="needs run folders"):
        making.make_report([], tmp_path / "out")


def cards(html: str) -> list[dict[str, str]]:
    """The rows of a table by the names of the columns."""
    rows = re.findall(r"<tr>(.*?)</tr>", html.partition("<tbody>")[2])
    cell = re.compile(r'data-label="(.*?)">(.*?)</td>')
    return [{unescape(k): unescape(v) for k, v in cell.findall(row)} for row in rows]


def test_a_table_of_returns_is_pivoted_with_the_papers_figures_beside(tmp_path: Path) -> None:
    names = "env_id,random_action_prob,method,seed,metric,mean_return,preset,family\n"
    rows = [
        f"Reacher-v5,{level},{method},{seed},last,{value - seed},{preset},reacher"
        for level, seeds in ((0.25, 5), (1.0, 2))
        for method, value, preset in (("bco", -5.0, "mine"), ("d3g", -4.0, "mine"))
        for seed in range(seeds)
    ]
    rows.append("Reacher-v5,0.25,behaviour,0,last,-12.0,mine,reacher")
    rows.append("Reacher-v5,0.25,d3g,0,last,-4.0,mine,reacher_medium")
    (tmp_path / "returns.csv").write_text(names + "\n".join(rows) + "\n")
    found = read_returns(tmp_path / "returns.csv")
    assert list(map(str, found.scores)) == [
        "Reacher-v5, 25% random", "Reacher-v5, 100% random", "Reacher-v5, 25% random, half-trained",
    ]  # fmt: skip
    html = returns_table(found)
    assert "Preset: mine" in html
    quarter, random, half = cards(html)
    assert half["recording"] == "half-trained"
    assert list(quarter) == [
        "environment", "random actions", "recording", "recorded return", "πo (paper)",
        "D3G", "D3G (paper, best of 100)", "BCO", "BCO (paper, best of 100)",
    ]  # fmt: skip
    assert quarter["recorded return"] == "-12.0" and random["recorded return"] == "–"
    assert quarter["D3G (paper, best of 100)"] == "-4.2 ± 0.6"
    assert random["D3G"] == "-4.5 (-4.0; -5.0)"
    assert re.fullmatch(r"-6\.0 \[-.*; -.*\] \(5 seeds\)", quarter["D3G"])


def other(run: FinishedRun, name: str, seeds: tuple[int, ...], **config: object) -> FinishedRun:
    """A run as if it had been called otherwise, and had other seeds and settings."""
    rows = [{**run.results["seeds"][0], "seed": seed} for seed in seeds]
    return replace(
        run,
        folder=RunFolder(run.folder.path.parent / name),
        config=replace(run.config, seeds=seeds, **config),  # type: ignore[arg-type]
        results={**run.results, "seeds": rows},
    )


def test_recordings_methods_presets_and_changes_are_told_apart(trained: FinishedRun) -> None:
    more = trained.config.preset.spend(5000, None, None)
    runs = [
        other(trained, "a", (0, 1)),
        other(trained, "b", (2, 3)),
        other(trained, "c", (0, 1), dataset_id="x/other-obs-v0"),
        other(trained, "d", (0, 1), preset_name="small with gamma=0.5"),
        other(trained, "a", (1, 2)),
    ]
    names = run_names(runs)
    assert names == ["a", "b", "c", "d", "a (2)"]
    methods = run_methods(runs, names)
    # b has more seeds of a's method; the last has a seed that is there already.
    assert methods == ["D3G (small)"] * 3 + ["D3G (small with gamma=0.5)", "D3G (small) (a (2))"]
    assert task_of(runs[0]) != task_of(runs[2])
    changed = [runs[0], other(trained, "e", (0, 1), preset=more), runs[2]]
    assert run_methods(changed, run_names(changed)) == [
        "D3G (small), updates=1000", "D3G (small), updates=5000", "D3G (small), updates=1000",
    ]  # fmt: skip


def test_a_measured_power_is_no_other_setting(trained: FinishedRun, cloned: FinishedRun) -> None:
    """It is of the recording: the same preset measures another on another."""
    assert trained.config.recording is not None and cloned.config.cloning is not None
    runs = []
    for index, power in enumerate((0.5, 2.0)):
        facts = replace(trained.config.recording, error_power=power)
        cloning = replace(cloned.config.cloning, error_power=power)
        runs.append(
            other(cloned, "ab"[index], (0,), dataset_id=f"x/{index}-obs-v0", recording=facts,
                  cloning=cloning)
        )  # fmt: skip
    assert run_methods(runs, ["a", "b"]) == ["BCO (small)"] * 2


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished online run, as `online_run` writes it."""
    path = tmp_path_factory.mktemp("online") / "acting"
    settings = online_settings_of_test()
    seeds = [
        seed_results(seed, [EvaluationPoint(100 * n, [10.0 * n + seed]) for n in range(5)])
        for seed in settings.seeds
    ]
    shared = {"method": "online", "env_id": settings.env_id, "algorithm": settings.algorithm}
    results = {**shared, "preset": settings.preset_name, "steps": settings.config.steps,
               "config": asdict(settings.config), "wall_seconds": 61.0, "seeds": seeds}  # fmt: skip
    write_json(path / "config.json", to_plain({"method": "online", **vars(settings)}))
    write_json(path / "results.json", results)
    return path


def online_settings_of_test() -> OnlineSettings:
    named = online_preset("default", "d3g-no-cycle")
    config = replace(named, steps=400, warm_up=50, algorithm=replace(named.algorithm, gamma=0.9))
    plan = EvaluationPlan(100, 1)
    return OnlineSettings("Reacher-v5", "d3g-no-cycle", (3, 4), "default with gamma=0.9",
                          config, plan)  # fmt: skip


def test_a_setting_that_is_gone_and_was_off_is_no_other_setting(
    online: Path, tmp_path: Path
) -> None:
    methods = {}
    for value in (False, True):
        results = json.loads((online / "results.json").read_text())
        results["config"]["algorithm"]["gap_units"] = value
        for seed in results["seeds"]:
            seed["seed"] += 10
        write_json(tmp_path / "before.json", results)
        runs = [load_online_run(path) for path in (online, tmp_path / "before.json")]
        methods[value] = run_methods(runs, run_names(runs))
    assert methods[False] == ["online D3G⁻ (default with gamma=0.9)"] * 2
    assert methods[True][1] == "online D3G⁻ (default with gamma=0.9), gap_units=True"


@pytest.mark.usefixtures("undrawn")
def test_an_online_run_is_reported(online: Path) -> None:
    text = make_report([online], video=False).read_text()
    assert (online / "report" / "learning-curve.png").exists()
    for words in (
        "online D3G⁻ (default with gamma=0.9)", "Reacher-v5 after 400 environment steps",
        "final score 33.5 (33.0; 34.0)", "best after step", "61 s in all",
        "qss train-online Reacher-v5 --algo d3g-no-cycle --preset default --seeds 3,4 --steps 400 "
        "--warm-up 50 --set algorithm.gamma=0.9 --evaluate-every 100 --episodes 1",
        "Configuration",
    ):  # fmt: skip
        assert words in text, words
    # A copy of its results elsewhere has no settings, and is reported all the same.
    copied = Path(shutil.copy(online / "results.json", online.parent / "Reacher-d3g.json"))
    text = make_report([copied], online.parent / "copy", video=False).read_text()
    assert "Reacher-d3g: online D3G⁻" in text and "A copy of results" in text


@pytest.mark.usefixtures("undrawn")
def test_any_mix_is_reported(
    online: Path, trained: FinishedRun, cloned: FinishedRun, tmp_path: Path
) -> None:
    table = csv(tmp_path / "returns.csv", [("Reacher-v5", 0.5, "iql", 0, "last", -9.0)])
    sources = [trained.folder.path, online, table, cloned.folder.path]
    text = make_report(sources, tmp_path / "out", video=False, notice=lambda m: None).read_text()
    assert "3 runs and 1 table" in text
    for words in ("pendulum: D3G (small)", "acting: online D3G⁻", "bco: BCO (small", "IQL",
                  "D3G (small) over BCO (small"):  # fmt: skip
        assert words in text, words


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_was_never_evaluated_is_reported(trained: FinishedRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        trained.folder.seed(seed).policy.unlink()
    results = json.loads(trained.folder.results.read_text())
    for seed in results["seeds"]:
        for name in ("last", "best"):
            del seed[name]
        seed["evaluations"] = []
    trained.folder.results.write_text(json.dumps(results))
    notices: list[str] = []
    sources = [trained.folder.path, csv(tmp_path / "r.csv", [("A-v0", 0.5, "d3g", 0, "last", 1.0)])]
    text = make_report(sources, tmp_path / "out", video=False, notice=notices.append).read_text()
    assert notices == []
    assert "Nothing was evaluated" in text and "Values during training" not in text
    assert "the cycle error over updates" in text
    assert "Returns of every seed" not in text and "Trajectories" not in text
    assert cards(text)[0]["last"] == "–"


@pytest.mark.usefixtures("undrawn")
def test_numbers_of_plans_from_elsewhere_are_checked(trained: FinishedRun, tmp_path: Path) -> None:
    path = trained.folder.path / "render" / "distances.json"
    good = {"shown_seed": 0, "episodes": 20, "seeds": 2, "mean": [0.0, 560829.92],
            "low": [0.0, 1.0], "high": [0.0, 1e6], "still": [0.0, 0.5]}  # fmt: skip
    book = Book(tmp_path, lambda line: None)
    part = RunPart(book, trained, "", video=False, progress=no_progress)
    write_json(path, good)
    part.seen()
    (text,) = book.parts
    assert "more than 1,000 after 1 step, in standard deviations" in text and "560" not in text
    for wrong in ({"mean": "x"}, {"mean": [0.0]}, {"shown_seed": None}, {"low": [{}, 1]}):
        write_json(path, {**good, **wrong})
        with pytest.raises(UserError, match="distances"):
            part.seen()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [375, 1200])
def test_a_browser_shows_it_without_complaint(reported: Path, tmp_path: Path, width: int) -> None:
    """The page is put into a frame of that width, and a script outside it looks at it."""
    assert CHROMIUM is not None
    encoded = base64.b64encode(reported.read_bytes()).decode()
    outside = tmp_path / "outside.html"
    outside.write_text(
        f"""<!DOCTYPE html><meta charset="utf-8"><body><script>
const frame = document.createElement('iframe');
frame.style.width = '{width}px'; frame.style.height = '900px'; frame.style.border = '0';
const bytes = Uint8Array.from(atob('{encoded}'), c => c.charCodeAt(0));
frame.srcdoc = new TextDecoder().decode(bytes);
frame.onload = () => {{
  const page = frame.contentDocument, images = [...page.images];
  const found = {{
    width: page.documentElement.scrollWidth,
    images: images.length,
    broken: images.filter(i => !i.naturalWidth).length,
    tall: page.documentElement.scrollHeight,
    font: getComputedStyle(page.body).fontSize,
    small: images.filter(i => i.clientWidth < 250).length,
  }};
  document.body.innerHTML = '<p id="found">' + JSON.stringify(found) + '</p>';
}};
document.body.append(frame);
</script></body>"""
    )
    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000",
            "--window-size=1400,1000", "--dump-dom", outside.as_uri(),
        ],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    match = re.search(r'<p id="found">(\{.*?\})</p>', done.stdout)
    assert match, done.stdout[-500:]
    found = json.loads(match.group(1))
    assert found["width"] <= width, "the page itself must not scroll sideways"
    assert found["broken"] == 0 and found["small"] == 0 and found["images"] >= 15
    assert found["tall"] > 3000 and found["font"] == "16px"
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
