"""QSS Offline: policies from recordings that hold no actions.

The package follows *Estimating Q(s,s') with Deep Deterministic Dynamics Gradients*
(Edwards et al., ICML 2020). Importing it does no work and picks no device.

    import qss_offline as qss

    recording = qss.Recording.from_csv("log.csv", env="my_env.py:Arm")
    run = qss.train(recording, seeds=3)
    print(run.summary())
    action = run.policy()(obs)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from qss_offline.api.comparing import compare as compare
    from qss_offline.api.recording import Recording as Recording
    from qss_offline.api.runs import OnlineRun as OnlineRun
    from qss_offline.api.runs import Run as Run
    from qss_offline.api.runs import load as load
    from qss_offline.api.training import fit_inverse as fit_inverse
    from qss_offline.api.training import resume as resume
    from qss_offline.api.training import train as train
    from qss_offline.api.training import train_online as train_online
    from qss_offline.data.importing.names import ColumnNames as ColumnNames
    from qss_offline.data.importing.rules import ImportRules as ImportRules
    from qss_offline.errors import UserError as UserError

_PLACES = {
    "ColumnNames": "data.importing.names",
    "ImportRules": "data.importing.rules",
    "OnlineRun": "api.runs",
    "Recording": "api.recording",
    "Run": "api.runs",
    "UserError": "errors",
    "compare": "api.comparing",
    "fit_inverse": "api.training",
    "load": "api.runs",
    "resume": "api.training",
    "train": "api.training",
    "train_online": "api.training",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
