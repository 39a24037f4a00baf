"""A sweep on a cluster that loses a machine, and whose driver is interrupted: the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from tests.cli.test_interrupts import session, start, wait_until
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.ray


@pytest.fixture
def cluster(minari_root: Path) -> Iterator[tuple[str, int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.launch.two_raylets"], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    words = process.stdout.readline().split()
    yield words[0], int(words[1])
    process.communicate("", timeout=PATIENCE_S)


def learned(folder: Path) -> dict[str, bytes]:
    """The content of every file that says what was learned."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix == ".safetensors" or path.name in ("result.json", "metrics.jsonl")
    }


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/seeds/*/result.json")}


def sweep(file: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    return start("qss_offline.cli.program", "sweep", str(file), "--no-video", "--out", str(out),
                 *options)  # fmt: skip


def finished(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said


def test_a_sweep_outlives_a_machine_and_its_driver(
    cluster: tuple[str, int], tmp_path: Path
) -> None:
    address, raylet = cluster
    ids = [
        build_dataset(DatasetSpec("InvertedPendulum", transitions=500, seed=seed), workers=1).obs_id
        for seed in (0, 1)
    ]
    file = tmp_path / "twelve.toml"
    file.write_text(
        f"recordings = {json.dumps(ids)}\nmethods = ['d3g', 'bco']\n"
        "seeds = 3\nupdates = 6000\nonline_steps = 30\nonline_rounds = 1\nepisodes = 1\n"
        "changes = ['ensemble=1', 'algorithm.hidden_dims=(16, 16)', 'algorithm.batch_size=32',"
        " 'model.hidden_dims=(16, 16)', 'model.batch_size=32', 'known_updates=50']\n"
    )
    there, here = tmp_path / "ray", tmp_path / "local"
    on_ray = ("--launcher", f"ray:{address}")
    driver = sweep(file, there, *on_ray)

    def seen(count: int) -> Callable[[], bool]:
        return lambda: len(stamps(there)) >= count

    wait_until(seen(2), driver)
    os.kill(raylet, signal.SIGKILL)
    wait_until(seen(4), driver)
    # What runs has a checkpoint to go on from.
    begun = lambda: len(list(there.glob("*/seeds/*/training.safetensors"))) > len(stamps(there)) / 2  # noqa: E731
    wait_until(begun, driver)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 130 and "Traceback" not in said, said
    done = stamps(there)
    assert 4 <= len(done) < 12 and not list(there.rglob("failed.txt"))
    until = time.monotonic() + PATIENCE_S
    while left := session(driver.pid):
        assert time.monotonic() < until, left
        time.sleep(0.05)

    finished(sweep(file, there, *on_ray))
    assert len(stamps(there)) == 12
    assert {path: stamps(there)[path] for path in done} == done, "what was done isn't done again"
    finished(sweep(file, here, "--launcher", "local"))
    assert learned(here) == learned(there) and len(learned(here)) > 36


ENDING = """
import sys
from types import SimpleNamespace
from qss_offline.launch import on_ray
def brief(plain, *_):
    import time
    time.sleep(0.02)
on_ray.run_remotely = brief
on_ray._options = lambda cell: {"num_cpus": 1, "max_retries": 3}
on_ray._registered = lambda cells: []
on_ray.named_indices = lambda cells: [()] * len(cells)
on_ray.asdict = vars
cells = [SimpleNamespace(gpus=0)] * 2000
launcher = on_ray.RayLauncher(sys.argv[1], 40)
for number, _ in enumerate(launcher.run(cells, lambda *_: None)):
    if number == 0:
        print("running", flush=True)
"""


def test_cells_that_are_just_ending_do_not_end_an_interrupted_driver(
    cluster: tuple[str, int],
) -> None:
    for _ in range(6):
        driver = subprocess.Popen(
            [sys.executable, "-c", ENDING, cluster[0]], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        assert driver.stdout is not None
        driver.stdout.readline()
        time.sleep(1.5)
        driver.send_signal(signal.SIGINT)
        _, said = driver.communicate(timeout=PATIENCE_S)
        assert "KeyboardInterrupt" in said and "Check failed" not in said, said
        assert driver.returncode in (1, -signal.SIGINT), said
