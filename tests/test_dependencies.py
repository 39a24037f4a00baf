"""Who may import whom; read from the source, so that no import hides behind a function."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "qss_offline"

LAYERS = (
    ("errors",),
    ("files", "statistics", "settings_json", "overrides"),
    ("parallel",),
    ("data", "algorithms", "tabular"),
    ("engine",),
    ("evaluation",),
    ("runs",),
    ("presets",),
    ("launch",),
    ("training",),
    ("online",),
    ("baselines",),
    ("comparison",),
    ("analysis",),
    ("api",),
    ("cli",),
)
"""Packages and modules of the root from the lowest on. Each may import what lies below it; those of
one layer know nothing of each other, but for the settings and files of the second."""

SIDE_BY_SIDE = {"files", "statistics", "settings_json", "overrides"}
"""Small modules of one layer that may use each other."""

ONLY_IN = {
    "ray": ("qss_offline/launch",),
    "d3rlpy": ("qss_offline/baselines",),
    "torch": (
        *(f"qss_offline/{name}" for name in (
            "algorithms", "engine", "evaluation", "launch", "training", "online", "baselines",
            "comparison", "analysis", "cli",
        )),
        "benchmarks",
        "recipes",
    ),
}  # fmt: skip
"""Packages that only some of ours may import."""

LAZY = {"d3rlpy", "gym", "ray", "tensorboard", "huggingface_hub", "matplotlib", "imageio", "onnx",
        "onnxscript", "onnxruntime", "imageio_ffmpeg", "PIL"}  # fmt: skip


@cache
def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            # `from package import module`.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def part_of(path: Path) -> str:
    """The package or module of the root that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parts() -> set[str]:
    return {part_of(path) for path in modules("qss_offline")} - {"__init__"}


def rank(part: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


def test_every_package_has_its_place() -> None:
    listed = {part for layer in LAYERS for part in layer}
    assert parts() == listed
    packages = {part for part in parts() if (PACKAGE / part).is_dir()}
    assert len(packages) <= 15
    assert len(parts() - packages) + 1 <= 7, "modules of the root, __init__ among them"
    assert all((PACKAGE / package / "__init__.py").exists() for package in packages)


def test_imports_point_down() -> None:
    upward = []
    for path in modules("qss_offline"):
        if path.name == "__init__.py" and path.parent == PACKAGE:
            continue
        importer = part_of(path)
        for name in sorted(imports(path)):
            words = name.split(".")
            if words[0] != "qss_offline" or len(words) == 1 or words[1] not in parts():
                continue
            imported = words[1]
            beside = {importer, imported} <= SIDE_BY_SIDE
            if imported != importer and not beside and rank(imported) >= rank(importer):
                upward.append(f"{path.relative_to(ROOT)} imports {name}")
    assert sorted(set(upward)) == []


def test_nothing_imports_what_uses_the_package() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("qss_offline")
        for name in imports(path)
        if name.split(".")[0] in {"recipes", "benchmarks", "tests"}
    ]
    assert found == []


def test_no_two_modules_import_each_other() -> None:
    by_name = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules("qss_offline")
    }
    edges = {
        name: {
            other
            for other in imports(path, top_level_only=True)
            if other in by_name and other != name and not name.startswith(other + ".")
        }
        for name, path in by_name.items()
    }
    left = dict(edges)
    while True:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        if not free:
            break
        left = {name: needs for name, needs in left.items() if name not in free}
    assert sorted(left) == []


@pytest.mark.parametrize("name", ONLY_IN)
def test_some_packages_are_imported_in_their_places_only(name: str) -> None:
    elsewhere = [
        str(path.relative_to(ROOT))
        for folder in ("qss_offline", "recipes", "benchmarks")
        for path in modules(folder)
        if any(found.split(".")[0] == name for found in imports(path))
        and not str(path.relative_to(ROOT)).startswith(ONLY_IN[name])
    ]
    # A benchmark measures beside d3rlpy.
    assert [path for path in elsewhere if not path.startswith("benchmarks/")] == []


def test_the_engine_knows_no_algorithm_by_name() -> None:
    shared = {"networks", "protocol", "validation"}
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("qss_offline/engine")
        for name in imports(path)
        if name.startswith("qss_offline.algorithms.") and name.split(".")[2] not in shared
    ]
    assert found == []


def test_heavy_extras_are_imported_only_where_they_are_used() -> None:
    top_level = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("qss_offline", "recipes")
        for path in modules(folder)
        if "baselines" not in path.parts
        for name in imports(path, top_level_only=True)
        if name.split(".")[0] in LAZY
    ]
    assert top_level == []


def test_nothing_unpickles() -> None:
    for folder in ("qss_offline", "recipes"):
        for path in modules(folder):
            found = {name.split(".")[0] for name in imports(path)}
            assert not found & {"pickle", "cloudpickle", "dill", "joblib"}, path
            text = path.read_text()
            assert "torch.load(" not in text, path
            assert "allow_pickle=True" not in text, path


def test_no_test_depends_on_how_fast_a_machine_is() -> None:
    """Limits of time are one, for what hangs; `pytest.mark.timeout` lengthens it for long ones."""
    limit = re.compile(r"(timeout=|monotonic\(\) \+ |\.wait\()[0-9]")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in modules("tests")
        for line in path.read_text().splitlines()
        if limit.search(line)
    ]
    assert found == []
