"""What a change widens that is no request: settings, manifests and agents, field by field.

Every field is told here, compared as requests elsewhere, or gives nobody power. One that nobody has placed in a table is told
as not analysed: a field that comes later is never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from remit.core import Effect, FrozenModel, Json
from remit.guardrails import CONTENT, Content
from remit.sandbox.egress import Credential, Exposed, Host, parse_host
from remit.workspace import LIMITS as SHARED
from remit.workspace import Agent, AnswerContract, Budget, Casbin, LookUp, Price, Settings, SharedLimit, Tool, Workspace
from remit.workspace.manifest import Action, Breaker, Limits, Manifest, Retry

Direction: TypeAlias = Literal["wider", "narrower", "unknown"]
ModelDenial: TypeAlias = Callable[[str, Any, Any], Iterable[str]]  # whose, before, after → what they may do now
Table: TypeAlias = Mapping[str, ModelDenial | Literal["requests", "neutral"]]

_EFFECTS: Final[tuple[Effect, ...]] = ("once", "keyed", "idempotent", "read")  # each may be repeated more freely


@dataclass(frozen=True, kw_only=True)
class ManifestChange:
    """One thing that changes. `witness` and `still_refused` are requests; None where the change is not one of requests.

    `partial`: it takes an agent and a user, and so far only one of them may do it.
    """

    direction: Direction
    text: str
    partial: bool = False
    because: tuple[str, ...] = ()
    witness: Mapping[str, Json] | None = None
    still_refused: Mapping[str, Json] | None = None


def manifest_changes(old: Workspace, new: Workspace) -> Iterator[ManifestChange]:
    """Everything that settings, tools and agents gain beside requests. A tool of `old` that is not pinned has nothing yet."""
    yield from _compared("", SETTINGS, old.settings, new.settings, "remit.toml")
    for name, tool in sorted(new.tools.items()):
        yield from _tool(name, old.tools.get(name), tool.manifest)
    for name in sorted(set(old.agents) & set(new.agents)):
        before, after, where = old.agents[name], new.agents[name], f"agent/{name}/agent.toml"
        yield from _compared(f"agent:{name}", AGENT, before, after, where)
        yield from _compared(f"agent:{name}", BUDGET, before.budget, after.budget, where)
    yield from _shared(old.limits, new.limits)
    yield from _content(old.content, new.content)


def _shared(old: Iterable[SharedLimit], new: Iterable[SharedLimit]) -> Iterator[ManifestChange]:
    """Limits over all runs that no limit of the same shape, as low or lower, has replaced."""
    left = {limit.model_copy(update={"note": "", "most": 0}): limit.most for limit in new}
    for limit in old:
        most = left.get(limit.model_copy(update={"note": "", "most": 0}))
        if most is None or most > limit.most:
            text = f"all runs together may now use more than {limit.allowance} ({limit.note})"
            yield ManifestChange(direction="wider", text=text, because=(SHARED,))


def _content(old: Content, new: Content) -> Iterator[ManifestChange]:
    """Rules on content that hold no more as they were, and secrets that nobody looks for any more."""
    left = [rule.model_copy(update={"note": ""}) for rule in new.rules]
    gone = [rule.note for rule in old.rules if rule.model_copy(update={"note": ""}) not in left]
    texts = [f"content may now pass that {note!r} kept back" for note in gone]
    texts += [f"secrets that the detector {name!r} finds may now pass" for name in sorted({*new.off} - {*old.off})]
    for text in texts:
        yield ManifestChange(direction="wider", text=text, because=(CONTENT,))


def _tool(name: str, old: Tool | None, after: Manifest) -> Iterator[ManifestChange]:
    where = f"tools/{name}/tool.toml"
    if old is None or not old.pinned:
        yield from _compared(f"tool {name!r}", MANIFEST, after.model_copy(update=_NOTHING), after, where)
        return
    before = old.manifest
    yield from _compared(f"tool {name!r}", MANIFEST, before, after, where)
    yield from _compared(f"a call of tool {name!r}", LIMITS, before.limits, after.limits, where)
    for action in sorted(set(before.actions) & set(after.actions)):
        yield from _compared(f"{name}.{action}", ACTION, before.actions[action], after.actions[action], where)


def _compared(whose: str, table: Table, old: FrozenModel, new: FrozenModel, where: str) -> Iterator[ManifestChange]:
    for field in type(new).model_fields:
        before, after, told = getattr(old, field), getattr(new, field), table.get(field)
        if before == after:
            continue
        if told is None:
            text = f"not analysed: {field!r} of {whose or where} is {after!r} (was {before!r})"
            yield ManifestChange(direction="unknown", text=text, because=(where,))
        elif callable(told):
            for text in told(whose, before, after):
                yield ManifestChange(direction="wider", text=text, because=(where,))


# -- how a field is told ---------------------------------------------------------------------------------------------------


def _gains(words: str) -> ModelDenial:
    """A set that is given to whoever has it."""

    def told(whose: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
        if gained := sorted(set(after) - set(before)):
            yield f"{whose} may now {words} {', '.join(gained)}"

    return told


def _more(words: str) -> ModelDenial:
    def told(whose: str, before: float, after: float) -> Iterator[str]:
        if after > before:
            yield f"{whose} may now {words}: {after:g} (was {before:g})"

    return told


def _unbound(words: str) -> ModelDenial:
    """As `_more`, where None is no bound at all."""

    def told(whose: str, before: float | None, after: float | None) -> Iterator[str]:
        if before is not None and (after is None or after > before):
            yield f"{whose} may now {words}: {'without bound' if after is None else f'{after:g}'} (was {before:g})"

    return told


def _changes(words: str) -> ModelDenial:
    """Any other value may widen what can be done."""
    return lambda whose, before, after: [f"{whose} {words} {after!r} (was {before!r})".lstrip()]


def _reaches(words: str) -> ModelDenial:
    """Lines of hosts, but for those that another line covered before."""

    def told(whose: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
        lines = [parse_host(text) for text in before]
        if gained := sorted(text for text in after if not any(_covers(line, parse_host(text)) for line in lines)):
            yield f"{whose} may now {words} {', '.join(gained)}"

    return told


def _covers(wider: Host, line: Host) -> bool:
    """Whether everything that `line` is about was reached before; False where that is not plain to see."""
    if wider == line:
        return True
    if not wider.whole:
        return False
    return (wider.name, wider.port) in ((line.name, line.port), ("**", line.port)) or (
        "*" not in line.name and wider.covers(line.name, line.port)
    )


def _credentials(whose: str, before: Iterable[Credential], after: Iterable[Credential]) -> Iterator[str]:
    for one in [one for one in after if one not in set(before)]:
        yield f"{whose} may now use the secrets {one.secret} at {one.name}:{one.port}, as {one.header}"


def _exposed(whose: str, before: Iterable[Exposed], after: Iterable[Exposed]) -> Iterator[str]:
    for one in [one for one in after if one not in set(before)]:
        yield f"{whose} now holds the secret {one.secret} itself, in {one.env}"


def _labels(whose: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for label in sorted(set(before) - set(after)):
        yield f"results of {whose} no longer carry the label {label!r}, which conditions may read"


def _effect(whose: str, before: Effect, after: Effect) -> Iterator[str]:
    if _EFFECTS.index(after) > _EFFECTS.index(before):
        yield f"{whose} is now taken for {after!r} (was {before!r}), and may be repeated accordingly"


def _trust(whose: str, before: str, after: str) -> Iterator[str]:
    if before == "none":
        yield f"{whose} no longer gets a sandbox of its own for each call"


def _breaker(whose: str, before: Breaker, after: Breaker) -> Iterator[str]:
    if after.failures > before.failures or after.rest < before.rest:
        rests = f"after {after.failures} failures for {after.rest:g} s"
        yield f"{whose} now rests {rests} (was after {before.failures} for {before.rest:g} s)"


def _price(whose: str, before: Price | None, after: Price | None) -> Iterator[str]:
    if before is not None and (after is None or after.input < before.input or after.output < before.output):
        yield f"{whose} may now spend more tokens for the same money"


def _answer(whose: str, before: AnswerContract | None, after: AnswerContract | None) -> Iterator[str]:
    if before is None:
        return
    floor = before.confidence or 0.0
    if (
        after is None
        or (before.shape is not None and after.shape != before.shape)
        or after.citations < before.citations
        or (after.confidence or 0.0) < floor
    ):
        yield f"answers of {whose} are held to less, or to something else, than before"


def _looks_up(whose: str, before: Iterable[LookUp], after: Iterable[LookUp]) -> Iterator[str]:
    for one in [one for one in after if one not in list(before)]:
        yield f"{whose} now knows what {one.action} lists"


def _attempts(whose: str, before: Retry, after: Retry) -> Iterator[str]:
    if after.attempts > before.attempts:
        yield f"{whose} may now be attempted {after.attempts} times (was {before.attempts})"
    if after.attempts > 1 and (gained := sorted(set(after.on) - set(before.on))):
        yield f"{whose} may now be attempted again after {', '.join(gained)}"


def _run(whose: str, _: object, after: Iterable[str]) -> Iterator[str]:
    yield f"{whose} now runs {' '.join(after)!r}"


def _confinement(_: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for tier in [tier for tier in after if tier not in set(before)]:
        yield f"tools may now run in the weaker confinement {tier!r}"


def _host_tools(_: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for name in sorted(set(after) - set(before)):
        yield f"tool {name!r} may now run unconfined, in Remit's own process"


def _redacted(_: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for name in sorted(set(before) - set(after)):
        yield f"the value of the environment variable {name} is no longer kept out of records"


def _recorded(_: str, before: bool, after: bool) -> Iterator[str]:
    if after:
        yield "what people, models and tools say is now recorded"


def _identity(_: str, before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> Iterator[str]:
    if (before is None) is not (after is None):
        said = "is the user of its own name" if after is None else "is the user that [identity] names"
        yield f"every account now {said}"
    accounts: set[str] = {*(before or {}), *(after or {})}
    for account in sorted(accounts):
        was, now = (before or {}).get(account), (after or {}).get(account)
        if was != now and now is not None:
            who = "every other account" if account == "*" else f"the account {account!r}"
            yield f"{who} now acts as {now} (was {was or 'nobody'})"


def _asked_of_casbin(_: str, before: Casbin, after: Casbin) -> Iterator[str]:
    said = {"always": "before every call", "effects": "before effects", "load": "only before rules come into force"}
    if list(said).index(after) > list(said).index(before):
        yield f"stock Casbin is now asked {said[after]} (was {said[before]})"


def _accepts(whose: str, _: bool, after: bool) -> Iterator[str]:
    if after:
        yield f"{whose} may now pass arguments whose raw text nobody saw"


# -- the fields --------------------------------------------------------------------------------------------------------------

SETTINGS: Final[Table] = {
    "env": _changes("conditions now read env ="),
    "identity": _identity,
    "accept": _confinement,
    "host_tools": _host_tools,
    "redact_env": _redacted,
    "content": _recorded,
    "keep": "neutral",
    **dict.fromkeys(("envs", "users"), "neutral"),  # what rules may name; what they then allow is compared as requests
    "casbin": _asked_of_casbin,
}
MANIFEST: Final[Table] = {
    **dict.fromkeys(("name", "version", "owner", "summary", "digest"), "neutral"),
    **dict.fromkeys(("read", "write", "stores"), "requests"),
    **dict.fromkeys(("limits", "actions"), "neutral"),  # in tables of their own
    "source": _changes("now runs as"),
    "host": _changes("now runs the functions of"),
    "trust": _trust,
    "hosts": _reaches("reach the hosts"),
    "url_hosts": _reaches("be sent by its calls to the hosts"),
    "ranges": _gains("dial the addresses"),
    "credentials": _credentials,
    "exposed": _exposed,
    "env": _gains("read the environment variables"),
    "programs": _gains("start the programs"),
    "breaker": _breaker,
}
_GIVEN: Final = ("hosts", "url_hosts", "ranges", "credentials", "exposed", "env", "programs")
_NOTHING: Final[dict[str, Json]] = dict.fromkeys(_GIVEN, ())
LIMITS: Final[Table] = {
    field: _more(f"use more {field}") for field in ("wall", "cpu", "memory", "output", "sent", "received")
}
ACTION: Final[Table] = {
    **dict.fromkeys(("name", "summary", "errors"), "neutral"),
    "touches": "requests",
    "effect": _effect,
    "retry": _attempts,
    "probe": _changes("counts as done or not done by what is found by"),
    "adds_labels": _labels,
    "removes_labels": _gains("take off the run the labels"),
    "request_words": _gains("be taken for what the user meant by the words"),
    "adds_to_directory": _gains("put into the directory"),
    "methods": _gains("ask its URLs by"),
    "idempotency_header": _changes("now sends the key of a repeated call as"),
    "run": _run,
}
AGENT: Final[Table] = {
    **dict.fromkeys(("name", "summary", "prompt"), "neutral"),
    "budget": "neutral",  # in a table of its own
    "actions": "requests",
    "model": _changes("now tells what it reads to the model"),
    "base_url": _changes("now asks its model at"),
    "folder": _changes("now works in"),
    "seed": _changes("now begins with a copy of"),
    "accept_parsed_arguments": _accepts,
    "price": _price,
    "answer": _answer,
    "directory": _looks_up,
}
BUDGET: Final[Table] = {
    "steps": _more("spend more steps in a run"),
    "calls": _more("spend more calls in a run"),
    "wall": _more("spend more seconds in a run"),
    "tokens": _unbound("spend more tokens in a run"),
    "money": _unbound("spend more money in a run"),
    "output": _unbound("take in more bytes of results in a run"),
    "tries": _more("try one thing more often in vain"),
    "retries": _more("spend more tries in a run"),
    "denials": _more("be refused more often in a row"),
    "waiting": _more("have more calls wait for people at once"),
}
# Each kind with its table: a field that is in none is told as not analysed.
TABLES: Final[tuple[tuple[type[FrozenModel], Table], ...]] = (
    (Settings, SETTINGS),
    (Manifest, MANIFEST),
    (Limits, LIMITS),
    (Action, ACTION),
    (Agent, AGENT),
    (Budget, BUDGET),
)
