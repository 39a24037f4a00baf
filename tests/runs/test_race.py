"""The race: whose turn it is, who wins, and what files may say of it."""

import json
import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qss_offline.errors import UserError
from qss_offline.runs.portfolio_config import CLONING, D3G, LEAST_ROUNDS, MEMBERS, VALUES
from qss_offline.runs.race import Heat, Pace, Race, race_table

means = st.floats(-1e6, 1e6)


@given(st.lists(means, min_size=LEAST_ROUNDS - 2, max_size=12), st.booleans())
def test_each_member_has_its_turn_and_who_did_best_the_last(
    found: list[float], deterministic: bool
) -> None:
    race, rounds = Race(deterministic), len(found) + 2
    acted, noisy = [], []
    for mean in found:
        acted.append(race.turn(rounds))
        noisy.append(race.noisy(rounds))
        race.add(Heat(acted[-1], 10, mean, 10.0))
    # Where behaviour was deterministic BCO acts after the others, too, as far as rounds go.
    again = min(2, len(found) - 3) if deterministic else 0
    before = len(found) - 2 - again
    assert acted == [CLONING] * before + [VALUES, D3G] + [CLONING] * again
    assert race.noisy(rounds) != deterministic
    # All that are compared, and no others, go without noise.
    compared = {len(acted) - 1 - acted[::-1].index(member) for member in MEMBERS}
    compared |= set([index for index, member in enumerate(acted) if member == CLONING][-2:])
    assert noisy == [not (deterministic and index in compared) for index in range(len(acted))]
    cloning = [mean for member, mean in zip(acted, found, strict=True) if member == CLONING]
    last = {D3G: found[before + 1], VALUES: found[before], CLONING: fmean(cloning[-2:])}
    leader = max(last, key=last.__getitem__)
    assert race.turn(rounds) == race.leader == leader
    race.add(Heat(leader, 10, -1e7, 10.0))
    assert race.leader != leader, "what it came to in the last round counts, too"


def test_a_turn_that_nobody_could_take_is_kept() -> None:
    race = Race()
    assert race.turn(5) == CLONING
    race.add(Heat.diverged(CLONING))
    assert race.turn(5) == VALUES and race.leader == D3G
    race.add(Heat(VALUES, 10, -3.0, 10.0))
    race.add(Heat.diverged(D3G))
    assert race.turn(5) == VALUES, "of those that acted"
    race.add(Heat.diverged(VALUES))
    rows = race_table([{"seed": 0, "race": race.plain()}])
    assert sorted(row[2] for row in rows) == ["-3.0, diverged", "diverged", "diverged"]
    assert all(row[4] == "" for row in rows), "nobody won"


@given(st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=12), st.data())
def test_who_diverged_last_does_not_lead_while_another_can(
    acted: list[str], data: st.DataObject
) -> None:
    race = Race()
    for member in acted:
        lost = data.draw(st.booleans())
        race.add(Heat.diverged(member) if lost else Heat(member, 10, data.draw(means), 10.0))
    last = {heat.member: heat for heat in race.rounds}
    if any(heat.steps for heat in last.values()):
        assert last[race.leader].steps


@given(st.lists(st.none() | means, max_size=8))
def test_a_race_comes_back_from_json_as_it_was(found: list[float | None]) -> None:
    race = Race()
    for index, mean in enumerate(found):
        member = MEMBERS[index % 3]
        race.add(Heat.diverged(member) if mean is None else Heat(member, 10, mean, 10.0))
    again = Race.of_file(json.loads(json.dumps(race.plain())), "it")
    assert again.rounds == race.rounds and again.leader == race.leader


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


def test_an_environment_that_cuts_its_own_episodes_shows_how_long_they_are() -> None:
    pace = Pace(None)
    for step in range(120):
        pace(-2.0, False, step % 50 == 49)
    assert pace.heat("bco").mean == pytest.approx(-100)


def test_of_equals_the_first_wins() -> None:
    race = Race()
    for member in MEMBERS[::-1]:
        race.add(Heat(member, 10, 5.0, 10.0))
    assert race.leader == MEMBERS[0]


GOOD = {"member": "bco", "steps": 3, "reward": 1.0, "episode_steps": 3.0}


@pytest.mark.parametrize(
    "rounds",
    [
        None,
        {},
        [1],
        [[]],
        [[GOOD]],
        [{**GOOD, "member": "nobody"}],
        [{**GOOD, "member": ["bco"]}],
        [{**GOOD, "steps": -1}],
        [{**GOOD, "steps": 1.5}],
        [None],
        [{**GOOD, "steps": 0}],
        [{**GOOD, "reward": "12"}],
        [{**GOOD, "reward": None}],
        [{**GOOD, "episode_steps": math.inf}],
        [{**GOOD, "episode_steps": [1]}],
        [{"member": "bco", "steps": 3}],
    ],
)
def test_what_is_no_race_is_refused(rounds: object) -> None:
    with pytest.raises(UserError, match=r"^it"):
        Race.of_file(rounds, "it")


@given(st.lists(means, min_size=LEAST_ROUNDS - 2, max_size=12), means, st.booleans())
def test_a_race_is_narrow_where_the_rounds_of_two_overlap(
    found: list[float], last: float, deterministic: bool
) -> None:
    race, rounds = Race(deterministic), len(found) + 2
    for mean in (*found, last):
        race.add(Heat(race.turn(rounds), 10, mean, 10.0))
    rows = {row[1]: row for row in race_table([{"seed": 0, "race": race.plain()}])}
    of = {name: [h.mean for h in race.rounds if h.member == name][-2:] for name in MEMBERS}
    won = rows[race.leader][4]
    above = min(of[race.leader]) > max(max(of[name]) for name in MEMBERS if name != race.leader)
    assert won == ("won" if above else "won narrowly")
    assert {row[4] for row in rows.values()} == {won, ""}


def test_the_table_begins_with_the_winner() -> None:
    race = Race()
    for index, member in enumerate((CLONING, CLONING, VALUES, D3G)):
        race.add(Heat(member, 10, float(index), 10.0))
    race.add(Heat(race.turn(6), 20, 7.0, 20.0))
    rows = race_table([{"seed": 3, "race": race.plain()}])
    assert [row[1] for row in rows] == list(MEMBERS)
    assert rows[0][2:] == ("3.0, 7.0", "30", "won")
    assert [row[4] for row in rows].count("won") == 1
    untouched = race_table([{"seed": 3, "race": []}])
    assert all(row[2:] == ("never acted", "0", "") for row in untouched)
