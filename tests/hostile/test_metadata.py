"""Metadata of any value, and text that a terminal would obey."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qss_offline.data import (
    list_datasets,
    load_transitions,
    verify_dataset,
)
from tests.data.conftest import same
from tests.data.test_load import quiet
from tests.hostile.conftest import OURS, TRUTH
from tests.hostile.test_datasets import loaded, refusal
from tests.hostile.test_text import ESCAPES
from tests.program import Qss

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# As text: Python's own writer doesn't write all of it.
VALUES = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "1", "0.5", "1e300", "true", "null"),
    *(
        '"x"',
        '""',
        "[]",
        "{}",
        json.dumps("\ud800"),
        json.dumps(ESCAPES),
        json.dumps("x" * 100_000),
    ),
    *("1" + "0" * 400, "9" * 4_000, "9" * 5_000, str(2**63), "1" + "0" * 12),
    *("[" * depth + "]" * depth for depth in (50, 900, 100_000)),
    '{"a":' * 100_000 + "1" + "}" * 100_000,
)
NUMBERS = [
    *((name,) for name in ("total_steps", "total_episodes", "transitions", "dataset_size")),
    *((name,) for name in ("random_action_prob", "seed", "behaviour_return", "digest", "twin")),
    *(("behaviour_return", name) for name in ("mean", "std", "min", "max", "n")),
    *((name,) for name in ("env_id", "env_spec", "author", "license", "spec", "versions", "new")),
]
PLACE = "@@@"


def put(metadata: dict[str, Any], path: tuple[str, ...], value: str) -> str:
    """Return metadata as text with a value, given as text, in the place of another."""
    changed: dict[str, Any] = json.loads(json.dumps(metadata))
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = PLACE
    return json.dumps(changed).replace(f'"{PLACE}"', value)


def parts_of(space: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(space, dict):
        return [one for key, part in space.items() for one in parts_of(part, (*path, key))]
    if isinstance(space, list) and space:
        return [path, *parts_of(space[0], (*path, 0))]
    return [path]


def use_all(name: str, qss: Qss) -> str:
    """Do with a dataset whatever one does with it; return what was printed of it."""
    printed = qss("data list").out
    for command in (
        *("show", "verify", "stats", "card"),
        "sample --into new/sample --episodes 2 --overwrite",
        "import --into new/import --overwrite",
    ):
        said = qss(f"data {command}", name, code=None)
        printed += said.out + said.err
        if command in ("show", "stats") and not said.error:
            json.loads(said.out, parse_constant=pytest.fail)
    return printed


@pytest.mark.usefixtures("in_process")
def test_metadata_of_any_value(ours: Path, cases: int, rng: random.Random, qss: Qss) -> None:
    """Each number of the metadata is right or refused; nothing of a file reaches the terminal."""
    good = (ours / "metadata.json").read_text()
    metadata = json.loads(good)
    for case in range(cases):
        if case % 4 == 3:
            key = rng.choice(("observation_space", "action_space"))
            space = json.loads(metadata[key])
            path = rng.choice(parts_of(space))
            if len(path) == 1:
                described = put(space, path, rng.choice(VALUES))
            else:
                space[path[0]][path[1]] = PLACE
                described = json.dumps(space).replace(f'"{PLACE}"', rng.choice(VALUES))
            text = json.dumps(metadata | {key: described})
        else:
            text = put(metadata, rng.choice(NUMBERS), rng.choice(VALUES))
        (ours / "metadata.json").write_text(text)
        found = loaded(OURS)
        if found is not None:
            info = found.info
            assert same(found.transitions, TRUTH)
            said = json.loads(text)
            assert info.random_action_prob == said.get("random_action_prob")
            assert info.random_action_prob is None or 0 <= info.random_action_prob <= 1
            assert info.behaviour_return is None or all(
                math.isfinite(value) for value in vars(info.behaviour_return).values()
            )
            assert info.action_low is not None and not np.isnan(info.action_low).any()
        printed = use_all(OURS, qss)
        assert all(one.isprintable() or one in "\n\t" for one in printed)
        card = ours.parent / "README.md"
        if card.exists():
            assert all(one.isprintable() or one in "\n\t" for one in card.read_text())
    (ours / "metadata.json").write_text(good)
    assert same(load_transitions(OURS, notice=quiet).transitions, TRUTH)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("random_action_prob",), value)
        for value in ("NaN", "1" + "0" * 400, "-0.1", "2", '"1"', "true", "9" * 5_000)
    ]
    + [(("total_steps",), value) for value in ("1.5", "-1", "1e999", "true", str(10**13))]
    + [(("behaviour_return", "mean"), value) for value in ("NaN", "null", "1e999")]
    + [(("behaviour_return", "n"), "1.5"), (("dataset_size",), "-1")]
    + [(("anything",), value) for value in ("NaN", "[" * 900 + "]" * 900)],
)
def test_a_number_out_of_place(
    ours: Path, path: tuple[str, ...], value: str, in_process: None
) -> None:
    file = ours / "metadata.json"
    file.write_text(put(json.loads(file.read_text()), path, value))
    assert "is damaged" in refusal(OURS)
    assert not verify_dataset(OURS).ok
    assert next(one for one in list_datasets() if one.dataset_id == OURS).problem


def test_control_characters_stay_in_the_file(ours: Path, qss: Qss, in_process: None) -> None:
    file = ours / "metadata.json"
    metadata = json.loads(file.read_text())
    kept = {"dataset_id", "data_format", "observation_space", "action_space", "digest"}
    for name, value in metadata.items():
        if isinstance(value, str) and name not in kept:
            metadata[name] = ESCAPES
    metadata |= {"env_id": ESCAPES, "env_spec": ESCAPES, "author": [ESCAPES], ESCAPES: ESCAPES}
    metadata["versions"] = {ESCAPES: ESCAPES}
    file.write_text(json.dumps(metadata))
    printed = use_all(OURS, qss) + (file.parent.parent / "README.md").read_text()
    assert "\\x1b[31mred" in printed
    assert all(one.isprintable() or one in "\n\t" for one in printed)
    file.write_text(json.dumps(metadata | {"data_format": ESCAPES, "digest": ESCAPES}))
    printed = use_all(OURS, qss)
    assert all(one.isprintable() or one in "\n\t" for one in printed)
