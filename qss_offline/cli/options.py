"""Options that several commands share, and the names that help texts list.

Nothing here imports torch or Minari: help must not wait for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

PRESET_NAMES = ("default", "quick", "paper")
METHOD_NAMES = ("auto", "d3g", "bco")
ONLINE_PRESET_NAMES = ("default", "paper")
ONLINE_ALGORITHM_NAMES = (
    "d3g", "d3g-no-cycle", "nfq", "dqn", "double-dqn", "ddpg", "td3", "sac",
)  # fmt: skip
EXPERIMENT_NAMES = ("equivalence", "stochastic", "redundant", "permuted", "cliff")
COMPARISON_NAMES = ("table1", "table1-quick", "rival-budgets", "paper")
ENVIRONMENT_HELP = "Gymnasium id or short name, module:Id or file.py:Class, then ?name=value"

Environment = Annotated[str, Option(help=ENVIRONMENT_HELP)]
RegisteredModules = Annotated[
    list[str] | None,
    Option(
        "--env",
        help="module:Id or file.py:Class of your own environment: it is imported; those that files "
        "name never are; repeatable",
    ),
]
"""An option of commands that read runs, whose environments may be the user's own."""

RunPath = Annotated[Path, Argument(metavar="RUN", help="a run folder, such as runs/NAME")]
Json = Annotated[bool, Option("--json", help="print JSON")]
Method = Annotated[
    str | None,
    Option(
        help="d3g learns which next states to aim for, bco repeats what was recorded, auto trains "
        "both and more and keeps what returns most online (auto; of other presets d3g)"
    ),
]
Seeds = Annotated[str, Option(help="number of seeds, a range or a list, such as 5, 100-104, 0,3,7")]
RunPreset = Annotated[str, Option(help=f"one of {', '.join(PRESET_NAMES)}")]
OnlinePreset = Annotated[str, Option(help=f"one of {', '.join(ONLINE_PRESET_NAMES)}")]
OnlineAlgorithm = Annotated[str, Option(help=f"one of {', '.join(ONLINE_ALGORITHM_NAMES)}")]
Change = Annotated[
    list[str] | None, Option("--set", help="name=value, a setting of the preset; repeatable")
]
ErrorPower = Annotated[
    float | None,
    Option(help="of bco's cloning: 2 is the labels' mean, 0.5 near their mode (measured)"),
]
AnyRanges = Annotated[
    bool,
    Option("--no-check-ranges", help="take a recording whose numbers don't fit the environment"),
]
Randomness = Annotated[float, Option(help="probability of a random action at a step")]
Expert = Annotated[
    Path | None, Option(help="policy of the steps that aren't random (the environment's own)")
]
Transitions = Annotated[int, Option(help="size of the recording")]
DatasetSeed = Annotated[int, Option(help="seed of the recording")]
Updates = Annotated[int | None, Option(help="updates of offline D3G, or of BCO's policy")]
OnlineSteps = Annotated[int | None, Option(help="environment steps of the inverse fit")]
OnlineRounds = Annotated[int | None, Option(help="rounds that these are spread over")]
Episodes = Annotated[int, Option(help="episodes of each evaluation")]
EvaluateEvery = Annotated[int, Option(help="environment steps between evaluations")]
Device = Annotated[str, Option(help="auto, cpu or cuda")]
Tf32 = Annotated[bool, Option("--tf32", help="faster, coarser matrix products on a GPU")]
Workers = Annotated[int | None, Option(min=1, help="processes (one a core)")]
Launcher = Annotated[
    str,
    Option(help="local, or on a Ray cluster: ray, ray:ADDRESS (docs/clusters.md)"),
]
DryRun = Annotated[
    bool, Option("--dry-run", help="only list the cells, what they cost and their order")
]
PrintCommands = Annotated[
    bool, Option("--print-commands", help="only print a command a cell, for any other scheduler")
]
Out = Annotated[Path | None, Option(help="folder of the run (runs/<recording>-<method>)")]
Video = Annotated[bool, Option("--video", help="then draw what it imagines and does")]
TensorBoard = Annotated[bool, Option("--tensorboard", help="write what TensorBoard shows, too")]
Runs = Annotated[Path, Option(help="where the runs go")]
Results = Annotated[Path, Option(help="where results and figure go")]
Comparison = Annotated[str, Option(help=f"one of {', '.join(COMPARISON_NAMES)}")]
Methods = Annotated[str | None, Option(help="only these, such as d3g,bco")]
Levels = Annotated[str | None, Option(help="only these percentages, such as 0,100")]
Families = Annotated[str | None, Option(help="only these, such as reacher")]
CellSeeds = Annotated[int | None, Option(help="seeds of each method, a recording each")]
TableFolder = Annotated[Path | None, Option(help="folder of the table (that of the runs)")]
