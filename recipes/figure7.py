"""Figure 7: D3G and D3G⁻ against TD3 and DDPG, learning curves over environments and seeds.

    python -m recipes.figure7 --env InvertedPendulum,Reacher --algo d3g,td3 --seeds 5 --steps 100000

runs each environment with each algorithm (`recipes.online` runs one), writes
`<results>/<environment>-<algorithm>.json` with every return, and draws the curves with 95% bands.
Runs that were interrupted go on; finished ones are read. `--draw` only draws what is there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from qss_offline.analysis.plots.learning_curves import load_curves, png, score_lines
from qss_offline.cli.command import main
from qss_offline.comparison.online_runs import online_run
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.online.config import EvaluationPlan, OnlineSettings
from qss_offline.online.presets import ALGORITHMS, online_preset
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import RunFolder, parse_seeds, read_json

ENVIRONMENTS = (
    "InvertedPendulum",
    "InvertedDoublePendulum",
    "Reacher",
    "Hopper",
    "HalfCheetah",
    "Walker2d",
    "Ant",
    "Humanoid",
)


def figure7(
    env: Annotated[str, Option(help="Gymnasium ids or short names")] = ",".join(ENVIRONMENTS),
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
        names = [name for name in algo.split(",") if name]
        presets = {name: online_preset(preset, name) for name in names}
        env_ids = [resolve_env_id(name) for name in env.split(",") if name]
        for env_id in env_ids:
            make_env(env_id, discrete_actions=True).close()
        for env_id in env_ids:
            for name, config in presets.items():
                settings = OnlineSettings(
                    env_id,
                    name,
                    parse_seeds(seeds),
                    preset,
                    config if steps is None else replace(config, steps=steps),
                    EvaluationPlan(),
                )
                folder = RunFolder(runs / f"{env_id}-{name}".replace("/", "-"))
                _check_same(results / f"{folder.path.name}.json", settings)
                found = online_run(settings, folder, folder.started, progress, workers)
                write_json(results / f"{folder.path.name}.json", found)
    curves: list[dict[str, Any]] = load_curves(results)
    if not curves:
        raise UserError(f"{results} holds no results yet; leave out --draw to make some")
    write_bytes(results / "figure7.png", png(curves))
    for line in score_lines(curves):
        print(line)
    print(f"made {results / 'figure7.png'}")


def _check_same(path: Path, settings: OnlineSettings) -> None:
    """Refuse to write over results of other settings, or of seeds that aren't asked for.

    Raises:
        UserError: they would be lost.
    """
    if not path.exists():
        return
    written = read_json(path)
    asked = {"preset": settings.preset_name, "steps": settings.config.steps}
    for name, value in asked.items():
        if written.get(name) != value:
            raise UserError(
                f"{path} holds results with {name} = {written.get(name)}, not {value}; choose "
                "another --results and another --runs"
            )
    lost = {seed["seed"] for seed in written.get("seeds", ())} - set(settings.seeds)
    if lost:
        raise UserError(
            f"{path} holds seed {min(lost)}, too, which isn't asked for and would be lost: ask "
            "for it, or choose another --results"
        )


if __name__ == "__main__":
    main(figure7, "the same command again continues the runs")
