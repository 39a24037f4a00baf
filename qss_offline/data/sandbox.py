"""Reading an untrusted file in a process of its own.

HDF5 and Arrow are written in C; on a damaged file they may crash, loop or take all memory. Here
that ends a child process and becomes one clear error. The two talk in lines of JSON, so that a
child that was taken over can't make its parent run anything.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import qss_offline
from qss_offline.errors import UserError, one_line
from qss_offline.files import size_text
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.progress import Reporter, silent

Reply: TypeAlias = dict[str, Any]
Task: TypeAlias = Callable[[dict[str, Any], Tick], Reply]

# A task says how far it is every second or so. Longer silence is a loop in a damaged file.
_STALL_S = 300.0
_END_S = 10.0
# What libraries take besides the columns themselves: chunk caches, row groups, thread pools.
_SPARE_BYTES = 1 << 30
_MAX_LINE_BYTES = 64 << 20
_DAMAGED = "the file is damaged"
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


def available_memory() -> int:
    """Return the bytes of memory that can be taken without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(needed: int, what: str) -> None:
    """Refuse what doesn't fit into memory before any of it is taken.

    Raises:
        UserError: `needed` bytes are more than there are.
    """
    free = available_memory()
    if needed > free:
        raise UserError(
            f"{what} would take {size_text(needed)} of memory; {size_text(free)} are free"
        )


def check_disk(needed: float, folder: Path, what: str) -> None:
    """Refuse what doesn't fit onto the disk before any of it is written.

    Raises:
        UserError: `needed` bytes are more than are free where `folder` is.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} would take {size_text(needed)} of disk in {folder.parent}; "
            f"{size_text(free)} are free"
        )


def call(
    task: Task, request: dict[str, Any], expected_bytes: int, report: Reporter = silent
) -> Reply:
    """Run `task(request, tick)` in a child process and return its reply.

    Args:
        task: a function of a module of this package.
        request: JSON values.
        expected_bytes: memory that an honest file needs; the child gets little more.
        report: called with what the task ticks.

    Raises:
        UserError: the task raised one, raised anything else, crashed, or took too much memory
            or time.
    """
    source = f"{task.__module__}:{task.__qualname__}"
    package = str(Path(qss_offline.__file__).parent.parent)
    environment = dict(os.environ)
    # The child finds this very package wherever the parent found it, and nothing in the
    # current folder, which may be untrusted.
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (package, environment.get("PYTHONPATH", "")) if part
    )
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        assert child.stdin is not None and child.stdout is not None
        line = json.dumps({"task": source, "request": request, "bytes": expected_bytes})
        with suppress(BrokenPipeError):
            child.stdin.write(line.encode() + b"\n")
            child.stdin.flush()
        return _listen(child, report)
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _listen(child: subprocess.Popen[bytes], report: Reporter) -> Reply:
    assert child.stdout is not None
    pending = b""
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(_STALL_S - (time.monotonic() - heard)):
                raise UserError(f"no progress in {_STALL_S:.0f} s; {_DAMAGED}")
            chunk = os.read(child.stdout.fileno(), 1 << 16)
            heard = time.monotonic()
            pending += chunk
            if len(pending) > _MAX_LINE_BYTES:
                raise UserError(f"the reader's answer is too long; {_DAMAGED}")
            if not chunk:
                raise UserError(f"the reader {_ending(child)}")
            *lines, pending = pending.split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "error" in message:
                    raise UserError(str(message["error"]))
                if "reply" in message:
                    reply: Reply = message["reply"]
                    return reply
                report(int(message["tick"]))


def _ending(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(_END_S)
    except subprocess.TimeoutExpired:
        return f"fell silent; {_DAMAGED}"
    if code >= 0:
        return f"ended with code {code}; {_DAMAGED}"
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    # What a damaged file makes C do to itself; any other signal comes from outside.
    reason = _DAMAGED if number in _CRASHES else "somebody or a lack of memory ended it; try again"
    return f"was ended by {name}; {reason}"


def serve() -> None:
    """Run one task that is asked for on standard input; the child's side of `call`."""
    # Whatever a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    # The parent holds the other end: when it is gone, however it went, this process ends too.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    last_tick = 0.0

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def tick(units: float, phase: str = "", note: str = "") -> None:
        nonlocal last_tick
        if time.monotonic() - last_tick >= 0.2:
            last_tick = time.monotonic()
            send({"tick": units})

    module, _, name = order["task"].partition(":")
    task: Task = getattr(importlib.import_module(module), name)
    _limit_memory(order["bytes"])
    try:
        send({"reply": task(order["request"], tick)})
    except UserError as error:
        send({"error": str(error)})
    except MemoryError:
        send({"error": f"it takes more than {size_text(order['bytes'])} of memory to read"})
    except Exception as error:
        # A damaged file makes h5py, pyarrow and Minari raise almost anything.
        reason = one_line(error)
        send({"error": f"it can't be read: {reason}"})
    answers.flush()
    # Without the libraries' own tidying up, which may crash on what a damaged file left.
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _limit_memory(expected_bytes: int) -> None:
    """Let this process take what the task may need, and no more."""
    try:
        used = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        used = 0
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + expected_bytes + _SPARE_BYTES
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    # A crash is an answer here, and its core dump of no use.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
