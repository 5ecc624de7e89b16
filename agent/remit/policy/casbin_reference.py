"""The same model and rules in stock Casbin: `SecondOpinion` asks it, and tests compare `Policy.decide` with it.

This is the only module that imports Casbin. Three registered functions replace matching that Casbin gets wrong: they never
raise, their wildcards match dotfiles, and no text of a rule is inserted into the matcher.
"""
# pyright: basic
# pycasbin has no types; they stay inside this module.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias, cast

import casbin
from casbin.model import Model
from casbin.persist import Adapter, load_policy_line

from remit.core import Context, Request, UsageError, action_matches
from remit.policy.language.casbin_model import MODEL_FILE
from remit.policy.language.conditions import holds
from remit.policy.language.loader import FOLDER
from remit.policy.language.patterns import NOTHING_TOUCHED, GlobError, parse_pattern, parse_resource

Fields: TypeAlias = Sequence[str]  # of a p row: subject, action, resource, condition, effect


class StockEnforcer:
    """A stock enforcer with this model and these rows, asked once for each subject and resource.

    Not thread-safe.

    Raises:
        UsageError: another distribution has overwritten pycasbin's files.
    """

    def __init__(self, model_text: str, lines: Iterable[str]) -> None:
        _check_distribution()
        model = Model()
        model.load_model_from_text(model_text)
        self._enforcer: Any = _Enforcer(model, _Lines(lines))
        self._enforcer.add_function("actMatch", action_matches)
        self._enforcer.add_function("resMatch", resource_matches)
        self._enforcer.add_function("holds", _holds)

    @property
    def rows(self) -> Sequence[Fields]:
        """The p rows by which Casbin decides, in order."""
        return cast("list[list[str]]", self._enforcer.model["p"]["p"].policy)

    def keep_only(self, rows: Sequence[Fields]) -> None:
        """Decide by these p rows from now on; roles do not change."""
        self._enforcer.model["p"]["p"].policy = rows

    def roles_of(self, subject: str) -> list[str]:
        """Every role of the subject, direct or inherited, by Casbin's own role manager."""
        return cast("list[str]", self._enforcer.get_implicit_roles_for_user(subject))

    def enforce(self, subject: str, action: str, resource: str, context: Context) -> bool:
        """Casbin's answer for one subject and one resource; any answer other than True itself counts as no."""
        return self._enforcer.enforce(subject, action, resource, context) is True

    def row(self, subject: str, action: str, resource: str, context: Context) -> tuple[str, ...]:
        """The row that Casbin gives as its reason: the first that denies, else the last that allows, else none."""
        return self.explain(subject, action, resource, context)[1]

    def explain(self, subject: str, action: str, resource: str, context: Context) -> tuple[bool, tuple[str, ...]]:
        """`enforce` and `row` in one call."""
        allowed, row = self._enforcer.enforce_ex(subject, action, resource, context)
        return bool(allowed), tuple(cast("list[str]", row))

    def matching_rows(self, subject: str, action: str, resource: str, context: Context) -> list[tuple[str, ...]]:
        """Every row that the matcher accepts, in order: the four parts of the matcher on Casbin's own rows and roles."""
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
        """True if Casbin allows every subject on every resource."""
        resources = request.resources or (NOTHING_TOUCHED,)
        return bool(request.subjects) and all(
            self.enforce(subject, request.action, resource, request.context)
            for subject in request.subjects
            for resource in resources
        )


class _Enforcer(casbin.Enforcer):  # type: ignore[misc]  # untyped, as all of pycasbin
    """Parses the matcher once instead of for each answer, which is half of the time of an answer.

    Python 3.11 also fails if two threads parse at the same time (gh-106905). If a later pycasbin does not call this method,
    it is slower and its answers are the same.
    """

    def __init__(self, model: Model, adapter: Adapter) -> None:
        self._parsed: dict[str, Any] = {}
        super().__init__(model, adapter)

    def _get_expression(self, expr: str, functions: dict[str, Any] | None = None) -> Any:
        if expr not in self._parsed:
            self._parsed[expr] = super()._get_expression(expr, functions)
        return self._parsed[expr]


def load_stock_enforcer(files: Mapping[str, bytes]) -> StockEnforcer:
    """Load `policies/` as stock Casbin does, without the strict checks; so load it with `load_policy` first.

    Raises:
        UsageError: another distribution has overwritten pycasbin's files, so its answers are not reliable.
    """
    return StockEnforcer(
        files[MODEL_FILE].decode(),
        (
            line
            for file in sorted(files)
            if file.startswith(FOLDER) and file.endswith(".csv")
            for line in files[file].decode().split("\n")
        ),
    )


def _check_distribution() -> None:
    try:
        other = version("casbin")
    except PackageNotFoundError:
        return
    raise UsageError(f"the package casbin {other} has overwritten pycasbin; uninstall both, then install pycasbin")


def resource_matches(resource: str, pattern: str, effect: str) -> bool:
    """True if the pattern of an allow covers the resource, or that of a deny intersects it.

    A pattern or resource that is not valid never allows and always denies.
    """
    try:
        parsed, requested = parse_pattern(pattern), parse_resource(resource)
    except GlobError:
        return effect == "deny"
    return parsed.covers(requested) if effect == "allow" else effect == "deny" and parsed.intersects(requested)


def _holds(condition: str, effect: str, context: Context) -> bool:
    return holds(condition, effect)(context)


class _Lines(Adapter):  # type: ignore[misc]  # untyped, as all of pycasbin
    """Reads lines of rules with Casbin's own line splitter."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines

    def load_policy(self, model: Model) -> None:
        for line in self._lines:
            load_policy_line(line.strip(), model)
