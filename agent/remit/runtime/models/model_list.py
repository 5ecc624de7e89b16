"""The ordered list of models that a run may ask, and when each of them may be asked again after a failure."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from remit.core import Model, ModelError
from remit.core.events import NANO

FIRST_S: Final = 0.5  # seconds to wait after the first passing failure of a model; twice as long after each further one
LONGEST_S: Final = 60.0
LONGEST_STATED_S: Final = 30 * 86400.0  # a provider that names a later time is asked after 30 days


class ModelList:
    """The models of one run, the preferred one first; the first one that may be asked now is asked.

    What it knows of failures ends with the process: a process that resumes a run asks the first model at once.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self.models: Final = tuple(models)
        self._failures: dict[str, int] = {}  # passing failures in a row, by name
        self._back: dict[str, int] = {}  # Unix nanoseconds, by name
        self._lost: set[str] = set()  # models whose failure does not pass

    def choose(self, step: int, attempt: int | None, asked: str) -> Model | None:
        """The model to ask now; None: each one that is left may be asked only later. `asked` was asked before a kill."""
        now = time.time_ns()
        left = [model for model in self._left if model.name == asked] or self._left
        return next((model for model in left if self._back.get(model.name, 0) <= now), None)

    def answered(self, model: Model) -> None:
        """Note that the model answered: its next failure is the first one again."""
        self._failures.pop(model.name, None)

    def failed(self, step: int, attempt: int | None, model: Model, failure: ModelError) -> int | None:
        """Note the failure. Returns when the run may ask again (Unix nanoseconds); None: no model is left to ask.

        A passing failure sets the time at which the model may be asked again: the provider's own, or a growing random one.
        After another failure, the model is not asked again.
        """
        now = time.time_ns()
        if failure.retryable:
            count = self._failures[model.name] = self._failures.get(model.name, 0) + 1
            self._back[model.name] = now + int(_pause(count, failure.retry_after) * NANO)
        else:
            self._lost.add(model.name)
        return min((max(now, self._back.get(left.name, 0)) for left in self._left), default=None)

    @property
    def _left(self) -> list[Model]:
        return [model for model in self.models if model.name not in self._lost]


def _pause(count: int, stated: float | None) -> float:
    """Seconds to wait after the failure with that number. `stated` is what the provider says, None if it says nothing."""
    if stated is not None and stated > 0:
        return min(stated, LONGEST_STATED_S)
    # Random, so that many runs of one provider do not all ask at the same moment.
    return min(FIRST_S * 2.0 ** min(count - 1, 10), LONGEST_S) * random.uniform(0.75, 1.25)  # noqa: S311
