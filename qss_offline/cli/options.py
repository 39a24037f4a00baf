"""Options that several commands share, and the names that help texts list.

Nothing here imports torch or Minari: help must not wait for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

PRESET_NAMES = ("default", "bodies", "runners", "short-horizon", "paper")
ONLINE_PRESET_NAMES = ("default", "short-horizon", "paper")
ONLINE_ALGORITHM_NAMES = ("d3g", "d3g-no-cycle", "td3", "ddpg")
EXPERIMENT_NAMES = ("equivalence", "stochastic", "redundant", "permuted", "cliff")
COMPARISON_NAMES = (
    "quick", "beyond", "bodies", "runners", "medium", "no_chance", "no_chance_medium",
    "runners_medium", "paper",
)  # fmt: skip

Environment = Annotated[str, Option(help="Gymnasium id or short name")]
RegisteredModules = Annotated[
    list[str] | None,
    Option(
        "--env",
        help="module:Env-v0 of your own environment: the module is imported; those that files "
        "name never are; repeatable",
    ),
]
"""An option of commands that read runs, whose environments may be the user's own."""

Seeds = Annotated[str, Option(help="number of seeds, a range or a list, such as 5, 100-104, 0,3,7")]
Preset = Annotated[str, Option(help=f"one of {', '.join(PRESET_NAMES)}")]
OnlinePreset = Annotated[str, Option(help=f"one of {', '.join(ONLINE_PRESET_NAMES)}")]
OnlineAlgorithm = Annotated[str, Option(help=f"one of {', '.join(ONLINE_ALGORITHM_NAMES)}")]
Change = Annotated[
    list[str] | None, Option("--set", help="name=value, a setting of the preset; repeatable")
]
Randomness = Annotated[float, Option(help="probability of a random action at a step")]
Expert = Annotated[
    Path | None,
    Option(help="policy of the steps that aren't random (datasets/experts/<env>)"),
]
Transitions = Annotated[int, Option(help="size of the recording")]
DatasetSeed = Annotated[int, Option(help="seed of the recording")]
Dataset = Annotated[str | None, Option(help="learn from this Minari dataset instead")]
Updates = Annotated[int | None, Option(help="updates of offline D3G")]
OnlineSteps = Annotated[int | None, Option(help="environment steps of the inverse fit")]
OnlineRounds = Annotated[int | None, Option(help="rounds that these are spread over")]
ActionsFrom = Annotated[
    str | None,
    Option(
        help="another recording in the environment, with actions, or an earlier run: the inverse "
        "dynamics model learns from it first"
    ),
]
Episodes = Annotated[int, Option(help="episodes of each evaluation")]
EvaluateEvery = Annotated[int, Option(help="environment steps between evaluations")]
Device = Annotated[str, Option(help="auto, cpu or cuda")]
Workers = Annotated[int | None, Option(min=1, help="processes (one a core)")]
Out = Annotated[Path | None, Option(help="folder of the run (runs/<name>)")]
Resume = Annotated[bool, Option("--resume", help="continue a run")]
Video = Annotated[bool, Option("--video", help="then draw what it imagines and does")]
Runs = Annotated[Path, Option(help="where the runs go")]
Results = Annotated[Path, Option(help="where results and figure go")]
Comparison = Annotated[str, Option(help=f"one of {', '.join(COMPARISON_NAMES)}")]
Methods = Annotated[str | None, Option(help="only these, such as d3g,bco")]
Levels = Annotated[str | None, Option(help="only these percentages, such as 0,100")]
Families = Annotated[str | None, Option(help="only these, such as reacher")]
CellSeeds = Annotated[int | None, Option(help="seeds of each cell")]
TableFolder = Annotated[Path | None, Option(help="folder of the table (that of the runs)")]
ShowOnly = Annotated[
    bool, Option("--show", help="run and write nothing; show what is done, or was published")
]
