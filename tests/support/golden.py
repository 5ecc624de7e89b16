"""Records `traces/golden/format-N/` again, where N is the current format: runs of the ledger workspace with every kind of event.

    make golden

Run it only until a release has written format N. Users have files of a released format, and its golden traces prove that later
versions still read and replay them, so they never change. The script checks this: if the tag of a version contains the folder,
it writes nothing. Then raise the number in `tracing/otlp.py`, and record the new folder. Review the files before you commit them.

All golden traces of the repository are recorded here. A golden trace that `remit trace shrink --to-test` wrote comes from a real
run, so no script can record it again: the script lists it and leaves it unchanged.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that `support` is found if the script is run by path

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from remit.broker import effects as effect
from remit.broker import holds as hold
from remit.broker.approvals import emergencies, review
from remit.broker.approvals import requests as approval
from remit.client import answer, open_questions
from remit.core.calls import BREAK_GLASS
from remit.core.errors import Refusal
from remit.core.events import AnyEvent, ApprovalRequested, Recorded
from remit.core.messages import ModelError
from remit.journal import StoredRecord
from remit.journal.run_log import Record
from remit.langchain import RemitMiddleware
from remit.runtime import Continuation
from remit.runtime import runner as run
from remit.tracing import open_trace, write_portable
from remit.tracing.reader import VERSION
from remit.workspace.session import WorkspaceSession, open_session
from support import ROOT
from support.lifecycle import Killed, die_at
from support.outages import Unsteady, busy
from support.principals import OPERATOR, principal
from support.rollouts import candidate_of, opened_at
from support.runs import DONE, turn
from support.workspaces import handbook, mcp
from support.workspaces.langchain import ASKING, langchain_workspace, says
from support.workspaces.ledger import ledger_workspace, pin, use

NAME: Final = f"traces/golden/format-{VERSION}"
FOLDER: Final = ROOT / NAME
LARGE: Final = turn(ledger__pay={"name": "ann", "amount": 5000})
READS: Final = "\n".join(
    f"p, {subject}, remit.read_result, result:*, True, allow" for subject in ("agent:clerk", "role:people")
)
LIMIT: Final = '[[limit]]\nnote = "So much is enough"\nof = "{of}"\nmost = {most}\nper = "1h"\n'


COUNTER: Final = """
name = "counter"
version = "1.0.0"
owner = "tests@example.com"
summary = "Counts"
source = "host"
host = "counter_host:ACTIONS"

[actions.count]
summary = "Count, and say how far it is"
effect = "read"
"""
COUNTS: Final = """
from collections.abc import Iterator


def count(to: int) -> Iterator[int]:
    yield from range(to)


ACTIONS = {"count": count}
"""


class Stage:
    """One run of the ledger workspace, executed by several processes one after another, with actions of people in between."""

    agent = "clerk"

    def __init__(self, folder: Path, turns: Sequence[dict[str, Any]], **options: Any) -> None:
        use(folder)
        self.folder = self._written(folder, turns, **options)
        self.run = run.new_run_id()

    def _written(self, folder: Path, turns: Sequence[dict[str, Any]], **options: Any) -> Path:
        return ledger_workspace(folder, list(turns), **options)

    @property
    def session(self) -> WorkspaceSession:
        return open_session(self.folder)

    @property
    def record(self) -> Record:
        return StoredRecord(self.session.journal, self.run)

    def start(
        self,
        *,
        dies_at: str = "",
        wait: float = 0.0,
        seen: Callable[[AnyEvent], None] | None = None,
        failures: Mapping[int, ModelError] | None = None,
    ) -> None:
        """Start the run; the process dies when the first event of the type `dies_at` is recorded.

        The model fails at the requests in `failures`, from 0. The next one, which has the same turns, fails at its first request.
        """
        opened = self.session
        request = run.RunRequest(
            agent=self.agent,
            task="keep the ledger",
            subject="user:operator",
            by=OPERATOR,
            model=Unsteady(run.open_model_of(opened, self.agent), failures or {}),
            fallbacks=[Unsteady(run.open_model_of(opened, self.agent), {0: busy(after=0.1)}, name="script:next")]
            if failures
            else [],
            run=self.run,
        )
        if dies_at:
            die_at(opened.journal, dies_at)

        def tell(recorded: Recorded) -> None:
            if seen is not None and recorded.event is not None:
                seen(recorded.event)

        with suppress(Killed):
            asyncio.run(run.start_run(opened, request, wait=wait, on_event=tell))

    def resume(self, *, dies_at: str = "", accept_changes: bool = False) -> None:
        """Resume the run in another process, under the rules as they are now; with `accept_changes`, under all files as they are now."""
        opened = self.session
        if dies_at:
            die_at(opened.journal, dies_at)
        with suppress(Killed):
            goes_on = Continuation(accept_changes=accept_changes)
            asyncio.run(run.resume_run(opened, self.run, by=OPERATOR, goes_on=goes_on))

    def grant(self, person: str) -> None:
        with suppress(Refusal):  # a refused approval is recorded too
            approval.grant_approval(
                *self._waiting,
                approval.Approval(by=principal(person), role="role:lead"),
                roles_of=self.session.policy.roles_of,
                now=time.time_ns(),
            )

    def break_glass(self, person: str) -> None:
        record, requested = self._waiting
        answer = approval.Approval(
            by=principal(person), role=BREAK_GLASS, reason="INC-7: no lead answers", until=requested.expires_at
        )
        roles_of = self.session.policy.roles_of
        approval.grant_approval(record, requested, answer, roles_of=roles_of, now=time.time_ns())

    def review(self, person: str) -> None:
        (found,) = emergencies(self.session.journal)
        by, roles_of = principal(person), self.session.policy.roles_of
        review(self.session.journal, found, by=by, roles_of=roles_of, note="it was right")

    def reject(self, person: str) -> None:
        approval.reject_approval(*self._waiting, now=time.time_ns(), reason="not this month", **self._by(person))

    def revoke(self, person: str) -> None:
        approval.revoke_approval(*self._waiting, by=principal(person), reason="I misread the amount")

    def settle(self, place: tuple[int, int], landed: Literal["landed", "not_landed"]) -> None:
        effect.settle_effect(self.record, *place, landed=landed, by=principal("lea"), reason="I looked")

    def edit_rules(self, old: str, new: str) -> None:
        rules = self.folder / "policies" / "rules.csv"
        assert old in rules.read_text()
        rules.write_text(rules.read_text().replace(old, new))

    @property
    def _waiting(self) -> tuple[Record, ApprovalRequested]:
        record = self.record
        return record, approval.waiting_approvals(record)[0]

    def _by(self, person: str) -> dict[str, Any]:
        return {"by": principal(person), "roles_of": self.session.policy.roles_of}


class Guide(Stage):
    """One run of the handbook workspace, whose agent answers from documents."""

    agent = "guide"

    def _written(self, folder: Path, turns: Sequence[dict[str, Any]], **options: Any) -> Path:
        return handbook.handbook_workspace(folder, turns, options["found"])


def model_failed(folder: Path) -> Stage:
    """A held and resumed run with refused, invalid, unknown and failing calls and a secret; then the script ends."""
    mixed = [
        {"ledger__look": {"name": "busy1"}},
        {"ledger__look": {"name": "ann", "text": "key AKIAIOSFODNN7EXAMPLE"}},
        {"ledger__pay": '{"name":'},
        {"ledger__pay": {"name": "vault", "amount": 1}},
        {"shell": {"name": "ann"}},
        {"ledger__look": {"name": "crash"}},
    ]
    stage = Stage(folder, [{"say": "next", "calls": mixed}, turn(ledger__book={"name": "ben", "amount": 2})])
    hold.set_hold(stage.session.journal, "agent:clerk", why="audit", by=principal("op"))
    stage.start()
    hold.lift_hold(stage.session.journal, "agent:clerk", by=principal("op"))
    stage.resume()
    return stage


def outcome_unknown(folder: Path) -> Stage:
    """The process dies during a payment. Then the same payment with another amount is refused, and another one is made."""
    payments = [("ann", 5), ("ann", 6), ("ben", 7)]
    stage = Stage(folder, [turn(ledger__pay={"name": name, "amount": amount}) for name, amount in payments] + [DONE])
    stage.start(dies_at="attempt.begun")
    stage.resume()
    return stage


def rejected_and_resumed(folder: Path) -> Stage:
    """One of two large payments is approved, the other rejected, and a process dies in between."""
    both = [{"ledger__pay": {"name": name, "amount": 5000}} for name in ("ann", "ben")]
    stage = Stage(folder, [{"say": "two", "calls": both}, turn(ledger__look={"name": "ann"}), DONE])
    stage.start()
    stage.reject("lea")
    stage.grant("leo")
    stage.resume(dies_at="attempt.ended")
    stage.resume()
    return stage


def rules_changed(folder: Path) -> Stage:
    """A call waits for a lead until an edit of the rules allows it."""
    stage = Stage(folder, [LARGE, DONE])

    def seen(event: AnyEvent) -> None:
        if isinstance(event, ApprovalRequested):
            stage.edit_rules("approved('role:lead')", "args.amount < 9000")

    stage.start(wait=5.0, seen=seen)
    return stage


def approval_expired(folder: Path) -> Stage:
    """Nobody answers in time."""
    stage = Stage(folder, [LARGE, DONE])
    with mock.patch.object(approval, "LASTS_NS", 0):
        stage.start()
    return stage


def approval_voided(folder: Path) -> Stage:
    """An approval is revoked, one is refused, one is void after a change of the rules, and the last one is valid."""
    stage = Stage(folder, [LARGE, DONE])
    stage.start()
    stage.grant("lea")
    stage.revoke("lea")
    stage.grant("operator")
    stage.grant("leo")
    stage.edit_rules("args.amount <= 100", "args.amount <= 50")
    stage.resume()
    stage.grant("lea")
    stage.resume()
    return stage


def changes_accepted(folder: Path) -> Stage:
    """The prompt changes while a call waits for a lead; the run goes on with the new one, which a person accepts."""
    stage = Stage(folder, [LARGE, DONE])
    stage.start()
    stage.grant("lea")
    (folder / "agent/clerk/prompt.md").write_text("Keep the ledger, and say less.\n")
    stage.resume(accept_changes=True)
    return stage


def emergency_reviewed(folder: Path) -> Stage:
    """An emergency approval, which a second person reviews after the end of the run."""
    stage = Stage(folder, [LARGE, DONE])
    stage.edit_rules("approved('role:lead'), allow", f"approved('role:lead') or approved('{BREAK_GLASS}'), allow")
    stage.edit_rules("g, user:leo, role:lead\n", f"g, user:leo, role:lead\ng, user:bob, {BREAK_GLASS}\n")
    stage.start()
    stage.break_glass("bob")
    stage.resume()
    stage.review("leo")
    return stage


def effect_settled(folder: Path) -> Stage:
    """A probe of the tool settles one effect with unknown outcome, a person settles another."""
    calls = [{"name": name, "amount": 5} for name in ("slow", "slow-and-blind")]
    blind = turn(ledger__wire=calls[1])
    stage = Stage(folder, [turn(ledger__wire=calls[0]), blind, LARGE, blind, DONE])
    stage.start()
    stage.settle((1, 0), "landed")
    stage.grant("lea")
    stage.resume()
    return stage


def budget_spent(folder: Path) -> Stage:
    """Limits that all runs share: reserved, released, used up."""
    limits = LIMIT.format(of="calls", most=2) + LIMIT.format(of="bytes", most='"1MiB"')
    looks = [{"ledger__look": {"name": name}} for name in ("ann", "ben", "cid")]
    stage = Stage(folder, [{"say": "three", "calls": looks}, DONE], limits=limits)
    stage.start()
    return stage


def answer_rejected(folder: Path) -> Stage:
    """An answer without citations is rejected, and the model answers again."""
    good = json.dumps({"cause": "the pool", "citations": ["0.0"]})
    turns = [turn(ledger__look={"name": "ann"}), {"say": "surely it is the pool"}, {"say": good}]
    stage = Stage(folder, turns, budget="[answer]\ncitations = 1")
    stage.start()
    return stage


def answer_grounded(folder: Path) -> Stage:
    """A claim with a number that its quote has not is rejected; the next one is the answer, with its source."""
    quote = "Refunds are paid within 30 days."
    answers = [handbook.states(handbook.claim(f"You are paid within {days} days.", quote)) for days in (14, 30)]
    stage = Guide(folder, [handbook.find("refunds"), *answers], found={"refunds": [handbook.item()]})
    stage.start()
    return stage


def context_reduced(folder: Path) -> Stage:
    """The conversation gets longer than its limit: its first turn is left out, and a part of that turn's result is read again."""
    text = "a line of the ledger\n" * 300
    looks = [turn(ledger__look={"name": name, "text": text}) for name in ("ann", "ben")]
    part = turn(remit__read_result={"call": "0.0", "find": "a line", "offset": 4000})
    stage = Stage(folder, [*looks, part, DONE], budget='[context]\nlimit = "16KiB"\nresult = "2KiB"')
    agent = folder / "agent/clerk/agent.toml"
    agent.write_text(agent.read_text().replace('tools = ["ledger"]', 'tools = ["ledger", "remit.read_result"]'))
    stage.edit_rules(
        "# Nobody touches the vault", f"# The clerk reads its results in parts\n{READS}\n# Nobody touches the vault"
    )
    stage.start()
    return stage


def model_waited(folder: Path) -> Stage:
    """After a payment, the model fails in passing, and the next one too. After a wait, that one goes on."""
    stage = Stage(folder, [turn(ledger__pay={"name": "ann", "amount": 5}), turn(ledger__look={"name": "ann"}), DONE])
    stage.start(failures={1: busy("the provider is overloaded", after=60.0)})
    return stage


def progress_reported(folder: Path) -> Stage:
    """A tool yields its results one after the other."""
    stage = Stage(folder, [turn(counter__count={"to": 3}), DONE])
    settings, agent, tool = folder / "remit.toml", folder / "agent/clerk/agent.toml", folder / "tools/counter/tool.toml"
    settings.write_text(settings.read_text().replace('["ledger"]', '["ledger", "counter"]'))
    agent.write_text(agent.read_text().replace('["ledger"]', '["ledger", "counter"]'))
    tool.parent.mkdir()
    tool.write_text(COUNTER)
    (folder / "hosted/counter_host.py").write_text(COUNTS)
    rows = "".join(f"p, {subject}, counter.count, **, True, allow\n" for subject in ("agent:clerk", "role:people"))
    stage.edit_rules("# Nobody touches the vault", f"# The clerk counts\n{rows}# Nobody touches the vault")
    pin(folder)
    stage.start()
    return stage


class Desk(Stage):
    """One run of the LangChain workspace, which a graph of LangGraph drives."""

    agent = "desk"

    def _written(self, folder: Path, turns: Sequence[dict[str, Any]], **options: Any) -> Path:
        made = langchain_workspace(folder, SHOP=options["shop"])
        sys.path.insert(0, str(made / "hosted"))
        return made


def question_answered(folder: Path) -> Stage:
    """A tool of a graph asks the user before it refunds, and the user answers."""
    stage = Desk(folder, [], shop=ASKING)
    with RemitMiddleware("desk", workspace=folder, task="Refund order R1") as remit:
        graph = StateGraph(MessagesState)
        tools = importlib.import_module("shop").TOOLS
        graph.add_node("tools", ToolNode(tools, wrap_tool_call=remit.wrap_tool_call))
        graph.add_edge(START, "tools")
        made, config = graph.compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "t"}}
        made.invoke({"messages": [says(("refund", {"order": "ask", "amount": 5}))]}, config)
        made.invoke(Command(resume="yes, R1"), config)
        stage.run = remit.run_of("t") or ""
        remit.finish("t", answer="refunded")
    return stage


class Kit(Stage):
    """One run of an agent with the tools of an MCP server."""

    agent = "helper"

    def _written(self, folder: Path, turns: Sequence[dict[str, Any]], **options: Any) -> Path:
        made = mcp.made(folder)
        (folder / "agent/helper/script.yaml").write_text(json.dumps({"turns": [*turns]}))
        pin(folder)
        return made


def server_asked(folder: Path) -> Stage:
    """An MCP server asks a person before it answers, and the person answers."""
    stage = Kit(folder, [turn(kit__do={"text": "elicit How large?"}), DONE])
    stage.start()
    (asked,) = open_questions(stage.session)
    answer(stage.session, stage.session.policy, asked, {"size": 3}, OPERATOR)
    stage.resume()
    return stage


def shadow_decided(folder: Path) -> Stage:
    """The rules of a candidate are tried beside those in force, and refuse a payment."""
    stage = Stage(folder, [turn(ledger__pay={"name": "ann", "amount": 5}), DONE])
    denied = "\n# Nobody is paid\np, agent:clerk, ledger.pay, account:*, True, deny\n"
    opened_at(stage.session, candidate_of(folder, rules=lambda text: text + denied), "shadow", "full")
    stage.start()
    return stage


SCENES: Final = (
    model_failed,
    model_waited,
    outcome_unknown,
    rejected_and_resumed,
    rules_changed,
    approval_expired,
    approval_voided,
    changes_accepted,
    emergency_reviewed,
    effect_settled,
    budget_spent,
    answer_rejected,
    answer_grounded,
    context_reduced,
    progress_reported,
    question_answered,
    server_asked,
    shadow_decided,
)


def record(scene: Callable[[Path], Stage], folder: Path) -> Path:
    """Record that scene in a workspace of its own and write it to `FOLDER/SCENE.jsonl`."""
    with tempfile.TemporaryDirectory() as place:
        stage = scene(Path(place) / "clerk")
        opened = stage.session
        path = folder / f"{scene.__name__.replace('_', '-')}.jsonl"
        write_portable(open_trace(opened.traces, opened.journal, stage.run), path)
    return path


def releases(root: Path, folder: str) -> list[str]:
    """The versions whose tag contains that folder. Raises CalledProcessError if git fails."""

    def git(*arguments: str) -> list[str]:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    return [tag for tag in git("tag", "--list", "v[0-9]*", "[0-9]*") if git("ls-tree", tag, "--", folder)]


def main(root: Path = ROOT) -> int:
    try:
        released = releases(root, NAME)
    except (OSError, subprocess.CalledProcessError) as failure:
        print(f"error: git cannot list the releases of format {VERSION}: {failure}", file=sys.stderr)
        return 2
    if released:
        what = f"format {VERSION} was released with {released[0]}, so its golden traces never change"
        print(f"error: {what}\n    fix: raise the number in agent/remit/tracing/otlp.py", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place:
        files = [record(scene, Path(place)) for scene in SCENES]
        shutil.rmtree(root / NAME, ignore_errors=True)  # the old ones stay until all of the new ones are there
        (root / NAME).mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, root / NAME / file.name)
            print(f"wrote {NAME}/{file.name}")
    for file in sorted((root / "traces" / "golden").rglob("*.jsonl")):
        if file.parent != root / NAME:
            print(f"unchanged {file.relative_to(root).as_posix()}: it is not recorded by a script")
    return 0


if __name__ == "__main__":
    sys.exit(main())
