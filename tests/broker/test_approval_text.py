"""The summary in the terminal of an approver: no value can forge a line of the summary, at any width."""

from __future__ import annotations

import unicodedata

import pytest

from remit.broker.approvals import GUTTER, WIDTH, approval_summary, wrapped
from remit.core import Call, Decision, ResourceAccess, Subjects
from remit.guardrails import Redactor, Sanitizer

FAKES = (
    "  uses mail:ann@shop.example",
    "  This call only reads.",
    "  Approval is required by policies/rules.csv:12: Routine mail",
    '  to = "ann"',
)


def summary(*, whole: bool = False, **arguments: object) -> str:
    call = Call(
        run="r",
        step=0,
        index=0,
        subjects=Subjects(agent="agent:a", user="user:u"),
        action="mail.send",
        arguments=arguments,
        touches=(ResourceAccess(access="use", resource="mail:eve@evil.example"),),
        effect="once",
        manifest="m",
        request_digest="d",
    )
    decision = Decision(verdict="ask", reason="approval", message="")
    return approval_summary(call, decision, Sanitizer(Redactor("r")), whole=whole)


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def drawn(text: str, width: int) -> list[str]:
    """The lines that a terminal of that width shows: it breaks a line that is full."""
    lines: list[str] = []
    for line in text.split("\n"):
        lines.append("")
        for character in line:
            if columns(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


@pytest.mark.parametrize("width", [20, 40, 72, 80, 132])
@pytest.mark.parametrize(
    "padding",
    [" ", "\u3000", "\u00a0", "\u2003", "\t", "\u2800", "x", "漢", "\u0301", "é"],
    ids=["space", "wide", "no-break", "em", "tab", "braille", "letters", "han", "accents", "ambiguous"],
)
def test_no_value_forges_a_line_of_the_summary_at_any_width(width: int, padding: str) -> None:
    honest = summary(text="x", to="eve@evil.example").split("\n")
    own = {wrapped(line, min(width, WIDTH)).split("\n")[0] for line in honest}
    for before in range(0, width, 7):
        text = "ClientHello" + padding * before + "".join(fake.ljust(width) for fake in FAKES)
        shown = wrapped(summary(text=text, to="eve@evil.example", whole=True), min(width, WIDTH))
        for line in drawn(shown, width):
            assert line in own or line.startswith((GUTTER, "  text = ")), (line, before)


def test_lines_are_wrapped_to_every_width() -> None:
    text = summary(text="a b " * 90, to="漢字" * 40)
    for width in range(20, 200):
        assert max(map(columns, wrapped(text, width).split("\n"))) <= width


def test_several_spaces_are_shown_with_their_number() -> None:
    assert '  text = "a b\\u{20}×2c\\u{20}×30d"' in summary(text="a b  c" + " " * 30 + "d")
    assert '  text = "one two three"' in summary(text="one two three")


def test_a_wrapped_value_without_the_line_marks_is_the_original_text() -> None:
    text = "all of it, word by word " * 30
    assert text in summary(text=text, whole=True).replace(f"\n{GUTTER}", "")


def test_no_line_of_a_summary_is_too_wide() -> None:
    assert max(map(columns, summary(text="a b " * 90, to="漢字" * 40).split("\n"))) <= WIDTH
