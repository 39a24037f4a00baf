"""`qss-offline`: the house, through its entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FAMILY = """
env_id = "Reacher-v5"
transitions = 400
seed = 3
shards = 2
random_action_probs = [1.0]
"""


def qss_offline(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from qss_offline.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_a_family_is_built_listed_shown_and_kept(minari_root: Path, tmp_path: Path) -> None:
    family = tmp_path / "small.toml"
    family.write_text(FAMILY)
    built = qss_offline("data", "build", str(family))
    assert built.returncode == 0, built.stderr
    assert "100%" in built.stdout
    listed = qss_offline("data", "list")
    lines = [line for line in listed.stdout.splitlines() if "Reacher-v5" in line]
    assert [(" no " in line, " yes " in line) for line in lines] == [(False, True), (True, False)]
    dataset = next(word for word in listed.stdout.split() if word.endswith("-obs-v0"))
    shown = json.loads(qss_offline("data", "show", dataset).stdout)
    assert shown["observation_only"] is True
    assert shown["total_steps"] == 400
    assert shown["behaviour_return"]["mean"] < -20
    again = qss_offline("data", "build", str(family))
    assert again.returncode == 0
    assert "kept" in again.stderr


def test_presets_are_printed_as_json() -> None:
    shown = json.loads(qss_offline("presets").stdout)
    assert shown["paper"]["algorithm"]["cycle_coef"] == 1.0
    assert shown["default"]["algorithm"]["normalize_observations"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bogus",), "bogus"),
        (("evaluate", "none.safetensors"), "none.safetensors does not exist"),
        (("data", "build", "none.toml"), "none.toml"),
        (("data", "show", "qss/none-v0"), "qss/none-v0"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    minari_root: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = qss_offline(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
