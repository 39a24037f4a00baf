"""Which column of a recording serves which role: names that were given, or well-known ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from qss_offline.errors import UserError, nearest, shown

Kind: TypeAlias = Literal["numbers", "text", "other"]
"""What a column holds: numbers (or true and false), text, or what no role can take."""

MATRICES = ("observations", "next_observations", "actions")
_FLAGS = ("terminations", "truncations", "ends", "starts")
_SINGLE = ("rewards", *_FLAGS)
_LISTED = 12

_OBSERVATIONS = ("observations", "observation", "obs", "observation_state", "states", "state")
_ACTIONS = ("actions", "action", "acts", "act")
# Of these the first group that a recording has serves; a group is one name, or numbered ones.
_EXACT: dict[str, tuple[str, ...]] = {
    "observations": _OBSERVATIONS,
    "next_observations": (
        *(f"next_{name}" for name in _OBSERVATIONS),
        *(f"{name}_next" for name in _OBSERVATIONS),
        *(f"new_{name}" for name in _OBSERVATIONS),
        "obs2",
    ),
    "actions": _ACTIONS,
    "rewards": ("rewards", "reward", "rews", "rew", "next_reward", "next_rewards"),
    "terminations": (
        *("terminations", "termination", "terminated", "terminateds", "terminals", "terminal"),
        *("is_terminal", "is_terminated", "next_terminated", "next_terminal", "next_termination"),
    ),
    "truncations": (
        *("truncations", "truncation", "truncated", "truncateds", "timeouts", "timeout"),
        *("time_outs", "time_out", "is_truncated", "next_truncated", "time_limit_truncated"),
        *("next_truncation", "next_timeout"),
    ),
    "ends": ("dones", "done", "next_done", "next_dones", "is_done", "is_last", "episode_ends"),
    "starts": ("is_first", "episode_starts", "episode_start", "is_start"),
    "order": (
        *("frame_index", "frame", "frames", "frame_id", "frame_number", "step", "steps"),
        *("step_index", "step_id", "step_number", "timestep", "timesteps", "time_step"),
        *("time_index", "t", "time", "times", "timestamp", "timestamps", "time_stamp"),
        *("time_s", "time_ms", "time_us", "time_ns", "time_sec", "elapsed_steps", "stamp"),
    ),
}
_TIMES = {"t", "time", "times", "timestamp", "timestamps", "time_stamp", "stamp"} | {
    f"time_{unit}" for unit in ("s", "ms", "us", "ns", "sec")
}
_LABELS = ("episodes", "episode", "eps", "ep", "trajectories", "trajectory", "traj", "trial",
           "rollout", "demo", "demonstration", "run")  # fmt: skip
_COUNTERS = {"id", "ids", "idx", "index", "indices", "no", "num", "number", "nr", "name", "key"}
_END_WORDS = {"done", "dones", "terminal", "terminals", "terminated", "termination", "terminations",
              "truncated", "truncation", "truncations", "timeout", "timeouts"}  # fmt: skip
# These say it of an episode only: of `end_effector` they don't.
_WEAK_END_WORDS = {"reset", "resets", "end", "ends", "ended", "last", "first", "start"}
_BESIDE_THEM = {*_LABELS, "is", "env", "next", "auto", "needs", "flag", "of"}


@dataclass(frozen=True)
class ColumnNames:
    """Which columns of a recording hold what; None looks for well-known names.

    Each is a comma-separated list of names, in the order in which the numbers are to stand. A name
    is taken literally where a column has it; elsewhere `*` stands for any characters, and what it
    matches comes in the recording's order, numbered columns by their numbers. A column may hold a
    list of numbers in each row.

    Attributes:
        observations: before each step.
        rewards: one column.
        terminations: one column.
        truncations: one column.
        next_observations: after each step.
        actions: at each step.
        episodes: columns that change from episode to episode.

    Raises:
        UserError: one isn't text.
    """

    observations: str | None = None
    rewards: str | None = None
    terminations: str | None = None
    truncations: str | None = None
    next_observations: str | None = None
    actions: str | None = None
    episodes: str | None = None

    def __post_init__(self) -> None:
        for role, names in vars(self).items():
            if not isinstance(names, str | None):
                raise UserError(f'{role}: expected names in one text, "x,y", got {names!r}')


@dataclass(frozen=True)
class Roles:
    """Columns by the role that they serve.

    Attributes:
        columns: from a role (a field of `ColumnNames`, `ends`: either end of an episode, `starts`:
            its first row, `order`: what only grows within it) to names of columns.
        spare: columns that look like ends of episodes and serve no role: they may not contradict.
        unused: all other columns.
        ignored: what was to be left out.
    """

    columns: dict[str, tuple[str, ...]]
    spare: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that have to be read, each once."""
        used = [name for names in self.columns.values() for name in names]
        return tuple(dict.fromkeys((*used, *self.spare)))


def resolve(
    present: Mapping[str, Kind],
    names: ColumnNames,
    ignore: Sequence[str] = (),
    order: str | None = None,
) -> Roles:
    """Find the columns of each role.

    Args:
        present: the recording's columns, in their order.
        names: what was asked for.
        ignore: names or patterns of columns that are taken as if they weren't there.
        order: a column that sorts rows, whatever else it serves as.

    Raises:
        UserError: a name that was given is missing, observations can't be found, or a column would
            serve two roles that nobody asked it to.
    """
    all_names = list(present)
    ignored = [
        name for pattern in ignore for name in matching(pattern, all_names, "ignore", strict=False)
    ]
    left = {name: kind for name, kind in present.items() if name not in ignored}
    found: dict[str, tuple[str, ...]] = {}
    literal: dict[str, set[str]] = {}
    for one in fields(names):
        given = getattr(names, one.name)
        if given is None:
            continue
        taken = matching(given, list(left), one.name)
        literal[one.name] = {
            name
            for asked in split_names(given, list(left))
            if "*" not in asked or asked in left
            for name in matching(asked, list(left), one.name)
        }
        if one.name in _SINGLE and len(taken) > 1:
            raise UserError(f"{one.name}: expected one column, got {', '.join(taken)}")
        found[one.name] = tuple(taken)
    _refuse_two_roles(found, literal)
    free = {n: k for n, k in left.items() if not any(n in taken for taken in found.values())}
    usable = [name for name, kind in free.items() if kind == "numbers"]
    simple = {name: simplified(name) for name in free}
    for role in ("next_observations", "observations", "actions"):
        if role not in found:
            matrix = _matrix(role, usable, simple)
            if matrix:
                found[role] = tuple(matrix)
                usable = [name for name in usable if name not in matrix]
    for role in _SINGLE:
        if role not in found:
            for known in _EXACT[role]:
                match = [name for name in usable if simple[name] == known]
                if match:
                    found[role] = (match[0],)
                    usable.remove(match[0])
                    break
    if "episodes" not in found:
        labels = [n for n in free if free[n] != "other" and _is_label(simple[n])]
        if labels:
            found["episodes"] = tuple(labels)
            usable = [name for name in usable if name not in labels]
    for name in free:
        if free[name] == "text" and any(simple[name] in _EXACT[role] for role in _FLAGS):
            raise UserError(
                f"{shown(name)} holds text, and is called like an end of episodes: expected true "
                f"and false, or 1 and 0 (--ignore {name} leaves it out)"
            )
    ordering = [name for name in usable if simple[name] in _EXACT["order"]]
    if order is not None:
        ordering += [name for name in matching(order, list(left), "order") if name not in ordering]
    if ordering:
        found["order"] = tuple(ordering)
    used = {name for taken in found.values() for name in taken}
    spare = [n for n in usable if n not in used and _says_an_end(simple[n])]
    if "observations" not in found:
        raise UserError(
            f"observations: no column has a well-known name; name it with --observations; there "
            f"are {_some(all_names)}"
        )
    ordered = {role: found[role] for role in ROLES if role in found}
    unused = tuple(n for n in left if n not in used and n not in spare)
    return Roles(ordered, tuple(spare), unused, tuple(ignored))


ROLES = (
    *("observations", "next_observations", "actions", "rewards", "terminations", "truncations"),
    *("ends", "starts", "episodes", "order"),
)


def is_time(name: str) -> bool:
    """Return whether a column of order holds times: they may repeat, and need not be regular."""
    return simplified(name) in _TIMES


def simplified(name: str) -> str:
    """Return a name in lower case, its words joined by underscores: `next.done`, `nextDone`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def matching(asked: str, present: Sequence[str], role: str, strict: bool = True) -> list[str]:
    """Return the columns of names or patterns, each once.

    Args:
        asked: separated by commas.
        present: the columns there are.
        role: for messages.
        strict: refuse a name that no column has.

    Raises:
        UserError: there is no such column.
    """
    found = [
        name
        for one in split_names(asked, present)
        for name in _matching(one, present, role, strict)
    ]
    return list(dict.fromkeys(found))


def split_names(asked: str, present: Sequence[str]) -> list[str]:
    """Return the names in a list; one may hold commas: the longest that a column has is meant."""
    parts = asked.split(",")
    names: list[str] = []
    begin = 0
    while begin < len(parts):
        for end in range(len(parts), begin, -1):
            name = ",".join(parts[begin:end])
            if name in present or name.strip() in present:
                names.append(name if name in present else name.strip())
                break
        else:
            end = begin + 1
            names.append(parts[begin].strip())
        begin = end
    return names


def _matching(name: str, present: Sequence[str], role: str, strict: bool) -> list[str]:
    if name in present:
        return [name]
    near = [one for one in present if one.strip() == name.strip()]
    if len(near) == 1:
        return near
    if "*" in name:
        expression = re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
        matches = [one for one in present if expression.fullmatch(one)]
        if matches:
            return by_number(matches)
    if strict:
        raise UserError(
            f"{role}: no column {shown(name)}{nearest(name, present)}; there are {_some(present)}"
        )
    return []


def by_number(names: Sequence[str]) -> list[str]:
    """Return names in their order, but numbered ones by their numbers: `x2` before `x10`.

    Names that stand in the order of their numbers already are left as they are.
    """
    split = [re.split(r"(\d+)", name) for name in names]
    numbers: dict[str, list[tuple[int, ...]]] = {}
    for parts in split:
        numbers.setdefault("#".join(parts[::2]), []).append(tuple(map(int, parts[1::2])))
    if all(series == sorted(series) for series in numbers.values()):
        return list(names)
    texts = list(dict.fromkeys(part for parts in split for part in parts[::2]))
    rank = {text: place for place, text in enumerate(texts)}

    def key(place: int) -> list[int]:
        return [int(x) if i % 2 else rank[x] for i, x in enumerate(split[place])]

    return [names[place] for place in sorted(range(len(names)), key=key)]


def _refuse_two_roles(found: dict[str, tuple[str, ...]], literal: dict[str, set[str]]) -> None:
    """Let a column serve two roles only where both name it literally."""
    for first, columns in found.items():
        for second, others in found.items():
            if first == second:
                continue
            for name in columns:
                if name in others and name not in literal[first]:
                    raise UserError(
                        f"{first}: {shown(name)} matches, but serves as {second}; name the columns "
                        f"of {first} without patterns, with {shown(name)} if it is meant"
                    )


def _matrix(role: str, usable: Sequence[str], simple: Mapping[str, str]) -> list[str]:
    """Return the columns of the first well-known spelling, or those that begin with it."""
    for known in _EXACT[role]:
        exact = [name for name in usable if simple[name] == known]
        if exact:
            # `obs2` is the next observation beside `obs`, and one of many beside `obs1`.
            if known == "obs2" and not any(simple[n] == "obs" for n in usable):
                continue
            return exact[:1]
    for known in _EXACT[role]:
        if known == "obs2":
            continue
        head = re.compile(rf"{known}(_.+|\d+)")
        others = [
            other
            for kind in MATRICES
            for other in _EXACT[kind]
            if kind != role and other.startswith(f"{known}_")
        ]
        matches = [
            name
            for name in usable
            if head.fullmatch(simple[name])
            and not any(re.fullmatch(rf"{other}(_.+)?", simple[name]) for other in others)
        ]
        if matches:
            return by_number(matches)
    return []


def _says_an_end(name: str) -> bool:
    words = set(name.split("_"))
    return bool(words & _END_WORDS) or (
        bool(words & _WEAK_END_WORDS) and words <= _WEAK_END_WORDS | _BESIDE_THEM
    )


def _is_label(name: str) -> bool:
    words = name.split("_")
    return words[0] in _LABELS and set(words[1:]) <= _COUNTERS


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_LISTED])
    return listed if len(names) <= _LISTED else f"{listed} and {len(names) - _LISTED} more"
