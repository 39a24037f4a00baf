"""One string names an environment: ids, modules, files, classes, callables, and arguments."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qss_offline.data import (
    DatasetSpec,
    build_dataset,
    collect,
    collect_with_policy,
    load_transitions,
    merge_datasets,
)
from qss_offline.data.environment_names import EnvironmentName, parse_name
from qss_offline.data.environments import (
    env_id_for,
    env_id_of,
    env_id_of_file,
    env_id_of_spec,
    env_name_of,
    env_spec,
    importable,
    make_env,
    plain_name,
    resolve_env_id,
    same_environment,
    without_folder,
    workers_for,
)
from qss_offline.data.metadata import env_id_of as recorded_env_id
from qss_offline.errors import UserError
from qss_offline.training.interaction import known_steps
from tests.own_env import loaded_by, write_own

from .conftest import same


@pytest.fixture(autouse=True)
def registry_as_before(tmp_path: Path) -> Iterator[None]:
    for own in ("Cart", "Blind", "make_cart"):
        gymnasium.registry.pop(own, None)
    before, modules, path = dict(gymnasium.registry), set(sys.modules), list(sys.path)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)
    sys.path[:] = path
    # Of the test's own files; what the library has imported meanwhile stays.
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def of(name: str) -> Any:
    env: Any = make_env(name)
    env.close()
    return env.unwrapped


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                               max_size=2),
    max_leaves=5,
)  # fmt: skip
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)


@given(st.dictionaries(NAMES.filter(lambda n: n != "max_episode_steps"), JSON, max_size=3))
def test_arguments_are_read_as_they_are_written(arguments: dict[str, Any]) -> None:
    text = str(EnvironmentName("a/b.py", "Env-v0", arguments))
    read = parse_name(text)
    assert (read.source, read.id, read.arguments) == ("a/b.py", "Env-v0", arguments)
    assert str(read) == text and text.isprintable()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1), ("-0.5", -0.5), ("1e-3", 0.001), ("true", True), ("null", None),
        ("[1,2]", [1, 2]),
        ("hopper.xml", "hopper.xml"), ("./a/b.xml", "./a/b.xml"), ('"1"', "1"), ('"True"', "True"),
        ('"a b"', "a b"), ("some words", "some words"),
    ],
)  # fmt: skip
def test_values_are_json_or_words(written: str, value: Any) -> None:
    found = parse_name(f"Hopper-v5?x={written}").arguments["x"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Hopper?x", "expected name=value, got 'x'"),
        ("Hopper?x=1&", "expected name=value"),
        ("Hopper?=1", "expected name=value"),
        ("Hopper?a b=1", "expected name=value"),
        ("Hopper?x=1&x=2", "x is there twice"),
        ("Hopper?x=True", "expected JSON"),
        ("Hopper?x=NaN", "expected JSON"),
        ("Hopper?x=1e999", "expected JSON"),
        ("Hopper?x=[1,", "expected JSON"),
        ("Hopper?x=", "expected JSON"),
        ("Hopper?x=" + "[" * 3000, "expected JSON"),
        ("Hopper?x=" + "9" * 3000, "expected JSON"),
        ("Hopper?render_mode=human", "no render_mode here"),
        ("Hopper?max_episode_steps=0", "whole number of at least 1"),
        ("Hopper?max_episode_steps=true", "whole number of at least 1"),
        ("Hopper?no_such_argument=1", "no_such_argument"),
        ("Hopper?x=" + "1" * 5000, "5,009 characters"),
        ("Hopper?x=\x1b[2J", "control characters"),
    ],
)
def test_arguments_that_cant_be_used(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_env(name)
    assert words in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_arguments_reach_the_environment_and_its_specification() -> None:
    env_id = resolve_env_id("reacher?reward_control_weight=0&frame_skip=4")
    assert env_id == "Reacher-v5?frame_skip=4&reward_control_weight=0"
    inner = of(env_id)
    assert inner.frame_skip == 4 and inner._reward_control_weight == 0
    assert env_spec(env_id).kwargs == {"frame_skip": 4, "reward_control_weight": 0}
    assert of("Reacher").frame_skip == 2, "what is registered stays as it is"
    assert env_name_of(env_id) == "Reacher"
    assert env_spec("Reacher?max_episode_steps=7").max_episode_steps == 7
    env = make_env("Reacher?max_episode_steps=1")
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[3]
    env.close()


def test_arguments_that_are_registered_so_are_left_out() -> None:
    gymnasium.register("Long-v0", "gymnasium.envs.classic_control:PendulumEnv", kwargs={"g": 5.0})
    assert resolve_env_id("Long-v0?g=5.0") == "Long-v0"
    assert resolve_env_id("Long-v0?g=6.0") == "Long-v0?g=6.0"
    assert of("Long-v0?g=6.0").g == 6.0
    assert env_id_of_spec(gymnasium.spec("Long-v0")) == "Long-v0"
    assert same_environment("Long-v0?g=5.0", "Long")
    assert not same_environment("Long-v0?g=6.0", "Long-v0")


def test_the_python_api_adds_arguments() -> None:
    assert env_id_of("Hopper?frame_skip=2", {"healthy_z_range": (0.5, 2)}) == (
        "Hopper-v5?frame_skip=2&healthy_z_range=[0.5,2]"
    )
    assert env_id_of("Hopper", {"frame_skip": 3}) == "Hopper-v5?frame_skip=3"
    with pytest.raises(UserError, match="which JSON can't hold"):
        env_id_of("Hopper", {"frame_skip": object()})
    with pytest.raises(UserError, match="no name of an argument"):
        env_id_of("Hopper", {"a&b": 1})
    with pytest.raises(UserError, match="got a"):
        env_id_of(gymnasium.make("Pendulum-v1"))  # type: ignore[arg-type]


def test_a_class_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own(tmp_path, "my_carts.py")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Cart", "make_cart"):
        env_id = resolve_env_id(f"my_carts:{name}?gain=3")
        assert env_id == f"my_carts:{name}?gain=3"
        assert of(env_id).gain == 3 and importable(env_id)
    with pytest.raises(UserError, match=r"neither registers 'Cort' .*did you mean Cart"):
        resolve_env_id("my_carts:Cort")
    import my_carts  # type: ignore[import-not-found]

    assert env_id_of(my_carts.Cart, {"gain": 2}) == "my_carts:Cart?gain=2"


def test_a_class_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_own(tmp_path)
    monkeypatch.chdir(tmp_path)
    env_id = resolve_env_id("own.py:Cart?gain=2")
    assert env_id == f"{path}:Cart?gain=2"
    assert of(env_id).gain == 2 and importable(env_id)
    assert resolve_env_id("./own.py:Cart?gain=2") == env_id
    assert len(loaded_by(path)) == 1, "a file is loaded once a process"
    assert without_folder(env_id) == "own.py:Cart?gain=2"
    assert plain_name(env_id) == "Cart-gain_2"
    assert env_id_of(type(of(env_id))) == f"{path}:Cart"
    # Another file may have a class of that name.
    other = write_own(tmp_path / "other")
    other.write_text(other.read_text().replace("gain=1, model", "gain=9, model"))
    assert of(f"{other}:Cart").gain == 9
    assert of(f"{path}:Cart").gain == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def broken(:", "can't be loaded: SyntaxError"),
        ("1 / 0", "can't be loaded: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "can't be loaded: SystemExit"),
        ("Cart = 5", "nor has a class or function of that name"),
        ("def Cart(): return 5", "must inherit from the gymnasium.Env"),
        (None, "is no file"),
    ],
)
def test_files_that_cant_be_used(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        make_env(f"{path}:Cart")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_callables_of_this_process() -> None:
    def make(g: float = 10.0) -> gymnasium.Env[Any, Any]:
        return gymnasium.make("Pendulum-v1", g=g).unwrapped

    env_id = env_id_of(make, {"g": 3.0})
    assert env_id.startswith("callable/") and env_id.endswith("?g=3.0")
    assert of(env_id).g == 3.0
    assert env_id_of(make, {"g": 3.0}) == env_id == resolve_env_id(env_id)
    assert not importable(env_id)
    other = env_id_of(lambda: gymnasium.make("Pendulum-v1", g=1.0))
    another = env_id_of(lambda: gymnasium.make("Pendulum-v1", g=2.0))
    assert other != another and (of(other).g, of(another).g) == (1.0, 2.0)
    # The same cell, run again.
    twins = [env_id_of(lambda: gymnasium.make("Pendulum-v1", g=5.0)) for _ in range(2)]
    assert twins[0] == twins[1]
    made = [env_id_of(lambda g=g: gymnasium.make("Pendulum-v1", g=g)) for g in (6.0, 7.0)]
    assert [of(one).g for one in made] == [6.0, 7.0]


def test_what_no_other_process_can_make_stays_in_this_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = env_id_of(lambda: gymnasium.make("Pendulum-v1").unwrapped)
    notices: list[str] = []
    assert workers_for(["Reacher-v5", here, here], 4, 4, notices.append) == 1
    assert len(notices) == 1 and here in notices[0]
    assert workers_for([here], 4, 1, notices.append) == 4, "one job goes nowhere"
    assert workers_for(["Reacher-v5", None], 4, 4, notices.append) == 4
    assert len(notices) == 1
    recorded = collect(DatasetSpec(here, transitions=40, shards=4), 2)
    assert same(recorded, collect(DatasetSpec("Pendulum", transitions=40, shards=4), 1))
    assert "everything runs in this process" in capsys.readouterr().err


def test_workers_load_the_file_again(tmp_path: Path) -> None:
    path = write_own(tmp_path)
    spec = DatasetSpec(f"{path}:Cart?gain=2", transitions=40, shards=2)
    recorded = collect(spec, 2)
    assert (recorded.rewards == 2).all()
    assert same(recorded, collect(spec, 1))
    assert len(set(loaded_by(path))) == 3


def test_a_dataset_keeps_its_arguments(tmp_path: Path, minari_root: Path) -> None:
    path = write_own(tmp_path)
    spec = DatasetSpec(f"{path}:Cart?gain=2", transitions=40, shards=2)
    plain = DatasetSpec(f"{path}:Cart", transitions=40, shards=2)
    assert spec.obs_id == "qss/Cart/gain_2-random-100-n40-s0-k2-obs-v0" != plain.obs_id
    assert str(tmp_path) not in json.dumps(spec.identity())
    pair = build_dataset(spec, workers=1)
    info = load_transitions(pair.obs_id).info
    assert info.env_id == "own.py:Cart?gain=2", "where it lies is nobody's business"
    assert env_id_of_file(info.env_id, "it") == f"{path}:Cart?gain=2"


def test_an_edited_environment_is_another_one(tmp_path: Path, minari_root: Path) -> None:
    path = write_own(tmp_path)
    spec = DatasetSpec(f"{path}:Cart?gain=2", transitions=40, shards=2)
    build_dataset(spec, workers=1)
    build_dataset(spec, workers=1)
    path.write_text(path.read_text() + "\n# heavier\n")
    with pytest.raises(UserError, match=r"is another one .*environment_sha256"):
        build_dataset(spec, workers=1)


def reacher(frame_skip: int, minari_id: str) -> str:
    """Record a few steps as a user of Minari would."""
    env = gymnasium.make("Reacher-v5", frame_skip=frame_skip)
    env.action_space.seed(0)
    stored = collect_with_policy(
        env, lambda obs: env.action_space.sample(), minari_id, transitions=60
    )
    env.close()
    return stored.obs_id


@pytest.mark.usefixtures("in_process")
def test_recordings_of_other_arguments_are_of_other_environments(minari_root: Path) -> None:
    slow, fast = reacher(2, "qss/a/two"), reacher(10, "qss/a/ten")
    assert load_transitions(slow).info.env_id == "Reacher-v5?frame_skip=2"
    with pytest.raises(UserError, match=r"the environments of .* differ"):
        merge_datasets([slow, fast], "qss/a/both")
    actions = fast.replace("-obs-", "-act-")
    with pytest.raises(UserError, match="is of another environment"):
        known_steps(actions, "Reacher-v5?frame_skip=2")
    with pytest.raises(UserError, match="is of another environment"):
        known_steps(actions, "Reacher-v5")
    steps = known_steps(actions, "Reacher-v5?frame_skip=10")
    assert steps is not None and len(steps) == 60


def test_what_is_drawn_is_no_part_of_an_environment() -> None:
    spec = {
        "id": "Reacher-v5",
        "kwargs": {"render_mode": "rgb_array", "width": 64, "frame_skip": 2},
    }
    found = recorded_env_id({"env_spec": json.dumps(spec)})
    assert found == "Reacher-v5?frame_skip=2"
    named = {"env_id": "my:Reacher-v5?frame_skip=4", "env_spec": json.dumps(spec)}
    assert recorded_env_id(named) == "my:Reacher-v5?frame_skip=4"
    assert recorded_env_id({}) is None


def test_a_file_has_the_arguments_that_the_user_leaves_out(tmp_path: Path) -> None:
    path = write_own(tmp_path)
    stored = "own.py:Cart?gain=2"
    with pytest.raises(UserError, match=r"--env 'own\.py:Cart"):
        env_id_for(stored, None, "policy")
    assert env_id_for(stored, f"{path}:Cart", "policy") == f"{path}:Cart?gain=2"
    assert env_id_for(stored, f"{path}:Cart?gain=3", "policy") == f"{path}:Cart?gain=3"
    assert env_id_for(stored, None, "policy") == f"{path}:Cart?gain=2", "it has been named now"
    with pytest.raises(UserError, match="acts in"):
        env_id_for(stored, "Reacher", "policy")
    # A class of a notebook that stands in a file by now.
    assert env_id_for("callable/Cart?gain=2", f"{path}:Cart", "policy") == f"{path}:Cart?gain=2"
    assert same_environment("callable/Cart?gain=2", f"{path}:Cart?gain=2")
    assert not same_environment("callable/Cart?gain=2", f"{path}:Cart?gain=3")
    with pytest.raises(UserError, match="acts in"):
        env_id_for("callable/Other", f"{path}:Cart", "policy")
    with pytest.raises(UserError, match="its environment was a callable"):
        env_id_of_file("callable/make", "config.json")


def test_the_current_folder_is_importable_after_everything_else(tmp_path: Path) -> None:
    write_own(tmp_path, "carts_here.py")
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')")
    code = (
        "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[1])]\n"
        "import typer; from qss_offline.cli.command import main\n"
        "def command() -> None:\n"
        "    import json\n"
        "    from qss_offline.data import DatasetSpec, collect\n"
        "    spec = DatasetSpec('carts_here:Cart?gain=4', transitions=20, shards=2)\n"
        "    print(collect(spec, 2).rewards.sum(), 'dumps' in vars(json))\n"
        "sys.argv[1:] = []\n"
        "main(command)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "80.0 True\n"
    assert len(set(loaded_by(tmp_path / "carts_here.py"))) == 3
