"""An evaluation as JUnit XML, after the schema of Jenkins (xunit-plugin, junit-10.xsd), which other CI systems read too.

A scenario is a test case, a variant is a suite. A test case fails if the scenario is a reason why the evaluation failed. A run that
did not pass without being one is a flaky failure: an agent that passes 7 of 8 runs as before must not stop a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from remit.core.parsing import visible
from remit.evals.reports.figures import next_command, runs_of, sees, verdict_of, why
from remit.evals.reports.report import EvaluationReport, comparison_of, fails, slowness
from remit.evals.results import Grade
from remit.evals.statistics import Comparison, ScenarioSummary, VariantSummary

WHOLE = "the suite as a whole"


def render_junit(report: EvaluationReport) -> str:
    """The XML as text."""
    root = Element("testsuites", name=_text(f"remit eval {report.evaluation.agent}"))
    for variant in report.variants:
        compared = comparison_of(variant, report.comparisons)
        _suite(root, report, variant, compared if report.against_baseline else None)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(root: Element, report: EvaluationReport, variant: VariantSummary, compared: Comparison | None) -> None:
    name = variant.variant.name
    suite = SubElement(root, "testsuite", name=_text(name))
    _properties(suite, report, variant)
    hard = {failure.scenario for failure in variant.hard_failures}
    classname = _text(f"{report.evaluation.agent}.{name}")
    for scenario in variant.scenarios:
        grades = [each for each in report.evaluation.grades if (each.scenario, each.variant) == (scenario.name, name)]
        case = SubElement(suite, "testcase", name=_text(scenario.name), classname=classname)
        case.set("time", f"{sum(grade.seconds for grade in grades):.3f}")
        _outcome(case, scenario, grades, failing=fails(scenario, compared, scenario.name in hard))
    if compared is not None:
        case = SubElement(suite, "testcase", name=WHOLE, classname=classname, time="0.000")
        if compared.verdict == "worse":
            _problem(case, "failure", "\n".join(compared.reasons), verdict_of(compared))
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", str(sum(case.find("error") is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")


def _properties(suite: Element, report: EvaluationReport, variant: VariantSummary) -> None:
    properties = SubElement(suite, "properties")
    for key, value in (
        ("model", variant.variant.model),
        ("definition", variant.variant.bundle),
        ("policy", variant.variant.policy_digest),
        ("evaluation", report.evaluation.id),
        ("runs", runs_of(variant)),
        ("power", sees(variant)),
    ):
        SubElement(properties, "property", name=key, value=_text(value))


def _outcome(case: Element, scenario: ScenarioSummary, grades: Sequence[Grade], *, failing: bool) -> None:
    failed = [grade for grade in grades if grade.outcome != "passed"]
    if failing:
        lost = bool(failed) and all(grade.outcome == "infrastructure" for grade in failed)
        message = slowness(scenario) or f"{len(failed)} of {len(grades)} runs did not pass"
        _problem(case, "error" if lost else "failure", "\n".join(map(_run, failed)), message)
        return
    for grade in failed:
        kind = "flakyError" if grade.outcome == "infrastructure" else "flakyFailure"
        _problem(case, kind, _run(grade), why(grade))


def _problem(case: Element, kind: str, text: str, message: str) -> None:
    SubElement(case, kind, type=kind, message=_text(message)).text = _text(text)


def _run(grade: Grade) -> str:
    return f"repeat {grade.repeat + 1}: {why(grade)}; {next_command(grade) or 'it has no run'}"


def _text(text: str) -> str:
    """The text with hidden characters written out: XML has no form for most of them, nor for two that are not hidden."""
    return visible(text).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
