"""The wheel is the whole product: the package, its datasets' families, and nothing beside it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from qss_offline import __version__
from qss_offline.data.families import families_folder, family_names, family_path
from qss_offline.errors import UserError
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def build(hook: str, out: Path, source: Path = ROOT) -> None:
    """Build from a folder with what is installed, as `pip` does in an environment of its own."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling isn't installed")
    out.mkdir(exist_ok=True)
    code = f"import hatchling.build as backend; backend.{hook}({str(out)!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=source, check=True, capture_output=True, timeout=PATIENCE_S,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build("build_wheel", folder)
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


def test_its_families_are_found_where_there_is_no_clone(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()
    code = (
        "from qss_offline.data.families import expert_path, family_names, family_path\n"
        "from qss_offline.data.specs import read_family\n"
        "levels = [s for n in family_names() for s in read_family(family_path(n)).specs]\n"
        "experts = {str(s.expert) for s in levels if s.identity()} | {expert_path('Hopper-v5')}\n"
        "print(len(family_names()), *map(str, experts), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "empty",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    count, *experts = done.stdout.split()
    assert int(count) == len(family_names())
    folder = tmp_path / "installed" / "qss_offline" / "datasets" / "experts"
    assert {Path(path).parent for path in experts} == {folder}
    assert all(Path(path).is_file() for path in experts)


def test_an_editable_install_copies_nothing(tmp_path: Path) -> None:
    """A copied folder would go stale, and name a package of its own when the clone is gone."""
    build("build_editable", tmp_path)
    (path,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(path).namelist()
    assert [n for n in names if ".dist-info/" not in n and not n.endswith(".pth")] == []
    (pth,) = [name for name in names if name.endswith(".pth")]
    assert zipfile.ZipFile(path).read(pth).decode().strip() == str(ROOT)


def test_the_source_distribution_builds_the_same_wheel_and_is_small(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    build("build_sdist", tmp_path)
    (path,) = tmp_path.glob("*.tar.gz")
    assert path.stat().st_size < 3_000_000
    with tarfile.open(path) as sources:
        sources.extractall(tmp_path, filter="data")
    root = path.with_name(path.name.removesuffix(".tar.gz"))
    for name in ("tests/conftest.py", "recipes/random_obs.py", "constraints.txt", "docs/data.md"):
        assert (root / name).is_file()
    build("build_wheel", tmp_path / "again", root)
    (again,) = (tmp_path / "again").glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == wheel.namelist()


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
    "named",
    [
        "half_cheetah",
        "half-cheetah",
        "HalfCheetah",
        "HalfCheetah-v5",
        "halfcheetah-v4",
        "HALF_CHEETAH",
    ],
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
