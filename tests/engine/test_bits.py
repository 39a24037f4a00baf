"""A seed's bits don't depend on its company, whatever the vector width of the processor."""

import json
import os
import subprocess
import sys

import pytest

WIDTHS = ("default", "avx2", "avx512")


OWN = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}


def widest_there() -> str:
    """Return the vector width that the processor computes with."""
    command = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    printed = subprocess.run(
        [sys.executable, "-c", command], env=OWN, capture_output=True, text=True, check=True
    ).stdout
    return printed.strip().lower()


@pytest.mark.parametrize(
    "width", [None, *(pytest.param(width, marks=pytest.mark.slow) for width in WIDTHS)]
)
def test_seeds_of_every_loss_and_preset_are_the_same_alone_and_in_stacks(width: str | None) -> None:
    env = {**OWN, "OMP_NUM_THREADS": "1"}
    if width is not None:
        widest = widest_there()
        if width == widest:
            pytest.skip("the processor's own, which the default tests take")
        if widest not in WIDTHS or WIDTHS.index(width) > WIDTHS.index(widest):
            pytest.skip(f"this processor computes with {widest}")
        env["ATEN_CPU_CAPABILITY"] = width
    process = subprocess.run(
        [sys.executable, "-m", "tests.engine.bit_sweep"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    ran, *rows = map(json.loads, process.stdout.splitlines())
    assert width in (None, ran["capability"].lower())
    assert len(rows) > 50
    assert [row for row in rows if row["differ"]] == []
