"""`qss runs`, `evaluate`, `render`, `report`, `export`, `compare`: what finished runs did."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from qss_offline.cli import options
from qss_offline.cli.tables import print_json, print_table
from qss_offline.errors import UserError, printable
from qss_offline.parallel.progress import progress

Source = Annotated[
    Path, Argument(metavar="RUN", help="a run folder, or a policy.safetensors of one")
]
RUNS = Path("runs")
Which = Annotated[int | None, Option(help="seed of training (the first, or all)")]


def runs(
    folder: Annotated[Path, Argument(help="where the runs are, or a run")] = RUNS,
    as_json: options.Json = False,
) -> None:
    """List the runs, how far they are, and what came of them."""
    from qss_offline.runs.listing import list_runs

    # Where commands put runs there needn't be any yet.
    found = list_runs(folder) if folder != RUNS or folder.exists() else []
    if as_json:
        print_json([vars(one) for one in found])
        return
    if not found:
        print(f"{folder} holds no runs; qss demo makes one")
        return
    print_table(
        ("run", "method", "from", "state", "last, each seed"),
        [
            (str(one.path), one.method, printable(one.source), one.state, one.scores)
            for one in found
        ],
    )


def evaluate(
    source: Source,
    episodes: Annotated[int, Option(min=1, help="episodes of each policy")] = 10,
    episode_seed: Annotated[int, Option(min=0, help="seed of the episodes")] = 0,
    seed: Which = None,
    env: Annotated[
        str | None,
        Option(help=f"where it acts: {options.ENVIRONMENT_HELP} (as the file says)"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Let saved policies act, and print every return."""
    from qss_offline.evaluation.acting import let_act

    rows: list[dict[str, Any]] = []
    for path in _policies(source, seed):
        acted = let_act(path, episodes, episode_seed, env)
        rows.append({"policy": str(path), **acted})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        returns = row["returns"]
        mean = sum(returns) / len(returns)
        name = "" if len(rows) == 1 else f"{row['policy']}: "
        print(f"{name}{row['env_id']}: mean return {mean:.1f} of {len(returns)} episodes")
        print("returns: " + " ".join(f"{value:.1f}" for value in returns))


def _policies(source: Path, seed: int | None) -> list[Path]:
    """Return the policy files that a path means: itself, or those of a run's seeds.

    Raises:
        UserError: there are none.
    """
    if not source.is_dir():
        if seed is not None:
            raise UserError("--seed chooses among the policies of a run; a policy file holds one")
        return [source]
    found = sorted(
        source.glob("seeds/*/policy.safetensors"), key=lambda path: path.parent.name.zfill(9)
    )
    if seed is not None:
        found = [path for path in found if path.parent.name == str(seed)]
    _check_policies(source, seed, found)
    return found


def _check_policies(source: Path, seed: int | None, found: list[Path]) -> None:
    """Refuse a folder without a policy; say where policies may still change.

    Raises:
        UserError: it is no run, it isn't finished, or why it has no policy.
    """
    from qss_offline.parallel.reporting import print_notice
    from qss_offline.runs.folder import RunFolder

    run, path = RunFolder(source), shlex.quote(str(source))
    unfinished = f"{source} is not finished; qss resume {path} goes on"
    if found:
        if run.started and not run.results.exists():
            print_notice(f"{unfinished}, and its policies may change")
        return
    if not run.started:
        raise UserError(f"{source} is no run folder; qss runs lists those that there are")
    there = sorted(one.name for one in source.glob("seeds/*"))
    if seed is not None and str(seed) not in there:
        raise UserError(f"{source} holds no seed {seed}; its seeds are {', '.join(there)}")
    if not run.results.exists():
        raise UserError(unfinished)
    which = "" if seed is None else f" of seed {seed}"
    if run.is_online:
        raise UserError(
            f"{source} holds no policy{which}: it diverged, or is of a method of d3rlpy, which "
            "keep none"
        )
    raise UserError(
        f"{source} holds no policy{which}: it diverged, or learned offline only, and then "
        f"qss fit-inverse {path} makes one"
    )


def render(
    run: options.RunPath,
    out: Annotated[Path | None, Option(help="folder of the pictures (RUN/render)")] = None,
    seed: Annotated[
        int | None, Option(help="seed that is shown (that whose last return is highest)")
    ] = None,
    steps: Annotated[int, Option(help="steps of each trajectory")] = 50,
    episodes: Annotated[int, Option(help="first states of each seed, for the distances")] = 20,
    env: options.RegisteredModules = None,
) -> None:
    """Draw recorded behaviour, the imagined plan, the policy. As MP4, GIF and PNG."""
    from qss_offline.analysis.video import render_online, render_run
    from qss_offline.data.environments import register_environments
    from qss_offline.runs.reader import FinishedRun, load_any_run

    register_environments(env or ())
    found = load_any_run(run)
    if isinstance(found, FinishedRun):
        made = render_run(found, out, seed=seed, steps=steps, episodes=episodes, progress=progress)
    else:
        made = render_online(found, out, seed=seed, steps=steps, progress=progress)
    for path in made.files:
        print(f"made {path}")


def report(
    sources: Annotated[
        list[Path], Argument(metavar="RUN...", help="run folders, and returns.csv files")
    ],
    out: Annotated[Path | None, Option(help="folder of the report (RUN/report, or report)")] = None,
    video: Annotated[bool, Option(help="draw videos that aren't there yet")] = True,
    env: options.RegisteredModules = None,
) -> None:
    """Write a page about runs, which needs nothing else. Its figures as PNG and SVG, too."""
    from qss_offline.analysis.report.making import make_report
    from qss_offline.data.environments import register_environments

    register_environments(env or ())
    print(f"made {make_report(sources, out, video=video, progress=progress)}")


def export(
    source: Source,
    to: Annotated[Path, Option("--to", help="file to write: .onnx, or .pt for TorchScript")],
    seed: Annotated[
        int | None, Option(help="seed of a run (that whose last return is highest)")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace the file")] = False,
) -> None:
    """Write a policy as ONNX or TorchScript. The file needs nothing of this package."""
    from qss_offline.evaluation.export import export_policy
    from qss_offline.evaluation.policy_files import load_policy
    from qss_offline.runs.folder import RunFolder, read_json
    from qss_offline.runs.results import best_seed, seeds_of_file

    if to.exists() and not overwrite:
        raise UserError(f"{to} exists; add --overwrite, or choose another name")
    found = _policies(source, seed)
    results = RunFolder(source).results
    if len(found) > 1 and results.exists():
        best = best_seed({"seeds": seeds_of_file(read_json(results), results)})
        found = _policies(source, best)
        print(f"the policy of seed {best}, whose last return is highest")
    elif len(found) > 1:
        print(f"the policy of seed {found[0].parent.name}, the first that has one")
    written = export_policy(load_policy(found[0]), to)
    print(f"made {to}: observations in, actions out, both in the environment's units")
    print(f"{written.checked_with} ran it: it acts as the policy does, to {written.difference:.1e}")


def compare(
    sources: Annotated[
        list[str], Argument(metavar="[NAME=]RUN...", help="run folders, named as you like")
    ],
    out: Annotated[Path | None, Option(help="folder of the report (RUN/report, or report)")] = None,
    as_json: options.Json = False,
    env: options.RegisteredModules = None,
) -> None:
    """Put runs side by side, in a table and on a page."""
    from qss_offline.api.comparing import compare as put_side_by_side
    from qss_offline.data.environments import register_environments

    register_environments(env or ())
    named: dict[str, Path] = {}
    for source in sources:
        name, equals, path = source.partition("=")
        # A folder's own name may hold the sign.
        if not equals or Path(source).is_dir():
            name, path = Path(source).resolve().name, source
        if name in named:
            raise UserError(f"two runs are called {name!r}: name them, as in first={path}")
        named[name] = Path(path)
    compared = put_side_by_side(named)
    if as_json:
        print_json(compared.rows())
        return
    print_table(*compared.table())
    for line in compared.notes():
        print(line)
    print(f"made {compared.report(out)}")
