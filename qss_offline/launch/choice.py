"""Which launcher is meant."""

from __future__ import annotations

from numbers import Integral

from qss_offline.errors import UserError
from qss_offline.launch.cell import Launcher
from qss_offline.launch.local import LocalLauncher


def launcher_of(name: str | Launcher, workers: int | None = None) -> Launcher:
    """Return a launcher by its name.

    Args:
        name: "local", "ray" or "ray:ADDRESS", or one that is there.
        workers: cells at a time; None takes as many as there is room for.

    Raises:
        UserError: there is none of that name, Ray isn't installed, or the number is none.
    """
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, Integral):
            raise UserError(f"workers must be a whole number, not {workers!r}")
        if workers < 1:
            raise UserError(f"workers must be above 0, not {workers}")
    if not isinstance(name, str):
        return name
    kind, _, address = name.partition(":")
    if name == "local":
        return LocalLauncher(workers)
    if kind == "ray":
        # An extra.
        from qss_offline.launch.on_ray import RayLauncher

        return RayLauncher(address or None, workers)
    raise UserError(f"no launcher {name!r}: there are local, ray and ray:ADDRESS")
