"""Cells on a Ray cluster, or on a Ray that is started on this machine for them.

Ray moves and retries cells, places them by their needs, and tells which have ended. What it carries
is plain: a cell as JSON there, and why it failed back. Everything else is in the cells' folders and
in the recordings, on a file system that all machines have under the same paths.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from qss_offline.data.environments import importable, register_as_elsewhere, registrations
from qss_offline.data.local import minari_root
from qss_offline.errors import UserError
from qss_offline.launch.cell import Cell, Failure, cell_of, held_back, named_indices
from qss_offline.parallel.processes import Watch
from qss_offline.parallel.reporting import print_notice

_MEMORY = 600_000_000
"""Bytes that Ray keeps free for a cell: a process that trains takes 435 MiB
(`benchmarks/results/launch.json`); recordings are mapped."""
_RETRIES = 3
"""How often a cell is tried again whose machine or process died."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_TOLD_S = 1.0
"""Seconds between what a cell tells, and between looks at it."""


class RayLauncher:
    """Runs cells on Ray.

    Seeds are cells of their own: a machine that dies takes less with it. Whoever interrupts what
    runs leaves the cluster.

    Args:
        address: of the cluster; None takes that of `RAY_ADDRESS`, or one that this machine is part
            of, or starts Ray on this machine alone.
        workers: cells at a time; None takes as many as there is room for.

    Raises:
        UserError: Ray isn't installed.
    """

    dry, apart, lists = False, True, False
    workers: int | None = None

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "--launcher ray needs another package: pip install 'qss-offline[ray]'"
            ) from error
        self._ray: Any = ray
        self._address, self._most = address, workers

    def width(self, cells: Sequence[Cell]) -> int:
        """Return the cells that the cluster's cores have room for."""
        self._connect()
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        return max(1, min(self._most or cores, cores, len(cells)))

    def run(
        self, cells: Sequence[Cell], watch: Watch
    ) -> Generator[tuple[int, Failure], None, None]:
        """Run cells, and yield the index of each as it ends, and why it failed."""
        self._connect()
        ray = self._ray
        if any(cell.gpus for cell in cells) and not ray.cluster_resources().get("GPU"):
            print_notice("no machine of the cluster has a GPU: cells wait for one that joins it")
        board = _board(ray)
        remote = ray.remote(run_remotely)
        registered = _registered(cells)
        after = named_indices(cells)
        here = str(Path.cwd()), str(minari_root().resolve())
        told: dict[int, tuple[float, str]] = {}
        ended, waiting = [False] * len(cells), list(range(len(cells)))
        running: dict[Any, int] = {}
        looked = 0.0
        try:
            while waiting or running:
                room = self._most or len(cells)
                for index in [i for i in waiting if all(ended[other] for other in after[i])]:
                    if len(running) == room:
                        break
                    waiting.remove(index)
                    options = _options(cells[index])
                    plain = json.dumps(asdict(cells[index]))
                    call = remote.options(**options).remote(plain, registered, here, index, board)
                    running[call] = index
                # Half a second for the first, and all that have ended since.
                done, _ = ray.wait(list(running), timeout=0.5)
                if done:
                    done, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
                if time.monotonic() - looked > _TOLD_S:
                    told, looked = _read(ray, board) or told, time.monotonic()
                for call in done:
                    ended[running[call]] = True
                now = [told.get(index, (-1.0, "")) for index in range(len(cells))]
                watch([units for units, _ in now], [text for _, text in now], ended)
                for call in done:
                    index = running.pop(call)
                    yield index, (failure := self._outcome(call))
                    for other, why in held_back(cells, index) if failure is not None else ():
                        if not ended[other]:
                            ended[other] = True
                            waiting.remove(other)
                            yield other, why
        except BaseException:
            # Ray ends what a driver leaves running. To cancel a cell that is just ending can end
            # the driver instead (ray-project/ray#54785).
            ray.shutdown()
            raise
        ray.kill(board)

    def _outcome(self, call: Any) -> Failure:
        try:
            failure: Failure = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            # Of what a worker raised the last line says what it was, of all else the first.
            lines = str(error).strip().splitlines() or [""]
            raised = isinstance(error, self._ray.exceptions.RayTaskError)
            return f"{type(error).__name__}: {lines[-1 if raised else 0]}"
        return failure

    def _connect(self) -> None:
        """Join the cluster, once a process.

        Raises:
            UserError: there is none at the address.
        """
        ray = self._ray
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            context = ray.init(self._address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            first = str(error).strip().partition("\n")[0]
            where = f" at {self._address}" if self._address else ""
            raise UserError(f"no Ray cluster can be joined{where}: {first}") from error
        cores = int(ray.cluster_resources().get("CPU", 0))
        page = f"; its dashboard: http://{context.dashboard_url}" if context.dashboard_url else ""
        print_notice(f"Ray at {context.address_info['address']} has {cores} cores{page}")


def _options(cell: Cell) -> dict[str, Any]:
    """Return what Ray is told of a cell."""
    return {
        "name": cell.name,
        "num_cpus": 1,
        "num_gpus": cell.gpus,
        "memory": _MEMORY,
        "max_retries": _RETRIES,
        "runtime_env": {"env_vars": _ONE_THREAD},
    }


def _registered(cells: Sequence[Cell]) -> list[str]:
    """Return as JSON how the environments are registered that have no source to load.

    Raises:
        UserError: one is a function or class of this process.
    """
    env_ids = dict.fromkeys(chain.from_iterable(cell.environments for cell in cells))
    for env_id in env_ids:
        if not importable(env_id):
            raise UserError(
                f"{env_id} is a function or class of this process, which no other can make: name "
                "it as module:Class, or take --launcher local"
            )
    return registrations(env_ids)


def _board(ray: Any) -> Any:
    """Return what cells tell how far they are: near this process, and anew where it is lost."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
    return ray.remote(_Board).options(**options).remote()


class _Board:
    """What each cell told last."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[float, str]] = {}

    def tell(self, index: int, units: float, text: str) -> None:
        """Take note of a cell."""
        self._told[index] = units, text

    def read(self) -> dict[int, tuple[float, str]]:
        """Return what all have told."""
        return self._told


def _read(ray: Any, board: Any) -> dict[int, tuple[float, str]] | None:
    """Return what all cells have told; None where that can't be had now."""
    try:
        told: dict[int, tuple[float, str]] = ray.get(board.read.remote(), timeout=_TOLD_S)
    except ray.exceptions.RayError:
        return None
    return told


def run_remotely(
    plain: str, registered: Sequence[str], where: tuple[str, str], index: int, board: Any
) -> Failure:
    """Run a cell in a worker of Ray.

    Args:
        plain: the cell as JSON.
        registered: the environments that its process is to know.
        where: the folder that it was launched in, and that of the recordings.
        index: its place among those that were launched with it.
        board: what it tells how far it is.

    Returns:
        Why it failed.
    """
    from qss_offline.launch.worker import run_cell

    for folder in where:
        if not Path(folder).is_dir():
            return f"{platform.node()} has no {folder}: all machines need one file system"
    os.chdir(where[0])
    os.environ["MINARI_DATASETS_PATH"] = where[1]
    register_as_elsewhere(registered)
    return run_cell(cell_of(json.loads(plain), "a cell"), _telling(board, index))


def _telling(board: Any, index: int) -> Callable[..., None]:
    """Return a tick that tells the board, at most once a second."""
    last = 0.0

    def tick(units: float, phase: str = "", note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last > _TOLD_S:
            last = time.monotonic()
            board.tell.remote(index, units, ", ".join(part for part in (phase, note) if part))

    return tick
