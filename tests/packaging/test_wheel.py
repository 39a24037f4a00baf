"""The wheel is the whole product: the package, its datasets' families, and nothing beside it."""

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from qss_offline import __version__
from qss_offline.data.families import families_folder, family_names, family_path
from qss_offline.errors import UserError
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if find_spec("hatchling") is None:
        pytest.skip("hatchling isn't installed")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    (path,) = folder.glob("*.whl")
    assert path.name == f"qss_offline-{__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_its_top_level_is_the_package_alone(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {"qss_offline", f"qss_offline-{__version__}.dist-info"}


def test_it_holds_every_family_and_expert(wheel: zipfile.ZipFile) -> None:
    there = {str(p.relative_to(ROOT)) for p in families_folder().rglob("*") if p.is_file()}
    assert len(there) > 20
    assert {f"qss_offline/{name}" for name in there} <= set(wheel.namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "qss_offline").rglob("*.py")}
    assert modules <= set(wheel.namelist())
    assert "qss_offline/py.typed" in wheel.namelist()


def test_it_says_who_made_it_and_under_which_licence(wheel: zipfile.ZipFile) -> None:
    folder = f"qss_offline-{__version__}.dist-info"
    metadata = wheel.read(f"{folder}/METADATA").decode()
    for line in ("License-Expression: Apache-2.0", "Author: ", "Project-URL: Paper", "Classifier:"):
        assert line in metadata
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    entry_points = wheel.read(f"{folder}/entry_points.txt").decode()
    assert "qss = qss_offline.cli.program:main" in entry_points
    assert "qss-offline = qss_offline.cli.program:main" in entry_points


@pytest.mark.parametrize(
    "named", ["half_cheetah", "half-cheetah", "HalfCheetah", "HalfCheetah-v5", "HALF_CHEETAH"]
)
def test_a_family_is_found_by_its_name_and_its_environments(named: str) -> None:
    assert family_path(named) == families_folder() / "half_cheetah.toml"


def test_a_path_is_a_path_and_an_unknown_name_has_a_nearest_one() -> None:
    assert family_path("mine.toml") == Path("mine.toml")
    assert family_path("there/mine") == Path("there/mine")
    assert "reacher" in family_names()
    with pytest.raises(UserError, match="did you mean reacher"):
        family_path("reachr")
    with pytest.raises(UserError, match=r"a file ends in \.toml"):
        family_path("swimmer")
