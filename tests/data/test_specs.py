from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from minari.dataset.minari_dataset import parse_dataset_id

from qss_offline.data import (
    DatasetSpec,
    make_env,
    read_family,
    resolve_env_id,
)
from qss_offline.data.environments import env_spec
from qss_offline.data.families import expert_path
from qss_offline.errors import UserError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "env_id"),
    [
        ("InvertedPendulum", "InvertedPendulum-v5"),
        ("invertedpendulum", "InvertedPendulum-v5"),
        ("Reacher", "Reacher-v5"),
        ("reacher-v4", "Reacher-v4"),
        ("Hopper", "Hopper-v5"),
        ("HALFCHEETAH", "HalfCheetah-v5"),
    ],
)
def test_short_names(name: str, env_id: str) -> None:
    assert resolve_env_id(name) == env_id


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("InvertedPendulm", "did you mean InvertedPendulum"),
        ("Reacher-v99", "there are Reacher-v2, Reacher-v4, Reacher-v5"),
        ("", "expected a Gymnasium id"),
        ("no_such_module_here:Env-v0", "no_such_module_here"),
        ("test/Switches-v0", "its actions are a MultiBinary space"),
        ("test/Images-v0", "its observations are images of shape (8, 8, 3)"),
        ("test/Text-v0", "its observations are a Text space"),
        ("test/Films-v0", "its observations are a Dict space: images are no vectors"),
        ("test/Broken-v0", "can't be made: the robot is on fire"),
    ],
)
def test_unusable_environments(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_env(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class _Env(gymnasium.Env[Any, Any]):
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, observation_space: gymnasium.Space[Any], render_mode: None = None) -> None:
        self.observation_space = observation_space


class _Switches(_Env):
    action_space = gymnasium.spaces.MultiBinary(2)


def _broken(render_mode: None = None) -> Any:
    raise RuntimeError("the robot\nis on fire")


@pytest.fixture(autouse=True, scope="module")
def _test_environments() -> Any:
    box = gymnasium.spaces.Box
    vector = box(-1, 1, (3,))
    added = {
        "test/Images-v0": lambda **_: _Env(box(0, 255, (8, 8, 3), "uint8")),
        "test/Text-v0": lambda **_: _Env(gymnasium.spaces.Text(5)),
        "test/Films-v0": lambda **_: _Env(
            gymnasium.spaces.Dict({"a": vector, "b": box(0, 255, (8, 8, 3), "uint8")})
        ),
        "test/Unbounded.Actions-v2": lambda **_: _Env(vector),
        "test/Switches-v0": lambda **_: _Switches(vector),
        "test/Broken-v0": _broken,
    }
    for env_id, entry_point in added.items():
        gymnasium.register(env_id, entry_point=entry_point)
    yield
    for env_id in added:
        del gymnasium.registry[env_id]


def test_an_environment_of_ones_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:PendulumEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert resolve_env_id("my_envs:Mine-v0") == "my_envs:Mine-v0"
        env = make_env("my_envs:Mine-v0")
        assert env.observation_space.shape == (3,)
        env.close()
        assert env_spec("my_envs:Mine-v0").id == "Mine-v0"
    finally:
        gymnasium.registry.pop("Mine-v0", None)
        sys.modules.pop("my_envs", None)


def test_old_versions_are_made_without_chatter(recwarn: pytest.WarningsRecorder) -> None:
    make_env("InvertedPendulum-v4").close()
    assert not [str(warning.message) for warning in recwarn if "out of date" in str(warning)]


def test_mujoco_is_quiet_while_it_reads_a_model_and_no_longer(tmp_path: Path) -> None:
    """It speaks to the process's own output, and writes a file where the process stands."""

    def said(made: str) -> str:
        code = f"{made}; import mujoco; print('afterwards', mujoco.get_mju_user_warning())"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "afterwards None" in done.stdout
        return done.stdout + done.stderr

    ours = said("from qss_offline.data.environments import make_env; make_env('HalfCheetah')")
    assert "WARNING" not in ours
    assert not list(tmp_path.iterdir())
    if "WARNING" not in said("import gymnasium; gymnasium.make('HalfCheetah-v5')"):
        pytest.skip("this MuJoCo has nothing to say of the model")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"transitions": 0}, "transitions: 0 is not between 1"),
        ({"transitions": -5}, "transitions: -5"),
        ({"transitions": 1.5}, "transitions: expected a whole number"),
        ({"transitions": True}, "transitions: expected a whole number"),
        ({"seed": -1}, "seed: -1"),
        ({"shards": 0}, "shards: 0"),
        ({"random_action_prob": 1.01}, "random_action_prob: 1.01 is not between 0 and 1"),
        ({"random_action_prob": -0.1}, "random_action_prob: -0.1"),
        ({"random_action_prob": float("nan")}, "random_action_prob: nan"),
        ({"random_action_prob": "half"}, "random_action_prob: expected a number"),
        ({"random_action_prob": 0.5}, "needs an expert"),
        ({"name": "a.b"}, "name: 'a.b'"),
        ({"name": "../up"}, "name: '../up'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        DatasetSpec("Reacher", **settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_tell_specs_apart_and_are_minaris() -> None:
    expert = Path("experts/some.policy.safetensors")
    specs = [
        DatasetSpec("InvertedPendulum"),
        DatasetSpec("InvertedPendulum-v4"),
        DatasetSpec("InvertedPendulum", seed=1),
        DatasetSpec("InvertedPendulum", transitions=1000),
        DatasetSpec("InvertedPendulum", shards=2),
        DatasetSpec("InvertedPendulum", random_action_prob=0.25, expert=expert),
        DatasetSpec("InvertedPendulum", random_action_prob=0.025, expert=expert),
        DatasetSpec("InvertedPendulum", random_action_prob=0.025, expert=Path("b.safetensors")),
        DatasetSpec("InvertedPendulum", name="mine"),
        DatasetSpec("test/Unbounded.Actions"),
    ]
    ids = [dataset_id for spec in specs for dataset_id in (spec.obs_id, spec.act_id)]
    assert len(set(ids)) == len(ids)
    for dataset_id in ids:
        assert parse_dataset_id(dataset_id)[0].startswith("qss/")
    assert specs[0].obs_id == "qss/InvertedPendulum/v5-random-100-n100000-s0-obs-v0"
    assert specs[6].base_id == "qss/InvertedPendulum/v5-random-2_5-some_policy-n100000-s0"
    assert specs[8].act_id == "qss/InvertedPendulum/mine-act-v0"
    assert specs[9].base_id == "qss/test/Unbounded_Actions/v2-random-100-n100000-s0"


def test_shard_sizes_add_up() -> None:
    assert DatasetSpec("Reacher", transitions=10, shards=4).shard_sizes == (3, 3, 2, 2)
    assert DatasetSpec("Reacher", transitions=2, shards=4).shard_sizes == (1, 1)


def test_an_unused_expert_is_no_part_of_the_identity() -> None:
    plain = DatasetSpec("Reacher")
    unused = DatasetSpec("Reacher", expert=Path("nowhere.safetensors"))
    assert unused.identity() == plain.identity()
    assert unused.obs_id == plain.obs_id


def test_shipped_families() -> None:
    for path in sorted((REPOSITORY / "datasets").glob("*.toml")):
        assert all(spec.transitions == 100_000 for spec in read_family(path).specs)
    assert not list((REPOSITORY / "datasets").rglob("*.py"))


def test_family(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_text(
        'env_id = "Reacher"\ntransitions = 50\nexpert = "e/x.safetensors"\n'
        "random_action_probs = [1.0, 0.5, 0]\n"
    )
    family = read_family(path).specs
    assert [spec.random_action_prob for spec in family] == [1.0, 0.5, 0.0]
    assert family[1].expert == tmp_path / "e/x.safetensors"
    path.write_text('env_id = "Reacher"\nseed = 4\n')
    assert read_family(path).specs == (DatasetSpec("Reacher", seed=4),)


def test_paper_returns(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_text(
        'env_id = "Reacher"\npaper_returns = { "0" = -4.1, "0.25" = -12.5, "1.0" = -40 }\n'
    )
    family = read_family(path)
    assert family.specs == read_family(path).specs == (DatasetSpec("Reacher"),)
    assert family.paper_returns == {0.0: -4.1, 0.25: -12.5, 1.0: -40.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("env_id = ", "not valid TOML"),
        ('env_id = "Reacher"\npaper_returns = [1]', "expected a table of numbers"),
        ('env_id = "Reacher"\npaper_returns = {"half" = 1}', "'half' is no random_action_prob"),
        ('env_id = "Reacher"\npaper_returns = {"25" = 1}', "'25' is no random_action_prob"),
        ('env_id = "Reacher"\npaper_returns = {"0.5" = "x"}', "expected a number for '0.5'"),
        ('env_id = "Reacher"\npaper_returns = {"0.5" = nan}', "expected a number for '0.5'"),
        ('env_id = "Reacher"\npaper_returns = {"0.5" = 1, "0.50" = 2}', "0.5 is there twice"),
        ("transitions = 5", "env_id is missing"),
        (
            'env_id = "Reacher"\ntransition = 5',
            "unknown key 'transition'; did you mean transitions",
        ),
        ('env_id = "Reacher"\nrandom_action_probs = []', "expected a list of numbers"),
        ('env_id = "Reacher"\nrandom_action_probs = [1.0, 1]', "expected different numbers"),
        ('env_id = "Reacher"\nrandom_action_probs = ["a"]', "expected different numbers"),
        ('env_id = "Reacher"\nrandom_action_prob = 1', "did you mean random_action_probs"),
        ('env_id = "Reacher"\nexpert = 5', "expert: expected a path"),
        ('env_id = "Reacher"\nname = "x"\nrandom_action_probs = [1, 0.5]', "can't share one"),
        ("env_id = 5", "expected a Gymnasium id"),
        ('env_id = "Reacher"\ntransitions = "many"', "transitions: expected a whole number"),
    ],
)
def test_bad_toml(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_family(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_toml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_family(tmp_path / "none.toml")


def test_every_family_without_a_suffix_has_its_expert_where_it_is_looked_for() -> None:
    families = [read_family(path) for path in (REPOSITORY / "datasets").glob("*.toml")]
    specs = [
        family.specs[0] for family in families if not family.specs[0].expert.stem.endswith("medium")
    ]
    assert len(specs) >= 5
    for spec in specs:
        assert spec.expert == expert_path(spec.env_id)
        assert spec.expert.exists()
    assert expert_path("house/BigAnt-v0").name == "house_big_ant.safetensors"
    assert expert_path("Odd") == REPOSITORY / "datasets/experts/odd.safetensors"


def test_an_expert_is_the_environments_in_any_version() -> None:
    for env_id in ("HalfCheetah-v4", "my_envs:HalfCheetah-v0"):
        assert expert_path(env_id).name == "half_cheetah.safetensors"
