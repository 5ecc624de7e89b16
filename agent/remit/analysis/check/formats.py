"""Reports of a check for other programs: JSON, annotations of GitHub, SARIF 2.1.0 and JUnit.

SARIF: https://docs.oasis-open.org/sarif/sarif/v2.1.0/. GitHub: workflow commands of GitHub Actions. JUnit: the XML that CI servers
read, valid for the schemas of Apache Ant (github.com/windyroad/JUnit-Schema) and of Jenkins (junit-10.xsd of its xUnit plugin).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias
from xml.sax.saxutils import escape, quoteattr

from remit import __version__
from remit.analysis.check.workspace import CheckReport
from remit.core import FINDINGS, LEVELS, Finding, Level
from remit.core.parsing import visible, visible_json

Format: TypeAlias = Literal["text", "json", "github", "sarif", "junit"]
FORMATS: Final[tuple[Format, ...]] = ("text", "json", "github", "sarif", "junit")
_SARIF_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_GITHUB: Final[Mapping[Level, str]] = {"error": "error", "warning": "warning", "note": "notice"}


def report_text(report: CheckReport, form: Format, *, fail_on: Level) -> str:
    """The report as a text of that form, without a newline at its end. `text` is for the command line, which prints it itself."""
    return _FORMS[form](report, fail_on)


def _json(report: CheckReport, fail_on: Level) -> str:
    body = {
        "ok": not report.fails(fail_on),
        "findings": [asdict(item) for item in report.findings],
        "counts": dict(report.counts),
    }
    return visible_json(json.dumps(body, ensure_ascii=False))


def _github(report: CheckReport, _: Level) -> str:
    return "\n".join(map(_annotation, report.findings))


def _annotation(item: Finding) -> str:
    line = "" if item.line is None else f",line={item.line}"
    title = _property(f"remit check: {item.code}")
    text = _data(visible(f"{item.what}\nfix: {item.fix}"))
    return f"::{_GITHUB[item.level]} file={_property(item.file)}{line},title={title}::{text}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _sarif(report: CheckReport, _: Level) -> str:
    codes = sorted({*FINDINGS, *(item.code for item in report.findings)})
    driver = {
        "name": "remit",
        "semanticVersion": __version__,
        "rules": [{"id": code, "shortDescription": {"text": FINDINGS.get(code, code)}} for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(item, codes.index(item.code)) for item in report.findings],
    }
    body = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return visible_json(json.dumps(body, ensure_ascii=False, indent=2))


def _result(item: Finding, rule: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": item.file, "uriBaseId": "%SRCROOT%"}}
    if item.line is not None:
        place["region"] = {"startLine": item.line}
    return {
        "ruleId": item.code,
        "ruleIndex": rule,
        "level": item.level,
        "message": {"text": f"{item.what}\nfix: {item.fix}"},
        "locations": [{"physicalLocation": place}],
    }


def _junit(report: CheckReport, fail_on: Level) -> str:
    """One test case for each finding at a level that fails; one that passes, if there is none."""
    failing = [item for item in report.findings if LEVELS.index(item.level) <= LEVELS.index(fail_on)]
    cases = [_case(item) for item in failing] or ['<testcase classname="remit" name="check" time="0"/>']
    counts = f'tests="{len(cases)}" failures="{len(failing)}" errors="0" skipped="0" time="0"'
    head = f'name="remit check" package="remit" id="0" hostname="localhost" timestamp="{_now()}" {counts}'
    body = "".join(f"    {case}\n" for case in ("<properties/>", *cases, "<system-out/>", "<system-err/>"))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n  <testsuite {head}>\n{body}  </testsuite>\n</testsuites>'


def _now() -> str:
    """The time in UTC as the schema of Ant wants it: without a zone."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _case(item: Finding) -> str:
    name = _attribute(f"{item.place} {item.what}")
    text = escape(visible(f"{item.place}: {item.what}\nfix: {item.fix}"))
    head = f'<testcase classname="{item.code}" name={name} time="0">'
    return f'{head}<failure type="{item.level}" message={_attribute(item.what)}>{text}</failure></testcase>'


def _attribute(text: str) -> str:
    return quoteattr(visible(text, but=""))


_FORMS: Final[Mapping[Format, Callable[[CheckReport, Level], str]]] = {
    "json": _json,
    "github": _github,
    "sarif": _sarif,
    "junit": _junit,
}
