"""Checks that `policies/model.conf` is the one Casbin model that the rest of this package implements.

Casbin accepts models that do not mean what they seem to: a single `=` drops a conjunct, a second section replaces the first,
and an effect column with another name makes every row an allow. So no other model loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from remit.core import Problem

MODEL_FILE: Final = "policies/model.conf"
MODEL: Final = {
    "request_definition": "r = sub, act, res, ctx",
    "policy_definition": "p = sub, act, res, cond, eft",
    "role_definition": "g = _, _",
    "policy_effect": "e = some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    "matchers": "m = actMatch(r.act, p.act) && g(r.sub, p.sub) && resMatch(r.res, p.res, p.eft)"
    " && holds(p.cond, p.eft, r.ctx)",
}
_SECTION: Final = re.compile(r"\[([a-z_]+)\]", re.ASCII)


def check_model(content: bytes | None) -> Iterator[Problem]:
    """Every difference from the required model, apart from comments and blank lines."""
    if content is None:
        yield Problem(file=MODEL_FILE, what="the model is missing", fix=f"write it:\n{model_text()}")
        return
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        what = "the model contains a byte order mark or a character that is not ASCII"
        yield Problem(file=MODEL_FILE, line=number, what=what, fix="save it as plain ASCII without BOM")
        return
    section, seen = "", dict.fromkeys(MODEL, 0)
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        if header := _SECTION.fullmatch(line):
            section = header[1]
            if section not in MODEL:
                yield _problem(number, f"[{section}] is not a section of the model", "remove it")
            elif seen[section]:
                yield _problem(number, f"[{section}] appears twice, and Casbin reads only the last", "remove one")
        elif section not in MODEL:
            yield _problem(number, f"{line!r} is not in a section of the model", "remove it")
        elif line != MODEL[section]:
            yield _problem(number, f"[{section}] differs from the required model", f"write {MODEL[section]}")
            seen[section] += 1
        else:
            seen[section] += 1
            if seen[section] > 1:
                yield _problem(number, f"[{section}] has a second line", "remove it")
    for name, lines in seen.items():
        if not lines:
            yield Problem(
                file=MODEL_FILE, what=f"[{name}] is missing", fix=f"write [{name}] and below it {MODEL[name]}"
            )


def _problem(line: int, what: str, fix: str) -> Problem:
    return Problem(file=MODEL_FILE, line=line, what=what, fix=fix)


def model_text() -> str:
    """The required model, as a file contains it."""
    return "\n".join(f"[{section}]\n{line}" for section, line in MODEL.items())
