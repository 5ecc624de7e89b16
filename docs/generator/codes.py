"""Pages of error codes, of the routes of the service, of the facts of conditions, and of the keywords of schemas."""

from __future__ import annotations

from typing import Final, get_args

from generator.markdown import code, one_of, table
from generator.schemas import facts
from remit.core import Confinement, Effect
from remit.core.errors import CODES, NEXT_STEPS, SOURCES, OperatorCode
from remit.core.parsing import ANNOTATIONS, KEYWORDS
from remit.policy.language import conditions
from remit.server import ROUTES, Route
from remit.server.http.answers import STATUS


def pages() -> dict[str, str]:
    """The four pages."""
    return {
        "reference/codes.md": _codes(),
        "reference/http.md": _routes(),
        "reference/facts.md": _facts(),
        "reference/json-schema.md": _keywords(),
    }


def _codes() -> str:
    model = ((code(name), CODES[name], SOURCES[name], step) for name, step in NEXT_STEPS.items())
    operator = ((code(name), CODES[name], SOURCES[name]) for name in get_args(OperatorCode))
    return (
        "# Error codes\n\nA call that does not succeed has one of these codes, and no other. "
        "[What a model reads](../results.md) shows the whole result; [the runbook](../../traces/codes.md) has likely causes, "
        "and what to do.\n\n## Codes that a model reads\n\n"
        + table(("code", "meaning", "whose error", "next step, if the error has no better one"), model)
        + "## Codes that end a run\n\nThe operator reads these; the model does not.\n\n"
        + table(("code", "meaning", "whose error"), operator)
    )


def _routes() -> str:
    rows = ((code(f"{route.method} {route.path}"), route.summary, _right(route)) for route in ROUTES)
    statuses = ((code(name), str(status)) for name, status in sorted(STATUS.items()))
    return (
        "# Routes of the service\n\n`GET /openapi.json` describes the routes of [remit serve](commands.md) with their bodies and "
        'answers. Every answer is a result: `{"ok": true, "value": …}` or `{"ok": false, "error": {"code": …, "message": …}}`.\n\n'
        + table(("route", "what it does", "the rules must allow"), rows)
        + "## HTTP status of each code\n\n"
        + table(("code", "status"), statuses)
    )


def _right(route: Route) -> str:
    if route.act is not None:
        return f"{code(route.act)} on {route.resource}"
    return "" if route.public is not None else "each principal sees what they may read"


_CALLS: Final = {
    "args": "args.NAME, len(args.NAME)",
    "calls": "calls('TOOL.ACTION'), calls('TOOL.ACTION in conversation')",
    "approved": "approved('role:ROLE')",
}


def _facts() -> str:
    rows = [(code(_CALLS.get(name, name)), kind, meaning) for name, (meaning, kind) in facts().items()]
    rows.append((code("approvals('role:ROLE')"), "number", "how many people approved the call in that role"))
    closed = {"effect": get_args(Effect), "confinement": get_args(Confinement)}
    return (
        "# Facts of conditions\n\nThe condition of a rule is one expression over these facts. There is no other fact.\n\n"
        + table(("fact", "type", "true, or holds, if"), rows)
        + "## Closed values\n\n"
        + table(
            ("fact", "values"),
            ((code(name), one_of(f"'{value}'" for value in values)) for name, values in closed.items()),
        )
        + "## Operators\n\n"
        + table(
            ("operator", "meaning"),
            (
                ("`and`, `or`, `not`", "as in Python"),
                (one_of(_OPERATORS), "comparisons of values of one type"),
                ("`in`, `not in`", "a text in a set, a list or a text"),
            ),
        )
        + f"A condition has at most {conditions.LONGEST} characters and {conditions.DEEPEST} nested operators. Texts are in single "
        "quotes. A comma, a double quote, a square bracket or a backslash is an error.\n\nA comparison with a fact that cannot be "
        "read is neither true nor false. If the whole condition is neither, an allow row does not apply, and a deny row applies.\n"
    )


_OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=")


REFUSED: Final = frozenset(
    {
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$id",
        "$vocabulary",
        "contains",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "minContains",
        "not",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_LIMITS: Final = {
    "$ref": "to a schema of the same document only, by a JSON pointer: `#/$defs/NAME`",
    "$defs": "`definitions` means the same",
    "pattern": "found anywhere in the text; a regular expression without lookaround and backreference, by the Rust engine of pydantic",
    "patternProperties": "as `pattern`",
    "multipleOf": "compared as decimal numbers: 19.99 is a multiple of 0.01",
    "uniqueItems": "1 and 1.0 are equal; 1 and `true` are not",
}


def _keywords() -> str:
    rows = ((code(name), _LIMITS.get(name, "")) for name in sorted(KEYWORDS - {"definitions"}))
    return (
        "# JSON Schema\n\nThe arguments and the result of an action have JSON Schemas, which Remit makes from the types of the "
        "function, or takes from a host tool. A keyword means what JSON Schema 2020-12 says. The published schema of an object "
        "says `additionalProperties: false`, unless the type accepts other members.\n\n## Keywords that Remit validates\n\n"
        + table(("keyword", "in Remit"), rows)
        + "## Annotations\n\nA model reads them; Remit does not validate them. The type of the function does, before the function "
        f"is called: {one_of(map(code, sorted(ANNOTATIONS)))}.\n\n"
        "## Keywords that are refused\n\nA tool with one of these, or with a keyword that 2020-12 does not have, cannot be pinned: "
        f"{one_of(map(code, sorted(REFUSED)))}.\n"
    )
