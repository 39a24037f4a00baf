"""Plain hints after a run that failed to learn, from its own figures: each once a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qss_offline.analysis.measures import coverage, gain, inverse_fit
from qss_offline.analysis.models import inverse_model_of, planner_of
from qss_offline.evaluation.normalization import reference
from qss_offline.presets import preset_of
from qss_offline.runs.portfolio_config import D3G
from qss_offline.runs.reader import FinishedRun
from qss_offline.statistics import counted, number_text

_VALUE_SLACK = _STILL_MOVING = 0.05
_FEW_ROWS = 4
_MANY_OUTSIDE = 0.2
_POOR_FIT = 0.5
_FEW_TERMINALS = 100
_LOST = 0.5
_DWARFED = 20
_BAR_OF_RANDOM, _BAR_SLOPE = 0.2, 0.6
_SMALL_BUDGET = 0.5
_MOST_LISTED = 10

FINITE = "policy is finite"
VALUES = "values within what the rewards allow"
SETTLED = "values have settled"
PROPOSALS = "proposals inside the data"
GAIN = "values beside what a step gains"
INVERSE = "inverse model fits"
TERMINALS = "terminal transitions"
REPEAT = "something to repeat"
RANDOM_ACTIONS = "random actions left out"
STEADY = "last policy as good as the best"

_FOLLOW_FROM_FEW_UPDATES = {SETTLED, PROPOSALS, GAIN, STEADY}
_FOLLOW_FROM_FEW_STEPS = {INVERSE, STEADY}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at in a seed.

    Attributes:
        name: what.
        measured: the figure, in words.
        hint: what it means and what to try, None where nothing is wrong; `{}` stands for `figure`.
        figure: the seed's own part of the hint.
    """

    name: str
    measured: str
    hint: str | None = None
    figure: str = ""


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
    """Return the seeds whose last policy is below the bar; of a run without evaluations none."""
    if not run.evaluated:
        return ()
    least = bar(run)
    return tuple(seed for seed, last in zip(run.seeds, run.last, strict=True) if not last >= least)


def small_budget(run: FinishedRun) -> dict[str, tuple[int, int]]:
    """Return of what a run was given less than half of what its preset has.

    Returns:
        What it was given and what its preset has, by "updates" and "online steps"; nothing of a
        preset that is unknown here.
    """
    config = run.config
    named = preset_of(config.preset_name, run.method)
    if named is None:
        return {}
    spent = {
        "updates": (config.updates, named.updates),
    }
    # Without online steps the IDM learns from known ones.
    if run.evaluated and config.inverse.online_steps:
        spent["online steps"] = config.inverse.online_steps, named.inverse.online_steps
    return {
        name: (given, usual)
        for name, (given, usual) in spent.items()
        if given < _SMALL_BUDGET * usual
    }


def diagnose(run: FinishedRun, seed: int) -> tuple[Finding, ...]:
    """Look at one seed of a run; of one without evaluations only at its training.

    Raises:
        UserError: the run's files or its dataset can't be read.
    """
    if run.evaluated and not run.seed_folder(seed).policy.exists():
        hint = "the policy diverged: take a smaller learning rate (--set), and another --out"
        return (Finding(FINITE, "not any longer", hint),)
    winner = run.winner(seed)
    if run.method == "bco":
        found = [_something_to_repeat(run), _random_actions_left_out(run, seed)]
    elif winner not in (None, D3G):
        # What plain D3G learned doesn't act.
        found = [_terminals(run)]
    else:
        found = [_values(run, seed), _settled(run, seed), _terminals(run)]
        if run.evaluated:
            found[2:2] = [_proposals(run, seed), _gain(run, seed)]
    if run.evaluated:
        found += [_inverse(run, seed), _steadiness(run, seed)]
    return tuple(found)


def _values(run: FinishedRun, seed: int) -> Finding:
    algorithm = run.config.preset.algorithm
    low, high = run.facts.value_limits(algorithm.gamma)
    rows = run.metrics(seed)
    if "q" not in rows:
        return Finding(VALUES, "no metrics were written")
    values = {"Q": rows["q"][-1], "Q of proposals": rows["proposal_value"][-1]}
    least, most = number_text(low), number_text(high)
    measured = ", ".join(f"{what} {number_text(value)}" for what, value in values.items())
    measured += f"; possible: {least} to {most}"
    if not np.isfinite(list(values.values())).all():
        hint = "Q is no longer finite: take a smaller learning_rate"
        return Finding(VALUES, measured, hint)
    slack = _VALUE_SLACK * (high - low)
    greatest, smallest = max(values.values()), min(values.values())
    clamp = "" if algorithm.clamp_targets else "clamp_targets holds targets inside that; "
    if greatest > high + slack:
        hint = (
            f"Q is {{}}, but no reward stream of this recording is worth more than {most}: the "
            f"critic overestimates. {clamp}a smaller gamma or a greater cycle_coef help"
        )
        return Finding(VALUES, measured, hint, number_text(greatest))
    if smallest < low - slack:
        hint = (
            f"Q is {{}}, but nothing here is worth less than {least}: the critic drifts. "
            f"{clamp}a smaller gamma helps"
        )
        return Finding(VALUES, measured, hint, number_text(smallest))
    return Finding(VALUES, measured)


def _settled(run: FinishedRun, seed: int) -> Finding:
    low, high = run.facts.value_limits(run.config.preset.algorithm.gamma)
    q = run.metrics(seed).get("q", np.zeros(0))
    if len(q) < _FEW_ROWS:
        updates = counted(run.config.updates, "update")
        return Finding(
            SETTLED, updates, f"{updates}: too few to judge anything; give more --updates"
        )
    moved = float(q[-1] - q[-1 - len(q) // 4])
    measured = f"Q moved by {number_text(moved)} in the last quarter"
    # What is no number is named as that already.
    if not abs(moved) > _STILL_MOVING * (high - low):
        return Finding(SETTLED, measured)
    hint = (
        "Q moved by {} in the last quarter of the updates: it is still being learned; give more "
        "--updates"
    )
    return Finding(SETTLED, measured, hint, number_text(moved))


def _proposals(run: FinishedRun, seed: int) -> Finding:
    found = coverage(planner_of(run, seed), run.dataset.transitions)
    share = f"{found.proposed_outside:.0%}"
    measured = f"{share} of the proposals lie outside the recorded states (of these themselves: 1%)"
    if found.proposed_outside <= _MANY_OUTSIDE:
        return Finding(PROPOSALS, measured)
    hint = (
        "{} of the proposals lead where the recording has never been; their values are guesses. A "
        "greater cycle_coef keeps them reachable; more transitions or updates help too"
    )
    return Finding(PROPOSALS, measured, hint, share)


def _gain(run: FinishedRun, seed: int) -> Finding:
    found = gain(planner_of(run, seed), run.dataset.transitions)
    value, gap = number_text(found.value), number_text(found.gap)
    measured = f"|Q| is {value}, and proposals change it by {gap}"
    only_random = run.results.get("random_action_prob") == 1.0
    if only_random or not found.ratio > _DWARFED:
        return Finding(GAIN, measured)
    # Common, and no harm where proposals hold to the recording all the same; a race had others.
    if run.method == "auto" or seed not in failed_seeds(run):
        return Finding(GAIN, measured)
    hint = (
        "values are {} times what a proposal changes them by, so that their errors may choose: "
        "method auto tries methods that repeat recorded steps beside this one"
    )
    return Finding(GAIN, measured, hint, number_text(found.ratio))


def _inverse(run: FinishedRun, seed: int) -> Finding:
    steps = run.results["seeds"][run.seeds.index(seed)]["online_steps"]
    if not steps:
        known = run.results.get("known_steps", 0)
        return Finding(INVERSE, f"learned from {counted(known, 'known step')}, and took no others")
    fit = inverse_fit(inverse_model_of(run, seed), run.seed_folder(seed))
    share = f"{max(fit, 0.0):.0%}"
    measured = f"explains {share} of the actions of its {counted(steps, 'online step')}"
    if fit >= _POOR_FIT:
        return Finding(INVERSE, measured)
    hint = (
        "the inverse model explains only {} of the actions of its seed's own online steps: what it "
        "says of other steps is hardly better. Give it more steps (--online-steps) or rounds "
        "(--online-rounds)"
    )
    return Finding(INVERSE, measured, hint, share)


def _something_to_repeat(run: FinishedRun) -> Finding:
    probability = run.results.get("random_action_prob")
    if probability is None:
        return Finding(REPEAT, "nobody said how random the recorded behaviour is")
    measured = f"{probability:.0%} of the recorded actions are random"
    if probability < 1:
        return Finding(REPEAT, measured)
    hint = (
        "all recorded actions are random, which is all that BCO can repeat: D3G learns from such "
        f"recordings (qss train {run.dataset_id})"
    )
    return Finding(REPEAT, measured, hint)


def _random_actions_left_out(run: FinishedRun, seed: int) -> Finding:
    share, power = run.facts.behaviour_stochasticity, run.config.error_power
    stochasticity = "an unknown share" if share is None else f"{share:.1%}"
    measured = (
        f"{stochasticity} of the variance of recorded steps comes from random actions; errors "
        f"count to the power {power:g}"
    )
    if power <= run.facts.error_power or seed not in failed_seeds(run):
        return Finding(RANDOM_ACTIONS, measured)
    hint = (
        "the policy repeats the mean of the controller's actions and of random ones "
        f"({stochasticity} of the variance of recorded steps): leave out --error-power to repeat "
        "the mode"
    )
    return Finding(RANDOM_ACTIONS, measured, hint)


def _terminals(run: FinishedRun) -> Finding:
    transitions = run.dataset.transitions
    count = int(transitions.terminations.sum())
    measured = f"{count:,} of {len(transitions):,} transitions are terminal"
    if count == 0 or count >= _FEW_TERMINALS:
        return Finding(TERMINALS, measured)
    failing = "" if run.results.get("random_action_prob") == 1.0 else (
        ", or behaviour that fails more often (--randomness)"
    )  # fmt: skip
    hint = (
        f"only {counted(count, 'recorded transition')} {'is' if count == 1 else 'are'} terminal: "
        f"too few to learn from what ends an episode. Record more (--transitions){failing}"
    )
    return Finding(TERMINALS, measured, hint)


def _steadiness(run: FinishedRun, seed: int) -> Finding:
    index, (mean, _) = run.seeds.index(seed), run.behaviour
    last, best = float(run.last[index]), float(run.best[index])
    measured = f"last {number_text(last)}, best of evaluations {number_text(best)}"
    if not best > mean or last - mean >= _LOST * (best - mean):
        return Finding(STEADY, measured)
    number = run.results["seeds"][index]["best"]["evaluation"]
    hint = (
        "performance dropped after {}. More online rounds (--online-rounds) steady the inverse "
        f"model, more --updates the {'policy' if run.method == 'bco' else 'proposal'}"
    )
    drop = f"evaluation {number} (from {number_text(best)} to {number_text(last)})"
    return Finding(STEADY, measured, hint, drop)


def verdict(run: FinishedRun) -> str:
    """Return in a line how many seeds learned; of a run without evaluations, that nobody knows."""
    count, failed = len(run.seeds), failed_seeds(run)
    if not run.evaluated:
        return "Nothing was evaluated: the run had no environment to act in."
    if not failed:
        return f"All {count} seeds learned." if count > 1 else "The seed learned."
    returns = dict(zip(run.seeds, run.last, strict=True))
    each = ", ".join(f"seed {seed}: {number_text(returns[seed])}" for seed in failed)
    listed = f" ({each})" if len(failed) <= _MOST_LISTED else ""
    who = "The seed" if count == 1 else f"{len(failed)} of {count} seeds"
    return f"{who} did not learn: last returns below {number_text(bar(run))}{listed}."


def hints(run: FinishedRun) -> list[str]:
    """Return what may be why seeds failed, a line each after the verdict; nothing where none did.

    A small budget comes first, and what follows from one isn't said.

    Raises:
        UserError: the run's files or its dataset can't be read.
    """
    failed = failed_seeds(run)
    return [verdict(run), *_reasons(run, failed)] if failed else []


def _reasons(run: FinishedRun, failed: Sequence[int]) -> list[str]:
    small = small_budget(run)
    silent: set[str] = set()
    lines = []
    if small:
        given = " and ".join(f"{one:,} {name}" for name, (one, _) in small.items())
        usual = " and ".join(f"{one:,}" for _, one in small.values())
        options = " and ".join(f"--{name.replace(' ', '-')}" for name in small)
        lines.append(
            f"the budget is small: {given}, where preset "
            f"{run.config.preset_name.partition(' with ')[0]} has {usual}; leave out {options} "
            "before anything else"
        )
        silent |= _FOLLOW_FROM_FEW_UPDATES if "updates" in small else set()
        silent |= _FOLLOW_FROM_FEW_STEPS if "online steps" in small else set()
    said: dict[str, dict[int, str]] = {}
    for seed in failed:
        for one in diagnose(run, seed):
            if one.hint is not None and one.name not in silent:
                said.setdefault(one.hint, {})[seed] = one.figure
    unexplained = set(failed).difference(*said.values())
    for hint, figures in said.items():
        which = _which_seeds(tuple(figures), run)
        lines.append(f"{which}: {hint.replace('{}', _listed(list(figures.values())))}")
    if unexplained and not small:
        which = _which_seeds(sorted(unexplained), run)
        lines.append(
            f"{which}: none of the known reasons shows; try more --updates, and other --seeds: "
            "they differ widely"
        )
    return lines


def _which_seeds(seeds: Sequence[int], run: FinishedRun) -> str:
    if len(seeds) == len(run.seeds) > 2:
        return "all seeds"
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {_listed([str(seed) for seed in seeds])}"


def _listed(parts: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"; what is the same everywhere once."""
    parts = list(dict.fromkeys(parts))
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
