"""The report: what is in it, that it needs nothing else, and that a browser agrees."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from qss_offline.analysis.plots import report as figures
from qss_offline.analysis.plots import style
from qss_offline.analysis.report import making, page
from qss_offline.analysis.report.comparison import Scores, Task, compare, read_returns
from qss_offline.analysis.report.making import make_report
from qss_offline.analysis.report.reproduce import command, recording_command
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.overrides import changed
from qss_offline.runs.reader import FinishedRun
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
        "--seeds 0,1 --preset small",
        "one: InvertedPendulum-v5", "two: InvertedPendulum-v5",
        "2 of 2 seeds did not learn", "did not learn (return",
        "Last evaluations: mean over seeds", "Probabilities of improvement", "d3g over bco",
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


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are left blank: drawing takes most of the time."""
    monkeypatch.setattr(style, "to_png", lambda figure: b"\x89PNG")
    monkeypatch.setattr(style, "to_svg", lambda figure: b"<svg/>")


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
    assert "Return over the online steps" in text and "the cycle error over updates" in text
    assert "No measurements: " in text and "No dataset card: " in text
    assert len(notices) == 4
    assert f"qss train {trained.dataset_id}" in text


def test_the_command_repeats_the_run(trained: FinishedRun) -> None:
    line, remark = command(trained)
    assert "--preset small" in line
    assert remark is not None and "unknown here" in remark
    from qss_offline.presets import PRESETS

    spent = PRESETS["default"].spend(500, 400, 2)
    config = replace(trained.config, preset_name="default", preset=spent, evaluation_episodes=3)
    line, remark = command(replace(trained, config=config))
    assert line.endswith(
        "--seeds 0,1 --preset default --online-steps 400 --online-rounds 2 --updates 500 "
        "--episodes 3"
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
    found = compare(scores(d3g=[-4.0, -23.25], bco=[-42.5, -23.25]))
    ((label, one, tasks),) = found.improvements
    assert (label, tasks) == ("d3g over bco", 1)
    # -4 beats both; -23.25 beats one and ties with the other.
    assert one.estimate == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    d3g = found.profiles["d3g"]
    above = dict(zip(np.round(d3g.thresholds, 2), d3g.fractions, strict=True))
    assert (above[0.4], above[0.9], above[1.0]) == (1.0, 0.5, 0.0)
    assert found.iqms["d3g"].estimate == pytest.approx(0.75)
    assert [(cell.method, cell.seeds, cell.mean.estimate) for cell in found.cells] == [
        ("d3g", 2, -13.625), ("bco", 2, -32.875),
    ]  # fmt: skip


def test_long_names_leave_room_for_probabilities() -> None:
    name = "bodies with behaviour_power=0.5 over BCO with error_power=2"
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
    assert "Pendulum-v1" in notes and "of a, b over the 2 of 3 tasks" in notes
    assert "a: 1 seed beyond" in notes and "b: " not in notes


def test_tables_of_returns_are_checked(tmp_path: Path) -> None:
    path = csv(tmp_path / "r.csv", [("Reacher-v5", 0.5, "d3g", 1, "last", -5.0),
                                    ("Reacher-v5", 0.5, "behaviour", 0, "last", -20.0),
                                    ("Reacher-v5", 0.5, "d3g", 1, "best", -4.0)])  # fmt: skip
    assert read_returns(path) == {Task("Reacher-v5", 0.5): {"d3g": {1: -5.0}}}
    path.write_text("env_id,method\n")
    with pytest.raises(UserError, match="no column 'random_action_prob'"):
        read_returns(path)
    path.write_text(RETURNS + "Reacher-v5,half,d3g,1,last,2\n")
    with pytest.raises(UserError, match="half"):
        read_returns(path)
    path.write_text(RETURNS)
    with pytest.raises(UserError, match="no rows"):
        read_returns(path)
    with pytest.raises(UserError, match="cannot read"):
        making.make_report([tmp_path / "none.csv"], tmp_path / "out")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
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
