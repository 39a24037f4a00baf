"""`qss data`: datasets from the command line."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from qss_offline.cli.command import add, make_app
from qss_offline.cli.options import Json
from qss_offline.cli.tables import print_json, print_table
from qss_offline.errors import UserError, printable
from qss_offline.parallel.progress import progress

if TYPE_CHECKING:
    from qss_offline.data.importing.names import ColumnNames
    from qss_offline.data.write import StoredDatasets

app = make_app("Make, import, look at, change and share datasets.")

DatasetId = Annotated[str, Argument(help="a Minari id, such as qss/Reacher/mine-obs-v0")]
Into = Annotated[str, Option("--into", help="namespace/.../name, without -obs-v0 or -act-v0")]
Ignore = Annotated[
    list[str] | None,
    Option("--ignore", help="columns that are taken as if they weren't there"),
]
Order = Annotated[str | None, Option("--order", help="column that sorts the rows of episodes")]
Missing = Annotated[
    str, Option("--missing", help="missing values and rows: refuse, drop-step or interpolate")
]
Resets = Annotated[
    str, Option("--resets", help="resets that nothing marks: refuse, drop-step or keep")
]
Overwrite = Annotated[bool, Option("--overwrite", help="replace what is there")]
Seed = Annotated[int, Option("--seed", min=0, help="seed of the draw")]
License = Annotated[str | None, Option("--license", help="SPDX identifier, such as cc-by-4.0")]
Token = Annotated[str | None, Option("--token", help="Hugging Face token")]

# Characters of a dataset's own text in a table.
_MAX_TEXT = 60


def _made(stored: StoredDatasets) -> None:
    for dataset_id in stored.ids:
        typer.echo(
            f"made {dataset_id}: {stored.transitions:,} transitions, {stored.episodes:,} episodes"
        )


def build(
    family: Annotated[str, Argument(help="a family's name, such as reacher, or a TOML file")],
    overwrite: Overwrite = False,
    workers: Annotated[
        int | None, Option(min=1, help="processes; by default one for each core")
    ] = None,
) -> None:
    """Build a family of datasets, and verify all of them. What is there is kept."""
    from qss_offline.data.build import build_family
    from qss_offline.data.families import family_path
    from qss_offline.data.specs import read_family

    described = read_family(family_path(family))
    members = build_family(described.specs, workers, overwrite, progress=progress)
    paper = described.paper_returns
    header = ("dataset", "random", "transitions", "episodes", "behaviour return")
    rows = []
    for one in members:
        level, mean = one.spec.random_action_prob, one.pair.behaviour_return.mean
        between = ""
        if one.return_interval is not None:
            low, high = one.return_interval
            between = f" [{low:.2f}; {high:.2f}]"
        rows.append(
            (
                one.pair.obs_id,
                f"{100 * level:g}%",
                f"{one.pair.transitions:,}",
                f"{one.pair.episodes:,}",
                f"{mean:.2f}{between}",
                *([f"{paper[level]:g}" if level in paper else "-"] if paper else []),
            )
        )
    print_table([*header, "paper"] if paper else header, rows)
    typer.echo("behaviour return: mean over whole episodes, with its 95% bootstrap interval")
    verified = sum(len(one.pair.ids) for one in members)
    typer.echo(f"verified {verified} datasets, every episode")


Names = Annotated[str | None, Option(help="columns, comma-separated, * allowed")]


def import_(
    source: Annotated[
        str,
        Argument(
            help="a .npz, .parquet, .csv or .hdf5 file, a folder of them, a LeRobot dataset, "
            "the id of a Minari dataset, or an online run, whose replays are taken"
        ),
    ],
    into: Annotated[
        str | None, Option("--into", help="namespace/.../name, without -obs-v0 or -act-v0")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="show what it would become, and write nothing")
    ] = False,
    observation_only: Annotated[
        bool, Option("--observation-only", help="leave the actions out")
    ] = False,
    env: Annotated[str | None, Option(help="environment, such as Reacher-v5")] = None,
    text: Annotated[str | None, Option(help="a sentence: what this is")] = None,
    algorithm: Annotated[str | None, Option(help="who acted")] = None,
    author: Annotated[list[str] | None, Option(help="a name; may be repeated")] = None,
    license: License = None,
    observations: Names = None,
    next_observations: Names = None,
    actions: Names = None,
    rewards: Names = None,
    terminations: Names = None,
    truncations: Names = None,
    episodes: Names = None,
    ignore: Ignore = None,
    offset: Annotated[
        list[str] | None, Option("--offset", help="columns whose first value is subtracted")
    ] = None,
    order: Order = None,
    missing: Missing = "refuse",
    resets: Resets = "refuse",
    rounding: Annotated[
        str, Option("--rounding", help="changes that float32 can't hold: refuse or keep")
    ] = "refuse",
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="leave out episodes in which something would be refused")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make verified datasets of a recording. A pair, or the observation-only one alone."""
    from qss_offline.data.importing.report import print_report
    from qss_offline.data.importing.rules import ImportRules
    from qss_offline.data.importing.sources import plan_source
    from qss_offline.data.importing.store import NOTHING_KNOWN, About
    from qss_offline.data.local import check_base_id

    names = _names(locals())
    about = About(
        env_id=env,
        text=text,
        algorithm_name=algorithm,
        author=tuple(author or ()),
        license=license,
    )
    rules = ImportRules(
        ignore=tuple(ignore or ()),
        offset=tuple(offset or ()),
        order=order,
        missing=missing,  # type: ignore[arg-type]
        resets=resets,  # type: ignore[arg-type]
        rounding=rounding,  # type: ignore[arg-type]
        skip_bad=skip_bad,
    )
    if into is not None:
        check_base_id(into)
    elif not dry_run:
        raise UserError("--into is missing: namespace/.../name of what is made, or --dry-run")
    if _is_online_run(Path(source)):
        given = (replace(about, env_id=None), names, rules, observation_only, dry_run)
        if into is None or given != (NOTHING_KNOWN, _names({}), ImportRules(), False, False):
            raise UserError(
                f"{source} is an online run, whose replays are stored as they are: leave out all "
                "options but --into, --overwrite and --env, for an environment of your own"
            )
        _import_replays(Path(source), into, env, overwrite)
        return
    plan = plan_source(
        source, names=names, observation_only=observation_only, rules=rules, progress=progress
    )
    print_report(plan.report)
    if into is None or dry_run:
        plan.check(into, about, overwrite=overwrite)
    else:
        _made(plan.store(into, about, overwrite=overwrite, progress=progress))


def _names(given: Mapping[str, Any]) -> ColumnNames:
    """Return the options that name columns, of all that were given."""
    from qss_offline.data.importing.names import ColumnNames

    return ColumnNames(**{role.name: given.get(role.name) for role in fields(ColumnNames)})


def _is_online_run(path: Path) -> bool:
    """Whether a folder is one, and not just a recording beside a `config.json`."""
    from qss_offline.runs.folder import RunFolder

    return (path / "seeds").is_dir() and RunFolder(path).is_online


def _import_replays(run: Path, into: str, env: str | None, overwrite: bool) -> None:
    """Store what each seed of an online run saw."""
    from qss_offline.online.export import export_replay
    from qss_offline.runs.folder import RunFolder

    seeds = sorted(int(path.name) for path in run.glob("seeds/*") if path.name.isdigit())
    if not seeds:
        raise UserError(f"{run} holds no replays yet")
    for seed in seeds:
        name, folder = f"{into}-s{seed}", RunFolder(run)
        _made(export_replay(folder, seed, name, env, overwrite=overwrite, progress=progress))


def check(
    source: Annotated[str, Argument(help="whatever can be imported")],
    observations: Names = None,
    next_observations: Names = None,
    actions: Names = None,
    rewards: Names = None,
    terminations: Names = None,
    truncations: Names = None,
    episodes: Names = None,
    ignore: Ignore = None,
    order: Order = None,
    as_json: Json = False,
) -> None:
    """Say what an import would make, and write nothing. Also what is suspicious."""
    from qss_offline.data.importing.checking import check_source
    from qss_offline.data.importing.rules import ImportRules

    rules = ImportRules(tuple(ignore or ()), order=order)
    found = check_source(source, names=_names(locals()), rules=rules)
    if as_json:
        print_json(found.as_json())
    else:
        for line in found.lines():
            typer.echo(printable(line))
    if found.refused:
        raise typer.Exit(2)


def list_(as_json: Json = False) -> None:
    """List the local datasets, with and without actions."""
    from qss_offline.data.listing import list_datasets

    found = list_datasets()
    if as_json:
        print_json({one.dataset_id: asdict(one) for one in found})
        return
    header = ("dataset", "environment", "actions", "transitions", "episodes")
    rows, problems = [], []
    for one in found:
        if one.problem is not None:
            problems.append(f"{one.dataset_id} can't be used: {one.problem}")
            continue
        env_id = printable(one.env_id or "unknown")[:_MAX_TEXT]
        actions = "no" if one.observation_only else "yes"
        numbers = f"{one.total_steps:,}", f"{one.total_episodes:,}"
        rows.append((one.dataset_id, env_id, actions, *numbers))
    print_table(header, rows)
    for line in problems:
        typer.echo(printable(line))


def rm(
    datasets: Annotated[list[str], Argument(metavar="ID...", help="local datasets, by their ids")],
    yes: Annotated[bool, Option("--yes", "-y", help="don't ask")] = False,
) -> None:
    """Remove local datasets from the disk. A twin is removed only if it is named, too."""
    from qss_offline.data import removing
    from qss_offline.files import size_text

    found = removing.removable(datasets)
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("removing can't be undone: add --yes")
        for one in found:
            typer.echo(f"{one.dataset_id}: {size_text(one.size)}")
        if not typer.confirm("Remove for good?"):
            typer.echo("nothing was removed")
            return
    for one in found:
        removing.remove(one)
        typer.echo(f"removed {one.dataset_id}")
    typer.echo(f"{size_text(sum(one.size for one in found))} freed")


def show(dataset_id: DatasetId) -> None:
    """Describe one dataset, as JSON."""
    from qss_offline.data.listing import describe

    print_json(describe(dataset_id))


def verify(dataset_id: DatasetId, as_json: Json = False) -> None:
    """Check a dataset in full; repair nothing. Code 2 if anything is wrong."""
    from qss_offline.data.verify import verify_dataset

    verification = verify_dataset(dataset_id, progress=progress)
    marks = {True: "ok", False: "FAULT", None: "-"}
    if as_json:
        print_json({one.name: {"ok": one.ok, "detail": one.detail} for one in verification.checks})
    else:
        for check in verification.checks:
            typer.echo(f"{marks[check.ok]:5}  {check.name}: {printable(check.detail)}")
    if not verification.ok:
        faults, total = len(verification.faults), len(verification.checks)
        raise UserError(f"dataset {dataset_id!r}: {faults} of {total} checks failed")
    if not as_json:
        typer.echo(f"verified {dataset_id}: {len(verification.checks)} checks")


def stats(
    dataset_id: DatasetId,
    picture: Annotated[
        Path | None, Option("--picture", help="draw returns, lengths and coverage to a .png")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print returns, lengths and state coverage, and draw them."""
    from qss_offline.data.statistics import dataset_statistics

    numbers = dataset_statistics(dataset_id, picture, overwrite=overwrite)
    print_json(asdict(numbers))
    if picture is not None:
        typer.echo(f"made {picture}", err=True)


def split(
    dataset_id: DatasetId,
    into: Annotated[
        list[str], Option("--into", help="namespace/.../name=share, for each part, e.g. =0.8")
    ],
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Deal the episodes of a dataset out to several new ones."""
    from qss_offline.data.edit import split_dataset

    parts: dict[str, float] = {}
    for part in into:
        name, _, share = part.partition("=")
        if name in parts:
            raise UserError(f"--into {name} is given twice")
        try:
            parts[name] = float(share)
        except ValueError as error:
            raise UserError(
                f"--into {part!r}: expected NAME=SHARE, such as me/x/test=0.2"
            ) from error
    for stored in split_dataset(
        dataset_id, parts, seed=seed, overwrite=overwrite, progress=progress
    ):
        _made(stored)


def merge(
    dataset_ids: Annotated[list[str], Argument(help="two Minari ids or more, of one kind")],
    into: Into,
    overwrite: Overwrite = False,
) -> None:
    """Put datasets one behind the other. Never mixes observation-only ones with others."""
    from qss_offline.data.edit import merge_datasets

    _made(merge_datasets(dataset_ids, into, overwrite=overwrite, progress=progress))


def sample(
    dataset_id: DatasetId,
    into: Into,
    episodes: Annotated[int | None, Option(help="how many episodes")] = None,
    transitions: Annotated[int | None, Option(help="or how many transitions")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw whole episodes at random into a new dataset."""
    from qss_offline.data.edit import sample_dataset

    stored = sample_dataset(
        dataset_id,
        into,
        episodes=episodes,
        transitions=transitions,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
    )
    _made(stored)


def export(
    dataset_id: DatasetId,
    path: Annotated[Path, Argument(help="a .parquet or .npz file")],
    overwrite: Overwrite = False,
) -> None:
    """Write the transitions to a Parquet or npz file."""
    from qss_offline.data.export import export_dataset

    typer.echo(f"made {export_dataset(dataset_id, path, overwrite=overwrite)}")


def card(
    dataset_id: DatasetId,
    license: License = None,
    citation: Annotated[str | None, Option(help="BibTeX or a sentence")] = None,
) -> None:
    """Write a dataset's card, README.md, into its folder."""
    from qss_offline.data.card import write_card

    typer.echo(f"made {write_card(dataset_id, license=license, citation=citation)}")


def push(
    dataset_id: DatasetId,
    to: Annotated[str, Option("--to", help="hf://USER or a folder")],
    twin: Annotated[bool, Option("--twin", help="the twin too")] = False,
    license: License = None,
    token: Token = None,
) -> None:
    """Verify a dataset and upload it, card and all."""
    from qss_offline.data.hub import push_dataset

    ids = push_dataset(dataset_id, to, token=token, twin=twin, license=license, progress=progress)
    for one in ids:
        typer.echo(f"pushed {one} to {to}")


def pull(
    dataset_id: DatasetId,
    source: Annotated[str, Option("--from", help="hf://USER or a folder")],
    token: Token = None,
    overwrite: Overwrite = False,
    max_gb: Annotated[
        float, Option("--max-gb", min=0, help="gigabytes that a dataset may hold")
    ] = 20.0,
) -> None:
    """Download a dataset, and check it before it is visible."""
    from qss_offline.data.hub import pull_dataset

    if not math.isfinite(max_gb):
        raise UserError(f"--max-gb: expected a number, not {max_gb}")
    digest = pull_dataset(
        dataset_id,
        source,
        token=token,
        overwrite=overwrite,
        max_bytes=int(max_gb * 1e9),
        progress=progress,
    )
    typer.echo(f"pulled {dataset_id}, digest {printable(digest or 'none')}")


for command in (
    build, import_, check, list_, rm, show, verify, stats, split, merge, sample, export, card, push,
    pull,
):  # fmt: skip
    add(app, command)
