"""Plain hints after a run that failed to learn, from its own figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qss_offline.analysis.measures import coverage, gain, inverse_fit
from qss_offline.analysis.models import inverse_model_of, planner_of
from qss_offline.evaluation.normalization import reference
from qss_offline.runs.reader import FinishedRun

_VALUE_SLACK = _STILL_MOVING = 0.05
_FEW_ROWS = 4
_MANY_OUTSIDE = 0.2
_POOR_FIT = 0.5
_FEW_TERMINALS = 100
_LOST = 0.5
_DWARFED = 20
_BAR_OF_RANDOM, _BAR_SLOPE = 0.2, 0.6


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        measured: the figure, in words.
        hint: what it means and what to try, None where nothing is wrong.
    """

    name: str
    measured: str
    hint: str | None = None


def bar(run: FinishedRun) -> float:
    """Return the mean return below which a seed counts as one that failed to learn.

    Where an expert's return is known, in its units from random (0) to expert (1), the bar is
    0.2 + 0.6 b for recorded behaviour b: clearly better than random behaviour, and not much worse
    than an expert's. Elsewhere it is the recorded mean plus its standard deviation, or minus it
    where the recording is partly an expert's.
    """
    mean, spread = run.behaviour
    known = reference(run.env_id)
    if known is not None:
        low, high = known
        recorded = (mean - low) / (high - low)
        return low + (_BAR_OF_RANDOM + _BAR_SLOPE * recorded) * (high - low)
    wholly_random = run.results.get("random_action_prob") in (1.0, None)
    return mean + spread if wholly_random else mean - spread


def failed_seeds(run: FinishedRun) -> tuple[int, ...]:
    """Return the seeds whose last policy is below the bar."""
    least = bar(run)
    return tuple(seed for seed, last in zip(run.seeds, run.last, strict=True) if not last >= least)


def diagnose(run: FinishedRun, seed: int) -> tuple[Finding, ...]:
    """Look at one seed of a run.

    Raises:
        UserError: the run's files or its dataset can't be read.
    """
    if run.method == "d3g":
        return _of_proposals(run, seed)
    shared = _inverse(run, seed), _steadiness(run, seed)
    return _something_to_repeat(run), _random_actions_left_out(run, seed), *shared


def _of_proposals(run: FinishedRun, seed: int) -> tuple[Finding, ...]:
    return (
        _values(run, seed),
        _settled(run, seed),
        _proposals(run, seed),
        _gain(run, seed),
        _inverse(run, seed),
        _terminals(run),
        _steadiness(run, seed),
    )


def _values(run: FinishedRun, seed: int) -> Finding:
    gamma = run.config.preset.algorithm.gamma
    low, high = run.facts.value_limits(gamma)
    rows = run.metrics(seed)
    name = "values within what the rewards allow"
    if "q" not in rows:
        return Finding(name, "no metrics were written")
    values = {"Q": rows["q"][-1], "Q of proposals": rows["proposal_value"][-1]}
    measured = ", ".join(f"{what} {value:.3g}" for what, value in values.items())
    measured += f"; possible: {low:.3g} to {high:.3g}"
    slack = _VALUE_SLACK * (high - low)
    worst = max(values.values())
    if not np.isfinite(list(values.values())).all():
        return Finding(name, measured, "Q is no longer finite: take a smaller learning rate")
    if worst > high + slack:
        return Finding(
            name,
            measured,
            f"Q is {worst:.3g}, but no reward stream of this recording is worth more than "
            f"{high:.3g}: the critic overestimates. --preset default holds targets inside what is "
            "possible (clamp_targets); a smaller gamma or a greater cycle_coef help too",
        )
    if min(values.values()) < low - slack:
        return Finding(
            name,
            measured,
            f"Q is {min(values.values()):.3g}, but nothing here is worth less than {low:.3g}: the "
            "critic drifts. --preset default holds targets inside what is possible (clamp_targets)",
        )
    return Finding(name, measured)


def _settled(run: FinishedRun, seed: int) -> Finding:
    low, high = run.facts.value_limits(run.config.preset.algorithm.gamma)
    q = run.metrics(seed).get("q", np.zeros(0))
    name = "values have settled"
    if len(q) < _FEW_ROWS:
        updates = run.config.updates
        return Finding(
            name,
            f"{updates:,} updates",
            f"{updates:,} updates are too few to judge anything; give more --updates",
        )
    moved = float(q[-1] - q[-1 - len(q) // 4])
    measured = f"Q moved by {moved:.2g} in the last quarter"
    if abs(moved) <= _STILL_MOVING * (high - low):
        return Finding(name, measured)
    return Finding(name, measured, f"{measured}: it is still being learned; give more --updates")


def _proposals(run: FinishedRun, seed: int) -> Finding:
    found = coverage(planner_of(run, seed), run.dataset.transitions)
    share = found.proposed_outside
    measured = (
        f"{share:.0%} of the proposals lie outside the recorded states (of these themselves: 1%)"
    )
    name = "proposals inside the data"
    if share <= _MANY_OUTSIDE:
        return Finding(name, measured)
    return Finding(
        name,
        measured,
        f"{share:.0%} of the proposals lead where the recording has never been; their values are "
        f"guesses (steps are {found.step_ratio:.1f} times the recorded size). A greater cycle_coef "
        "keeps them reachable; more transitions (--transitions) or updates help too",
    )


def _gain(run: FinishedRun, seed: int) -> Finding:
    found = gain(planner_of(run, seed), run.dataset.transitions)
    measured = f"|Q| is {found.value:.3g}, and proposals change it by {found.gap:.2g}"
    name = "values beside what a step gains"
    only_random = run.results.get("random_action_prob") == 1.0
    if run.config.preset.algorithm.gap_units or only_random or not found.ratio > _DWARFED:
        return Finding(name, measured)
    if seed not in failed_seeds(run):
        # Common, and no harm where proposals hold to the recording all the same.
        return Finding(name, measured)
    return Finding(
        name,
        measured,
        f"values are {found.ratio:.0f} times what a proposal changes them by, so that their errors "
        "may choose: --preset bodies weighs them by what there is to gain and keeps to recorded "
        "steps, for environments that end early; --preset runners is for those that don't",
    )


def _inverse(run: FinishedRun, seed: int) -> Finding:
    fit = inverse_fit(inverse_model_of(run, seed), run.seed_folder(seed))
    steps = run.results["seeds"][run.seeds.index(seed)]["online_steps"]
    measured = f"explains {max(fit, 0.0):.0%} of the actions of its {steps:,} online steps"
    name = "inverse model fits"
    if fit >= _POOR_FIT:
        return Finding(name, measured)
    return Finding(
        name,
        measured,
        f"the inverse model explains only {max(fit, 0.0):.0%} of the actions of its seed's own "
        "online steps: what it says of other steps is hardly better. Give it more steps "
        "(--online-steps) or rounds (--online-rounds)",
    )


def _something_to_repeat(run: FinishedRun) -> Finding:
    probability = run.results.get("random_action_prob")
    name = "something to repeat"
    if probability is None:
        return Finding(name, "nobody said how random the recorded behaviour is")
    measured = f"{probability:.0%} of the recorded actions are random"
    if probability < 1:
        return Finding(name, measured)
    return Finding(
        name,
        measured,
        "all recorded actions are random, which is all that BCO can repeat: D3G learns from such "
        f"recordings (qss train {run.dataset_id})",
    )


def _random_actions_left_out(run: FinishedRun, seed: int) -> Finding:
    share, power = run.facts.behaviour_stochasticity, run.config.error_power
    name = "random actions left out"
    stochasticity = "an unknown share" if share is None else f"{share:.1%}"
    measured = (
        f"{stochasticity} of the variance of recorded steps comes from random actions; errors "
        f"count to the power {power:g}"
    )
    if power <= run.facts.error_power or seed not in failed_seeds(run):
        return Finding(name, measured)
    return Finding(
        name,
        measured,
        "the policy repeats the mean of the controller's actions and of random ones "
        f"({stochasticity} of the variance of recorded steps): leave out "
        "--error-power to repeat the mode",
    )


def _terminals(run: FinishedRun) -> Finding:
    transitions = run.dataset.transitions
    count = int(transitions.terminations.sum())
    measured = f"{count:,} of {len(transitions):,} transitions are terminal"
    name = "terminal transitions"
    if count == 0 or count >= _FEW_TERMINALS:
        return Finding(name, measured)
    return Finding(
        name,
        measured,
        f"only {count} recorded transitions are terminal: too few to learn from what ends an "
        "episode. Record more (--transitions), or behaviour that fails more often (--randomness)",
    )


def _steadiness(run: FinishedRun, seed: int) -> Finding:
    index, (mean, _) = run.seeds.index(seed), run.behaviour
    last, best = float(run.last[index]), float(run.best[index])
    measured = f"last {last:.1f}, best of evaluations {best:.1f}"
    name = "last policy as good as the best"
    if best <= mean or last - mean >= _LOST * (best - mean):
        return Finding(name, measured)
    return Finding(
        name,
        measured,
        f"an earlier evaluation returned {best:.1f}, the last {last:.1f}: the policy was there and "
        "was lost. More online rounds (--online-rounds) steady the inverse model; more updates "
        f"(--updates) the {'policy' if run.method == 'bco' else 'proposal'}",
    )


def hints(run: FinishedRun) -> list[str]:
    """Return a line for each thing that may be why seeds failed; nothing where none failed.

    Raises:
        UserError: the run's files or its dataset can't be read.
    """
    lines = []
    for seed in failed_seeds(run):
        found = [one.hint for one in diagnose(run, seed) if one.hint is not None]
        index = run.seeds.index(seed)
        short = f"seed {seed} did not learn (return {run.last[index]:.1f})"
        lines += [f"{short}: {hint}" for hint in found] or [
            f"{short}, and its figures show none of the known reasons; try more --updates, and "
            "other --seeds: they differ widely"
        ]
    return lines
