"""What an HDF5 file holds itself: never anything that it only points to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5d, h5g, h5l, h5s

from qss_offline.errors import UserError

Array: TypeAlias = npt.NDArray[Any]

_MAX_DEPTH = 8
_MAX_OBJECTS = 1 << 20


def open_own(group: Any, name: str) -> Any:
    """Open what a group holds itself.

    Raises:
        UserError: it is missing, or a link to elsewhere.
    """
    address_of(group, name)
    return h5py.h5o.open(group, name.encode())


def address_of(group: Any, name: str) -> int:
    """Return where in the file an object lies that a group holds itself.

    Raises:
        UserError: it is missing, or a link to elsewhere.
    """
    try:
        link = group.links.get_info(name.encode())
    except (AttributeError, KeyError) as error:
        raise UserError(f"{name} is missing") from error
    if link.type != h5l.TYPE_HARD:
        raise UserError(f"{name} is a link to elsewhere: refused")
    return int(link.u)


def refuse_outside(dataset: Any, said: str) -> None:
    """Refuse an array whose numbers lie in another file.

    Raises:
        UserError: they do; `said` names it.
    """
    properties = dataset.get_create_plist()
    if properties.get_external_count() or properties.get_layout() == h5d.VIRTUAL:
        raise UserError(f"{said} in another file: refused")


def arrays_of(root: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a file with their paths, in the order of their names; links are skipped.

    Args:
        root: the file's group, of h5py's low level.

    Raises:
        UserError: it holds too many objects, or groups nested too deeply.
    """
    waiting = [("", root, 0)]
    seen = 0
    while waiting:
        path, group, depth = waiting.pop()
        inside = []
        for raw in group:
            seen += 1
            if seen > _MAX_OBJECTS or depth > _MAX_DEPTH:
                raise UserError("it holds too many objects, or groups nested too deeply")
            if group.links.get_info(raw).type != h5l.TYPE_HARD:
                continue
            name = raw.decode(errors="replace")
            found = h5py.h5o.open(group, raw)
            if isinstance(found, h5d.DatasetID):
                yield f"{path}{name}", found
            elif isinstance(found, h5g.GroupID):
                inside.append((f"{path}{name}/", found, depth + 1))
        waiting += reversed(inside)


def read_array(dataset: Any) -> Array:
    """Read an array whole; its size is for the caller to check before."""
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read(h5s.ALL, h5s.ALL, array)
    return array
