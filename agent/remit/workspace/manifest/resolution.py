"""From what the model wrote to what the call touches: arguments checked, made canonical, and turned into resources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, cast

from remit.core import Access, Json, Refusal, ResourceAccess
from remit.core.parsing import (
    SCHEMES,
    URL_KINDS,
    Mismatch,
    canonical,
    canonical_json,
    canonical_url,
    covered,
    proper_name,
    tables_of,
    validate,
)
from remit.sandbox.egress import is_address, parse_host, url_permission
from remit.workspace.manifest.manifest import Action, ActionSchema, Manifest
from remit.workspace.manifest.touches import Template

MOST_TOUCHES: Final = 1000  # resources of one call; a longer list is a mistake or an attack

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def resolve(
    manifest: Manifest, action: Action, schema: ActionSchema, arguments: Mapping[str, Json]
) -> tuple[dict[str, Json], tuple[ResourceAccess, ...]]:
    """The canonical arguments, defaults filled in, and every resource that the call touches, in the manifest's order.

    Raises:
        Refusal: `invalid_arguments` for what the schema does not accept or what names no one thing; `policy_denied` for
            a file outside the manifest's ceiling. Neither repeats what the model wrote.
    """
    try:
        given: dict[str, Json] = validate(schema.input, dict(arguments))
    except Mismatch as mismatch:
        raise _mismatched(mismatch) from mismatch
    resolved = dict(given)
    touches: dict[tuple[Access, str], ResourceAccess] = {}
    for template in action.templates:
        if template.form == "constant":
            resource = f"{template.kind}:{template.constant}"
            touches[template.access, resource] = ResourceAccess(access=template.access, resource=resource, fixed=True)
            continue
        try:
            # What an earlier line wrote canonically at another place in the same argument stays so.
            value = (resolved if template.path else given).get(template.argument)
            inside = bool(template.path) and value is not None
            written, resources = _named_at(template, template.path, value) if inside else _named(template, value)
        except Refusal as refusal:
            details = {"argument": template.argument, **refusal.details}
            raise Refusal(
                refusal.code, f"argument {template.argument!r} is {refusal.message}", details=details
            ) from refusal
        if template.argument in given:
            resolved[template.argument] = written
        for resource in resources:
            touches.setdefault((template.access, resource), ResourceAccess(access=template.access, resource=resource))
            _check_ceiling(manifest, template, resource)
    if len(touches) > MOST_TOUCHES:
        _too_many()
    return resolved, tuple(touches.values())


def check_output(schema: ActionSchema, value: Json) -> None:
    """Raise `invalid_output` unless the value is JSON and what the schema promises."""
    try:
        canonical_json(value)
    except Refusal as refusal:
        raise Refusal(
            "invalid_output", "the result is not JSON that every reader reads alike", details=refusal.details
        ) from refusal
    try:
        validate(schema.output, value, fill=False)
    except Mismatch as mismatch:
        details = {"at": ".".join(mismatch.path), "problem": mismatch.problem}
        raise Refusal(
            "invalid_output", f"the result is not what its schema promises: {mismatch}", details=details
        ) from mismatch


def command_schema(action: Action) -> ActionSchema:
    """The schema of a command action: every placeholder is a required text, and so is what the command prints."""
    names = [found[1] for part in action.run if (found := _PLACEHOLDER.fullmatch(part))]
    return ActionSchema(
        input={
            "type": "object",
            "properties": {name: {"type": "string"} for name in names},
            "required": list(dict.fromkeys(names)),
            "additionalProperties": False,
        },
        output={"type": "string"},
    )


def fill_argv(action: Action, arguments: Mapping[str, Json], *, own: str = ".") -> tuple[str, ...]:
    """The argv of a command action, one element for each placeholder; empty for other actions.

    An element that the manifest itself begins with `./` is a file of the tool's folder, which lies at `own`.
    Raises `invalid_arguments` for an argument that the program would take for an option, or that cannot be an element.
    """
    argv: list[str] = []
    options = True
    for part in action.run:
        found = _PLACEHOLDER.fullmatch(part)
        value = arguments.get(found[1]) if found else part
        if not isinstance(value, str) or "\0" in value:
            raise _unfit(found[1] if found else part, "not_a_text", "must be a text without NUL")
        if found and options and value.startswith("-"):
            raise _unfit(found[1], "option", "may not start with '-'")
        options = options and part != "--"
        argv.append(f"{own}/{part[2:]}" if part in action.own_files else value)
    return tuple(argv)


def _named_at(template: Template, path: Sequence[str], value: Json) -> tuple[Json, list[str]]:
    """As `_named`, of what stands at the path inside of an argument."""
    # INVARIANT: an item that does not say what it names is refused, for the tool may take something else for its name.
    if value is None:
        details: dict[str, Json] = {"problem": "missing"}
        raise Refusal("invalid_arguments", "without the name of something that it touches", details=details)
    if not path:
        return _named(template, value)
    first, rest = path[0], path[1:]
    if first == "*" and isinstance(value, list):
        items = cast("Sequence[Json]", value)
        if len(items) > MOST_TOUCHES:
            _too_many()
        each = [_named_at(template, rest, item) for item in items]
        return [written for written, _ in each], [resource for _, resources in each for resource in resources]
    if first == "*" or not isinstance(value, dict):
        expected = "array" if first == "*" else "object"
        details = {"problem": "wrong_type", "expected": expected}
        raise Refusal("invalid_arguments", f"not an {expected} where it names what it touches", details=details)
    members = cast("dict[str, Json]", value)
    written, resources = _named_at(template, rest, members.get(first))
    return {**members, first: written}, resources


def _named(template: Template, value: Json) -> tuple[Json, list[str]]:
    """The argument in its canonical spelling, and the resources that it names."""
    if value is None:
        if template.form == "set":  # no folder would mean every folder to the tool, and none to policy
            raise Refusal("invalid_arguments", "missing: name a folder", details={"problem": "missing"})
        return None, []
    if isinstance(value, list):
        items = cast("Sequence[Json]", value)
        if len(items) > MOST_TOUCHES:
            _too_many()
        each = [_named(template, item) for item in items]
        return [written for written, _ in each], [resource for _, resources in each for resource in resources]
    if isinstance(value, int) and not isinstance(value, bool) and template.numbered:
        return value, [f"{template.kind}:{canonical(template.kind, str(value))}"]
    if not isinstance(value, str):
        raise Refusal("invalid_arguments", "not a text", details={"problem": "wrong_type", "expected": "string"})
    return _named_by_text(template, value)


def _named_by_text(template: Template, text: str) -> tuple[str, list[str]]:
    """As `_named`, of a text: a query, a URL, a folder or a name."""
    if template.form == "sql":
        query, tables = tables_of(text)
        return query, [f"table:{table}" for table in tables]
    if template.kind in URL_KINDS:
        scheme = text.partition(":")[0].lower() if template.kind == "url" else template.kind
        url = canonical_url(scheme if scheme in SCHEMES else "https", text)
        return url.address, [url.resource]
    name = proper_name(template.kind, text) if template.form == "name" else canonical(template.kind, text)
    if template.form == "set":
        return name, ["file:**" if name == "." else f"file:{name}/**"]
    return name, [f"{template.kind}:{name}"]


def _check_ceiling(manifest: Manifest, template: Template, resource: str) -> None:
    if template.kind in URL_KINDS and manifest.source != "host":
        _check_host(manifest, template, resource)
    if template.kind != "file":
        return
    patterns = manifest.write if template.access == "write" else manifest.read
    if not covered(patterns, resource.removeprefix("file:")):
        raise Refusal(
            "policy_denied",
            f"the manifest of tool {manifest.name!r} does not reach what argument {template.argument!r} names",
            details={"reason": "outside_manifest", "argument": template.argument, "access": template.access},
            next_step=f"name a file in {', '.join(patterns)}",
        )


def _check_host(manifest: Manifest, template: Template, resource: str) -> None:
    url = url_permission(resource, ())
    if is_address(url.name):
        raise Refusal(
            "policy_denied",
            f"argument {template.argument!r} names a host by its address",
            details={"reason": "outside_manifest", "argument": template.argument, "access": template.access},
            next_step="name the host",
        )
    if not any(parse_host(line).covers(url.name, url.port) for line in manifest.url_hosts):
        raise Refusal(
            "policy_denied",
            f"the manifest of tool {manifest.name!r} does not reach what argument {template.argument!r} names",
            details={"reason": "outside_manifest", "argument": template.argument, "access": template.access},
            next_step=f"name a URL at {', '.join(manifest.url_hosts)}",
        )


def _too_many() -> NoReturn:
    details = {"problem": "too_many", "expected": MOST_TOUCHES}
    raise Refusal("invalid_arguments", f"too many: one call touches at most {MOST_TOUCHES} resources", details=details)


def _mismatched(mismatch: Mismatch) -> Refusal:
    details: dict[str, Json] = {"argument": ".".join(mismatch.path), "problem": mismatch.problem}
    if mismatch.expected is not None:
        details["expected"] = mismatch.expected
    return Refusal("invalid_arguments", f"the arguments are not what the schema accepts: {mismatch}", details=details)


def _unfit(name: str, problem: str, what: str) -> Refusal:
    return Refusal("invalid_arguments", f"argument {name!r} {what}", details={"argument": name, "problem": problem})
