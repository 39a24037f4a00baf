"""A small recording, and runs on it that several tests look at."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import qss_offline as qss

SMALL = {
    "method": "d3g",
    "updates": 40,
    "online_steps": 60,
    "changes": {"ensemble": 1, "updates_per_round": 20, "known_updates": 40},
    "episodes": 2,
    "progress": False,
}
"""Arguments of a run of seconds."""


@pytest.fixture(scope="package")
def minari_of_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        yield root


@pytest.fixture
def recording(minari_of_package: Path, monkeypatch: pytest.MonkeyPatch) -> qss.Recording:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(minari_of_package))
    return qss.Recording.from_env("InvertedPendulum", steps=500, progress=False)


@pytest.fixture
def run(
    recording: qss.Recording,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> qss.Run:
    """A finished run of two seeds, trained once."""
    cache: dict[str, Path] = request.session.__dict__.setdefault("_qss_run", {})
    if "path" not in cache:
        out = tmp_path_factory.mktemp("runs") / "first"
        qss.train(recording, seeds=2, out=out, **SMALL)
        cache["path"] = out
    return qss.Run(cache["path"])
