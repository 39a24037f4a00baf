"""A seed's bits don't depend on its company, whatever the vector width of the processor."""

import json
import os
import subprocess
import sys

import pytest

WIDTHS = ("default", "avx2", "avx512")


def capability(width: str | None) -> str:
    """Return the vector width that a process started so computes with."""
    env = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    command = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    printed = subprocess.run(
        [sys.executable, "-c", command],
        env=env if width is None else {**env, "ATEN_CPU_CAPABILITY": width},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return printed.strip().lower()


@pytest.mark.parametrize(
    "width", [None, *(pytest.param(width, marks=pytest.mark.slow) for width in WIDTHS)]
)
def test_seeds_of_every_loss_and_preset_are_the_same_alone_and_in_stacks(width: str | None) -> None:
    widest = capability(None)
    if width == widest:
        pytest.skip("the processor's own, which the default tests take")
    width = width or widest
    if widest not in WIDTHS or WIDTHS.index(width) > WIDTHS.index(widest):
        pytest.skip(f"this processor computes with {widest}")
    process = subprocess.run(
        [sys.executable, "-m", "tests.engine.bit_sweep"],
        env={**os.environ, "ATEN_CPU_CAPABILITY": width, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    ran, *rows = map(json.loads, process.stdout.splitlines())
    assert ran["capability"].lower() == width
    assert len(rows) > 50
    assert [row for row in rows if row["differ"]] == []
