"""The policy bundle of a run: every file that the run uses, by digest, so that it can be replayed after the files changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from pydantic import TypeAdapter

from remit.core import Effect, Json, Problem, RemitError, ToolSpec, WorkspaceError, tool_name
from remit.core.parsing import SCHEMES, canonical_json, load_json, load_toml, read_table
from remit.policy import Policy, load_policy
from remit.policy.language import DeclaredNames, Vocabulary
from remit.workspace.access.issuers import OidcIssuer
from remit.workspace.definitions import Agent, Budget, Workspace
from remit.workspace.file_schema import AgentTable
from remit.workspace.loader import budget_of, load_files
from remit.workspace.manifest.manifest import Action, ActionSchema, action_name
from remit.workspace.manifest.touches import SPELLED as SPELLED_KINDS
from remit.workspace.own_actions import OWN_ACTIONS, OWN_KINDS, own_effects

_DIGESTS: Final = TypeAdapter(dict[str, str])
_OPEN_KINDS: Final = ("account", "channel", "person", "settings")  # those that the rules in policies/open name
CODE_DIGESTS: Final = "tools/digests.json"  # only in a bundle: the digest of each tool's code when the run began


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """The workspace and the policy of one run, loaded from its bundle by the code that also loads live files."""

    workspace: Workspace
    policy: Policy


def files_of(workspace: Workspace) -> dict[str, bytes]:
    """The files of the bundle, by path relative to the workspace."""
    digests = {name: tool.code for name, tool in workspace.tools.items()}
    return {**workspace.files, CODE_DIGESTS: canonical_json(digests)}


def read_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The digest of each tool's code in a recorded bundle, by tool. Raises WorkspaceError if the bundle has none."""
    try:
        return _DIGESTS.validate_python(load_json(files[CODE_DIGESTS]), strict=True)
    except (KeyError, ValueError) as failure:
        problem = Problem(
            file=CODE_DIGESTS,
            what="the policy bundle has no digests of its tools",
            fix="export the trace of the run again",
        )
        raise WorkspaceError([problem]) from failure


def recorded_budget(files: Mapping[str, bytes], agent: str) -> Budget | None:
    """The budget of an agent in a recorded bundle; None if its agent.toml is missing, or is none of this version of Remit.

    Only that file is read: a report on a run needs nothing else of the workspace as it was.
    """
    file = f"agent/{agent}/agent.toml"
    try:
        text = files[file].decode()
        table, _ = read_table(AgentTable, load_toml(text, file=file), file=file, text=text)
        return None if table is None else budget_of(table)
    except (RemitError, KeyError, ValueError):
        return None


def open_bundle(files: Mapping[str, bytes]) -> Bundle:
    """Load the recorded files of a bundle. Raises WorkspaceError if one is missing or not valid."""
    code = read_digests(files)
    workspace = load_files({path: data for path, data in files.items() if path != CODE_DIGESTS}, root=None, code=code)
    words = replace(vocabulary(workspace), recorded=True)
    return Bundle(workspace=workspace, policy=load_policy(files, words))


def open_bundles(bundles: Mapping[str, Mapping[str, bytes]]) -> dict[str, Bundle]:
    """The bundles of a trace, loaded, by digest. Raises WorkspaceError if a file of one is missing or not valid."""
    return {digest: open_bundle(files) for digest, files in bundles.items()}


def vocabulary(workspace: Workspace) -> Vocabulary:
    """What rules may name: the actions of Remit and of every tool, with the types of their arguments from the pinned schemas."""
    actions: dict[str, dict[str, str] | None] = {name: {} for name in OWN_ACTIONS}
    effects: dict[str, Effect] = own_effects()
    means: dict[str, tuple[str, ...]] = {}
    unconfined: set[str] = set()
    for tool in workspace.every_tool.values():
        for action in tool.manifest.actions.values():
            schema = tool.pin.schemas.get(action.name) if tool.pin else None
            name = action_name(tool.manifest.name, action.name)
            actions[name] = None if schema is None else _types(schema)
            effects[name], means[name] = action.effect, action.means
            if tool.manifest.hosted:
                unconfined.add(name)
        # A rule may name an action that does not load yet: nothing of it runs, and the rules stay in force for the others.
        actions |= {action_name(tool.manifest.name, name): None for name in tool.manifest.undecided}
    points = workspace.settings.enforcement_points
    actions |= {action: None for point in points.values() for action in point.actions.values()}
    return Vocabulary(
        actions=actions,
        effects=effects,
        means=means,
        unconfined=frozenset(unconfined),
        # A recorded bundle was in force, so it is loaded even if it names what this version would refuse.
        names=None if workspace.root is None else declared_names(workspace),
        points={name: point.properties for name, point in points.items()},
    )


def declared_names(workspace: Workspace) -> DeclaredNames:
    """The names of environments, labels, agents and users that rules may use."""
    settings = workspace.settings
    labels = {label for rule in workspace.labels for label in rule.labels}
    for tool in workspace.tools.values():
        for action in tool.manifest.actions.values():
            labels.update(action.adds_labels, action.removes_labels, *action.labels_in_result.values())
    open_to_all = settings.identity is None and settings.users is None  # every account is the user of its own name
    return DeclaredNames(
        envs=frozenset({settings.env, *settings.envs}),
        labels=frozenset(labels),
        agents=frozenset(f"agent:{name}" for name in workspace.agents),
        properties=frozenset(
            name.partition(".")[2] for point in settings.enforcement_points.values() for name in point.properties
        ),
        users=None if open_to_all else frozenset({*(settings.identity or {}).values(), *(settings.users or ())}),
        kinds=resource_kinds(workspace),
        points=frozenset(settings.enforcement_points),
        roles=frozenset(
            role
            for issuer in settings.issuers.values()
            if isinstance(issuer, OidcIssuer)
            for of_claim in issuer.roles.values()
            for role in of_claim.values()
        ),
    )


def resource_kinds(workspace: Workspace) -> frozenset[str]:
    """The kinds of resources that calls of this workspace, and what people do with Remit itself, can have."""
    kinds = {*SPELLED_KINDS, *SCHEMES, *OWN_KINDS, *_OPEN_KINDS, "none", *workspace.settings.kinds}
    for tool in workspace.every_tool.values():
        for action in tool.manifest.actions.values():
            kinds.update(template.kind for template in action.templates)
            kinds.update(listing.kind for listing in action.listings)
    return frozenset(kinds - {"url"})


def _types(schema: ActionSchema) -> dict[str, str]:
    """The JSON type of each argument; `any` if it may have several."""
    properties: Mapping[str, Json] = schema.input.get("properties", {})
    return {
        name: str(cast("Mapping[str, Json]", kind).get("type", "any")) if isinstance(kind, dict) else "any"
        for name, kind in properties.items()
    }


def tool_specs(workspace: Workspace, agent: Agent) -> tuple[ToolSpec, ...]:
    """The actions of the agent as its model is offered them, with the pinned schemas and not those of the code as it is now."""
    specs: list[ToolSpec] = []
    for name in agent.actions:
        tool, action = workspace.action(name)
        schema = tool.pin.schemas.get(action.name) if tool.pin else None
        if schema is not None:
            specs.append(tool_spec(name, action, schema))
    return tuple(specs)


def tool_spec(name: str, action: Action, schema: ActionSchema) -> ToolSpec:
    """The action `name` (`files.read`) as a model is offered it."""
    text = f"{action.summary}. {schema.description}" if schema.description else action.summary
    return ToolSpec(name=tool_name(name), description=text, input=schema.input)
