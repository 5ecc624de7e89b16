"""The metrics of a run, computed from its events: for dashboards and alerts.

Names and units follow the GenAI conventions where they exist
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/). Remit's own metrics are `remit.*`, with the attributes
`agent`, `action`, `code`, `outcome`, `model` and `passing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from remit.core import Failed
from remit.core.events import (
    NANO,
    CallAnswered,
    CallDecided,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    Recorded,
    RunFinished,
    RunStarted,
)
from remit.journal import ChainLink

Kind: TypeAlias = Literal["count", "histogram"]
OK: Final = "ok"  # in place of a code, if there is none
OTHER: Final = "_OTHER"

# name: (kind, unit, description)
INSTRUMENTS: Final[Mapping[str, tuple[Kind, str, str]]] = {
    "remit.runs": ("count", "{run}", "Runs that ended, by outcome"),
    "remit.calls": ("count", "{call}", "Calls that were answered, by code"),
    "remit.model.failures": (
        "count",
        "{request}",
        "Requests to a model that failed, by model and by whether that passes",
    ),
    "gen_ai.client.operation.duration": ("histogram", "s", "How long the model took for a turn"),
    "gen_ai.client.token.usage": ("histogram", "{token}", "Tokens of a turn, as the provider counts them"),
    "gen_ai.execute_tool.duration": ("histogram", "s", "How long a call took, from its decision to its answer"),
}
# The state of the whole workspace, as every process of it sends it. `recent` is the last 15 minutes.
GAUGES: Final[Mapping[str, str]] = {
    "remit.runs.unfinished": "Runs that have not ended, by what they do now: `lost`, `ready`, `waiting` and others",
    "remit.runs.recent": "Runs that ended in the last 15 minutes, by outcome and code",
    "remit.effects.in_doubt": "Effects of unknown outcome that no probe and no person has settled",
    "remit.approvals.waiting": "Calls that wait for a person, by how long they have waited",
    "remit.emergencies.unreviewed": "Emergency approvals that no second person has reviewed",
    "remit.calls.recent": "Calls that were answered in the last 15 minutes, by code and by the rule that denied them",
    "remit.engines.disagreements": "Calls of the last 15 minutes that Remit's matcher allowed and stock Casbin did not",
    "remit.errors.recent": "Calls, runs and requests to models that failed in the last 15 minutes, by whose error it was",
    "remit.holds": "Holds in force",
    "remit.alerts": "Alerts of drift and of targets in force",
}
# What only a service knows: /metrics has it, beside the gauges.
OF_SERVICE: Final[Mapping[str, str]] = {
    "remit.definition.invalid": "1 while the changed files of the workspace are not valid, so that no new run starts",
}
INVALID: Final = next(iter(OF_SERVICE))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One value of one instrument."""

    name: str
    value: float
    attributes: Mapping[str, str]


class Metrics:
    """Computes the metrics of one run, event by event."""

    def __init__(self) -> None:
        self._agent = ""
        self._model = ""
        self._asked: dict[int, tuple[str, int]] = {}  # the model and the time of the last request, by step
        self._decided: dict[tuple[int, int], tuple[str, int]] = {}

    def see(self, recorded: Recorded | ChainLink) -> Iterator[Measurement]:
        """Add one event; yields the measurements that it makes."""
        event, at = (recorded.recorded() if isinstance(recorded, ChainLink) else recorded).event, recorded.at
        match event:
            case RunStarted():
                self._agent, self._model = event.subjects.agent.removeprefix("agent:"), event.model
            case ModelRequested():
                self._asked[event.step] = (event.model, at)
            case ModelResponded() | ModelFailed():
                yield from self._turn(event, at)
            case CallDecided():
                # A name that the model invented must not become a time series of its own.
                action = event.call.action if event.call else OTHER
                self._decided.setdefault((event.step, event.index), (action, at))
            case CallAnswered():
                yield from self._call(event, at)
            case RunFinished():
                yield self._count("remit.runs", outcome=event.outcome, code=event.code or OK)
            case _:
                pass

    def unrecorded(self) -> Measurement:
        """A run that ended and could not record its end."""
        return self._count("remit.runs", outcome="failed", code="unrecorded")

    def _count(self, name: str, **attributes: str) -> Measurement:
        return Measurement(name=name, value=1, attributes={"agent": self._agent, **attributes})

    def _turn(self, event: ModelResponded | ModelFailed, at: int) -> Iterator[Measurement]:
        name, asked_at = self._asked.pop(event.step, (self._model, at))
        provider, _, model = name.partition(":")
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model or provider,
            "gen_ai.agent.name": self._agent,
        }
        took = max(0, at - asked_at) / NANO
        if isinstance(event, ModelFailed):
            yield self._count("remit.model.failures", model=name, passing=str(event.passing).lower())
        failed = {"error.type": OTHER} if isinstance(event, ModelFailed) else {}
        yield Measurement(name="gen_ai.client.operation.duration", value=took, attributes=attributes | failed)
        if isinstance(event, ModelResponded):
            counted = {"input": event.usage.input_tokens, "output": event.usage.output_tokens}
            for kind, tokens in counted.items():
                if tokens is not None:
                    with_kind = attributes | {"gen_ai.token.type": kind}
                    yield Measurement(name="gen_ai.client.token.usage", value=tokens, attributes=with_kind)

    def _call(self, event: CallAnswered, at: int) -> Iterator[Measurement]:
        action, decided_at = self._decided.pop((event.step, event.index), (OTHER, at))
        code = event.result.error.code if isinstance(event.result, Failed) else OK
        yield self._count("remit.calls", action=action, code=code)
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": action,
            "gen_ai.agent.name": self._agent,
            **({} if code == OK else {"error.type": code}),
        }
        took = max(0, at - decided_at) / NANO
        yield Measurement(name="gen_ai.execute_tool.duration", value=took, attributes=attributes)
