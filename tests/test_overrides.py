"""Settings changed by name."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from qss_offline.errors import UserError
from qss_offline.online.presets import ALGORITHMS, online_preset
from qss_offline.overrides import changed, differences, settings_by_name, with_changes
from qss_offline.presets import PRESETS, preset
from qss_offline.runs.config import Method, Preset
from qss_offline.settings_json import from_plain, to_plain

DEFAULT = preset("default", "d3g")


def test_settings_are_found_by_name_wherever_they_are() -> None:
    new = changed(DEFAULT, ["gamma=0.9", "rounds=5", "proposal_average_step_size=None"])
    algorithm = replace(DEFAULT.algorithm, gamma=0.9, proposal_average_step_size=None)
    inverse = replace(DEFAULT.inverse, rounds=5)
    assert new == replace(DEFAULT, algorithm=algorithm, inverse=inverse)
    assert changed(DEFAULT, []) == DEFAULT
    online = changed(online_preset("default"), ["discrete_loss=squared_error", "cycle_coef=3"])
    assert (online.algorithm.discrete_loss, online.algorithm.cycle_coef) == ("squared_error", 3)


def test_yes_no_and_nothing_may_be_written_as_in_json() -> None:
    new = changed(DEFAULT, ["clamp_targets=false", "proposal_average_step_size=null"])
    assert new == changed(DEFAULT, ["clamp_targets=False", "proposal_average_step_size=None"])


def test_a_dot_tells_apart_what_several_parts_have() -> None:
    new = changed(DEFAULT, ["inverse.model.hidden_dims=(8,)", "algorithm.batch_size=32"])
    assert new.inverse.model.hidden_dims == (8,)
    assert new.algorithm.hidden_dims == DEFAULT.algorithm.hidden_dims
    assert new.algorithm.batch_size == 32
    # What the settings themselves have needs no dot.
    assert changed(DEFAULT, ["updates=7"]).updates == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma", "takes name=value"),
        ("gama=0.9", "no setting 'gama'.*gamma"),
        ("batch_size=32", r"algorithm.batch_size or inverse.model.batch_size"),
        ("gamma=high", "expected a number, not 'high'"),
        ("rounds=2.5", "expected a whole number, not 2.5"),
        ("rounds=True", "expected a whole number, not True"),
        ("algorithm.hidden_dims=128", "expected a list, not 128"),
        ("proposal_average_step_size=x", "expected a number, not 'x'"),
        ("clamp_targets=1", "true or false"),
        ("gamma=1e999", "expected a finite number"),
        ("gamma=" + "-" * 3000 + "1", "expected a number"),
        ("gamma=1.5", r"--set gamma=1.5: gamma must be in \[0, 1\)"),
        ("beta=1", r"no setting 'beta'; there are .*cycle_coef"),
    ],
)
def test_what_is_no_setting_or_no_value_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        changed(DEFAULT, [text])


@pytest.mark.parametrize(
    "config", [*(one for named in PRESETS.values() for one in named.values()),
               *(online_preset("paper", algorithm) for algorithm in ALGORITHMS)]
)  # fmt: skip
def test_every_setting_is_taken_as_it_is_shown(config: Any) -> None:
    for name, value in settings_by_name(config).items():
        taken = settings_by_name(changed(config, [f"{name}={value}"]))[name]
        assert (taken, type(taken)) == (value, type(value))


def test_a_word_must_be_one_of_those_there_are() -> None:
    with pytest.raises(UserError, match="squared_error or cross_entropy"):
        changed(online_preset("default"), ["discrete_loss=huber"])


def test_differences_make_one_of_two_settings_into_the_other() -> None:
    before, after = preset("default", "d3g"), preset("default", "bco")
    found = differences(before, after)
    assert found == [
        "inverse.rounds=10",
        "inverse.steps_per_round=300",
        "inverse.updates_per_round=1800",
        "inverse.model.form=network",
        "inverse.model.recorded_coef=None",
        "inverse.model.corrected_labels=True",
        "updates=15000",
        "ensemble=1",
    ]
    assert changed(before, found) == after and differences(before, before) == []
    paper = preset("paper")
    assert changed(before, differences(before, paper)) == paper
    assert changed(paper, differences(paper, before)) == before


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in PRESETS for method in PRESETS[name]]
)
def test_settings_are_read_back_from_json(name: str, method: Method) -> None:
    written = json.loads(json.dumps(asdict(preset(name, method))))
    assert from_plain(Preset, written, "run") == preset(name, method)


def test_what_was_written_before_a_setting_existed_was_run_without_it() -> None:
    written = json.loads(json.dumps(asdict(preset("default"))))
    del written["algorithm"]["learning_rate_decay"], written["ensemble"]
    read = from_plain(Preset, written, "run")
    assert (read.algorithm.learning_rate_decay, read.ensemble) == (0.0, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"of_tomorrow": 1}, "no setting .*of_tomorrow.*another version"),
        ({"inverse": None}, "inverse: expected settings"),
    ],
)
def test_settings_of_another_version_are_refused(changes: dict[str, Any], words: str) -> None:
    plain = to_plain(preset("default"))
    written = {**plain, **changes}
    with pytest.raises(UserError, match=f"^run.*{words}"):
        from_plain(Preset, written, "run")
    with pytest.raises(UserError, match=r"inverse is missing.*another version"):
        from_plain(Preset, {"algorithm": plain["algorithm"]}, "run")


def test_results_name_the_changes() -> None:
    assert with_changes("default", ["gamma=0.9", "rounds=2"]) == "default with gamma=0.9, rounds=2"
    assert with_changes("default", []) == "default"
