"""Figure 7: D3G and D3G⁻ against TD3 and DDPG, learning curves over environments and seeds.

    python -m recipes.figure7 --env InvertedPendulum,Reacher --algo d3g,td3 --seeds 5 --steps 100000

runs each environment with each algorithm (`recipes.online` runs one), writes
`<results>/<environment>-<algorithm>.json` with every return, and draws the curves with 95% bands.
Runs that were interrupted go on; finished ones are read. `--draw` only draws what is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main

ENVIRONMENTS = (
    "InvertedPendulum,InvertedDoublePendulum,Reacher,Hopper,HalfCheetah,Walker2d,Ant,Humanoid"
)
ALGORITHMS = ",".join(options.ONLINE_ALGORITHM_NAMES)


def figure7(
    env: Annotated[str, Option(help="Gymnasium ids or short names")] = ENVIRONMENTS,
    algo: Annotated[str, Option(help="algorithms")] = ALGORITHMS,
    seeds: options.Seeds = "10",
    steps: Annotated[int | None, Option(help="environment steps (the preset's)")] = None,
    preset: options.OnlinePreset = "default",
    workers: options.Workers = None,
    runs: options.Runs = Path("runs/figure7"),
    results: options.Results = Path("runs/figure7/results"),
    draw: Annotated[bool, Option("--draw", help="only draw the results that are there")] = False,
) -> None:
    """Run what is missing, and draw."""
    arguments = locals()
    from qss_offline.cli.online import draw_figure7

    draw_figure7(**arguments)


if __name__ == "__main__":
    main(figure7, "the same command again continues the runs")
