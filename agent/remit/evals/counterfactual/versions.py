"""Which recorded answer a call may get: one of the same request, while what it touches is in the recorded version.

The version of what a call touches is the set of the effects before it that intersect it. The count of these effects is not
enough: two different texts that are written to one file are both one effect. Effects of the record have the name of their
place in it, so that a set of them is a state that the record has seen; an effect that the record does not have is in no
recorded version. So no recorded answer outlives an effect that could change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from remit.broker import AttemptOutcome
from remit.core import Call
from remit.core.events import AttemptBegun, AttemptEnded, CallDecided, Recorded
from remit.core.parsing import URL_KINDS

CallPlace: TypeAlias = tuple[int, int]  # a call by step and index
Version: TypeAlias = frozenset[str]  # the names of effects
Area: TypeAlias = tuple[str, tuple[str, ...], bool]  # a kind, a path, and whether it stands for all below it

NEW: Final = "now "  # begins the name of an effect that the record does not have
_NEVER: Final = 1 << 62  # the number of an event that does not come


@dataclass(frozen=True, kw_only=True)
class Effect:
    """An effect that has or may have landed. `changes` are the areas that it may have changed; None: any."""

    name: str
    changes: tuple[Area, ...] | None

    @property
    def changes_files(self) -> bool:
        """True if it may have changed files of the working folder."""
        return self.changes is None or any(kind == "file" for kind, _, _ in self.changes)

    def intersects(self, areas: Iterable[Area]) -> bool:
        return self.changes is None or any(_intersect(changed, area) for changed in self.changes for area in areas)


def effect_of(call: Call, name: str) -> Effect:
    """The effect of a call. One that says nothing of what it writes or uses may change anything."""
    areas = [_area(touch.resource) for touch in call.touches if touch.access != "read"]
    return Effect(name=name, changes=tuple(area for area in areas if area[0] != "none") or None)


def version_of(call: Call, effects: Iterable[Effect]) -> Version:
    """The version of everything that the call touches, after those effects."""
    areas = [_area(touch.resource) for touch in call.touches]
    return frozenset(effect.name for effect in effects if effect.intersects(areas))


def name_of(place: CallPlace) -> str:
    """The name of a call: `3.0`."""
    return f"{place[0]}.{place[1]}"


def may_have_landed(ended: AttemptEnded | AttemptOutcome | None) -> bool:
    """True if the effect of an attempt has or may have landed; None is an attempt without a recorded end."""
    return ended is None or ended.landed in ("landed", "unknown")


def _area(resource: str) -> Area:
    """The resource as an area. A store is a folder of the working folder; of a URL only the host counts."""
    kind, _, name = resource.partition(":")
    if kind == "store":
        return "file", ("stores", *name.split("/")), True
    if kind in URL_KINDS:
        host = name.removeprefix("//").split("/")[0]
        return "url", () if host == "**" else (host,), True
    whole = name == "**" or name.endswith("/**")
    path = name.removesuffix("**").removesuffix("/") if whole else name
    return kind, () if path in ("", ".") else tuple(path.split("/")), whole


def _intersect(a: Area, b: Area) -> bool:
    (kind, path, whole), (other_kind, other, other_whole) = a, b
    if kind != other_kind or kind == "none":
        return False
    shared = min(len(path), len(other))
    if path[:shared] != other[:shared]:
        return False
    return len(path) == len(other) or (whole and len(path) < len(other)) or (other_whole and len(other) < len(path))


@dataclass
class RecordedCall:
    """One call that was attempted in the record.

    `begun` and `ended` are the numbers of the events between which its attempts ran. `ends` and `keys` are how each attempt ended
    and its idempotency key, by attempt. `version` is that of what it touched; None if another call changed it at the same time.
    """

    call: Call
    redacted: bool
    begun: int
    ended: int = _NEVER
    ends: dict[int, AttemptEnded | None] = field(default_factory=dict[int, AttemptEnded | None])
    keys: dict[int, str] = field(default_factory=dict[int, str])
    version: Version | None = None

    @property
    def name(self) -> str:
        """The place of the call: `3.0`."""
        return name_of((self.call.step, self.call.index))

    @property
    def effect(self) -> Effect | None:
        """The effect of the call; None if it reads, or if no attempt can have landed."""
        landed = self.call.effect != "read" and any(map(may_have_landed, self.ends.values()))
        return effect_of(self.call, self.name) if landed else None


class RecordedCalls:
    """The calls of a recorded run that were attempted, by place, and their answers by request and version."""

    def __init__(self, records: Sequence[Recorded]) -> None:
        self.by_name = {item.name: item for item in _attempted(records)}
        self._places: dict[tuple[str, Version], list[CallPlace]] = {}
        changing = [(item, effect) for item in self.by_name.values() if (effect := item.effect) is not None]
        for item in self.by_name.values():
            others = [(other, effect) for other, effect in changing if other is not item and other.begun < item.ended]
            item.version = version_of(item.call, [effect for other, effect in others if other.ended < item.begun])
            if item.ended == _NEVER or _changed_meanwhile(item, others):
                item.version = None
                continue
            if item.redacted:  # the request does not tell two secrets apart
                continue
            places = self._places.setdefault((item.call.request_digest, item.version), [])
            places.append((item.call.step, item.call.index))

    def effects_before(self, step: int) -> list[Effect]:
        """The effects of the steps before that one, in order."""
        every = ((item.call.step, item.effect) for item in self.by_name.values())
        return [effect for of, effect in every if effect is not None and of < step]

    def take(self, request: str, version: Version) -> CallPlace | None:
        """The recorded call that answers this request in this version; None without one.

        If there are several, each is taken once, in order, and the last one again.
        """
        places = self._places.get((request, version), [])
        return places.pop(0) if len(places) > 1 else places[0] if places else None


def _changed_meanwhile(item: RecordedCall, others: Iterable[tuple[RecordedCall, Effect]]) -> bool:
    """True if an effect beside the call changed what it touches: it may be in the answer or not, so no version belongs to it."""
    return bool(version_of(item.call, [effect for other, effect in others if other.ended >= item.begun]))


def _attempted(records: Sequence[Recorded]) -> Iterable[RecordedCall]:
    """The calls that were attempted, in the order of their first attempts."""
    decided: dict[CallPlace, CallDecided] = {}
    found: dict[CallPlace, RecordedCall] = {}
    for item in records:
        match item.event:
            case CallDecided() as event:
                decided[event.step, event.index] = event
            case AttemptBegun() as event:
                place = (event.step, event.index)
                of = decided[place]
                assert of.call is not None  # only a parsed call is attempted
                attempted = found.setdefault(
                    place, RecordedCall(call=of.call, redacted=of.proposed.redacted, begun=item.seq)
                )
                attempted.ends[event.attempt], attempted.keys[event.attempt] = None, event.idempotency_key
                attempted.ended = _NEVER
            case AttemptEnded() as event:
                attempted = found[event.step, event.index]
                attempted.ends[event.attempt], attempted.ended = event, item.seq
            case _:
                pass
    return found.values()
