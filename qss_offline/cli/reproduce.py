"""`qss reproduce`: the paper's experiments, each a command that says first how long it takes.

What was interrupted goes on with the same command, and nothing that is done is made again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli import options
from qss_offline.cli.command import add, make_app
from qss_offline.errors import by_name

FIGURE7_ENVIRONMENTS = (
    "InvertedPendulum,InvertedDoublePendulum,Reacher,Hopper,HalfCheetah,Walker2d,Ant,Humanoid"
)
FIGURE7_ALGORITHMS = "d3g,d3g-no-cycle,ddpg,td3,sac"

_DISCRETE, _CONTINUOUS = ("nfq", "dqn", "double-dqn", "d3g"), ("ddpg", "td3", "sac", "d3g")
LADDER = {
    "Gridworld": _DISCRETE,
    "CartPole": _DISCRETE,
    "InvertedPendulum": _CONTINUOUS,
    "Reacher": _CONTINUOUS,
}
"""What climbs in each environment."""

app = make_app("The paper's experiments.")


def table1(
    preset: options.Comparison = "table1",
    methods: options.Methods = None,
    levels: options.Levels = None,
    families: options.Families = None,
    seeds: options.CellSeeds = None,
    updates: Annotated[
        int | None, Option(help="of methods that aren't d3rlpy's, instead of the preset's")
    ] = None,
    rival_updates: Annotated[
        int | None, Option(help="of d3rlpy's methods, instead of the preset's")
    ] = None,
    transitions: Annotated[int | None, Option(help="size of the recordings")] = None,
    runs: Annotated[Path | None, Option(help="folder of the runs (runs/table1)")] = None,
    out: options.TableFolder = None,
    workers: options.Workers = None,
    device: options.Device = "cpu",
    tf32: options.Tf32 = False,
    launcher: options.Launcher = "local",
    dry_run: options.DryRun = False,
    print_commands: options.PrintCommands = False,
    show_only: Annotated[
        bool,
        Option("--show", help="run and write nothing; show what is done, or was published"),
    ] = False,
) -> None:
    """Table 1, extended: every method on recordings from expert to random behaviour."""
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.compare import run_comparison

    run_comparison(
        preset=preset, methods=methods, levels=levels, families=families,
        seeds=seeds, updates=updates, rival_updates=rival_updates, transitions=transitions,
        device=device, tf32=tf32, runs=runs, out=out, show_only=show_only,
        launcher=chosen(launcher, workers, dry_run, print_commands),
    )  # fmt: skip


def figure6(
    seeds: options.Seeds = "5",
    steps: Annotated[int, Option(help="environment steps of a seed")] = 20_000,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    runs: options.Runs = Path("runs/figure6"),
    results: options.Results = Path("runs/figure6/results"),
) -> None:
    """Figure 6: D3G and D3G⁻ in an 11×11 gridworld with discrete actions."""
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.gridworld import draw_figure6

    where = chosen(launcher, workers)
    draw_figure6(seeds=seeds, steps=steps, launcher=where, out=runs, results=results)


def figure7(
    env: Annotated[str, Option(help="Gymnasium ids or short names")] = FIGURE7_ENVIRONMENTS,
    algo: Annotated[str, Option(help="algorithms")] = FIGURE7_ALGORITHMS,
    seeds: options.Seeds = "10",
    steps: Annotated[int | None, Option(help="environment steps (the preset's)")] = None,
    preset: options.OnlinePreset = "default",
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    runs: options.Runs = Path("runs/figure7"),
    results: options.Results = Path("runs/figure7/results"),
    draw: Annotated[bool, Option("--draw", help="only draw the results that are there")] = False,
) -> None:
    """Figure 7: D3G and D3G⁻ against DDPG, TD3 and SAC, learning curves of the online mode."""
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.learning_curves import draw_curves

    algorithms = {name: algo.split(",") for name in env.split(",") if name}
    draw_curves(
        "figure7", algorithms=algorithms, seeds=seeds, steps=steps, preset=preset, runs=runs,
        results=results, draw=draw, launcher=chosen(launcher, workers),
    )  # fmt: skip


def ladder(
    env: Annotated[str, Option(help="only these")] = ",".join(LADDER),
    seeds: options.Seeds = "3",
    steps: Annotated[int, Option(help="environment steps")] = 30_000,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    runs: options.Runs = Path("runs/ladder"),
    results: options.Results = Path("runs/ladder/results"),
    draw: Annotated[bool, Option("--draw", help="only draw the results that are there")] = False,
) -> None:
    """From fitted Q-iteration over DQN, DDPG, TD3 and SAC to D3G, in one loop, on one figure."""
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.learning_curves import draw_curves

    rungs = {
        name: by_name("environment of the ladder", name, LADDER) for name in env.split(",") if name
    }
    draw_curves(
        "ladder", algorithms=rungs, seeds=seeds, steps=steps, preset="default", runs=runs,
        results=results, draw=draw, launcher=chosen(launcher, workers),
    )  # fmt: skip


def tabular(
    experiment: Annotated[
        str, Argument(help=", ".join([*options.EXPERIMENT_NAMES, "or all"]))
    ] = "all",
    out: Annotated[Path | None, Option(help="where to (runs/tabular/<experiment>)")] = None,
    figures: Annotated[Path | None, Option(help="where the figure goes (as --out)")] = None,
    seeds: Annotated[int | None, Option(help="number of seeds (the paper's)")] = None,
    steps: Annotated[int | None, Option(help="environment steps of each run")] = None,
    alpha: Annotated[float | None, Option(help="step size (the authors' is 0.01)")] = None,
    walkers: Annotated[int | None, Option(help="walkers a table (the authors have 1)")] = None,
) -> None:
    """Sections 2 and 3: what Q(s,s') is, in gridworlds and tables."""
    from qss_offline.cli.tabular import run_tabular

    run_tabular(
        experiment=experiment, out=out, figures=figures, seeds=seeds, steps=steps, alpha=alpha,
        walkers=walkers,
    )  # fmt: skip


def online_budget(
    runs: Annotated[list[Path], Argument(help="run folders of offline D3G")],
    budgets: Annotated[str, Option(help="online steps")] = "100,300,1000,3000,10000",
    rounds: Annotated[int, Option(min=1, help="rounds that a budget is spread over")] = 5,
    updates: Annotated[
        int | None, Option(help="gradient steps of the IDM in all (as many as the run's own)")
    ] = None,
    episodes: Annotated[int, Option(min=1, help="episodes of each evaluation")] = 10,
    change: Annotated[
        list[str] | None, Option("--set", help="name=value, another setting of the inverse fit")
    ] = None,
    actions: Annotated[
        str | None, Option(help="a recording with actions that the IDM learns from first")
    ] = None,
    variant: Annotated[str, Option(help="name of these settings in the results")] = "default",
    results: options.Results = Path("runs/online_budget"),
    env: options.RegisteredModules = None,
) -> None:
    """Return against online steps: how few turn the proposals of runs into policies."""
    from qss_offline.cli.budget import draw_online_budget

    draw_online_budget(
        runs=runs, budgets=budgets, rounds=rounds, updates=updates, episodes=episodes,
        change=change, actions_from=actions, variant=variant, results=results, env=env,
    )  # fmt: skip


def offline_to_online(
    env: options.Environment = "InvertedPendulum",
    seeds: options.Seeds = "5",
    steps: Annotated[int, Option(help="environment steps of the online mode")] = 20_000,
    warm_up: Annotated[int, Option(help="of these before the first update")] = 1_000,
    evaluate_every: options.EvaluateEvery = 1_000,
    episodes: options.Episodes = 10,
    transitions: options.Transitions = 100_000,
    updates: options.Updates = None,
    preset: Annotated[str, Option(help="of both modes: default or paper")] = "default",
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    runs: options.Runs = Path("runs/offline_to_online"),
    results: options.Results = Path("runs/offline_to_online/results"),
) -> None:
    """What an offline run saves the online mode: learn offline, go on online; and from nothing."""
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.learning_curves import draw_offline_to_online

    draw_offline_to_online(
        env=env, seeds=seeds, steps=steps, warm_up=warm_up, evaluate_every=evaluate_every,
        episodes=episodes, transitions=transitions, updates=updates, preset=preset,
        launcher=chosen(launcher, workers), runs=runs, results=results,
    )  # fmt: skip


def minari_mujoco(
    env: Annotated[str, Option(help="of Minari's mujoco/ENV/LEVEL-v0")] = (
        "hopper,halfcheetah,walker2d,invertedpendulum,inverteddoublependulum,reacher"
    ),
    level: Annotated[str, Option(help="of the same")] = "simple,medium,expert",
    source: Annotated[str, Option("--from", help="hf://USER or a folder")] = "hf://farama-minari",
    methods: Annotated[str, Option(help="trained on each")] = "auto,d3g,bco",
    seeds: options.Seeds = "3",
    out: Annotated[Path, Option(help="folder of the runs")] = Path("runs/minari-mujoco"),
    list_only: Annotated[bool, Option("--list", help="only say what would be pulled")] = False,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
) -> None:
    """Minari's public MuJoCo datasets, without their actions: what others publish results on."""
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.minari_mujoco import learn_from_minari

    learn_from_minari(
        envs=env.split(","), levels=level.split(","), source=source, methods=methods.split(","),
        seeds=seeds, out=out, list_only=list_only, launcher=chosen(launcher, workers),
    )  # fmt: skip


for command in (
    table1, figure6, figure7, ladder, tabular, online_budget, offline_to_online, minari_mujoco
):  # fmt: skip
    add(app, command)
