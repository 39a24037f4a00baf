"""Variants of the ablation: each differs from the default in one setting, and is drawn."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.ablation import SWITCHES, figure, variants
from qss_offline.analysis.plots.style import to_png
from qss_offline.overrides import differences
from qss_offline.presets import preset


@pytest.mark.parametrize("ensemble", [None, 1])
def test_each_variant_changes_one_setting(ensemble: int | None) -> None:
    default, *others = variants(ensemble)
    trained = preset("default", "d3g").ensemble if ensemble is None else ensemble
    assert default.preset == replace(preset("default", "d3g"), ensemble=trained)
    changes = [differences(default.preset, variant.preset) for variant in others]
    assert all(len(change) == 1 for change in changes)
    assert len({change[0] for change in changes}) == len(others)
    assert all(
        change[0].endswith(v.change.split()[-1]) for change, v in zip(changes, others, strict=True)
    )


def test_switches_take_the_papers_values() -> None:
    switches = [v for v in variants()[1:] if "switches" in v.parts]
    assert len(switches) == len(SWITCHES)
    for variant in switches:
        (change,) = differences(preset("default", "d3g"), variant.preset)
        assert change in differences(preset("default", "d3g"), preset("paper"))


def test_single_trainings_are_set_against_the_ensemble() -> None:
    (variant,) = [v for v in variants(1) if v.change.startswith("ensemble")]
    assert variant.preset == preset("default", "d3g")


def test_figure_shows_every_part() -> None:
    rows = [
        {
            "variant": v.change,
            "parts": v.parts,
            "algorithm": {
                "cycle_coef": v.preset.algorithm.cycle_coef,
                "gamma": v.preset.algorithm.gamma,
            },
            "seeds": [{"last": {"mean": mean}} for mean in (1.0, 3.0)],
        }
        for v in variants()
    ]
    drawn = figure(rows, "title")
    assert len(drawn.axes[0].get_yticklabels()) == len(SWITCHES) + 1
    for axis, count in zip(drawn.axes[1:], (6, 4), strict=True):
        line = axis.lines[-1]
        assert len(line.get_xdata()) == count
        np.testing.assert_allclose(line.get_ydata(), 2.0)
    assert to_png(drawn).startswith(b"\x89PNG")


def test_figure_leaves_out_what_was_not_asked_for() -> None:
    row = {"variant": "default", "algorithm": {"cycle_coef": 30.0, "gamma": 0.97}}
    rows = [{**row, "parts": ["beta"], "seeds": [{"last": {"mean": 1.0}}]}]
    (axis,) = figure(rows, "title", ["beta"]).axes
    assert axis.get_xlabel().startswith("β")
