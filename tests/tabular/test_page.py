"""The page quotes what the committed results say, and every picture names its command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.published import needs_published

pytestmark = needs_published
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from_qsa_to_d3g.md").read_text()
RUNS = ["equivalence", "stochastic", "redundant", "permuted", "cliff", "cliff-authors"]


def record(run: str) -> dict[str, Any]:
    text = (ROOT / "results" / "tabular" / run / "results.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def signed(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize("run", RUNS)
def test_command_seeds_time_date_and_machine_are_those_of_the_results(run: str) -> None:
    made = record(run)
    section = PAGE[PAGE.index(f"```\n{made['command']}\n```") :]
    quoted = f"*{len(made['seeds'])} seeds, {made['wall_seconds']:.0f} s.*"
    assert re.search(r"\*\d+ seeds, \d+ s\.\*", section).group() == quoted  # type: ignore[union-attr]
    assert made["date"] in PAGE
    machine = f"{made['cores']} cores, {made['processor']}"
    assert machine == "2 cores, AMD EPYC" and "2-core AMD EPYC" in PAGE
    assert made["wall_seconds"] <= 120


def test_every_picture_is_followed_by_the_command_that_made_it() -> None:
    pictures = re.findall(r"!\[.+\]\((images/tabular/(\w+)\.png)\)\n\n```\n(.+)\n```", PAGE)
    assert [name for _, name, _ in pictures] == RUNS[:-1]
    assert len(re.findall(r"!\[", PAGE)) == len(pictures)
    for path, name, command in pictures:
        assert command == record(name)["command"]
        assert (ROOT / "docs" / path).stat().st_size < 150_000


def test_the_equivalence_is_quoted_as_measured() -> None:
    findings = record("equivalence")["findings"]
    assert findings["theorem_gap_by_value_iteration"] == 0.0
    last = list(findings["largest_fractional_difference"].values())[-1]
    assert f"{last:.1e} of the value" in PAGE


def test_the_table_of_slips_is_quoted_as_measured() -> None:
    for name, found in record("stochastic")["findings"].items():
        cells = [
            name.removeprefix("slip "),
            signed(found["distance"]["mean"]),
            signed(found["exact_distance"]),
            *(
                signed(found[key]["mean"])
                for key in (
                    "qsa_value_of_start",
                    "qss_value_of_start",
                    "qsa_return",
                    "qss_return",
                )
            ),
        ]
        assert row(*cells) in PAGE
        distance = found["distance"]["mean"]
        assert distance == pytest.approx(found["exact_distance"], rel=0.1, abs=0.01)


def test_the_tables_of_steps_are_quoted_as_measured() -> None:
    redundant = record("redundant")["findings"]
    for copies in (1, 2, 5, 10):
        steps = [
            f"{learner[f'{copies} copies']['at_its_best_from_step']:,}"
            for learner in redundant.values()
        ]
        assert row(str(4 * copies), *steps) in PAGE
    permuted = record("permuted")["findings"]
    for learner in ("QSA", "QSS"):
        steps = [
            f"{permuted[f'{learner} {begun}']['at_its_best_from_step']:,}"
            for begun in ("transfer", "from scratch")
        ]
        assert row(learner, *steps) in PAGE
    for found in (*permuted.values(), *(c for d in redundant.values() for c in d.values())):
        assert found["return_at_the_end"]["mean"] == pytest.approx(-18.0)


def test_the_settings_where_nothing_fell_are_quoted_as_measured() -> None:
    text = " ".join(PAGE.split())
    for run, settings in (
        ("cliff-slow", "0.01 and sixteen walkers it returned"),
        ("cliff-fast", "with 0.1 and one walker"),
    ):
        findings = record(run)["findings"]
        qss, qsa = (
            findings[learner]["expected_return_of_last_policy"]["mean"]
            for learner in ("QSS", "QSA")
        )
        value = findings["QSS"]["learned_value_of_start"]["mean"]
        assert f"{settings} {qss:.3f} (QSA: {qsa:.3f})" in text
        assert f"{value:.3f}" in text


def test_the_cliff_is_quoted_as_measured() -> None:
    text = " ".join(PAGE.split())
    settled, early = record("cliff")["findings"], record("cliff-authors")["findings"]
    believed = settled["QSS"]["learned_value_of_start"]["mean"]
    assert believed == pytest.approx(settled["QSS"]["exact_value_of_start"])
    assert f"believes the start to be worth {believed:.3f}" in text
    had = {name: found["expected_return_of_last_policy"] for name, found in settled.items()}
    expected = f"return is {had['QSS']['mean']:.3f}, QSA's is {had['QSA']['mean']:.3f}"
    assert expected in text
    assert f"at {early['QSS']['learned_value_of_start']['mean']:.3f}, whether" in text
    found = early["QSS"]["expected_return_of_last_policy"]
    assert f"{found['mean']:.3f} (interval {found['low']:.3f} to {found['high']:.3f};" in text
