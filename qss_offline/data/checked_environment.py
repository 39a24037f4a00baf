"""An environment that answers as Gymnasium asks it to, or is refused in one line.

Environments of one's own return lists, whole numbers from `reset()`, rewards in arrays or their own
buffer; those are taken for what they mean. Wrong shapes, numbers that aren't finite, the interface
of before Gymnasium 0.26, and exceptions are refused, with the step at which they came.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from qss_offline.errors import UserError, one_line, printable
from qss_offline.parallel.reporting import say_once

_RESET = "reset(self, *, seed=None, options=None), which returns an observation and a dict"
_STEP = "step(self, action), which returns observation, reward, terminated, truncated, info"


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks every answer of an environment whose observations are vectors.

    Observations are new arrays of a floating dtype, that of the space if it is one; rewards are
    `float`, ends are `bool`. Actions are given in the dtype of their space.

    Args:
        env: the environment.
        name: what it is called in messages.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self.name, self._steps = name, 0
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        if not np.issubdtype(space.dtype, np.floating):
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
            self.observation_space = space = spaces.Box(low, high, dtype=np.float32)
        self._shape, self._dtype = space.shape, space.dtype
        self._action_dtype = (
            env.action_space.dtype if isinstance(env.action_space, spaces.Box) else None
        )

    @property  # as in gymnasium.Wrapper, where it overrides an attribute
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """That of the environment: checking its answers makes it no other."""
        return self.env.spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Begin an episode.

        Raises:
            UserError: it raises, or returns something else than an observation and a dict.
        """
        self._steps = 0
        try:
            answer = self.env.reset(seed=seed, options=options)
        except UserError:
            raise
        except Exception as error:
            # An environment may raise anything.
            raise self._raised("reset", error, _RESET) from error
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            raise self._refused(f"reset() returned {_kind(answer)}; it needs {_RESET}")
        return self._observation(answer[0], "reset"), answer[1]

    def step(self, action: Any) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            UserError: the action isn't finite; or the environment raises, or returns something else
                than Gymnasium asks for, or numbers that aren't finite.
        """
        if self._action_dtype is not None:
            if type(action) is not np.ndarray or action.dtype != self._action_dtype:
                action = np.asarray(action, self._action_dtype)
            if not isfinite(np.vdot(action, action)) and not np.isfinite(action).all():
                raise self._refused(f"an action isn't finite: {action.tolist()}")
        self._steps += 1
        try:
            answer: Any = self.env.step(action)
        except UserError:
            raise
        except Exception as error:
            # An environment may raise anything.
            raise self._raised("step", error, _STEP) from error
        if not (isinstance(answer, tuple) and len(answer) == 5):
            raise self._refused(f"step() returned {_kind(answer)}; it needs {_STEP}")
        observation, reward, terminated, truncated, info = answer
        given = reward
        try:
            if not isinstance(reward, float):
                reward = float(reward if np.ndim(reward) == 0 else np.asarray(reward).item())
            ends = bool(terminated), bool(truncated)
        except (TypeError, ValueError) as error:
            raise self._refused(
                f"step() returned a reward of {_kind(given)}, terminated of {_kind(terminated)} "
                f"and truncated of {_kind(truncated)}; expected a number, a bool and a bool"
            ) from error
        if not isfinite(reward):
            raise self._refused(f"its reward is {reward}")
        return self._observation(observation, "step"), reward, ends[0], ends[1], info

    def close(self) -> None:
        """End it; what it raises is said, see `close_env`."""
        close_env(self.env, self.name)

    def _observation(self, given: Any, method: str) -> npt.NDArray[Any]:
        observation: npt.NDArray[Any]
        if type(given) is np.ndarray and given.dtype == self._dtype:
            # A copy: some environments hand out the same array again and again.
            observation = given.copy()
        else:
            try:
                observation = np.asarray(given, self._dtype).copy()
            except (TypeError, ValueError, RuntimeError) as error:
                raise self._refused(
                    f"{method}() returned {_kind(given)} for an observation, which are no numbers"
                ) from error
        if observation.shape != self._shape:
            raise self._refused(
                f"{method}() returned an observation of shape {observation.shape}, its "
                f"observation_space says {self._shape}"
            )
        # The first is quick, the second right where squares overflow.
        if not isfinite(observation.dot(observation)) and not np.isfinite(observation).all():
            place = int(np.flatnonzero(~np.isfinite(observation))[0])
            raise self._refused(f"number {place} of its observation is {observation[place]}")
        return observation

    def _raised(self, method: str, error: Exception, expected: str) -> UserError:
        said = " ".join(str(error).split())
        hint = f"; it needs {expected}" if isinstance(error, TypeError | ValueError) else ""
        return self._refused(
            f"{method}() raised {type(error).__name__}{': ' if said else ''}{printable(said)}{hint}"
        )

    def _refused(self, what: str) -> UserError:
        when = f", step {self._steps:,} of an episode" if self._steps else ""
        return UserError(f"environment {self.name}{when}: {what}")


def close_env(env: gymnasium.Env[Any, Any], name: str) -> None:
    """End an environment; what it raises takes nothing with it, and is said once.

    Many are made for their spaces alone, and a client that `reset()` makes isn't there then.

    Args:
        env: the environment.
        name: what it is called in the notice.
    """
    try:
        env.close()
    except Exception as error:
        # An environment may raise anything.
        raised = f"{type(error).__name__}: {one_line(error)}"
        say_once(f"environment {name}: close() raised {raised}; it counts as closed")


def _kind(answer: object) -> str:
    if isinstance(answer, tuple):
        return f"{len(answer)} values"
    if isinstance(answer, np.ndarray):
        return f"an array of shape {answer.shape} and dtype {answer.dtype}"
    return "None" if answer is None else f"a {type(answer).__name__}"
