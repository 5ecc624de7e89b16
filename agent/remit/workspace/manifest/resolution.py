"""Turns the arguments that a model wrote into canonical arguments and into the resources of the call.

Policy decides on these resources and the tool receives these arguments, so both must come from one reading: no later code
interprets the arguments again.
"""

from __future__ import annotations

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
from remit.workspace.manifest.sections import command_input, filled_argv
from remit.workspace.manifest.touches import Template

MOST_TOUCHES: Final = 1000  # resources of one call; a longer list is an error or an attack


def resolve(
    manifest: Manifest, action: Action, schema: ActionSchema, arguments: Mapping[str, Json]
) -> tuple[dict[str, Json], tuple[ResourceAccess, ...]]:
    """The canonical arguments with defaults, and every resource of the call in the order of the manifest.

    Raises:
        Refusal: `invalid_arguments` for arguments that the schema does not accept or that are not the name of one thing;
            `policy_denied` for a file or a host outside of `[at_most]`. No text of the model is repeated.
    """
    try:
        given: dict[str, Json] = validate(schema.input, dict(arguments))
    except Mismatch as mismatch:
        raise _mismatched(mismatch) from mismatch
    resolved = dict(given)
    touches: dict[tuple[Access, str], ResourceAccess] = {}
    for template in action.templates:
        if template.form in ("each", "within"):
            continue  # the broker adds what the rules permit
        if template.form == "constant":
            resource = f"{template.kind}:{template.constant}"
            # Set and not only added: a resource that the manifest names stays `fixed`, also if an argument names it too.
            touches[template.access, resource] = ResourceAccess(access=template.access, resource=resource, fixed=True)
            continue
        try:
            # Another line may have made another place in this argument canonical already; that must not be undone.
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
    """Raise Refusal `invalid_output` unless the value is JSON and matches the output schema."""
    try:
        canonical_json(value)
    except Refusal as refusal:
        raise Refusal(
            "invalid_output", "the result of the tool is not valid JSON", details=refusal.details
        ) from refusal
    try:
        validate(schema.output, value, fill=False)
    except Mismatch as mismatch:
        details = {"mismatch": mismatch.place}
        types = f", expected {mismatch.expected}, got {mismatch.got}" if mismatch.got else ""
        raise Refusal(
            "invalid_output", f"the result of the tool does not match its schema: {mismatch}{types}", details=details
        ) from mismatch


def command_schema(action: Action) -> ActionSchema:
    """The schema of a command action; the result is the text that it prints."""
    return ActionSchema(input=command_input(action.run, action.args), output={"type": "string"})


def fill_argv(action: Action, arguments: Mapping[str, Json], *, own: str = ".") -> tuple[str, ...]:
    """The argv of a command action; empty for other actions. An element that begins with `./` in the manifest is a file of the tool's
    folder, whose path is `own`.

    Raises:
        Refusal: `invalid_arguments` for an argument that the program would read as an option, or that argv cannot contain.
    """
    return filled_argv(action.run, action.args, arguments, own)


def _named_at(template: Template, path: Sequence[str], value: Json) -> tuple[Json, list[str]]:
    """As `_named`, for the values at the path inside of an argument."""
    # INVARIANT: an item without a name at the path is refused. The tool might use another member as its name, which policy
    # has not seen.
    if value is None:
        details: dict[str, Json] = {"problem": "missing"}
        raise Refusal(
            "invalid_arguments",
            f"incomplete: the member {'/'.join(template.path)!r} that names a resource is missing",
            details=details,
        )
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
        raise Refusal("invalid_arguments", f"not an {expected} at the place of a resource name", details=details)
    members = cast("dict[str, Json]", value)
    written, resources = _named_at(template, rest, members.get(first))
    return {**members, first: written}, resources


def _named(template: Template, value: Json) -> tuple[Json, list[str]]:
    """The argument in canonical spelling, and the resources that it names."""
    if value is None:
        if template.form == "set":  # without a folder the tool would read every folder, and policy would see none
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
    """As `_named`, for a text: a query, a URL, a folder or a name."""
    if template.form == "sql":
        query, tables = tables_of(text)
        return query, [f"table:{table}" for table in tables]
    if template.kind in URL_KINDS:
        scheme = text.partition(":")[0].lower() if template.kind == "url" else template.kind
        url = canonical_url(scheme if scheme in SCHEMES else "https", text)
        return url.address, [url.resource]
    name = proper_name(template.kind, text) if template.form == "name" else canonical(template.kind, text)
    if template.group:
        return name, [f"{template.kind}:{template.group}/{name}"]
    if template.form == "set":
        return name, ["file:**" if name == "." else f"file:{name}/**"]
    return name, [f"{template.kind}:{name}"]


def _check_ceiling(manifest: Manifest, template: Template, resource: str) -> None:
    """Refuse a resource outside of `[at_most]`: no rule can allow more than the manifest."""
    if template.kind in URL_KINDS and not manifest.hosted:
        _check_host(manifest, template, resource)
    if template.kind != "file" or manifest.source == "hook":
        return
    patterns = manifest.write if template.access == "write" else manifest.read
    if not covered(patterns, resource.removeprefix("file:")):
        raise Refusal(
            "policy_denied",
            f"argument {template.argument!r} names a file that tool {manifest.name!r} may not {template.access}",
            details={"reason": "outside_manifest", "argument": template.argument, "access": template.access},
            next_step=f"name a file in {', '.join(patterns)}",
        )


def _check_host(manifest: Manifest, template: Template, resource: str) -> None:
    # An address says nothing about whose it is, so the lines of the manifest could not be compared with it.
    url = url_permission(resource, ())
    if is_address(url.name):
        raise Refusal(
            "policy_denied",
            f"argument {template.argument!r} has the address of a host instead of its name",
            details={"reason": "outside_manifest", "argument": template.argument, "access": template.access},
            next_step="write the host name",
        )
    if not any(parse_host(line).covers(url.name, url.port) for line in manifest.url_hosts):
        raise Refusal(
            "policy_denied",
            f"argument {template.argument!r} names a host that tool {manifest.name!r} may not reach",
            details={"reason": "outside_manifest", "argument": template.argument, "access": template.access},
            next_step=f"name a URL at {', '.join(manifest.url_hosts)}",
        )


def _too_many() -> NoReturn:
    details = {"problem": "too_many", "expected": MOST_TOUCHES}
    raise Refusal("invalid_arguments", f"too long: one call may name at most {MOST_TOUCHES} resources", details=details)


def _mismatched(mismatch: Mismatch) -> Refusal:
    details: dict[str, Json] = {
        "argument": ".".join(mismatch.path),
        "problem": mismatch.problem,
        "mismatch": mismatch.place,
    }
    if mismatch.expected is not None:
        details["expected"] = mismatch.expected
    return Refusal("invalid_arguments", f"the arguments do not match the schema: {mismatch}", details=details)
