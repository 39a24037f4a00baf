"""Who may import whom; read from the source, so that no import hides behind a function."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAZY = {"d3rlpy", "gym", "ray", "tensorboard", "huggingface_hub", "matplotlib", "imageio",
        "imageio_ffmpeg", "PIL"}  # fmt: skip


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def offenders(folder: str, *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(folder)
        for name in sorted(imports(path))
        if any(name == prefix or name.startswith(prefix + ".") for prefix in forbidden)
    ]


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("qss_offline", ("recipes", "benchmarks", "tests")),
        (
            "qss_offline/data",
            ("torch", "qss_offline.engine", "qss_offline.algorithms", "qss_offline.online"),
        ),
        ("qss_offline/tabular", ("torch", "minari", "qss_offline.data")),
        ("qss_offline/online", ("minari", "qss_offline.comparison", "qss_offline.report")),
        (
            "qss_offline/algorithms",
            ("qss_offline.engine", "qss_offline.data", "qss_offline.online", "minari", "gymnasium"),
        ),
        (
            "qss_offline/engine",
            (
                "qss_offline.data",
                "qss_offline.online",
                "minari",
                "gymnasium",
                "qss_offline.algorithms.qss",
                "qss_offline.algorithms.observational_d3g",
                "qss_offline.algorithms.inverse_dynamics",
                "qss_offline.algorithms.bco",
                "qss_offline.algorithms.d3g",
            ),
        ),
    ],
)
def test_dependencies_point_one_way(folder: str, forbidden: tuple[str, ...]) -> None:
    assert modules(folder), f"{folder} has no modules: is the test looking in the right place?"
    assert offenders(folder, *forbidden) == []


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
        assert offenders(folder, "pickle", "cloudpickle", "dill", "joblib") == []
        for path in modules(folder):
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
