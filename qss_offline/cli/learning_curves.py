"""Learning curves of the online mode: Figure 7 and the ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qss_offline.analysis.plots.learning_curves import (
    load_curves,
    png,
    score_lines,
    values_png,
)
from qss_offline.comparison.estimate import online_seconds
from qss_offline.comparison.online_study import run_missing
from qss_offline.data.environments import resolve_env_id
from qss_offline.errors import UserError
from qss_offline.files import write_bytes
from qss_offline.launch.cell import Launcher
from qss_offline.online.presets import online_preset
from qss_offline.parallel.pace import in_words
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import parse_seeds
from qss_offline.runs.results import value_curve


def draw_curves(
    name: str,
    *,
    algorithms: Mapping[str, Sequence[str]],
    seeds: str,
    steps: int | None,
    preset: str,
    launcher: Launcher,
    runs: Path,
    results: Path,
    draw: bool,
) -> None:
    """Run what is missing unless only to `draw`, then draw the learning curves of all results.

    Args:
        name: of the figure.
        algorithms: of each environment.
        seeds: of all of them.
        steps: environment steps; None takes the preset's.
        preset: of the online mode.
        launcher: where runs are made.
        runs: folder of the run folders.
        results: folder of the results and the figure.
        draw: draw what is there, and run nothing.

    Raises:
        UserError: an option can't be used, or there is nothing to draw.
    """
    if not draw:
        asked = {
            env_id: {one: online_preset(preset, one, env_id) for one in some}
            for env_id, some in ((resolve_env_id(env), some) for env, some in algorithms.items())
        }
        if steps is not None:
            asked = {
                env_id: {one: replace(config, steps=steps) for one, config in configs.items()}
                for env_id, configs in asked.items()
            }
        each = [one for configs in asked.values() for one in configs.items()]
        seconds = online_seconds(each, len(parse_seeds(seeds)), launcher.workers)
        print(f"This takes about {in_words(seconds)} here.", flush=True)
        run_missing(asked, parse_seeds(seeds), preset, runs, results, launcher, progress)
    curves = load_curves(results)
    if not curves:
        raise UserError(f"{results} holds no results yet; leave out --draw to make some")
    picture = results / f"{name}.png"
    write_bytes(picture, png(curves))
    print("\n".join(score_lines(curves)))
    made = [picture]
    if any(value_curve(one["seeds"]) is not None for one in curves):
        made.append(results / f"{name}_values.png")
        write_bytes(made[-1], values_png(curves))
    print(f"made {' and '.join(map(str, made))}")
