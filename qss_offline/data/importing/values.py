"""Values of any kind as columns of numbers: lists, tensors, masked arrays, dicts of observations.

A value that is missing (under a mask, None, a null of Arrow or pandas) is NaN here, in a column of
float64. Nothing is rounded before `numbers` has looked at it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qss_offline.data.importing.names import Roles
from qss_offline.errors import UserError, shown

Array: TypeAlias = npt.NDArray[Any]

_WHOLE_IN_FLOAT64 = 1 << 53
_SEVERAL = 2
_SAMPLE = 32
# Where rows are episodes, observations differ so many times less from the next ones of their row
# than from those below, and than from those half a row away.
_LESS_THAN_BELOW, _LESS_THAN_AFAR = 3, 2
_SWAPPED = (
    "these look like arrays of (episodes, steps, numbers), and (steps, environments, numbers) are "
    "needed; swap their first two axes"
)


def as_column(name: str, value: Any, text: bool = False) -> Array:
    """Return a value as an array of numbers, one row for each step.

    Args:
        name: of the column, for messages.
        value: an array, list, tensor, series, masked array, ….
        text: whether text may stand for a label; it becomes a whole number each.

    Raises:
        UserError: it holds no numbers.
    """
    if hasattr(value, "detach"):  # a tensor of PyTorch, perhaps one that NumPy has no type for
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            value = value.float()
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(np.float64), np.nan) if value.mask.any() else value.data
    elif isinstance(value, list | tuple) and any(np.ma.isMaskedArray(one) for one in value):
        value = np.ma.filled(np.ma.stack(value).astype(np.float64), np.nan)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{name}: expected an array of numbers ({error})") from error
    if array.dtype.kind in "mM":
        missing = np.isnat(array)
        array = array.astype(f"{array.dtype.kind}8[ns]").astype(np.int64)
        if missing.any():
            array = np.where(missing, np.nan, array.astype(np.float64))
    if array.dtype.kind == "O":
        array = _of_objects(value, array, text)
    if text and array.dtype.kind in "US" and array.ndim == 1:
        array = np.unique(array, return_inverse=True)[1].astype(np.int64)
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name}: expected numbers, got dtype {array.dtype}")
    if array.ndim == 0:
        raise UserError(f"{name}: expected one row for each step, got one number")
    return array


def _of_objects(value: Any, array: Array, text: bool) -> Array:
    """Return Python objects as numbers where they are numbers, or None for a missing one."""
    if text and array.ndim == 1 and all(isinstance(one, str) for one in array):
        return array.astype(str)
    if any(isinstance(one, str) for one in array.flat):
        return array
    if hasattr(value, "to_numpy"):  # a nullable column of pandas
        try:
            return np.asarray(value.to_numpy(dtype="float64", na_value=np.nan))
        except (TypeError, ValueError):
            return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return array


def flattened(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of nested observations in the order of `gymnasium.spaces.flatten`.

    A dict's parts come in the order of their names, as a Dict space sorts them. Whatever isn't
    nested is yielded as it is.
    """
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from flattened(f"{name}.{key}", value[key])
    elif isinstance(value, tuple) and value and all(np.ndim(part) >= 1 for part in value):
        for index, part in enumerate(value):
            yield from flattened(f"{name}[{index}]", part)
    else:
        yield name, value


def columns_of(
    given: Mapping[str, Any],
) -> tuple[dict[str, Array], dict[str, tuple[str, ...]]]:
    """Return the values of roles as columns, and the names of each role's columns."""
    columns: dict[str, Array] = {}
    names: dict[str, tuple[str, ...]] = {}
    for role, value in given.items():
        found = {
            name: as_column(name, part, text=role == "episodes")
            for name, part in flattened(role, value)
        }
        columns |= found
        names[role] = tuple(found)
    return columns, names


@dataclass(frozen=True, eq=False)
class Matrix:
    """Columns of one role side by side.

    Attributes:
        names: of each number.
        values: (rows, numbers), float32 where the columns were, else float64; NaN is missing.
        offsets: what was subtracted, by name.
    """

    names: tuple[str, ...]
    values: Array
    offsets: dict[str, float | int]


def side_by_side(
    role: str,
    columns: Sequence[tuple[str, Array]],
    labels: Mapping[str, Sequence[str]],
    *,
    left_out: Collection[int] = (),
    offset: Mapping[int, float | int | None],
) -> Matrix:
    """Put the columns of a role side by side.

    Args:
        role: for messages.
        columns: arrays of one or two dimensions, with their names.
        labels: names of the numbers of a column.
        left_out: places of numbers that are left out.
        offset: what to subtract from the number at a place; None its first value.

    Raises:
        UserError: the columns are of different lengths, or hold whole numbers that no float holds.
    """
    pieces: list[tuple[str, Array]] = []
    rows = len(columns[0][1])
    for name, column in columns:
        if len(column) != rows:
            raise UserError(
                f"{role}: {shown(name)} has {len(column)} rows, but {shown(columns[0][0])} has "
                f"{rows}"
            )
        if column.ndim > _SEVERAL:
            raise UserError(
                f"{role}: expected a vector for each step, got {shown(name)} of shape "
                f"{column.shape}; images are no vectors: encode them first"
            )
        if column.ndim == 1:
            pieces.append((name, column))
        else:
            own = labels.get(name) or [f"{name}[{k}]" for k in range(column.shape[1])]
            pieces += [(label, column[:, k]) for k, label in enumerate(own)]
    kept = [place for place in range(len(pieces)) if place not in left_out]
    if not kept:
        raise UserError(f"{role}: no column is left; ignore fewer of them")
    names = tuple(pieces[place][0] for place in kept)
    first = columns[0][1]
    whole = len(columns) == 1 and first.ndim == _SEVERAL and len(kept) == len(pieces)
    if whole and not offset and first.dtype == np.float32:
        return Matrix(names, first, {})
    small = all(_fits_float32(pieces[place][1].dtype) for place in kept) and not offset
    values = np.empty((rows, len(kept)), np.float32 if small else np.float64)
    offsets: dict[str, float | int] = {}
    for index, place in enumerate(kept):
        name, column = pieces[place]
        if place in offset:
            column, offsets[name] = _shifted(column, offset[place])
        if column.dtype.kind in "iu" and column.dtype.itemsize > _SEVERAL and rows:
            most = max(abs(int(column.max())), abs(int(column.min())))
            if most > _WHOLE_IN_FLOAT64 and column.max() != column.min():
                raise UserError(
                    f"{role}: {shown(name)} holds whole numbers up to {most:,}, whose differences "
                    f"would be lost; --offset {name} subtracts the first value, --ignore {name} "
                    "leaves it out"
                )
        values[:, index] = column
    return Matrix(names, values, offsets)


def _fits_float32(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "b" or (
        dtype.itemsize <= _SEVERAL if dtype.kind in "iu" else dtype.itemsize <= 2 * _SEVERAL
    )


def _shifted(column: Array, by: float | int | None) -> tuple[Array, float | int]:
    """Subtract a number, or the first value, in the column's own precision."""
    if column.dtype.kind in "bu":
        column = column.astype(np.int64)
    if by is None:
        there = column if column.dtype.kind == "i" else column[~np.isnan(column)]
        by = there[0].item() if len(there) else 0
    return column - by, by


def split_streams(
    columns: dict[str, Array], roles: Roles
) -> tuple[dict[str, Array], tuple[int, ...]]:
    """Put the streams of several environments behind each other.

    Buffers of vectorised environments hold (steps, environments, ...); each environment's steps
    follow each other.

    Returns:
        The columns, and the rows of each stream; none where there is one.

    Raises:
        UserError: they look like (episodes, steps, ...).
    """
    if "observations" not in roles.columns:
        return columns, ()
    first = columns[roles.columns["observations"][0]]
    if first.ndim <= _SEVERAL or first.dtype == np.uint8:
        return columns, ()
    steps, streams = first.shape[:2]
    flags = {
        name: columns[name]
        for role in ("terminations", "truncations", "ends", "starts")
        for name in roles.columns.get(role, ())
        if columns[name].shape[:2] == (steps, streams) and streams > 1
    }
    for name, flag in flags.items():
        edge = 0 if name in roles.columns.get("starts", ()) else -1
        if flag[:, edge].all() and not np.delete(flag, edge, axis=1).any():
            where = "end" if edge else "beginning"
            raise UserError(f"{name!r} is true at the {where} of every row: {_SWAPPED}")
    if not any(flag.any() for flag in flags.values()):
        for name in roles.columns["observations"]:
            if columns[name].shape[:2] == (steps, streams) and _is_swapped(columns[name]):
                raise UserError(f"{name!r} moves smoothly along every row: {_SWAPPED}")
    split = {}
    for name, column in columns.items():
        if column.shape[:2] == (steps, streams):
            column = np.swapaxes(column, 0, 1).reshape(steps * streams, *column.shape[2:])
        elif column.shape == (steps,) or column.shape[0] == steps:
            column = np.concatenate([column] * streams)
        split[name] = column
    return split, (steps,) * streams if streams > 1 else ()


def _is_swapped(matrix: Array) -> bool:
    """Whether the rows of a matrix look like episodes, and not like the same step of several.

    Within an episode, observations resemble the next ones far more than those of other episodes,
    and more than those long after. Environments have no order: neighbours are no more alike.
    """
    rows, row = matrix.shape[:2]
    if rows < _SEVERAL or row < _SEVERAL:
        return False
    down, along = (
        np.unique(np.linspace(0, size - _SEVERAL, min(size - 1, _SAMPLE)).astype(np.int64))
        for size in (rows, row)
    )

    def sample(first: Array, second: Array) -> Array:
        there: Array = matrix[np.ix_(first, second)].astype(np.float64)
        return there.reshape(*there.shape[:2], -1)

    here = sample(down, along)
    below, beside, afar = (
        np.median(np.abs(other - here), axis=(0, 1))
        for other in (
            sample(down + 1, along),
            sample(down, along + 1),
            sample(down, (along + row // 2) % row),
        )
    )
    smooth = (beside * _LESS_THAN_BELOW < below) & (beside * _LESS_THAN_AFAR < afar)
    # What hardly ever changes in a row, such as a goal, tells nothing; nor does what is missing.
    moves = afar > 0
    return bool(smooth[moves].sum() * 2 > moves.sum())
