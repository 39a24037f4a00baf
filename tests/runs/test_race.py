"""The race: shares of steps, who stays, and what files may say of it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qss_offline.errors import UserError
from qss_offline.runs.portfolio_config import MEMBERS
from qss_offline.runs.race import Heat, Pace, Race, race_table

means = st.floats(-1e6, 1e6)


def run_race(draw: Any, rounds: int) -> Race:
    race = Race()
    for _ in range(rounds):
        race.add([Heat(member, 10, draw(means), 10.0) for member in race.field])
    return race


@given(st.data(), st.integers(0, 6), st.integers(5, 5_000))
def test_a_rounds_steps_are_shared_alike_and_the_better_half_stays(
    data: st.DataObject, rounds: int, steps: int
) -> None:
    race = run_race(data.draw, rounds)
    shares = race.shares(steps)
    assert sum(shares.values()) == steps
    assert max(shares.values()) - min(shares.values()) <= 1
    assert len(race.field) == max(1, math.ceil(len(MEMBERS) / 2**rounds))
    assert race.leader == race.field[0]
    for earlier, heats in zip(race.rounds, race.rounds[1:], strict=False):
        acted = {heat.member for heat in heats}
        worst_left = min(heat.mean for heat in earlier if heat.member in acted)
        out = [heat.mean for heat in earlier if heat.member not in acted]
        assert all(mean <= worst_left for mean in out)


@given(st.data(), st.integers(0, 5))
def test_a_race_comes_back_from_json_as_it_was(data: st.DataObject, rounds: int) -> None:
    race = run_race(data.draw, rounds)
    again = Race.of_file(json.loads(json.dumps(race.plain())), "it")
    assert again.rounds == race.rounds and again.standing == race.standing


@given(st.lists(st.tuples(st.floats(-9, 9), st.booleans()), min_size=1, max_size=60))
def test_whole_episodes_are_judged_by_their_mean_return(steps: list[tuple[float, bool]]) -> None:
    steps[-1] = (steps[-1][0], True)
    pace = Pace(None)
    for step in steps:
        pace(*step)
    episodes = sum(ended for _, ended in steps)
    mean = math.fsum(reward for reward, _ in steps) / episodes
    heat = pace.heat("bco")
    assert heat.steps == len(steps)
    assert heat.mean == pytest.approx(mean, abs=1e-9)


def test_who_has_not_fallen_yet_is_expected_to_last_to_the_time_limit() -> None:
    def heat(rewards: list[float], falls: set[int], limit: int | None = 1_000) -> Heat:
        pace = Pace(limit)
        for step, reward in enumerate(rewards):
            pace(reward, step in falls)
        return pace.heat("bco")

    standing, falling = heat([0.8] * 120, set()), heat([2.0] * 120, {99})
    assert standing.mean == pytest.approx(800) and falling.mean == pytest.approx(240)
    once = heat([1.0] * 120, {29})
    assert once.mean == pytest.approx(120), "one fall, and then it stood"
    assert heat([-1.0] * 120, set(), 200).mean == pytest.approx(-200), "no goal reached"
    assert heat([1.0] * 120, {50}, 100).mean == pytest.approx(100), "never beyond the limit"
    assert heat([1.0] * 120, set(), None).mean == pytest.approx(120)


def test_of_equals_the_one_that_did_better_before_wins_then_the_earlier_one() -> None:
    race = Race(("a", "b", "c"))
    race.add([Heat("a", 1, 1.0, 1.0), Heat("b", 1, 2.0, 1.0), Heat("c", 1, 0.0, 1.0)])
    assert race.field == ("b", "a")
    race.add([Heat("b", 1, 5.0, 1.0), Heat("a", 1, 5.0, 1.0)])
    assert race.leader == "b"
    equal = Race(("a", "b"))
    equal.add([Heat("b", 1, 1.0, 1.0), Heat("a", 1, 1.0, 1.0)])
    assert equal.leader == "a"


def test_too_few_steps_for_the_field_are_refused() -> None:
    with pytest.raises(UserError, match="4 online steps a round are too few to race 5 members"):
        Race().shares(4)


GOOD = {"member": "bco", "steps": 3, "reward": 1.0, "episode_steps": 3.0}


@pytest.mark.parametrize(
    "rounds",
    [
        None,
        {},
        [1],
        [[]],
        [[1]],
        [[{**GOOD, "member": "nobody"}]],
        [[{**GOOD, "member": ["bco"]}]],
        [[{**GOOD, "steps": -1}]],
        [[{**GOOD, "steps": 1.5}]],
        [[{**GOOD, "steps": 0}]],
        [[{**GOOD, "reward": "12"}]],
        [[{**GOOD, "reward": None}]],
        [[{**GOOD, "episode_steps": math.inf}]],
        [[{**GOOD, "episode_steps": [1]}]],
        [[{"member": "bco", "steps": 3}]],
        [[GOOD, GOOD]],
        [[GOOD], [{**GOOD, "member": "d3g"}]],
    ],
)
def test_what_is_no_race_is_refused(rounds: object) -> None:
    with pytest.raises(UserError, match=r"^it"):
        Race.of_file(rounds, "it")


def test_the_table_begins_with_the_winner() -> None:
    race = Race()
    race.add([Heat(member, 10, float(index), 10.0) for index, member in enumerate(MEMBERS)])
    race.add([Heat(member, 20, 7.0, 20.0) for member in race.field])
    rows = race_table([{"seed": 3, "race": race.plain()}])
    assert [row[1] for row in rows[:2]] == [race.leader, race.standing[1]]
    assert rows[0][2:] == ("4.0, 7.0", "30", "won")
    assert len(rows) == len(MEMBERS) and [row[4] for row in rows].count("won") == 1
    untouched = race_table([{"seed": 3, "race": []}])
    assert all(row[2] == "never acted" for row in untouched)
