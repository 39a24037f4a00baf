"""Environments that untrusted files name: nothing is loaded, and no text taken for a path."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qss_offline.api.training import train_online
from qss_offline.data import DatasetSpec, list_datasets, load_transitions, plan_arrays, read_family
from qss_offline.data.environments import (
    env_id_of_file,
    env_name_of,
    make_env,
    plain_name,
    resolve_env_id,
    same_environment,
    without_folder,
    without_source,
)
from qss_offline.data.local import data_folder
from qss_offline.data.metadata import env_id_of as recorded_env_id
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.reader import read_run_config
from tests.data.conftest import make_transitions
from tests.own_env import write_own
from tests.program import Qss


@dataclass(frozen=True)
class Trap:
    """A folder on the path whose module and file tell when they are loaded."""

    folder: Path

    @property
    def sprung(self) -> bool:
        return (self.folder / "loaded_by").exists()


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    for own in ("Cart", "Blind", "make_cart"):
        gymnasium.registry.pop(own, None)
    before, path = dict(gymnasium.registry), list(sys.path)
    write_own(tmp_path, "trap.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield Trap(tmp_path)
    gymnasium.registry.clear()
    gymnasium.registry.update(before)
    sys.path[:] = path
    sys.modules.pop("trap", None)


REFUSED = {
    "a module": "trap:Cart",
    "a file": "trap.py:Cart",
    "a path": "./trap.py:Cart",
    "a module's own arguments": "trap:Cart?gain=2",
    "text": "HalfCheetah-v5?xml_file=/etc/passwd",
    "text in a list": 'HalfCheetah-v5?xml_file=["evil.xml"]',
    "text in an object": 'HalfCheetah-v5?x={"a":1}',
    "text behind a module": "trap:HalfCheetah-v5?xml_file=evil.xml",
    "arguments of 100,000 characters": "Reacher-v5?x=[" + "1," * 50_000 + "1]",
    "arguments nested deep": "Reacher-v5?x=" + "[" * 1500 + "]" * 1500,
    "a number of 3,000 digits": "Reacher-v5?x=" + "9" * 3000,
    "a number that is none": "Reacher-v5?x=NaN",
    "control characters": "Reacher-v5?x=\x1b[2J",
    "control characters in an id": "Reacher\x1b[2J-v5",
    "a line break": "Reacher-v5?x=1\nerror: all is well",
    "marks of direction": "Reacher-v5?x=\u202e1",
    "no value": "Reacher-v5?x",
    "a screen": "Reacher-v5?render_mode=human",
    "nothing": "",
    "a colon": ":",
    "a question mark": "?",
}  # fmt: skip


def in_config(env_id: str, folder: Path) -> None:
    run = RunFolder(folder / "run")
    run.path.mkdir()
    preset = {"algorithm": {}, "inverse": {"rounds": 1, "steps_per_round": 1, "updates": 1}}
    settings = {
        "method": "d3g", "env_id": env_id, "dataset_id": "a/b/c-v0", "seeds": [0],
        "preset_name": "x", "preset": preset,
    }  # fmt: skip
    run.config.write_text(json.dumps(settings))
    read_run_config(run)


def in_family(env_id: str, folder: Path) -> None:
    path = folder / "family.toml"
    path.write_text(f"env_id = {json.dumps(env_id)}\n")
    read_family(path)


def in_string(env_id: str, folder: Path) -> None:
    env_id_of_file(env_id, folder / "it")


@pytest.mark.parametrize("read", [in_string, in_config, in_family])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_a_file_names_is_refused_in_one_line(
    name: str, read: Callable[[str, Path], None], trap: Trap
) -> None:
    with pytest.raises(UserError) as caught:
        read(REFUSED[name], trap.folder)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 2000
    assert not trap.sprung


def test_a_module_is_left_out_where_the_rest_is_known(trap: Trap) -> None:
    assert env_id_of_file("trap:Reacher-v5?frame_skip=3", "it") == "Reacher-v5?frame_skip=3"
    assert env_id_of_file("/x/trap.py:Reacher", "it") == "Reacher-v5"
    assert not trap.sprung


@pytest.mark.parametrize(
    "command", ["report", "report --no-video", "render", "compare", "evaluate", "export --to a.pt"]
)
def test_an_online_run_may_name_any_file_and_none_is_loaded(
    command: str, trap: Trap, online: Path, qss: Qss
) -> None:
    run = Path(shutil.copytree(online, trap.folder / "run"))
    for name in ("config.json", "results.json"):
        write_json(run / name, {**read_json(run / name), "env_id": f"{trap.folder}/trap.py:Cart"})
    qss(command, run, code=None)
    assert not trap.sprung


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished online run."""
    folder = tmp_path_factory.mktemp("online") / "run"
    train_online(
        "InvertedPendulum", steps=40, warm_up=20, evaluate_every=20, episodes=1, out=folder,
        workers=1, progress=False, changes={"hidden_dims": [8, 8], "model_updates": 1},
    )  # fmt: skip
    return folder


def test_text_is_taken_where_the_user_named_the_same(trap: Trap) -> None:
    asked = "HalfCheetah-v5?xml_file=half_cheetah.xml"
    with pytest.raises(UserError, match=r"--env 'HalfCheetah-v5\?xml_file=half_cheetah\.xml'"):
        env_id_of_file(asked, "it")
    assert resolve_env_id(asked) == asked
    assert env_id_of_file(asked, "it") == asked
    make_env(asked).close()
    for other in ("HalfCheetah-v5?xml_file=evil.xml", "Hopper-v5?xml_file=half_cheetah.xml"):
        with pytest.raises(UserError, match="is taken only where you name it"):
            env_id_of_file(other, "it")


def test_what_the_user_named_is_loaded_from_there_alone(trap: Trap, tmp_path: Path) -> None:
    own = write_own(tmp_path / "trusted", "own.py")
    resolve_env_id(f"{own}:Cart")
    assert env_id_of_file("trap.py:Cart?gain=2", "it") == f"{own}:Cart?gain=2"
    assert not trap.sprung


def stored_with(spec: dict[str, Any]) -> str:
    """Store a dataset whose metadata say so of its environment."""
    transitions = make_transitions([5, 6], act_dim=None)
    stored = plan_arrays(**transitions.columns()).store("mine/thing/all")
    path = data_folder(stored.obs_id) / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env_spec": json.dumps(spec)}))
    return stored.obs_id


def test_a_dataset_whose_arguments_cant_be_read_is_refused_and_listed(minari_root: Path) -> None:
    dataset = stored_with({"id": "Reacher-v5", "kwargs": {"x": [1] * 50_000}})
    with pytest.raises(UserError, match=r"100,0.. characters"):
        load_transitions(dataset)
    (line,) = list_datasets()
    assert line.dataset_id == dataset and line.problem is not None


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        ({"id": "Reacher-v5", "kwargs": {"frame_skip": 3}}, "Reacher-v5?frame_skip=3"),
        ({"id": "Reacher-v5", "kwargs": None}, "Reacher-v5"),
        ({"id": "Reacher-v5", "kwargs": [1]}, None),
        ({"id": 5, "kwargs": {}}, None),
        ([], None),
        ("[" * 100_000, None),
        ("{", None),
        (
            {
                "id": "Reacher-v5",
                "entry_point": "trap:Cart",
                "additional_wrappers": [{"entry_point": "trap:Cart", "name": "x", "kwargs": {}}],
            },
            "Reacher-v5",
        ),
    ],
)
def test_a_specification_is_read_and_never_run(spec: Any, known: str | None, trap: Trap) -> None:
    text = spec if isinstance(spec, str) else json.dumps(spec)
    assert recorded_env_id({"env_spec": text}) == known
    assert not trap.sprung


@pytest.mark.parametrize(
    "kwargs",
    [
        {"x": [1] * 5_000},
        {"a&b=1": 1},
        {"x\x1b[2J": 1},
        {"render mode": 1},
        {"max_episode_steps": -1},
        {"x": 10**400},
    ],
    ids=lambda kwargs: next(iter(kwargs))[:10].encode("unicode_escape").decode(),
)
def test_arguments_that_cant_be_written_are_refused_where_they_are_read(
    kwargs: dict[str, Any],
) -> None:
    spec = json.dumps({"id": "Reacher-v5", "kwargs": kwargs})
    with pytest.raises(UserError) as caught:
        recorded_env_id({"env_spec": spec})
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "spec",
    [
        {"id": "trap:Cart", "kwargs": {}},
        {"id": "HalfCheetah-v5", "kwargs": {"xml_file": "evil.xml"}},
        {"id": "\x1b[2J", "kwargs": {"x": "\x1b[2J"}},
    ],
)
def test_what_a_dataset_names_isnt_used_without_the_user(spec: dict[str, Any], trap: Trap) -> None:
    found = recorded_env_id({"env_spec": json.dumps(spec)})
    with pytest.raises(UserError) as caught:
        env_id_of_file(found, "the dataset")
    assert str(caught.value).isprintable() and not trap.sprung


@given(st.text(max_size=40) | st.from_regex(r"[a-z:./?=&\[\]\"0-9-]{0,30}", fullmatch=True))
def test_any_text_is_an_environment_or_refused_in_one_line(text: str) -> None:
    for take in (env_name_of, without_source, without_folder, plain_name):
        assert isinstance(take(text), str)
    try:
        assert env_id_of_file(text, "it")
        assert same_environment(text, text)
        DatasetSpec(env_id_of_file(text, "it"))
    except UserError as error:
        assert str(error).isprintable()
