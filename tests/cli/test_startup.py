"""Help is there at once: commands read their arguments before they import what they need."""

import inspect
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from qss_offline.cli import data, options
from qss_offline.comparison.presets import COMPARISONS
from qss_offline.data import ColumnNames, ImportRules
from qss_offline.data.hub import MAX_PULLED_BYTES
from qss_offline.online.presets import ALGORITHMS, ONLINE_PRESETS
from qss_offline.presets import PRESETS
from qss_offline.tabular.experiments import EXPERIMENTS
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "qss_offline.cli.program",
    *sorted(f"recipes.{p.stem}" for p in (ROOT / "recipes").glob("[!_]*.py")),
]
HEAVY = {"torch", "minari", "mujoco", "gymnasium", "scipy", "pandas", "pyarrow", "h5py"}


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_import_nothing_heavy_before_their_arguments_are_read(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=PATIENCE_S, cwd=ROOT,
    )  # fmt: skip
    assert not HEAVY & set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("named", "known"),
    [
        (options.PRESET_NAMES, PRESETS),
        (options.ONLINE_PRESET_NAMES, ONLINE_PRESETS),
        (options.ONLINE_ALGORITHM_NAMES, ALGORITHMS),
        (options.COMPARISON_NAMES, COMPARISONS),
        (options.EXPERIMENT_NAMES, EXPERIMENTS),
    ],
)
def test_help_names_what_there_is(named: tuple[str, ...], known: Iterable[str]) -> None:
    assert sorted(named) == sorted(known)


RULES = ("order", "missing", "resets", "rounding", "skip_bad")


def test_data_commands_show_the_defaults_of_what_they_call() -> None:
    shown = inspect.signature(data.import_).parameters
    known = vars(ColumnNames()) | {name: getattr(ImportRules(), name) for name in RULES}
    for name, value in known.items():
        assert shown[name].default == value
    assert inspect.signature(data.pull).parameters["max_gb"].default == MAX_PULLED_BYTES / 1e9
