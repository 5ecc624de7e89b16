"""What a check finds in the files of a workspace: each finding has a level, a code, a place and a fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from remit.core.errors import Problem

# error: nothing starts, or a case does not hold. warning: it does other than its author means. note: it may be intended.
Level: TypeAlias = Literal["error", "warning", "note"]
LEVELS: Final[tuple[Level, ...]] = ("error", "warning", "note")

# One sentence for each code; reports for other programs list them.
FINDINGS: Final[Mapping[str, str]] = {
    "invalid": "a file of the workspace is not valid",
    "case": "the rules do not decide a policy case as the case expects",
    "pin": "a tool is not the reviewed one",
    "authority": "a file of private certificate authorities cannot be read",
    "tool_case": "the cases of a tool are not valid, or name what the tool does not have",
    "content_case": "the content rules do not decide a case as the case expects",
    "script": "the script of an agent names what the agent does not have",
    "scenario": "a scenario of an evaluation is not valid",
    "source": "the code of a tool does other than its manifest says",
    "grant": "a manifest grants what no call can have",
    "undecided": "an action does not load before a person has decided a line of its manifest",
    "reference": "a file names something that no file declares",
    "uncovered": "no policy case covers a rule or an action",
    "unreachable": "a rule is for a role that no agent and no user has",
    "shadowed": "deny rules always override an allow rule",
    "redundant": "other rules already have the same effect",
    "dead": "a deny rule denies what no rule allows",
    "never": "the condition of a rule can never hold",
    "always": "the condition of a rule always holds",
    "nobody_to_ask": "too few users have a role that a rule asks for approval",
    "wider": "a rule allows more than any manifest reaches",
    "beyond": "a rule names resources that no manifest reaches",
    "unmentioned": "no rule names an action",
    "journal": "the journal cannot be opened",
    "newer_journal": "the journal has tables of a newer version",
    "older_journal": "the journal has tables of an older version",
    "unknown_event": "the journal has events that this version does not know",
    "trace": "a trace file cannot be read",
    "newer_trace": "a trace file has a newer format",
    "unsettled": "the analysis cannot decide whether a rule has an effect",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding. `file` is relative to the workspace; `line` None: it is about the whole file."""

    level: Level
    code: str
    file: str
    line: int | None = None
    what: str
    fix: str

    @property
    def place(self) -> str:
        """`policies/rules.csv:12`."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    @property
    def problem(self) -> Problem:
        """The finding as a problem of a file."""
        return Problem(file=self.file, line=self.line, what=self.what, fix=self.fix)


def finding_of(problem: Problem, code: str, level: Level = "error") -> Finding:
    """The finding for a problem of a file."""
    return Finding(level=level, code=code, file=problem.file, line=problem.line, what=problem.what, fix=problem.fix)
