"""Compares settings, manifests and agents field by field: what they widen beside requests.

Each field has an entry in one of the tables: a function that describes how it widens, "requests" (compared as requests elsewhere), or
"neutral" (it grants nothing). A changed field without an entry is reported as not analysed, so that no later field is overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from remit.analysis.diff import access
from remit.core import Effect, FrozenModel, Json
from remit.core.events import Observation
from remit.guardrails import CONTENT, Content
from remit.sandbox.egress import Credential, Host, parse_host
from remit.workspace import LIMITS as SHARED
from remit.workspace import (
    PRICES,
    Agent,
    AnswerContract,
    Budget,
    Casbin,
    GraphFactory,
    LookUp,
    Prices,
    Settings,
    SharedLimit,
    Tool,
    Workspace,
)
from remit.workspace.manifest import Action, Authority, Breaker, Limits, Manifest, Retry

Direction: TypeAlias = Literal["wider", "narrower", "unknown"]
DescribeWidening: TypeAlias = Callable[[str, Any, Any], Iterable[str]]  # owner, before, after → what they may do now
FieldTable: TypeAlias = Mapping[str, DescribeWidening | Literal["requests", "neutral"]]

_EFFECTS: Final[tuple[Effect, ...]] = ("once", "keyed", "idempotent", "read")  # each may be repeated more freely


@dataclass(frozen=True, kw_only=True)
class ManifestChange:
    """One change as a sentence. `witness` and `still_refused` are requests; None where the change is not about requests.

    `partial`: a call needs an agent and a user, and so far only one of them has the permission. `owner`: the teams whose rules, agents or
    tools it is about; "" for the organization. `boundary` says in words how `still_refused` differs from the witness.
    """

    direction: Direction
    text: str
    partial: bool = False
    because: tuple[str, ...] = ()
    owner: str = ""
    boundary: str = ""
    witness: Mapping[str, Json] | None = None
    still_refused: Mapping[str, Json] | None = None


def manifest_changes(old: Workspace, new: Workspace, same: Container[str] = ()) -> Iterator[ManifestChange]:
    """Yield what settings, tools and agents gain beside requests. A tool of `old` that is not pinned counts as having nothing.

    The tools in `same` did not change.
    """
    yield from _compare_fields("", SETTINGS, old.settings, new.settings, "remit.toml")
    for name, tool in sorted(new.tools.items()):
        if name not in same:
            yield from _tool(name, old.tools.get(name), tool.manifest)
    for name in sorted(set(old.agents) & set(new.agents)):
        before, after, where = old.agents[name], new.agents[name], f"agent/{name}/agent.toml"
        yield from _compare_fields(f"agent:{name}", AGENT, before, after, where)
        yield from _compare_fields(f"agent:{name}", BUDGET, before.budget, after.budget, where)
    yield from _shared(old.limits, new.limits)
    yield from _lower_prices(old.prices, new.prices)
    yield from _content(old.content, new.content)


def _shared(old: Iterable[SharedLimit], new: Iterable[SharedLimit]) -> Iterator[ManifestChange]:
    """Yield limits over all runs that are gone or higher: no limit of the same kind with the same or a lower value remains."""
    left = {limit.model_copy(update={"note": "", "most": 0}): limit.most for limit in new}
    for limit in old:
        most = left.get(limit.model_copy(update={"note": "", "most": 0}))
        if most is None or most > limit.most:
            text = f"all runs together may now use more than {limit.allowance} ({limit.note})"
            yield ManifestChange(direction="wider", text=text, because=(SHARED,))


def _lower_prices(old: Prices, new: Prices) -> Iterator[ManifestChange]:
    """Yield models of which a price is lower: the same budget of money lasts longer. Without a price no run starts."""
    if old.currency != new.currency:
        text = f"budgets and limits of money are now in {new.currency} (were in {old.currency})"
        yield ManifestChange(direction="wider", text=text, because=(PRICES,))
    for name in sorted(old.models.keys() & new.models.keys()):
        if old.models[name].is_ever_dearer(new.models[name]):
            text = f"turns of the model {name!r} now count less money, so that budgets and limits of money last longer"
            yield ManifestChange(direction="wider", text=text, because=(PRICES,))


def _content(old: Content, new: Content) -> Iterator[ManifestChange]:
    """Yield content rules that are gone or weaker, and secret detectors that are off now."""
    left = [rule.model_copy(update={"note": ""}) for rule in new.rules]
    gone = [rule.note for rule in old.rules if rule.model_copy(update={"note": ""}) not in left]
    texts = [f"content that the rule {note!r} stopped may now pass" for note in gone]
    texts += [f"secrets that the detector {name!r} finds may now pass" for name in sorted({*new.off} - {*old.off})]
    for text in texts:
        yield ManifestChange(direction="wider", text=text, because=(CONTENT,))


def _tool(name: str, old: Tool | None, after: Manifest) -> Iterator[ManifestChange]:
    where = f"tools/{name}/tool.toml"
    if old is None or not old.pinned:
        yield from _compare_fields(f"tool {name!r}", MANIFEST, after.model_copy(update=_NO_GRANTS), after, where)
        return
    before = old.manifest
    yield from _compare_fields(f"tool {name!r}", MANIFEST, before, after, where)
    yield from _compare_fields(f"a call of tool {name!r}", LIMITS, before.limits, after.limits, where)
    for action in sorted(set(before.actions) & set(after.actions)):
        yield from _compare_fields(f"{name}.{action}", ACTION, before.actions[action], after.actions[action], where)


def _compare_fields(
    owner: str, table: FieldTable, old: FrozenModel, new: FrozenModel, where: str
) -> Iterator[ManifestChange]:
    for field in type(new).model_fields:
        before, after, entry = getattr(old, field), getattr(new, field), table.get(field)
        if before == after:
            continue
        if entry is None:
            text = f"not analysed: {field!r} of {owner or where} is {after!r} (was {before!r})"
            yield ManifestChange(direction="unknown", text=text, because=(where,))
        elif callable(entry):
            for text in entry(owner, before, after):
                yield ManifestChange(direction="wider", text=text, because=(where,))


# -- how a field widens ------------------------------------------------------------------------------------------------


def _added_items(verb: str) -> DescribeWidening:
    """Describe items that were added to a set; each item is a permission."""

    def describe(owner: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
        if added := sorted(set(after) - set(before)):
            yield f"{owner} may now {verb} {', '.join(added)}"

    return describe


def _higher_number(verb: str) -> DescribeWidening:
    def describe(owner: str, before: float, after: float) -> Iterator[str]:
        if after > before:
            yield f"{owner} may now {verb}: {after:g} (was {before:g})"

    return describe


def _higher_bound(verb: str) -> DescribeWidening:
    """As `_higher_number`, where None means unlimited."""

    def describe(owner: str, before: float | None, after: float | None) -> Iterator[str]:
        if before is not None and (after is None or after > before):
            yield f"{owner} may now {verb}: {'unlimited' if after is None else f'{after:g}'} (was {before:g})"

    return describe


def _any_change(verb: str) -> DescribeWidening:
    """Describe a field of which any other value may widen what is possible."""
    return lambda owner, before, after: [f"{owner} {verb} {after!r} (was {before!r})".lstrip()]


def _added_hosts(verb: str) -> DescribeWidening:
    """Describe host lines that no earlier line covered."""

    def describe(owner: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
        lines = [parse_host(text) for text in before]
        if added := sorted(text for text in after if not any(_covers(line, parse_host(text)) for line in lines)):
            yield f"{owner} may now {verb} {', '.join(added)}"

    return describe


def _covers(wider: Host, line: Host) -> bool:
    """True if `wider` reached everything that `line` reaches; False also where that is not easy to decide."""
    if wider == line:
        return True
    if not wider.whole:
        return False
    return (wider.name, wider.port) in ((line.name, line.port), ("**", line.port)) or (
        "*" not in line.name and wider.covers(line.name, line.port)
    )


def _credentials(owner: str, before: Iterable[Credential], after: Iterable[Credential]) -> Iterator[str]:
    for item in [item for item in after if item not in set(before)]:
        yield f"{owner} may now use the secret {item.secret} at {item.name}:{item.port}, as {item.header}"


def _authorities(owner: str, _: object, after: Iterable[Authority]) -> Iterator[str]:
    for item in after:
        yield f"{owner} is now connected to {item.name}:{item.port} if the authorities in {item.file} sign for it, and no others"


def _removed_labels(owner: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for label in sorted(set(before) - set(after)):
        yield f"results of {owner} no longer get the label {label!r}, which conditions may read"


def _effect(owner: str, before: Effect, after: Effect) -> Iterator[str]:
    if _EFFECTS.index(after) > _EFFECTS.index(before):
        yield f"{owner} now has the effect {after!r} (was {before!r}), so it may be repeated more freely"


def _trust(owner: str, before: str, after: str) -> Iterator[str]:
    if before == "none":
        yield f"{owner} no longer gets a new sandbox for each call"


def _life(owner: str, before: str, after: str) -> Iterator[str]:
    if after == "run":
        yield f"the calls of a run to {owner} now share one sandbox (was one for each call)"


def _proc(owner: str, before: bool, after: bool) -> Iterator[str]:
    if after:
        yield f"{owner} now sees /proc, with the processes of its sandbox and figures of the machine"


def _breaker(owner: str, before: Breaker, after: Breaker) -> Iterator[str]:
    if after.failures > before.failures or after.rest < before.rest:
        pause = f"after {after.failures} failures for {after.rest:g} s"
        yield f"{owner} is now paused {pause} (was after {before.failures} for {before.rest:g} s)"


def _models(owner: str, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    if added := [model for model in after if model not in before]:
        names, were = (", ".join(map(repr, models)) for models in (added, before))
        yield f"{owner} now sends what it reads to the model {names} (was {were})"
    elif after[0] != before[0]:
        yield f"{owner} now asks the model {after[0]!r} first (was {before[0]!r})"


def _answer(owner: str, before: AnswerContract | None, after: AnswerContract | None) -> Iterator[str]:
    if before is None:
        return
    floor = before.confidence or 0.0
    if (
        after is None
        or (before.shape is not None and after.shape != before.shape)
        or after.citations < before.citations
        or (before.grounded and not after.grounded)
        or (before.receipt == "must-match" and after.receipt != "must-match")
        or (after.confidence or 0.0) < floor
    ):
        yield f"answers of {owner} must now meet a weaker or different contract"


def _directory_lookups(owner: str, before: Iterable[LookUp], after: Iterable[LookUp]) -> Iterator[str]:
    for item in [item for item in after if item not in list(before)]:
        yield f"{owner} now has what {item.action} lists in its directory"


def _retries(owner: str, before: Retry, after: Retry) -> Iterator[str]:
    if after.attempts > before.attempts:
        yield f"{owner} may now be attempted {after.attempts} times (was {before.attempts})"
    if after.attempts > 1 and (gained := sorted(set(after.on) - set(before.on))):
        yield f"{owner} may now be retried after {', '.join(gained)}"


def _command(owner: str, _: object, after: Iterable[str | Iterable[str]]) -> Iterator[str]:
    parts = (part if isinstance(part, str) else f"[{' '.join(part)}]" for part in after)
    yield f"{owner} now runs {' '.join(parts)!r}"


def _confinement(_: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for tier in [tier for tier in after if tier not in set(before)]:
        yield f"tools may now run in the weaker confinement {tier!r}"


def _unconfined_tools(_: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for name in sorted(set(after) - set(before)):
        yield f"tool {name!r} may now run unconfined, in Remit's own process"


def _unredacted_variables(_: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for name in sorted(set(before) - set(after)):
        yield f"the value of the environment variable {name} is no longer redacted in records"


def _graph(owner: str, before: GraphFactory | None, after: GraphFactory | None) -> Iterator[str]:
    if after is None:
        return
    if before is None or before.code != after.code:
        yield f"{owner} is now driven by {after.entry}, which runs unconfined, in Remit's own process ({after.code[:19]})"
    for name in sorted({*after.calls} - {*(before.calls if before else ())}):
        yield f"models of {owner} may now call {name!r} of its graph, which nothing decides"


def _content_recording(_: str, before: bool, after: bool) -> Iterator[str]:
    if after:
        yield "the content of messages, arguments and results is now recorded"


def _identity_mapping(_: str, before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> Iterator[str]:
    if (before is None) is not (after is None):
        user = "the user with its own name" if after is None else "the user that [identity] maps it to"
        yield f"every account now acts as {user}"
    accounts: set[str] = {*(before or {}), *(after or {})}
    for account in sorted(accounts):
        was, now = (before or {}).get(account), (after or {}).get(account)
        if was != now and now is not None:
            who = "every other account" if account == "*" else f"the account {account!r}"
            yield f"{who} now acts as {now} (was {was or 'nobody'})"


def _casbin_mode(_: str, before: Casbin, after: Casbin) -> Iterator[str]:
    when = {"always": "before every call", "effects": "before effects", "load": "only when rules are loaded"}
    if list(when).index(after) > list(when).index(before):
        yield f"stock Casbin now checks decisions {when[after]} (was {when[before]})"


def _accepted_arguments(owner: str, _: bool, after: bool) -> Iterator[str]:
    if after:
        yield f"{owner} may now pass arguments whose raw text was not checked"


def _repaired_calls(owner: str, _: bool, after: bool) -> Iterator[str]:
    if after:
        yield f"{owner} may now make calls that its model wrote slightly wrong"


def _observed(owner: str, before: Observation | None, after: Observation | None) -> Iterator[str]:
    if after is None:
        return
    if before is None or after.until > before.until or set(before.enforce) - set(after.enforce):
        was = "all were enforced" if before is None else before.text
        yield f"{owner} may now make calls that the rules refuse: {after.text} (was: {was})"


# -- the fields --------------------------------------------------------------------------------------------------------

SETTINGS: Final[FieldTable] = {
    "tenant": _any_change("runs now belong to the tenant"),
    "env": _any_change("conditions now see env ="),
    "identity": _identity_mapping,
    "accept": _confinement,
    "host_tools": _unconfined_tools,
    "redact_env": _unredacted_variables,
    "content": _content_recording,
    "journal": _any_change("holds, approvals and shared limits are now those of the journal"),
    "journal_group": _any_change("the journal is now shared with the accounts of the group"),
    # Names that rules may use are neutral: what rules allow is compared as requests.
    **dict.fromkeys(("keep", "keep_rules", "seal", "envs", "kinds", "users", "fail_on"), "neutral"),
    "secrets": access.new_secret_sources,
    "casbin": _casbin_mode,
    "issuers": access.new_issuers,
    "notify": access.new_channels,
    "enforcement_points": access.new_enforcement_points,
    "serve": _any_change("the service now listens, and is limited, by"),
    "worker": _any_change("workers are now limited by"),
    "storage": _any_change("what machines share is now in"),
}
MANIFEST: Final[FieldTable] = {
    **dict.fromkeys(("name", "version", "owner", "summary", "digest"), "neutral"),
    **dict.fromkeys(("read", "write", "stores"), "requests"),
    **dict.fromkeys(("limits", "actions", "undecided"), "neutral"),  # in tables of their own
    "source": _any_change("now runs as"),
    "host": _any_change("now runs the functions of"),
    "client": _any_change("now is carried out by"),
    **dict.fromkeys(("command", "server_url"), _any_change("now reaches its server by")),
    "server_env": _any_change("now starts its server with the variables"),
    "trust": _trust,
    "life": _life,
    "proc": _proc,
    "hosts": _added_hosts("reach the hosts"),
    "url_hosts": _added_hosts("request URLs at the hosts"),
    "ranges": _added_items("connect to the addresses"),
    "credentials": _credentials,
    "authorities": _authorities,
    "exposed": access.exposed_secrets,
    "own_secrets": access.shared_secrets,
    "env": _added_items("read the environment variables"),
    "programs": _added_items("start the programs"),
    "breaker": _breaker,
}
_GRANTS: Final = ("hosts", "url_hosts", "ranges", "credentials", "authorities", "exposed", "env", "programs")
_NO_GRANTS: Final[dict[str, Json]] = {**dict.fromkeys(_GRANTS, ()), "proc": False}
LIMITS: Final[FieldTable] = {
    field: _higher_number(f"use more {field}") for field in ("wall", "cpu", "memory", "output", "sent", "received")
}
ACTION: Final[FieldTable] = {
    "tool": _any_change("now calls the tool of the server"),
    **dict.fromkeys(("name", "summary", "errors", "cache", "target"), "neutral"),
    "touches": "requests",
    "effect": _effect,
    "retry": _retries,
    "probe": _any_change("now decides if an effect landed with the probe"),
    "adds_labels": _removed_labels,
    "labels_in_result": _any_change("now put these labels of their results on a run:"),
    "removes_labels": _added_items("remove these labels from a run:"),
    "request_words": _added_items("count as requested by the user with the words"),
    "adds_to_directory": _added_items("add to the directory:"),
    "passages": _any_change("now has what answers may cite at"),
    "methods": _added_items("use the HTTP methods"),
    "idempotency_header": _any_change("now sends its idempotency key in the header"),
    "run": _command,
    "args": _any_change("now takes the arguments"),
}
AGENT: Final[FieldTable] = {
    **dict.fromkeys(("name", "summary", "prompt", "model_settings", "context", "target", "undecided"), "neutral"),
    "budget": "neutral",  # in a table of its own
    "actions": "requests",
    "models": _models,
    "base_url": _any_change("now calls its model at"),
    "base_urls": _any_change("now calls its other models at"),
    "folder": _any_change("now works in"),
    "seed": _any_change("now starts with a copy of"),
    "accept_parsed_arguments": _accepted_arguments,
    "repair_calls": _repaired_calls,
    "answer": _answer,
    "directory": _directory_lookups,
    "graph": _graph,
    "observe": _observed,
}
BUDGET: Final[FieldTable] = {
    "steps": _higher_number("use more steps in a run"),
    "calls": _higher_number("use more calls in a run"),
    "wall": _higher_number("use more seconds in a run"),
    "tokens": _higher_bound("use more tokens in a run"),
    "money": _higher_bound("use more money in a run"),
    "output": _higher_bound("receive more bytes of results in a run"),
    "tries": _higher_number("repeat one failing call more often"),
    "retries": _higher_number("use more retries in a run"),
    "denials": _higher_number("get more denials in a row"),
    "model_wait": _higher_number("wait more seconds for a model that fails"),
    "waiting": _higher_number("have more calls wait for approval at once"),
}
# Each model with its table. A field without an entry is reported as not analysed.
TABLES: Final[tuple[tuple[type[FrozenModel], FieldTable], ...]] = (
    (Settings, SETTINGS),
    (Manifest, MANIFEST),
    (Limits, LIMITS),
    (Action, ACTION),
    (Agent, AGENT),
    (Budget, BUDGET),
)
