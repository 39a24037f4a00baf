"""Every benchmark is a command."""

import pkgutil
import runpy

import pytest

import benchmarks

HELD = {"memory", "plain_d3g"}
"""What others take from, and no commands."""

COMMANDS = {one.name for one in pkgutil.iter_modules(benchmarks.__path__)} - HELD


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_it_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("usage: ")
