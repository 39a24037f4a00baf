"""How much work the steps of an online run are: what its progress counts."""

from __future__ import annotations

from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.runs.work import EPISODE, STEP

_MODEL_UPDATE = 0.4
"""Of the IDM and f alone."""


def work_until(config: OnlineConfig, plan: EvaluationPlan, step: float) -> float:
    """Return the work of a seed's first `step` environment steps, in steps that are learned from.

    Random steps of the warm-up are less, and evaluations are counted with the step they come after.
    """
    at_random = min(step, config.warm_up)
    work = step - at_random + STEP * at_random
    if step >= config.warm_up:
        work += _MODEL_UPDATE * config.model_updates
    if step > 0:
        ended = step >= config.steps and config.steps % plan.interval > 0
        work += EPISODE * plan.episodes * (1 + step // plan.interval + ended)
    return work
