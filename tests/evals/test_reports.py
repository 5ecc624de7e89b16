"""The reports of an evaluation: the same figures for terminals, pages, pull requests and CI systems, safe whatever a run said."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest

from remit.evals.reports import (
    EvaluationReport,
    render_html,
    render_junit,
    render_markdown,
    render_text,
    report_on,
)
from support.browser import CHROMIUM, Browser, browser, lacking
from support.evaluations import evaluation, outcomes

HOSTILE: Final = (
    "</pre></details><script>document.title='pwned'</script><img src=x onerror=alert(1)>"
    "``` | @everyone [x](http://127.0.0.1:9)\n\n# heading ]]> \u202e\u200b\0\x1b[31m\ufffe\uffff"
)
RENDERERS: Final[Mapping[str, Callable[[EvaluationReport], str]]] = {
    "text": render_text,
    "markdown": render_markdown,
    "html": render_html,
    "junit": render_junit,
}
# The parts of junit-10.xsd (Jenkins, xunit-plugin) that a report uses: attributes that must be there, others, and elements inside.
SCHEMA: Final[dict[str, tuple[set[str], set[str], set[str]]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors"}, {"time"}, {"properties", "testcase"}),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name"}, {"time", "classname"}, {"error", "failure", "flakyFailure", "flakyError"}),
    "error": (set(), {"type", "message"}, set()),
    "failure": (set(), {"type", "message"}, set()),
    "flakyFailure": ({"type"}, {"message"}, set()),
    "flakyError": ({"type"}, {"message"}, set()),
}
TIME: Final = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def several() -> EvaluationReport:
    """Two variants against a baseline, with every outcome, of which one is much worse."""
    names = {f"scenario {at}": "pppppppp" for at in range(10)}
    worse = {**dict.fromkeys(names, "ffffpfpf"), "lost": "iipppppp"}
    done = evaluation({"short": worse}, **{**names, "lost": "pppppppi"})
    return report_on(done, outcomes(**names, lost="pppppppp"))


def hostile() -> EvaluationReport:
    """Texts that look like markup in every place where a report shows a text that a run, a model or a file wrote."""
    done = evaluation(detail=HOSTILE, a="pfhi")
    info = done.scenarios[0].model_copy(update={"name": HOSTILE, "note": HOSTILE, "judges": (HOSTILE,)})
    variant = done.variants[0].model_copy(update={"name": HOSTILE, "model": HOSTILE, "changes": (HOSTILE,)})
    grades = tuple(grade.model_copy(update={"scenario": HOSTILE, "variant": HOSTILE}) for grade in done.grades)
    return report_on(done.model_copy(update={"scenarios": (info,), "variants": (variant,), "grades": grades}))


# -- the verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letters", "baseline", "verdict", "reason"),
    [
        ("pppppppp", None, "passed", ""),
        ("pppppppf", None, "failed", "scenario 'a': 1 of 8 runs did not pass"),
        ("pppppppi", None, "failed", "1 of 8 runs did not pass, 1 by infrastructure failures"),
        ("pppp----", None, "playing", ""),
        ("pppf----", None, "failed", "1 of 4 runs did not pass"),
        ("pppppppf", "pppppppp", "passed", ""),
        ("ffffffff", "pppppppp", "failed", "scenario 'a' fell from 8 to 0 of 8 passed"),
        ("pppppppp", "ffffffff", "passed", ""),
        ("pppppphp", "ffffffff", "failed", "run now-a-6: an effect that must never land: expected files.write"),
        ("pppph---", "pppppppp", "failed", "an effect that must never land"),
        ("ppppp---", "pppppppp", "playing", ""),
    ],
)
def test_an_evaluation_fails_for_a_hard_check_a_significant_drop_or_without_a_baseline_for_any_run(
    letters: str, baseline: str | None, verdict: str, reason: str
) -> None:
    found = report_on(evaluation(a=letters), None if baseline is None else outcomes(a=baseline))
    assert found.verdict == verdict
    assert reason in " ".join(found.reasons)
    assert bool(found.reasons) == (verdict == "failed")


def test_a_scenario_that_the_baseline_does_not_have_as_it_is_now_must_pass_in_every_run() -> None:
    """Otherwise a change of its row, with which it fails, would not be noticed."""
    baseline = outcomes(a="pppppppp")
    found = report_on(evaluation(a="pppppppf", new="pppf"), baseline)
    assert found.reasons == ("scenario 'new': 1 of 4 runs did not pass",)
    assert ElementTree.fromstring(render_junit(found)).get("failures") == "1"
    alone = report_on(evaluation(new="pppf"), baseline)
    assert (alone.verdict, alone.comparisons) == ("failed", ())
    assert report_on(evaluation(new="pppp"), baseline).verdict == "passed"


def test_a_scenario_that_passes_its_limit_of_time_fails_once_all_its_runs_are_played() -> None:
    """The eight runs take 1 to 8 seconds. An infrastructure failure is no run of the agent."""
    slow = report_on(evaluation(p95=7.5, a="pppppppp"), outcomes(a="pppppppp"))
    assert slow.reasons == ("scenario 'a', now: its p95 is 8 s, and at most 7.5 s are allowed",)
    assert ElementTree.fromstring(render_junit(slow)).get("failures") == "1"
    for fast in (evaluation(p95=8, a="pppppppp"), evaluation(p95=2, a="ppp-----"), evaluation(p95=7, a="pppppppi")):
        assert report_on(fast, outcomes(a="pppppppp")).reasons == ()


def test_variants_are_compared_with_the_first_one_for_information_if_there_is_no_baseline() -> None:
    found = report_on(evaluation({"short": {"a": "pppppppp"}}, a="pppppppp"))
    assert [(each.base.name, each.candidate.name) for each in found.comparisons] == [("now", "short")]
    assert found.verdict == "passed"


def test_the_json_report_is_read_as_it_was_written() -> None:
    assert EvaluationReport.model_validate_json(several().model_dump_json()) == several()


# -- for people --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", RENDERERS)
def test_every_report_says_what_failed_why_and_what_to_type(form: str) -> None:
    text = RENDERERS[form](several())
    for part in ("scenario 3", "triage", "87 of 88 passed", "sees a drop of", "remit replay short-", "infrastructure"):
        assert part in text, part
    assert re.search("worse: mean change -7[0-9]", text)


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_report_for_people_has_rates_with_intervals_and_pass_rates_of_the_baseline_comparison(form: str) -> None:
    text = RENDERERS[form](several())
    assert "100 % (68 to 100)" in text
    assert "the baseline" in text
    assert "tone agrees with people in 94 % (84 to 98) of 60 answers" in text


def test_a_comment_lists_some_runs_and_says_how_many_more_there_are() -> None:
    lines = render_markdown(several()).splitlines()
    assert sum("remit replay" in line for line in lines) == 20
    assert "- and 43 more" in lines


def test_a_comment_has_no_markup_of_a_run() -> None:
    """Outside of code there is nothing that a run, a model or a file wrote: no tag, link, mention, heading or new cell."""
    text = render_markdown(hostile())
    fences = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
    for line in text.splitlines():
        outside = fences.sub("", line)
        assert not re.search(r"[@\[`]|http|pwned|<(?!/?details>|/?summary>)", outside), line
        assert "\u202e" not in line
    cells = {line.count("|") for line in text.splitlines() if line.startswith("| ")}
    assert len(cells) == 1


# -- for CI systems ----------------------------------------------------------------------------------------------------


def check_junit(element: ElementTree.Element) -> None:
    needed, optional, inside = SCHEMA[element.tag]
    assert needed <= set(element.keys()) <= needed | optional, element.attrib
    assert TIME.fullmatch(element.get("time", ""))
    for child in element:
        assert child.tag in inside
        check_junit(child)


@pytest.mark.parametrize("make", [several, hostile], ids=["ordinary", "hostile"])
def test_junit_xml_is_valid_and_its_counts_are_right(make: Callable[[], EvaluationReport]) -> None:
    text = render_junit(make())
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as failure:
        pytest.fail(f"this is no XML: {failure}")
    check_junit(root)
    for suite in [root, *root.findall("testsuite")]:
        cases = list(suite.iter("testcase"))
        assert suite.get("tests") == str(len(cases))
        assert suite.get("failures") == str(sum(case.find("failure") is not None for case in cases))
        assert suite.get("errors") == str(sum(case.find("error") is not None for case in cases))


def test_a_run_that_is_no_reason_to_fail_is_a_flaky_failure_in_junit() -> None:
    """An agent that passes 7 of 8 runs as before must not fail a build."""
    found = ElementTree.fromstring(
        render_junit(report_on(evaluation(a="pppppppf", b="pppppppi"), outcomes(a="pppppppp", b="pppppppp")))
    )
    assert (found.get("failures"), found.get("errors")) == ("0", "0")
    assert len(list(found.iter("flakyFailure"))) == len(list(found.iter("flakyError"))) == 1


def test_a_drop_of_the_whole_suite_is_a_failure_of_its_own_in_junit() -> None:
    names = [f"s{at}" for at in range(12)]
    done = report_on(evaluation(**dict.fromkeys(names, "pppppfff")), outcomes(**dict.fromkeys(names, "pppppppf")))
    failed = [
        case.get("name")
        for case in ElementTree.fromstring(render_junit(done)).iter("testcase")
        if len(case.findall("failure"))
    ]
    assert failed == ["the suite as a whole"]


def test_scenarios_whose_runs_all_failed_for_infrastructure_are_errors_in_junit() -> None:
    found = ElementTree.fromstring(render_junit(report_on(evaluation(a="iiii", b="iifi"))))
    assert (found.get("failures"), found.get("errors")) == ("1", "1")


# -- in a browser ------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_without_script_whose_texts_are_no_markup() -> None:
    text = render_html(hostile())
    assert "<script" not in text
    assert "<img" not in text
    assert not re.search(r"""\b(?:src|href|action|on\w+)\s*=\s*["']""", text)
    assert "\u202e" not in text


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if CHROMIUM is None:
        lacking("chromium", "apt-get install chromium")
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.parametrize("make", [several, hostile], ids=["ordinary", "hostile"])
def test_a_real_browser_shows_the_page_without_network_and_axe_core_finds_nothing(
    make: Callable[[], EvaluationReport], tab: Browser, tmp_path: Path
) -> None:
    """On a desktop in light and on a phone in dark colours."""
    path = tmp_path / "page.html"
    path.write_text(render_html(make()), "utf-8")
    tab.open(path)
    requested = [
        event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert requested == [path.as_uri()]
    assert tab.value("document.title") != "pwned"
    assert tab.value("document.querySelectorAll('figure svg[role=img]').length") >= 2
    assert [event for event in tab.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")] == []
    violations: list[str] = []
    for width, scheme in ((1400, "light"), (390, "dark")):
        tab.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        violations += tab.violations()
        assert tab.value("document.documentElement.scrollWidth <= window.innerWidth") is True
    assert violations == []
