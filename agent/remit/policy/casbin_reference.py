"""The same model and rules in stock Casbin: the reference that `Policy.decide` is tested against.

This is the only file that knows Casbin. Three registered functions carry what Casbin's own matching gets wrong: they are
total, they hide no dotfile, and no rule's text is ever spliced into the matcher.
"""
# pyright: basic
# pycasbin ships no types; the wall is this file.

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import casbin
from casbin.model import Model
from casbin.persist import Adapter, load_policy_line

from remit.core import Context, Request, UsageError, action_matches
from remit.policy.language.casbin_model import MODEL_FILE
from remit.policy.language.conditions import holds
from remit.policy.language.loader import FOLDER
from remit.policy.language.patterns import NOTHING_TOUCHED, GlobError, parse_pattern, parse_resource


class Stock:
    """A stock enforcer on the same files, asked once for each subject and resource."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        model = Model()
        model.load_model_from_text(files[MODEL_FILE].decode())
        self._enforcer = casbin.Enforcer(model, _Lines(files))
        self._enforcer.add_function("actMatch", action_matches)
        self._enforcer.add_function("resMatch", resource_matches)
        self._enforcer.add_function("holds", _holds)

    def enforce(self, subject: str, action: str, resource: str, context: Context) -> bool:
        """What Casbin says of one subject and one resource."""
        return bool(self._enforcer.enforce(subject, action, resource, context))

    def row(self, subject: str, action: str, resource: str, context: Context) -> tuple[str, ...]:
        """The row by which Casbin explains its answer: the first that denies, else the last that allows, else none."""
        return self.explained(subject, action, resource, context)[1]

    def explained(self, subject: str, action: str, resource: str, context: Context) -> tuple[bool, tuple[str, ...]]:
        """`enforce` and `row` in one."""
        allowed, row = self._enforcer.enforce_ex(subject, action, resource, context)
        return bool(allowed), tuple(cast("list[str]", row))

    def matched(self, subject: str, action: str, resource: str, context: Context) -> list[tuple[str, ...]]:
        """Every row that the matcher accepts, in order: the matcher's four parts, asked of Casbin's own rows and roles."""
        roles = self._enforcer.get_role_manager()
        return [
            tuple(row)
            for row in cast("list[list[str]]", self._enforcer.get_policy())
            if action_matches(action, row[1])
            and roles.has_link(subject, row[0])
            and resource_matches(resource, row[2], row[4])
            and _holds(row[3], row[4], context)
        ]

    def allows(self, request: Request) -> bool:
        """Whether Casbin allows every subject on every resource."""
        resources = request.resources or (NOTHING_TOUCHED,)
        return bool(request.subjects) and all(
            self.enforce(subject, request.action, resource, request.context)
            for subject in request.subjects
            for resource in resources
        )


def stock(files: Mapping[str, bytes]) -> Stock:
    """Load `policies/` as stock Casbin does, without the strict reading; load it with `policy.load` first.

    Raises:
        UsageError: another distribution has overwritten pycasbin's files, so nothing it says counts.
    """
    try:
        other = version("casbin")
    except PackageNotFoundError:
        return Stock(files)
    raise UsageError(f"the distribution casbin {other} has overwritten pycasbin; uninstall both, then install pycasbin")


def resource_matches(resource: str, pattern: str, effect: str) -> bool:
    """An allow must cover the resource; a deny applies where it meets any of it, and to what cannot be read."""
    try:
        parsed, asked = parse_pattern(pattern), parse_resource(resource)
    except GlobError:
        return effect == "deny"
    return parsed.covers(asked) if effect == "allow" else effect == "deny" and parsed.intersects(asked)


def _holds(condition: str, effect: str, context: Context) -> bool:
    return holds(condition, effect)(context)


class _Lines(Adapter):  # type: ignore[misc]  # untyped, as all of pycasbin
    """Reads every rules file, in the order of their names, with Casbin's own line splitter."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def load_policy(self, model: Model) -> None:
        for file in sorted(self._files):
            if file.startswith(FOLDER) and file.endswith(".csv"):
                for line in self._files[file].decode().split("\n"):
                    load_policy_line(line.strip(), model)
