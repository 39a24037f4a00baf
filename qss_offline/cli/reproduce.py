"""`qss reproduce`: the paper's experiments, each a command that says first how long it takes.

What was interrupted goes on with the same command, and nothing that is done is made again.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
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

_EXPERIMENT_S = 90.0
"""Of a tabular experiment with its own settings, on one core."""

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
    """Table 1, extended: methods × recordings × seeds. From expert to random behaviour."""
    from qss_offline.analysis.plots.comparison import png
    from qss_offline.cli.cells import chosen, end_list, refuse_failed
    from qss_offline.cli.tables import print_table
    from qss_offline.comparison.grid import seconds as seconds_of
    from qss_offline.comparison.study import ComparisonOptions, Study
    from qss_offline.parallel.pace import in_words
    from qss_offline.parallel.progress import progress
    from qss_offline.statistics import counted

    begun = time.monotonic()
    where = chosen(launcher, workers, dry_run, print_commands, several=True)
    asked = ComparisonOptions(
        preset, methods, levels, families, seeds, updates, rival_updates, transitions, device, tf32
    )
    study = Study(asked, runs, out, show_only)
    if not show_only and not where.lists:
        seconds = seconds_of(study.missing(), where)
        if seconds:
            print(f"This takes about {in_words(seconds)}, if nothing else runs.", flush=True)
    failures = [] if show_only else study.run(where, progress)
    if where.lists and not show_only:
        end_list(where, failures)
        return
    summary = study.summary()
    if not show_only:
        study.write(summary, png(summary.shown), failures)
    for section in summary.sections():
        print_table(section.header, section.rows, section.title)
        print()
    count = counted(len(summary.missing), "run")
    if show_only:
        source = study.returns if study.returns.exists() else study.runs
        print(f"{count} missing; returns of {source}. Nothing was run or written.")
        return
    if not summary.ran and not summary.missing:
        print(f"Nothing was run: {study.returns} holds all of these returns already.")
    print(
        f"{time.monotonic() - begun:.0f} s. {count} missing, {len(failures)} failed. "
        f"Made: {study.out}/returns.csv (last and best), members.csv (of races), curves.csv (all "
        "evaluations), table.md, table.png, provenance.json.\n"
        f"Next: qss report {shlex.quote(f'{study.out}/returns.csv')}; the same command runs what "
        "is missing, and --seeds 10 adds seeds."
    )
    refuse_failed(failures)


def figure6(
    seeds: options.Seeds = "5",
    steps: Annotated[int, Option(help="environment steps of a seed")] = 20_000,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    runs: options.Runs = Path("runs/figure6"),
    results: options.Results = Path("runs/figure6/results"),
) -> None:
    """Figure 6: D3G and D3G⁻ in a gridworld. 11 × 11, with discrete actions."""
    from qss_offline.analysis.plots.gridworld import png
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.gridworld import COMPARED, gridworld_config, measured
    from qss_offline.cli.tables import print_table
    from qss_offline.comparison.estimate import online_seconds
    from qss_offline.files import write_bytes
    from qss_offline.parallel.pace import in_words
    from qss_offline.runs.folder import parse_seeds
    from qss_offline.runs.provenance import write_results

    where, numbers = chosen(launcher, workers), parse_seeds(seeds)
    asked = [(algorithm, gridworld_config(algorithm, steps)) for algorithm in COMPARED]
    seconds = online_seconds(asked, len(numbers), where.workers)
    print(f"This takes about {in_words(seconds)} here.", flush=True)
    written = measured(numbers, steps, runs, where)
    write_results(results, {"gridworld": written})
    rows = written["algorithms"]
    write_bytes(results / "gridworld.png", png(rows, written["config"]["algorithm"]["gamma"]))
    header = ("algorithm", "seed", "distance of τ(⟨0, 0⟩)", "value error", "return")
    lines = [
        (
            algorithm,
            str(seed["seed"]),
            f"{seed['distance'][-1][1]:.2f}",
            f"{seed['value_error']:+.1f}",
            f"{seed['last_return']:.0f}",
        )
        for algorithm, of_seeds in rows.items()
        for seed in of_seeds
    ]
    print_table(header, lines)
    print(f"made {results / 'gridworld.json'} and {results / 'gridworld.png'}")


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
    """Figure 7: D3G and D3G⁻ against DDPG, TD3 and SAC. Learning curves of the online mode."""
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
    """From fitted Q-iteration to D3G, on one figure. Over DQN, DDPG, TD3 and SAC, in one loop."""
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
    """Sections 2 and 3: what Q(s,s') is. In gridworlds and tables."""
    from qss_offline.cli.tabular import make_writable, run_one
    from qss_offline.parallel.pace import in_words
    from qss_offline.tabular.experiments import EXPERIMENTS

    root = Path("runs/tabular")
    if experiment == "all":
        folders = {name: (out or root) / name for name in EXPERIMENTS}
    else:
        by_name("experiment", experiment, {**EXPERIMENTS, "all": None})
        folders = {experiment: out or root / experiment}
    plans = {name: EXPERIMENTS[name].plan.spend(seeds, steps, alpha, walkers) for name in folders}
    for folder in folders.values():
        make_writable(folder)
        make_writable(figures or folder)
    print(f"This takes about {in_words(_EXPERIMENT_S * len(folders))} at most.", flush=True)
    for name, folder in folders.items():
        run_one(name, plans[name], folder, figures or folder)


def offline_to_online(
    env: options.Environment = "InvertedPendulum",
    seeds: options.Seeds = "5",
    steps: Annotated[int, Option(help="environment steps of the online mode")] = 20_000,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    runs: options.Runs = Path("runs/offline_to_online"),
    results: options.Results = Path("runs/offline_to_online/results"),
) -> None:
    """What an offline run saves the online mode. Learn offline, go on online; and from nothing."""
    from qss_offline.analysis.plots.learning_curves import png, return_lines
    from qss_offline.cli.cells import chosen
    from qss_offline.comparison.estimate import online_seconds
    from qss_offline.comparison.online_study import run_from_offline_and_nothing
    from qss_offline.data.build import build_dataset
    from qss_offline.data.environments import check_acting, resolve_env_id
    from qss_offline.data.specs import DatasetSpec
    from qss_offline.files import write_bytes
    from qss_offline.online.config import EvaluationPlan
    from qss_offline.online.presets import online_preset
    from qss_offline.parallel.pace import in_words
    from qss_offline.parallel.progress import progress
    from qss_offline.presets import preset
    from qss_offline.runs.config import RunConfig
    from qss_offline.runs.folder import parse_seeds
    from qss_offline.runs.provenance import write_results

    env_id, where, numbers = resolve_env_id(env), chosen(launcher, workers), parse_seeds(seeds)
    check_acting(env_id)
    config = replace(online_preset("default", env_id=env_id), steps=steps, warm_up=1_000)
    dataset = build_dataset(DatasetSpec(env_id), progress=progress).obs_id
    offline = RunConfig("d3g", env_id, dataset, numbers, "default", preset("default", "d3g"))
    wide = tuple(offline.preset.ensemble * dim for dim in config.algorithm.hidden_dims)
    run = "d3g", replace(config, algorithm=replace(config.algorithm, hidden_dims=wide))
    seconds = in_words(online_seconds([run] * 2, len(numbers), where.workers))
    print(
        f"This takes about {seconds} here, and as long as learning offline takes: qss train "
        f"{dataset}.",
        flush=True,
    )
    name = env_id.replace("/", "-")
    plan = EvaluationPlan(1_000)
    found = run_from_offline_and_nothing(offline, config, plan, runs / name, where, progress)
    write_results(results, {f"{name}-{begun}": one for begun, one in found.items()})
    picture = results / f"{name}.png"
    write_bytes(picture, png(list(found.values())))
    for one in found.values():
        print("\n".join(return_lines(one)))
    print(f"made {picture}; every return is in {results}")


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
    """Minari's public MuJoCo datasets, without actions. What others publish results on."""
    from qss_offline.cli.cells import chosen
    from qss_offline.cli.minari_mujoco import learn_from_minari

    learn_from_minari(
        envs=env.split(","), levels=level.split(","), source=source, methods=methods.split(","),
        seeds=seeds, out=out, list_only=list_only, launcher=chosen(launcher, workers),
    )  # fmt: skip


for command in (table1, figure6, figure7, ladder, tabular, offline_to_online, minari_mujoco):
    add(app, command)
