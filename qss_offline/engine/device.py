"""Where training happens."""

from __future__ import annotations

import torch

from qss_offline.errors import UserError


def choose_device(name: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises:
        UserError: another name, or "cuda" where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device takes auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
