"""`policies/model.conf` must be the one model whose meaning the rest of this folder implements.

Casbin accepts far more than it understands: a single `=` drops a conjunct, a second section replaces the first, an effect
column named otherwise makes every row an allow. So nothing but the design's model loads.
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
    """Everything in which the file differs from the design's model, comments and blank lines apart."""
    if content is None:
        yield Problem(file=MODEL_FILE, what="the model is missing", fix=f"write it:\n{model_text()}")
        return
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        at = content[: error.start].count(b"\n") + 1
        what = "the model holds characters other than ASCII, or a byte order mark"
        yield Problem(file=MODEL_FILE, line=at, what=what, fix="save it as plain ASCII without BOM")
        return
    section, seen = "", dict.fromkeys(MODEL, 0)
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        if header := _SECTION.fullmatch(line):
            section = header[1]
            if section not in MODEL:
                yield _wrong(number, f"[{section}] is no section of the model", "remove it")
            elif seen[section]:
                yield _wrong(number, f"[{section}] stands twice, and Casbin would read the last", "remove one")
        elif section not in MODEL:
            yield _wrong(number, f"{line!r} stands in no section of the model", "remove it")
        elif line != MODEL[section]:
            yield _wrong(number, f"[{section}] is not the model that rules are decided by", f"write {MODEL[section]}")
            seen[section] += 1
        else:
            seen[section] += 1
            if seen[section] > 1:
                yield _wrong(number, f"[{section}] has a second line", "remove it")
    for name, lines in seen.items():
        if not lines:
            yield Problem(
                file=MODEL_FILE, what=f"[{name}] is missing", fix=f"write [{name}] and below it {MODEL[name]}"
            )


def _wrong(line: int, what: str, fix: str) -> Problem:
    return Problem(file=MODEL_FILE, line=line, what=what, fix=fix)


def model_text() -> str:
    """The design's model, as a file has it."""
    return "\n".join(f"[{section}]\n{line}" for section, line in MODEL.items())
