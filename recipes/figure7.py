"""Figure 7: D3G and D3G⁻ against TD3 and DDPG, learning curves over environments and seeds.

    python -m recipes.figure7 --env InvertedPendulum,Reacher --algo d3g,td3 --seeds 5 --steps 100000

runs each environment with each algorithm (`recipes.online` runs one), writes
`<results>/<environment>-<algorithm>.json` with every return, and draws the curves with 95% bands.
Runs that were interrupted go on; finished ones are read. `--draw` only draws what is there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.analysis.plots.learning_curves import load_curves, png, score_lines
from qss_offline.cli.command import main
from qss_offline.comparison.online_study import run_missing
from qss_offline.data.environments import resolve_env_id
from qss_offline.errors import UserError
from qss_offline.files import write_bytes
from qss_offline.online.presets import ALGORITHMS, online_preset
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import parse_seeds

ENVIRONMENTS = (
    "InvertedPendulum,InvertedDoublePendulum,Reacher,Hopper,HalfCheetah,Walker2d,Ant,Humanoid"
)


def figure7(
    env: Annotated[str, Option(help="Gymnasium ids or short names")] = ENVIRONMENTS,
    algo: Annotated[str, Option(help="algorithms")] = ",".join(ALGORITHMS),
    seeds: Annotated[str, Option(help="number of seeds, or a list such as 0,3,7")] = "10",
    steps: Annotated[int | None, Option(help="environment steps (the preset's)")] = None,
    preset: Annotated[str, Option(help="default, short-horizon or paper")] = "default",
    workers: Annotated[int | None, Option(min=1, help="processes (one a core)")] = None,
    runs: Annotated[Path, Option(help="where the runs go")] = Path("runs/figure7"),
    results: Annotated[Path, Option(help="where results and figure go")] = Path(
        "runs/figure7/results"
    ),
    draw: Annotated[bool, Option("--draw", help="only draw the results that are there")] = False,
) -> None:
    """Run what is missing, and draw."""
    if not draw:
        configs = {name: online_preset(preset, name) for name in algo.split(",") if name}
        if steps is not None:
            configs = {name: replace(config, steps=steps) for name, config in configs.items()}
        env_ids = [resolve_env_id(name) for name in env.split(",") if name]
        run_missing(env_ids, configs, parse_seeds(seeds), preset, runs, results, workers, progress)
    curves = load_curves(results)
    if not curves:
        raise UserError(f"{results} holds no results yet; leave out --draw to make some")
    write_bytes(results / "figure7.png", png(curves))
    for line in score_lines(curves):
        print(line)
    print(f"made {results / 'figure7.png'}")


if __name__ == "__main__":
    main(figure7, "the same command again continues the runs")
