"""The complete change of a workspace that would let a refused call pass: agent.toml, tool.toml, rules and a case.

The change is found step by step: the call is decided in a copy of the workspace, what refuses it there is changed in the copy, and
the call is decided again, until nothing refuses it. So a finished patch is known to work, and it has no part that is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from remit.analysis.backtest import recorded_decisions
from remit.analysis.cases import run_cases
from remit.analysis.drafting.changes import FileChange, diff_of
from remit.analysis.drafting.rows import (
    CASES,
    RULES,
    added,
    cases_text,
    chosen_approver,
    missing_rows,
    rows_text,
    rules_that_fail,
)
from remit.analysis.drafting.toml_edit import with_item
from remit.analysis.reach import reach_of
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import (
    Connection,
    Context,
    Decision,
    DeniedAccess,
    Error,
    Failed,
    ProposedCall,
    Refusal,
    Request,
    UsageError,
    one_of,
    spelled,
)
from remit.core.events import AttemptEnded, CallDecided, Recorded, RunStarted
from remit.core.parsing import canonical_json, parse_arguments
from remit.guardrails import with_visible_characters
from remit.policy import load_policy, read_cases_text
from remit.runtime import request_of_call
from remit.workspace import Workspace, WorkspaceSession, load_files, vocabulary
from remit.workspace.manifest import GrantLine, ceiling_lines, lines_for, network_line

MOST_ROUNDS: Final = 12  # changes of one patch


class NotByRules(UsageError):
    """Raised if something else than rules stops a call. The message says what a person can do about it."""


@dataclass(frozen=True, kw_only=True)
class CallToAllow:
    """A call that is to pass. `arguments` is JSON text.

    `facts` are those of a recorded call; None: the facts of the first call of a run. `denied` is what the sandbox refused it,
    `refused` a request for which the manifest lacks more than the record can name.
    """

    agent: str
    user: str
    action: str
    arguments: str
    facts: Context | None = None
    denied: tuple[DeniedAccess, ...] = ()
    refused: Connection | None = None


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A change with which the call is allowed, or asks people who exist. Without `changes` it is so already.

    `asks` are the roles that must approve the call, each with the users who can. `repin` are the tools whose manifest the change
    edits: they run again once a person has reviewed and pinned them. `broken` are the notes of cases that would no longer hold.
    """

    changes: tuple[FileChange, ...]
    verdict: Literal["allow", "ask"]
    message: str
    asks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    repin: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, bytes]:
        """The changed files, as they would be."""
        return {change.file: change.after.encode() for change in self.changes}

    @property
    def diff(self) -> str:
        """A unified diff of the files."""
        return diff_of(self.changes)


def recorded_call(records: Sequence[Recorded], place: tuple[int, int], rule_set: RuleSet) -> CallToAllow:
    """The recorded call at that step and index, with the facts of that time and what its sandbox refused.

    Raises:
        UsageError: the run has no such call, or its arguments are not recorded.
    """
    started = next((item.event for item in records if isinstance(item.event, RunStarted)), None)
    of_call = [item.event for item in records if item.event and (item.event.step, item.event.index) == place]
    decided = next((event for event in of_call if isinstance(event, CallDecided)), None)
    if started is None or decided is None:
        raise UsageError(f"the run has no call {place[0]}.{place[1]}: `remit trace show` lists its calls")
    proposed, arguments = decided.proposed, _arguments(decided.proposed)
    if arguments is None:
        raise UsageError(f"the arguments of call {place[0]}.{place[1]} are not recorded: name the call itself")
    again = (one for one in recorded_decisions(records, rule_set)[0] if (one.step, one.index) == place)
    ended = [event for event in of_call if isinstance(event, AttemptEnded)]
    return CallToAllow(
        agent=started.agent,
        user=started.subjects.user,
        action=proposed.action,
        arguments=arguments,
        facts=next((one.request.context.model_copy(update={"approvals": {}}) for one in again), None),
        denied=ended[-1].denied_accesses if ended else (),
        refused=next((one for one in ended[-1].connections if network_line(one)), None) if ended else None,
    )


def _arguments(proposed: ProposedCall) -> str | None:
    """The arguments as the broker read them: those of a library that hides their text were parsed by it. None if they are not recorded."""
    if proposed.redacted:
        return None
    if proposed.arguments is None and proposed.parsed is not None:
        return canonical_json(proposed.parsed).decode()
    return proposed.arguments


async def draft_for_call(session: WorkspaceSession, call: CallToAllow, *, approver: str = "") -> Patch:
    """The smallest change with which the call passes, tried in a copy of the workspace. A new rule for an action that cannot be undone
    asks the role `approver`; without one, a role that another user has.

    Raises:
        UsageError: no change of these files can let it pass. It names what refuses the call, and what a person can do.
    """
    if call.refused is not None:
        request, line = with_visible_characters(str(call.refused)), network_line(call.refused)
        raise NotByRules(f"the tool's request was refused: {request}; to allow it, in [always] of tool.toml: {line}")
    drafting = _Drafting(session, call, approver)
    await drafting.grant_denied()
    for _ in range(MOST_ROUNDS):
        if (patch := await drafting.next()) is not None:
            return patch
    raise UsageError(
        f"no change was found that allows {call.action}: `remit policy explain` shows what its rules decide"
    )


_Edit: TypeAlias = tuple[str, str]  # a file, and its new text


class _Drafting:
    """One search: the copy of the workspace, in memory, with the edits so far."""

    def __init__(self, session: WorkspaceSession, call: CallToAllow, approver: str) -> None:
        self._session = session
        self._call = call
        self._approver = approver
        self._edits: dict[str, str] = {}
        self._repin: dict[str, None] = {}
        self._rows: list[str] = []
        self._files = dict(session.workspace.files)
        self._workspace = session.workspace
        self._rule_set = self._rule_set_before = self._read_rules()

    def _read_rules(self) -> RuleSet:
        return read_rule_set("with the patch", self._files, vocabulary(self._workspace))

    async def grant_denied(self) -> None:
        """The lines of tool.toml that the last attempt lacked."""
        if not self._call.denied:
            return
        tool, action = self._workspace.action(self._call.action)
        lines = [line for item in self._call.denied for line in lines_for(tool.manifest, action, item)]
        if not lines:
            raise UsageError(f"no manifest can grant what the sandbox refused: {self._call.denied[0].what!r}")
        self._apply(*self._manifest_edit(lines))

    async def next(self) -> Patch | None:
        """The patch, if the call passes in the copy; otherwise one more edit is made, and None returned."""
        session = replace(self._session, workspace=self._workspace, policy=self._rule_set.policy)
        call = self._call
        decided, request = await request_of_call(session, call.agent, call.action, call.arguments, subject=call.user)
        if request is None:
            assert isinstance(decided.refusal, Failed)
            self._apply(*self._edit_for_refusal(decided.refusal.error))
            return None
        if call.facts is not None:
            request = request.model_copy(update={"context": call.facts})
        decision = self._rule_set.policy.decide(request)
        if decision.verdict == "deny":
            self._apply(RULES, self._with_rules(request, decision))
            return None
        return self._patch(request, decision)

    # -- what refuses the call, and the edit for it ----------------------------------------------------------------------

    def _edit_for_refusal(self, error: Error) -> _Edit:
        action, reason = self._call.action, error.details.get("reason")
        if error.code == "unknown_action":
            known = [f"{tool}.{its}" for tool, one in self._workspace.tools.items() for its in one.manifest.actions]
            if action not in known:
                self._workspace.action(action)  # refuses it, and names the line that is not decided
                raise UsageError(f"no tool of this workspace has the action {spelled(action)}: {one_of(action, known)}")
            file = f"agent/{self._call.agent}/agent.toml"
            return file, with_item(self._text(file), ("tools",), action, file=file)
        if reason == "not_decided":
            raise UsageError(f"{error.message}: decide that line; until then the action does not load")
        if reason == "not_pinned":
            tool = action.partition(".")[0]
            raise NotByRules(
                f"tool {tool!r} is not the reviewed one: review tools/{tool}, then run `remit tool pin {tool}`"
            )
        if reason == "outside_manifest" and (lines := self._ceiling(error)):
            return self._manifest_edit(lines)
        step = f": {error.next_step}" if error.next_step else ""
        raise UsageError(f"no rule or manifest can allow this call: {error.code}: {error.message}{step}")

    def _ceiling(self, error: Error) -> Sequence[GrantLine]:
        tool, action = self._workspace.action(self._call.action)
        name, access = str(error.details.get("argument")), str(error.details.get("access"))
        try:
            value = parse_arguments(self._call.arguments).get(name)
        except Refusal:
            return ()
        return ceiling_lines(tool.manifest, action, access, name, value)

    def _manifest_edit(self, lines: Sequence[GrantLine]) -> _Edit:
        tool = self._call.action.partition(".")[0]
        file = f"tools/{tool}/tool.toml"
        text = self._text(file)
        # First what `touches` may name at all, so that each text in between is a valid manifest.
        for line in sorted(lines, key=lambda line: line.key == "touches"):
            text = with_item(text, (*line.table, line.key), line.item, file=file)
        self._repin[tool] = None
        return file, text

    def _with_rules(self, request: Request, decision: Decision) -> str:
        if decision.reason != "no_rule_allows":
            where = "; ".join(f"{rule.file}:{rule.line} {rule.note or rule.text}" for rule in decision.rules)
            raise UsageError(f"a rule denies this call, and no new rule can allow it: {where or decision.message}")
        if limiting := rules_that_fail(self._rule_set, request):
            where = "; ".join(f"{rule.file}:{rule.line} {rule.text}" for rule in limiting)
            what = "a rule allows this call under a condition that does not hold, and a row beside it would undo the condition"
            raise UsageError(f"{what}: change it by hand if it is too narrow: {where}. {decision.message}")
        asks = request.context.effect == "once"
        role = chosen_approver(self._rule_set, [self._call.user], self._approver) if asks else ""
        rows = missing_rows(self._rule_set, reach_of(self._workspace), [request], approver=role)
        if not rows:
            raise UsageError(f"no row can name what this call uses: {', '.join(request.resources)}")
        self._rows += rows
        return added(self._text(RULES), rows_text(rows))

    # -- the copy of the workspace ---------------------------------------------------------------------------------------

    def _text(self, file: str) -> str:
        return self._files.get(file, b"").decode()

    def _apply(self, file: str, text: str) -> None:
        """Put the new text of the file into the copy. Raises WorkspaceError if the copy is then not valid."""
        if text == self._text(file):
            raise UsageError(
                f"the call is refused although {file} allows it: `remit policy explain` shows its decision"
            )
        self._edits[file] = text
        self._files[file] = text.encode()
        if file == RULES:
            load_policy(self._files, vocabulary(self._workspace))  # as strictly as for a run
        else:
            self._workspace = self._loaded()
        self._rule_set = self._read_rules()

    def _loaded(self) -> Workspace:
        """The workspace of the copy. Its edited tools count as reviewed, with the schemas that they have."""
        code = {name: tool.code for name, tool in self._workspace.tools.items()}
        loaded = load_files(self._files, root=self._session.workspace.root, code=code)
        tools = dict(loaded.tools)
        for name in self._repin:
            if (pin := tools[name].pin) is not None:
                pinned = pin.model_copy(update={"manifest": tools[name].manifest.digest})
                tools[name] = tools[name].model_copy(update={"pin": pinned})
        return replace(loaded, tools=tools)

    def _patch(self, request: Request, decision: Decision) -> Patch:
        cases = read_cases_text(self._session.policies)
        table = cases
        if RULES in self._edits:
            case = cases_text(self._rule_set, [request], self._rows)
            table = added(cases, case) if case.splitlines()[0] not in cases else cases
        broken = _failing(self._rule_set, table)
        known = _failing(self._rule_set_before, cases) if broken else {}
        texts = {**self._edits, **({CASES: table} if table != cases else {})}
        before = {**{file: data.decode() for file, data in self._session.workspace.files.items()}, CASES: cases}
        policy = self._rule_set.policy
        approvers = (policy.approvers(item.role, asking=request.subjects) for item in decision.missing)
        return Patch(
            changes=tuple(
                FileChange(file=file, before=before.get(file, ""), after=text) for file, text in texts.items()
            ),
            verdict="ask" if decision.verdict == "ask" else "allow",
            message=decision.message,
            asks=tuple((item.role, tuple(sorted(who))) for item, who in zip(decision.missing, approvers, strict=True)),
            repin=tuple(self._repin),
            broken=tuple(f"{note}: {message}" for note, message in broken.items() if note not in known),
        )


def _failing(rule_set: RuleSet, table: str) -> dict[str, str]:
    """The notes of the cases that the rules do not fulfil, with the reasons."""
    results = run_cases(rule_set.policy, table, CASES) if table.strip() else ()
    return {result.note: result.message for result in results if not result.passed}
