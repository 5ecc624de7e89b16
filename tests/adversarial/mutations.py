"""Each protection, how a test takes it away, and the tests that must then fail: the rows of `make ablate`.

A row's `remove` patches one run of pytest, in its own process. What runs inside the sandbox is a file, so there the protection's
very line is taken out of a copy of it, which the runtime is told to bind; production code has no switch. A protection of another
part of Remit is one more row: `remove` patches its stage, `tests` are those that miss it, `still` is what goes on working.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import h11
import pytest

from remit.broker import attempts as attempt
from remit.broker import broker, budgets, context, decisions
from remit.broker import circuit_breaker as circuit
from remit.broker import effects as effect
from remit.broker import execution as carry
from remit.broker import holds as hold
from remit.broker import retries as retry
from remit.broker.approvals import break_glass
from remit.broker.approvals import requests as approval
from remit.broker.approvals import summary as render
from remit.broker.attempts import LiveExecutor
from remit.broker.broker import Broker
from remit.broker.decisions import Decider
from remit.core import threads
from remit.core.attempts import Connection
from remit.core.calls import Call, Decision, ProposedCall, Request, Subjects
from remit.core.events import ApprovalGranted, ApprovalRejected, Recorded
from remit.core.parsing import (
    each_text,
    exact_json,
    hidden_characters,
    json_schema,
    json_validation,
    outside,
    texts_of,
    urls,
)
from remit.guardrails import encodings, naming, remembered, sanitizer, secret_formats
from remit.guardrails import provenance as known
from remit.guardrails import redaction as redact
from remit.guardrails.content_rules import Content
from remit.guardrails.encodings import Found, KnownSecret, Reading
from remit.journal import reducer as fold
from remit.journal import run_lock as driving
from remit.journal.run_state import RunState
from remit.journal.store import AlreadyRecorded, Journal
from remit.langchain import bridge as foreign
from remit.langchain import middleware as langchain
from remit.policy import engine as policy
from remit.policy import reload
from remit.policy.engine import Judged, Policy
from remit.policy.index import Index, RuleTable
from remit.policy.language import conditions
from remit.policy.language import loader as rules
from remit.policy.language.conditions import Condition
from remit.policy.reload import PolicyWatcher
from remit.runtime import runner as run
from remit.runtime.live import LivePorts
from remit.sandbox import file_grants as opened
from remit.sandbox import one_shot as launch
from remit.sandbox import outcome, process, profile, protocol, seccomp
from remit.sandbox import sandbox as confine
from remit.sandbox.egress import addresses as address
from remit.sandbox.egress import call_session, proxy
from remit.sandbox.egress import connect_tunnel as tunnel
from remit.sandbox.egress import forwarder as forward
from remit.sandbox.egress import permissions as network
from remit.sandbox.egress import requests as request
from remit.sandbox.egress import response_scrubber as scrub
from remit.sandbox.egress.client_hello import ClientHelloReader
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import Head, Requests
from remit.sandbox.guest import kernel
from remit.sandbox.selfcheck.probe import TierReport
from remit.sandbox.warm import call as warm
from remit.sandbox.warm import pool
from remit.tracing.reports import audit
from remit.workspace import identity, limits, session
from remit.workspace import loader as workspace
from remit.workspace.answer_contract import AnswerContract
from remit.workspace.bundle import vocabulary
from remit.workspace.definitions import Tool, Workspace
from remit.workspace.manifest import pins
from remit.workspace.manifest import resolution as resolve
from remit.workspace.manifest import schema as tool_toml
from remit.workspace.session import WorkspaceSession

Remove: TypeAlias = Callable[[pytest.MonkeyPatch], None]

DECIDES: Final = ("policy/test_decide.py::test_roles_are_read_through_other_roles",)
REACHED: Final = (
    "sandbox/egress/test_protocol.py::test_a_connection_is_used_again_and_one_that_the_server_closed_is_not",
)
ANSWERED: Final = ("broker/test_broker.py::test_an_allowed_call_runs_once_and_its_value_reaches_the_model",)
IMPORTS: Final = "sandbox/test_import_time.py::test_nothing_that_an_import_prepared_carries_a_word_from_call_to_call"
DOCTOR: Final = "sandbox/test_sandbox.py::test_the_doctor_tries_every_break_out_and_all_are_held"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """`tests` fail, every one of them, once the protection is gone; `still` goes on passing, so that they fail for that.

    `threats` are the attacks that it stands against, by their numbers in the list of approvals (D), policy and identity (E), and
    retries and errors (F). `fixtures`: they use those of conftest.py, which takes seconds to import.
    """

    name: str
    remove: tuple[Remove, ...]
    tests: tuple[str, ...]
    threats: tuple[str, ...] = ()
    fixtures: bool = False
    still: tuple[str, ...] = ("sandbox/test_sandbox.py::test_what_a_tool_prints_is_kept_and_is_not_its_answer",)


# -- trusted code has a budget: how each was before --------------------------------------------------------------------

SECRETS: Final = "adversarial/test_own_budget.py::test_no_text_makes_the_search_for_secrets_slow"


def searched_with(name: str, pattern: str) -> Remove:
    """One format of secrets is looked for by a pattern that is quadratic."""

    def found() -> dict[str, Any]:
        others = dict(secret_formats.formats())
        return {**others, name: (secret_formats._finder(re.compile(pattern)),)}

    return lambda patch: patch.setattr(redact, "formats", found)


def spread_over_all(self: redact.Redactor, value: Any, *, keys: bool) -> Any:
    """Each string is compared with every place where a secret was found."""
    joined = Reading("".join(texts_of(value, keys=keys)))
    found = [one for known in self._known for one in known.find(joined)]
    at = 0

    def changed(text: str) -> str:
        nonlocal at
        start, end = at, at + len(text)
        at = end
        own = [Found(max(one.start, start) - start, min(one.end, end) - start, one.secret) for one in found]
        return self._replaced(text, [one for one in own if one.start < one.end])

    return each_text(value, changed, keys=keys)


def forgetful_union(self: Any, branches: Any, value: Any, path: Any, *, exactly_one: bool) -> None:
    self._matched(branches, value, path, exactly_one=exactly_one)


MATCHED: Final = json_validation._Check._matched


def any_branch(self: Any, branches: Any, value: Any, path: Any, *, exactly_one: bool) -> Any:
    return MATCHED(self, branches, value, path, exactly_one=False)


class Backtracking:
    """A pattern in Python's own engine."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def isinstance_python(self, text: str) -> bool:
        return self._pattern.search(text) is not None


@dataclass(frozen=True)
class Unhashed:
    """A value that is compared with each of the others."""

    value: Any

    def __hash__(self) -> int:
        return 0


def kept_for_good(self: Any, text: str, found: Any) -> None:
    self.held += len(text)
    self._known[text] = found


HEAD: Final = Requests.head


async def head_from_its_beginning(self: Requests) -> Head | None:
    """Everything that came is looked through for each byte that comes."""
    while b"\r\n\r\n" not in self._said:
        re.search(rb"(?<!\r)\n|\r(?!\n|\Z)", self._said)
        self._said += await self.wire.receive()
    return await HEAD(self)


TAKE: Final = ClientHelloReader.take


def hello_from_its_beginning(self: ClientHelloReader, data: bytes) -> Any:
    self._message.clear()
    self._at = self._taken = 0
    return TAKE(self, data)


# -- what runs inside --------------------------------------------------------------------------------------------------


def without(file: str, line: str, instead: str = "pass") -> Remove:
    """Put `instead` in the place of one line of a file that runs inside the sandbox."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        earlier = confine.runtime
        folder = Path(tempfile.mkdtemp(prefix="remit-ablated-"))
        for name in profile.INSIDE:
            shutil.copy(f"{earlier(None).inside}/{name}", folder / name)
        text = (folder / file).read_text()
        assert text.count(f"    {line}\n") == 1, f"{file} does not have this line once: {line}"
        (folder / file).write_text(text.replace(f"    {line}\n", f"    {instead}\n"))
        folder.chmod(0o755)
        patch.setattr(confine, "runtime", lambda bwrap: replace(earlier(bwrap), inside=str(folder)))

    return remove


def believed(patch: pytest.MonkeyPatch) -> None:
    """The sandbox tries itself at the start, and would refuse to run a tool at all: it is believed without being tried."""

    def found(self: confine.Sandbox) -> profile.Tier:
        return self._accept[0]

    patch.setattr(confine.Sandbox, "_find", found)


def brokered(name: str, *remove: Remove, tests: tuple[str, ...], threats: str = "") -> Ablation:
    """A stage of the broker's line; a call that is allowed still runs."""
    given = tuple(threats.split())
    return Ablation(name=name, remove=remove, tests=tests, threats=given, fixtures=True, still=ANSWERED)


def never(where: object, name: str) -> Remove:
    """Nothing is said by that check."""
    return lambda patch: patch.setattr(where, name, lambda *_, **__: None)


def passed_on(reviewed: langchain._ReviewedTool, given: dict[str, Any]) -> dict[str, Any]:
    """What arrived is what the tool gets."""
    return {"type": "tool_call", "name": reviewed._tool.name, "args": given, "id": reviewed._call_id}


LOST: Final = effect.lost_attempt


def lenient(text: str) -> dict[str, object]:
    """As most frameworks read arguments."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return dict(value) if isinstance(value, dict) else {}


BODY: Final = scrub.Body
APPEND: Final = Journal.append
RESOLVE: Final = Broker._resolve
JUDGE: Final = Policy.judge
CLASSIFY: Final = outcome.classify


def overwritten(self: Journal, *given: Any, **options: Any) -> Recorded:
    """Whoever comes second believes that the event is its own."""
    try:
        return APPEND(self, *given, **options)
    except AlreadyRecorded as conflict:
        return conflict.earlier


def of_the_first(kind: type[Any]) -> Callable[..., Any]:
    """What somebody answers is about the step's first call, as where answers are a list."""
    return lambda **given: kind(**{**given, "index": 0})


def prefixed(self: Index, action: str) -> tuple[RuleTable, ...]:
    """A rule for `read` bears on `read_and_exec`, too."""
    return tuple(table for named, table in self._tables.items() if action.startswith(named.rstrip("*")))


def folded(self: ProposedCall) -> str:
    """As tools are found by whoever means well with names."""
    plain = unicodedata.normalize("NFKC", self.name).casefold().replace("\u0430", "a")
    return "".join(one for one in plain if one.isalnum() or one in "_.").strip("_").replace("__", ".", 1)


# Stock Casbin would refuse too: what only Remit's matcher holds is looked at without it.
WITHOUT_CASBIN: Final = (
    lambda patch: patch.setattr(Decider, "_confirmed", lambda *_: True),
    lambda patch: patch.setattr(run, "_check_rules", lambda _: None),
)


def unless_denied(self: Policy, asked: Request) -> Judged:
    """What no rule speaks of is allowed."""
    judged = JUDGE(self, asked)
    return Judged(True, list(self.rows[:1])) if not judged.allowed and not judged.rows else judged


def open_when_broken(self: Decider, call: Call) -> Decision:
    """As brokers do that rather go on."""
    try:
        return self._bound(call)
    except Exception:  # noqa: BLE001 - that is what it does not do
        return Decision(verdict="allow", reason="allowed", message="")


def spent_when_asked(self: Broker, step: int, index: int, ask: ProposedCall) -> Call:
    call = RESOLVE(self, step, index, ask)
    self._spend(call)
    return call


def read_twice(root: Path) -> tuple[Workspace, Policy]:
    """The rules of another reading than the one that is recorded."""
    found = workspace.load_workspace(root)
    return found, policy.load_policy(session.policy_files(root), vocabulary(found))


def one_crash(*given: Any, **options: Any) -> outcome.GuestAnswer:
    """Every ending is a crash."""
    answer = CLASSIFY(*given, **options)
    return answer if answer.code is None else outcome.GuestAnswer(code="tool_crashed", message=answer.message)


def taken_for_done(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[None, Any]:
    """Whatever it raised, it came back."""
    try:
        return None, function(**arguments)
    except BaseException:  # noqa: BLE001 - that is what it does not tell apart
        return None, None


def at_length(failure: BaseException) -> str:
    """All that an exception says."""
    try:
        return str(failure)
    except Exception:  # noqa: BLE001 - whatever a tool's own __str__ raises
        return ""


class Same(str):
    """A digest that is equal to every other."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def unopened(response: h11.Response, scrubber: scrub.Scrubber | None) -> scrub.Body:
    """An answer in an encoding that nobody here knows passes as it is."""
    try:
        return BODY(response, scrubber)
    except Blocked as blocked:
        if blocked.verdict != "opaque_answer":
            raise
        return BODY(response, None)


async def slept(self: LivePorts, call: Call, seconds: float) -> None:
    await asyncio.sleep(seconds)


def whoever(opened: WorkspaceSession, user: str | None) -> str:
    return f"user:{(user or 'operator').removeprefix('user:')}"


def uncut(decide: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, step, proposed_calls, *, cut=False: decide(self, step, proposed_calls)


# -- how it is started -------------------------------------------------------------------------------------------------


def line(change: Callable[[list[str]], list[str]]) -> Remove:
    """Start bubblewrap by another command line."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(process, "argv", lambda *given: change(profile.argv(*given)))

    return remove


def dropping(words: Iterable[str]) -> Callable[[list[str]], list[str]]:
    gone = set(words)
    return lambda argv: [word for word in argv if word not in gone]


def with_more(*words: str) -> Callable[[list[str]], list[str]]:
    def more(argv: list[str]) -> list[str]:
        at = argv.index("--remount-ro") if "--remount-ro" in argv else 0
        return [*argv[:at], *words, *argv[at:]] if at else argv

    return more


def with_working_folder(argv: list[str]) -> list[str]:
    """Of a tool without trust: each decided file's mount is the whole folder's instead."""
    if "--ro-bind-try" not in argv:
        return argv
    at = argv.index("--dir")
    source, target = argv[argv.index("--ro-bind-try") + 1 :][:2]
    folder = source.removesuffix(target.removeprefix("/work"))
    rest = argv[at + 2 :]
    while "--ro-bind-try" in rest:
        here = rest.index("--ro-bind-try")
        del rest[here : here + 3]
    return [*argv[:at], "--ro-bind", folder, "/work", *rest]


def leaking(patch: pytest.MonkeyPatch) -> None:
    """Hand every inheritable descriptor of the broker on."""
    patch.setattr(process.subprocess, "Popen", partial(subprocess.Popen, close_fds=False))


def open_environment(patch: pytest.MonkeyPatch) -> None:
    earlier = process.environment
    patch.setattr(process, "environment", lambda *given: {**os.environ, **earlier(*given)})


def unheld(patch: pytest.MonkeyPatch) -> None:
    earlier = process.Process.hear

    def hear(self: process.Process) -> bytes:
        said = earlier(self)
        self._first = -1
        return said

    patch.setattr(process.Process, "hear", hear)


def unretired(patch: pytest.MonkeyPatch) -> None:
    earlier = pool.Pool.done
    patch.setattr(pool.Pool, "done", lambda self, child, *, retire: earlier(self, child, retire=False))


def reading_is_writing(patch: pytest.MonkeyPatch) -> None:
    """The access of a store is lost on the way to the kernel."""
    earlier = confine.Sandbox._fitted

    def fitted(self: confine.Sandbox, given: profile.Profile) -> profile.Profile:
        found = earlier(self, given)
        return replace(found, stores=(*found.stores, *found.read_stores), read_stores=())

    patch.setattr(confine.Sandbox, "_fitted", fitted)


def endless_descriptors(patch: pytest.MonkeyPatch) -> None:
    """Whatever comes on a call's line is kept."""

    def receive(self: protocol.Exchange) -> bytes:
        data, descriptors, _, _ = socket.recv_fds(self._channel, 65_536, 253, socket.MSG_CMSG_CLOEXEC)
        self.files += descriptors
        return data

    patch.setattr(protocol.Exchange, "_receive", receive)


def replaced(where: object, name: str, instead: object) -> Remove:
    """Put something else in the place of one function or value."""
    return lambda patch: patch.setattr(where, name, instead)


async def let_through(*_: object) -> None:
    """In the place of what would refuse."""


def unchecked_hello(patch: pytest.MonkeyPatch) -> None:
    """Any first bytes are the hello of whatever host the tunnel is to."""

    async def hello(self: tunnel.Tunnel, name: str) -> bytes:
        return await self._wire.receive()

    patch.setattr(tunnel.Tunnel, "_hello", hello)


def one_for_all(patch: pytest.MonkeyPatch) -> None:
    """Whatever a connection says, it is the first call's that was let in."""
    earlier = proxy.ProxyListener._admitted

    async def admitted(self: proxy.ProxyListener, requests: Requests, head: Head, address: str) -> None:
        basic = b"Basic " + base64.b64encode(f"call:{next(iter(self._tickets))}".encode())
        fields = [field for field in head.fields if field[0] != b"proxy-authorization"]
        await earlier(self, requests, replace(head, fields=(*fields, (b"proxy-authorization", basic))), address)

    patch.setattr(proxy.ProxyListener, "_admitted", admitted)
    patch.setattr(call_session.CallSession, "is_of", lambda *_: True)


async def unended(self: call_session.CallSession) -> Sequence[Connection]:
    """What a call has open stays open."""
    return self.ended


def allowing_all(*_: object, **__: object) -> bytes:
    return struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)


ABLATIONS: Final = (
    Ablation(
        name="Landlock",
        remove=(believed, without("kernel.py", 'call("landlock_restrict_self", self.descriptor, 0)')),
        tests=(
            "sandbox/test_escapes.py::test_a_decided_file_is_read_and_no_other",
            "sandbox/test_abuse.py::test_a_tool_that_joins_paths_carelessly_reaches_the_decided_file_only",
            DOCTOR,
        ),
    ),
    Ablation(
        name="the filters of system calls",
        remove=(
            believed,
            without("kernel.py", 'call("prctl", _PR_SET_SECCOMP, 2, header, 0, 0)'),
            without("base.py", 'listener = kernel.install_observed(bytes.fromhex(boundary["filter"]))', "os._exit(1)"),
        ),
        tests=(
            "sandbox/test_escapes.py::test_the_kernel_gives_no_new_powers",
            "sandbox/test_escapes.py::test_no_socket_of_any_family_can_be_made",
            "sandbox/test_escapes.py::test_no_program_and_no_process_starts",
            DOCTOR,
        ),
    ),
    Ablation(
        name="the filter of one call",
        remove=(lambda patch: patch.setattr(process, "call_filter", allowing_all),),
        tests=(
            "sandbox/test_escapes.py::test_no_program_and_no_process_starts",
            "sandbox/test_escapes.py::test_other_processes_cannot_be_signalled_traced_or_seen",
            "sandbox/test_escapes.py::test_a_tool_cannot_ask_which_processes_there_are",
        ),
    ),
    Ablation(
        name="narrowing to the decision",
        remove=(believed, without("onecall.py", "rules.enforce()")),
        tests=(
            "sandbox/test_escapes.py::test_a_decided_file_is_read_and_no_other",
            "sandbox/test_warm.py::test_nothing_of_one_call_is_found_by_the_next",
            "sandbox/test_abuse.py::test_a_tool_that_joins_paths_carelessly_reaches_the_decided_file_only",
            DOCTOR,
        ),
    ),
    Ablation(
        name="namespaces",
        remove=(
            line(
                dropping(
                    ("--unshare-pid", "--as-pid-1", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--hostname", "sandbox")
                )
            ),
        ),
        tests=("sandbox/test_abuse.py::test_the_sandbox_shares_no_namespace_with_the_broker",),
    ),
    Ablation(
        name="the empty root folder",
        remove=(line(with_more("--ro-bind", "/etc", "/etc", "--ro-bind", "/var", "/var")),),
        tests=("sandbox/test_abuse.py::test_the_root_folder_holds_what_is_needed_and_can_not_be_written",),
    ),
    Ablation(
        name="resource limits",
        remove=(believed, without("inside.py", "resource.setrlimit(which, (most, most))")),
        tests=("sandbox/test_abuse.py::test_no_limit_can_be_raised", DOCTOR),
    ),
    Ablation(
        name="the limit of processor time",
        remove=(without("onecall.py", "resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))"),),
        tests=("sandbox/test_abuse.py::test_no_limit_can_be_raised",),
    ),
    Ablation(
        name="closing descriptors",
        remove=(
            leaking,
            without("onecall.py", "close_others([*keep, rules.descriptor])"),
            without("base.py", "onecall.close_others([line.fileno()])"),
            without("base.py", "kernel.close_all_from(0)"),
        ),
        tests=("sandbox/test_escapes.py::test_the_tool_holds_no_descriptor_and_no_variable_of_the_broker",),
    ),
    Ablation(
        name="a child that has nothing when it is given its call",
        remove=(
            without(
                "supervisor.py",
                "if child is None or not child.bare or child.given or not child.lines:",
                "if child is None or child.given or not child.lines:",
            ),
        ),
        tests=(IMPORTS,),
    ),
    Ablation(
        name="what an import wrote, read-only afterwards",
        remove=(without("supervisor.py", 'kernel.mount_read_only(self._boundary["temporary"])'),),
        tests=(
            "sandbox/test_import_time.py::test_what_an_import_wrote_for_itself_is_read_by_every_call_and_written_by_none",
        ),
    ),
    Ablation(
        name="a folder of rooms that is neither listed nor changed",
        remove=(
            without("rooms.py", "os.fchmod(self._beside, _ENTERED_ONLY)"),
            without("rooms.py", "kernel.mount_read_only(folder)"),
        ),
        tests=(IMPORTS,),
    ),
    Ablation(
        name="rooms that only the broker makes, without mounts",
        remove=(lambda patch: patch.setattr(process.os, "chmod", lambda *_, **__: None),),
        tests=(IMPORTS,),
    ),
    Ablation(
        name="children of the supervisor and not of the base",
        remove=(without("supervisor.py", "own = self._base if child is None else child.process", "own = notice.arguments[self._names[notice.number]]"),),
        tests=("sandbox/test_import_time.py::test_the_base_learns_nothing_of_its_children",),
    ),
    Ablation(
        name="devices that no tool can touch",
        remove=(believed, without("inside.py", "kernel.mount_read_only(device)")),
        tests=("sandbox/test_import_time.py::test_no_device_of_this_machine_is_a_tools_to_touch",),
    ),
    Ablation(
        name="no lock on what is shared",
        remove=(believed, lambda patch: patch.setitem(seccomp.ALLOWED, "flock", (73, 32))),
        tests=("sandbox/test_import_time.py::test_a_lock_tells_no_other_call_anything", DOCTOR),
    ),
    Ablation(
        name="one copy of the base for each call",
        remove=(without("supervisor.py", "if child is not None and child.given and notice.arguments[0] & _THREAD:", "if child is not None:"),),
        tests=("sandbox/test_import_time.py::test_a_call_cannot_make_a_copy_that_takes_the_next_one",),
    ),
    Ablation(
        name="processes of one user and one tenant",
        remove=(lambda patch: patch.setattr(warm, "_BOUNDARY", tuple(one for one in warm._BOUNDARY if one not in ("user", "tenant"))),),
        tests=("sandbox/test_import_time.py::test_two_users_and_two_tenants_are_never_served_by_one_process",),
    ),
    Ablation(
        name="reading a store and no more",
        remove=(reading_is_writing,),
        tests=(
            "sandbox/test_access.py::test_a_database_in_a_store_that_is_read_is_queried_and_not_updated",
        ),
    ),
    Ablation(
        name="a bound of what a call hands over",
        remove=(endless_descriptors,),
        tests=("sandbox/test_descriptors.py::test_a_call_that_hands_over_more_files_than_it_may_write_is_ended",),
    ),
    Ablation(
        name="a ticket for the connections of its own call",
        remove=(replaced(call_session.CallSession, "is_of", lambda *_: True),),
        tests=("sandbox/egress/test_tickets.py::test_a_ticket_that_was_stolen_while_its_call_runs_opens_nothing",),
    ),
    Ablation(
        name="an environment of its own",
        remove=(open_environment, line(dropping(("--clearenv",)))),
        tests=("sandbox/test_escapes.py::test_the_tool_holds_no_descriptor_and_no_variable_of_the_broker",),
    ),
    Ablation(
        name="the end with the broker, by bubblewrap",
        remove=(line(dropping(("--die-with-parent",))),),
        tests=("sandbox/test_life.py::test_a_killed_broker_leaves_no_process",),
    ),
    Ablation(
        name="a handle on the first process of a sandbox",
        remove=(unheld,),
        tests=("sandbox/test_life.py::test_a_sandbox_does_not_outlive_the_process_that_started_it",),
    ),
    Ablation(
        name="the end with the broker, by the guard",
        remove=(without("inside.py", 'guard.stand(channel, os.path.dirname(boundary["scratch"]))'),),
        tests=("sandbox/test_life.py::test_a_killed_broker_leaves_no_process",),
    ),
    Ablation(
        name="mounting nothing but the decided files",
        remove=(line(with_working_folder),),
        tests=("sandbox/test_warm.py::test_a_tool_without_trust_has_nothing_but_the_decided_files",),
    ),
    Ablation(
        name="following no symlink",
        remove=(lambda patch: patch.setattr(kernel, "RESOLVE_NO_SYMLINKS", 0) or patch.setattr(kernel, "RESOLVE_BENEATH", 0),),
        tests=(
            "sandbox/test_life.py::test_a_set_holds_its_files_and_follows_no_link",
            "sandbox/test_life.py::test_a_link_planted_at_the_destination_is_not_followed",
        ),
    ),
    Ablation(
        name="rooms that no tool writes",
        remove=(lambda patch: patch.setattr(opened, "_refuse_protected", lambda _: None),),
        tests=("sandbox/test_escapes.py::test_a_protected_room_that_does_not_exist_yet_cannot_be_made",),
    ),
    Ablation(
        name="a warm tool that is the one that lies there",
        remove=(lambda patch: patch.setattr(warm, "_stamps", lambda _: ()),),
        tests=("sandbox/test_warm.py::test_a_changed_tool_is_never_served_by_the_old_one",),
    ),
    Ablation(
        name="a new zygote after a limit was hit",
        remove=(unretired,),
        tests=("sandbox/test_warm.py::test_a_zygote_is_made_anew_after_a_limit_was_hit",),
    ),
    Ablation(
        name="trying the sandbox before it is used",
        remove=(lambda patch: patch.setattr(confine, "try_tier", lambda tier, _: TierReport(name=tier, works=True, checks=())),),
        tests=("sandbox/test_sandbox.py::test_a_bubblewrap_that_confines_nothing_is_not_believed",),
    ),
    # -- policy --
    Ablation(
        name="the model read strictly",
        remove=(lambda patch: patch.setattr(rules, "check_model", lambda _: ()),),
        tests=("policy/test_load.py::test_a_model_that_is_not_the_designs_model_is_refused",),
        still=DECIDES,
    ),
    Ablation(
        name="roles in circles or too deep refused",
        remove=(lambda patch: patch.setattr(rules, "check_links", lambda _: ()),),
        tests=(
            "policy/test_load.py::test_roles_in_a_circle_are_refused_where_the_circle_closes",
            "policy/test_casbin_reference.py::test_roles_that_casbin_follows_only_in_part_do_not_load",
        ),
        still=DECIDES,
    ),
    Ablation(
        name="a condition that cannot be read denies",
        remove=(lambda patch: patch.setattr(Condition, "holds", lambda self, facts: self.answer(facts) is True),),
        tests=("policy/test_conditions.py::test_what_cannot_be_read_never_allows_and_always_denies",),
        still=DECIDES,
    ),
    Ablation(
        name="what the model is told of a denial",
        remove=(lambda patch: patch.setattr(rules, "disclosed", lambda notes: ("remedy", " ".join(notes))),),
        tests=(
            "policy/test_remedy.py::test_a_hidden_rule_reads_like_no_rule_at_all",
            "policy/test_remedy.py::test_of_several_denying_rules_each_is_told_at_its_own_level",
        ),
        still=DECIDES,
    ),
    Ablation(
        name="reason and end of an emergency approval",
        remove=(lambda patch: patch.setattr(approval, "_check_emergency", lambda *_: None),),
        tests=("broker/test_break_glass.py::test_an_emergency_approval_says_why_and_until_when",),
        fixtures=True,
        still=DECIDES,
    ),
    Ablation(
        name="a second person reviews",
        remove=(lambda patch: patch.setattr(break_glass, "_check_reviewer", lambda *_: None),),
        tests=("broker/test_break_glass.py::test_only_a_second_person_with_a_role_reviews_it",),
        fixtures=True,
        still=DECIDES,
    ),
    # -- the network --
    Ablation(
        name="judging addresses",
        remove=(replaced(address, "classify", lambda _: "public"),),
        tests=(
            "sandbox/egress/test_addresses.py::test_no_spelling_of_an_internal_host_is_reached_directly",
            "sandbox/egress/test_addresses.py::test_a_name_that_leads_inside_is_refused_by_its_class_alone",
            "sandbox/egress/test_addresses.py::test_a_name_whose_answer_changes_is_dialled_where_it_was_judged",
        ),
        still=REACHED,
    ),
    Ablation(
        name="names in one spelling",
        remove=(replaced(request, "canonical_host", lambda _, name: name), replaced(request, "is_address", lambda _: False)),
        tests=("sandbox/egress/test_addresses.py::test_no_spelling_of_an_internal_host_is_reached_directly",),
        still=REACHED,
    ),
    Ablation(
        name="deciding each request",
        remove=(replaced(call_session.CallSession, "check", let_through), replaced(call_session.CallSession, "may_tunnel", lambda *_: None)),
        tests=(
            "sandbox/egress/test_addresses.py::test_a_redirect_is_decided_again_and_followed_only_where_policy_allows_it",
            "sandbox/egress/test_addresses.py::test_an_empty_list_of_hosts_reaches_nothing",
            "sandbox/egress/test_sandboxed_calls.py::test_a_decided_host_is_reached_from_the_sandbox_and_another_is_not",
            "sandbox/egress/test_sandboxed_calls.py::test_many_calls_at_once_each_reach_their_own_host",
        ),
        still=REACHED,
    ),
    Ablation(
        name="the token of a call",
        remove=(one_for_all,),
        tests=("sandbox/egress/test_protocol.py::test_a_tunnel_stands_only_for_the_call_and_the_host_that_were_decided",),
        still=REACHED,
    ),
    Ablation(
        name="the name in a TLS hello",
        remove=(unchecked_hello,),
        tests=("sandbox/egress/test_protocol.py::test_what_is_no_tls_to_that_host_goes_no_further",),
        still=REACHED,
    ),
    Ablation(
        name="one length, said once",
        remove=(replaced(request, "_check_framing", lambda _: None),),
        tests=("sandbox/egress/test_protocol.py::test_no_smuggled_request_reaches_the_server_and_a_plain_one_does",),
        still=REACHED,
    ),
    Ablation(
        name="a secret's own host",
        remove=(replaced(network.Network, "credentials_at", lambda self, *_: self.credentials),),
        tests=("sandbox/egress/test_protocol.py::test_a_secret_goes_to_its_own_host_under_tls_and_the_tool_never_holds_it",),
        still=REACHED,
    ),
    Ablation(
        name="striking secrets out",
        remove=(replaced(scrub.Scrubber, "clean", lambda _, data: data),),
        tests=(
            "sandbox/egress/test_protocol.py::test_a_secret_that_is_echoed_is_struck_out_wherever_it_is",
            "sandbox/egress/test_sandboxed_calls.py::test_a_secret_is_nowhere_in_the_tool_that_uses_it",
        ),
        still=REACHED,
    ),
    Ablation(
        name="answers that can be looked into",
        remove=(replaced(forward, "Body", unopened),),
        threats=("E12",),
        tests=("sandbox/egress/test_protocol.py::test_an_answer_that_cannot_be_looked_into_does_not_come_back",),
        still=REACHED,
    ),
    Ablation(
        name="secrets over several pieces",
        remove=(replaced(scrub.Scrubber, "held", lambda *_: 0),),
        tests=("sandbox/egress/test_protocol.py::test_a_secret_that_is_echoed_is_struck_out_wherever_it_is",),
        still=REACHED,
    ),
    Ablation(
        name="quotas",
        remove=(
            replaced(call_session.CallSession, "spend_sent", lambda *_: None),
            replaced(call_session.CallSession, "spend_received", lambda *_: None),
        ),
        threats=("E10",),
        tests=("sandbox/egress/test_protocol.py::test_a_call_sends_and_receives_no_more_than_its_manifest_says",),
        still=REACHED,
    ),
    Ablation(
        name="the end of a call's connections",
        remove=(replaced(call_session.CallSession, "finish", unended),),
        tests=("sandbox/egress/test_protocol.py::test_a_call_that_is_over_leaves_nothing_half_open",),
        still=REACHED,
    ),
    # -- one way in, one way out --
    Ablation(
        name="files are bounded before they are read",
        remove=(never(outside, "_check_toml"), never(outside, "_check_aliases")),
        tests=(
            "core/parsing/test_outside.py::test_a_hostile_toml_text_is_one_problem_with_its_line",
            "core/parsing/test_outside.py::test_a_hostile_yaml_text_is_a_problem",
        ),
        still=("core/parsing/test_outside.py::test_ordinary_texts_are_read_as_before",),
    ),
    Ablation(
        name="hidden characters are written out",
        remove=(replaced(hidden_characters, "_replaced", lambda text, *_: text),),
        tests=(
            "tracing/test_way_out.py::test_a_hidden_character_is_written_by_its_number_and_all_others_stay",
            "tracing/test_way_out.py::test_a_hostile_trace_file_prints_no_raw_control_from_any_field",
        ),
        still=("core/parsing/test_outside.py::test_ordinary_texts_are_read_as_before",),
    ),
    Ablation(
        name="no cell is a formula",
        remove=(replaced(audit, "_FORMULA", re.compile(r"(\A)([=+@-])")),),
        tests=("tracing/test_way_out.py::test_no_cell_is_a_formula_wherever_a_spreadsheet_splits",),
        still=("core/parsing/test_outside.py::test_ordinary_texts_are_read_as_before",),
    ),
    Ablation(
        name="a line that goes on says so",
        remove=(replaced(render, "wrapped", lambda text, *_: text),),
        tests=("broker/test_approval_text.py::test_a_summary_is_no_wider_than_its_lines_may_be",),
        still=("core/parsing/test_outside.py::test_ordinary_texts_are_read_as_before",),
    ),
    # -- the sent request and the answer --
    Ablation(
        name="words of our own beside a status",
        remove=(replaced(forward, "reason_of", lambda status: b"bad token CANARY-5d1e77a0"),),
        tests=("sandbox/egress/test_sent_request.py::test_the_words_beside_a_status_are_never_the_servers",),
        still=REACHED,
    ),
    Ablation(
        name="no header that makes another request of the decided one",
        remove=(never(forward, "check_overrides"),),
        tests=(
            "sandbox/egress/test_sent_request.py::test_a_header_that_makes_another_request_of_the_decided_one_is_refused_and_recorded",
        ),
        still=REACHED,
    ),
    Ablation(
        name="parts of a path that all servers read alike",
        remove=(replaced(urls, "_part", lambda kind, part: urls._escaped(kind, part, urls._PLAIN)),),
        tests=(
            "core/parsing/test_url_paths.py::test_a_path_that_servers_read_in_two_ways_is_refused",
            "sandbox/egress/test_sent_request.py::test_a_path_that_the_server_would_read_otherwise_reaches_no_server",
        ),
        still=REACHED,
    ),
    # -- approvals (threats D) --
    brokered(
        "approvals bound to the call, the rules and the facts",
        replaced(decisions, "decision_digest", lambda *_: "sha256:0"),
        threats="D1 D2 D7",
        tests=(
            "broker/test_approvals.py::test_a_grant_for_another_call_or_other_arguments_runs_nothing",
            "broker/test_approvals.py::test_an_approval_is_void_once_the_rules_have_changed_and_people_are_asked_anew",
            "broker/test_approvals.py::test_an_approval_is_void_once_a_fact_that_was_shown_has_changed",
        ),
    ),
    brokered(
        "conditions that ask for somebody",
        replaced(conditions._Reader, "_wrong", lambda *_: lambda _: True),
        threats="D6",
        tests=("broker/test_approvals.py::test_a_rule_that_asks_for_nobody_is_refused_when_it_is_loaded",),
    ),
    brokered(
        "the time of an approval",
        replaced(approval, "approval_expired", lambda *_: False),
        threats="D3",
        tests=(
            "broker/test_broker.py::test_an_expired_request_cannot_be_approved",
            "broker/test_approvals.py::test_a_request_that_nobody_answered_in_time_ends_as_expired",
        ),
    ),
    brokered(
        "one event under one key",
        replaced(Journal, "append", overwritten),
        replaced(effect, "earlier_attempts", lambda *_: (0, None)),
        threats="D4",
        tests=(
            "broker/test_approvals.py::test_two_workers_use_one_approval_once",
            "broker/test_effects.py::test_two_workers_that_drive_one_run_at_once_do_nothing_twice",
        ),
    ),
    brokered(
        "who may approve",
        never(approval, "_check_approver"),
        threats="D5",
        tests=(
            "broker/test_broker.py::test_nobody_approves_their_own_call_or_without_the_role",
            "broker/test_broker.py::test_whoever_started_a_run_for_somebody_else_does_not_approve_it",
        ),
    ),
    brokered(
        "the account behind an answer",
        replaced(identity, "os_account", lambda: os.environ.get("USER", "")),
        threats="D5",
        tests=("broker/test_approvals.py::test_the_approver_is_the_account_and_what_it_may_not_do_is_in_the_trace",),
    ),
    brokered(
        "answers for their own call",
        replaced(approval, "ApprovalGranted", of_the_first(ApprovalGranted)),
        replaced(approval, "ApprovalRejected", of_the_first(ApprovalRejected)),
        replaced(decisions, "decision_digest", lambda *_: "sha256:0"),
        threats="D8 D12",
        tests=("broker/test_approvals.py::test_answers_belong_to_their_calls_and_not_to_a_position",),
    ),
    brokered(
        "answers to open requests only",
        never(approval, "_check_open"),
        tests=("broker/test_approvals.py::test_an_approval_that_was_taken_back_does_not_count_and_another_may_be_given",),
    ),
    brokered(
        "what deceives an approver's eye",
        replaced(render, "_each", lambda text: text),
        replaced(render, "_word", lambda text: text),
        threats="D9",
        tests=("broker/test_approvals.py::test_what_could_deceive_the_eye_is_written_out",),
    ),
    brokered(
        "long values told by both ends",
        replaced(render, "LONGEST", 10**9),
        threats="D9",
        tests=("broker/test_approvals.py::test_a_long_value_shows_both_ends_its_length_and_its_digest",),
    ),
    brokered(
        "what nobody can read is said",
        replaced(render, "_OPAQUE", 10**9),
        threats="D10",
        tests=("broker/test_approvals.py::test_what_nobody_can_read_is_said_to_be_so",),
    ),
    brokered(
        "a text of the broker's own",
        replaced(approval, "approval_summary", lambda call, *_: str(call.arguments.get("memo", ""))),
        threats="D10",
        tests=("broker/test_approvals.py::test_what_the_model_says_of_a_call_is_none_of_what_an_approver_reads",),
    ),
    brokered(
        "a warning of haste",
        replaced(approval, "approved_within_a_minute", lambda *_, **__: []),
        threats="D11",
        tests=("broker/test_approvals.py::test_whoever_approves_unlike_calls_in_haste_is_warned_and_the_trace_says_so",),
    ),
    brokered(
        "few requests at once",
        never(approval, "check_waiting_approvals"),
        threats="D11",
        tests=("broker/test_approvals.py::test_only_so_many_calls_wait_for_people_at_once",),
    ),
    brokered(
        "one process at a time",
        replaced(driving.fcntl, "flock", lambda *_: None),
        tests=("broker/test_broker.py::test_one_process_at_a_time_drives_a_run",),
    ),
    brokered(
        "remit stop",
        replaced(hold, "hold_reason", lambda *_: None),
        tests=(
            "broker/test_broker.py::test_a_held_tool_runs_nothing_until_the_hold_is_lifted",
            "broker/test_broker.py::test_a_held_run_pauses_before_its_next_turn_and_goes_on_afterwards",
        ),
    ),
    # -- who and what (threats E) --
    brokered(
        "tools as they were reviewed",
        replaced(Tool, "pinned", True),
        never(LiveExecutor, "_check_code"),
        threats="D2 E1",
        tests=(
            "broker/test_broker.py::test_a_tool_that_changed_after_its_review_does_not_run",
            "broker/test_broker.py::test_a_tool_that_changes_in_the_middle_of_a_run_does_not_run_either",
            "broker/test_approvals.py::test_an_approval_of_a_tool_that_changed_since_runs_nothing",
        ),
    ),
    brokered(
        "a graph's own tools as they were reviewed",
        never(foreign, "_check_reviewed"),
        tests=("langchain/test_middleware.py::test_a_tool_that_is_not_the_reviewed_one_does_not_run",),
    ),
    brokered(
        "a graph's own tools as they were decided, once",
        never(langchain._ReviewedTool, "_check"),
        tests=(
            "langchain/test_middleware.py::test_nothing_between_the_decision_and_the_tool_changes_the_call_or_answers_for_it",
            "langchain/test_middleware.py::test_a_retry_of_the_graph_repeats_no_irreversible_effect",
            "langchain/test_decided_arguments.py::test_a_call_that_is_changed_after_its_decision_does_not_run",
        ),
    ),
    brokered(
        "a graph's tool is given the decided call",
        replaced(langchain._ReviewedTool, "_decided_call", lambda self, given: self._check(given) or passed_on(self, given)),
        tests=(
            "langchain/test_decided_arguments.py::test_an_observer_of_the_call_changes_nothing_of_what_the_tool_gets",
        ),
    ),
    brokered(
        "arguments are compared by type as well",
        replaced(exact_json, "_same", lambda text, value: json.loads(text) == value),
        tests=("langchain/test_decided_arguments.py::test_a_call_that_is_changed_after_its_decision_does_not_run",),
    ),
    brokered(
        "a graph's turns known again",
        replaced(foreign, "_turn_key", lambda _: secrets.token_hex()),
        tests=(
            "langchain/test_middleware.py::test_a_plain_tool_node_that_runs_again_after_a_pause_repeats_no_effect",
            "langchain/test_middleware.py::test_going_back_in_time_repeats_no_effect",
        ),
    ),
    brokered(
        "pins that nobody edits",
        replaced(pins, "pin_digest", lambda *_: Same("sha256:0")),
        threats="E1",
        tests=("workspace/test_pins.py::test_a_lock_that_was_edited_by_hand_is_told",),
    ),
    brokered(
        "a rule of one action only",
        replaced(Index, "tables", prefixed),
        *WITHOUT_CASBIN,
        threats="E2",
        tests=("broker/test_broker.py::test_a_rule_an_agents_list_and_a_pattern_of_one_action_cover_no_longer_name",),
    ),
    brokered(
        "names to the letter",
        replaced(ProposedCall, "action", property(folded)),
        threats="E2 E3",
        tests=("broker/test_broker.py::test_what_only_looks_like_the_name_of_an_action_is_none",),
    ),
    brokered(
        "stock Casbin before an effect",
        replaced(Decider, "_confirmed", lambda *_: True),
        threats="E9",
        tests=(
            "broker/test_casbin_decides_too.py::test_a_matcher_that_allows_what_it_must_not_has_no_effect",
            "broker/test_casbin_decides_too.py::test_a_casbin_that_does_not_allow_stops_every_effect",
            "broker/test_casbin_decides_too.py::test_an_approved_call_that_casbin_does_not_allow_is_not_done",
        ),
    ),
    brokered(
        "stock Casbin before a rulebook is in force",
        never(run, "check_agreement"),
        never(reload, "check_agreement"),
        threats="E11",
        tests=(
            "broker/test_casbin_decides_too.py::test_a_run_does_not_start_under_a_matcher_that_answers_otherwise",
            "policy/test_agreement.py::test_an_edit_on_which_the_engines_differ_is_not_in_force",
        ),
    ),
    brokered(
        "nothing without a rule",
        replaced(Policy, "judge", unless_denied),
        *WITHOUT_CASBIN,
        threats="E3",
        tests=(
            "broker/test_broker.py::test_another_name_for_a_tool_brings_no_power_along",
            "broker/test_broker.py::test_both_the_agent_and_its_user_must_be_allowed",
        ),
    ),
    brokered(
        "nothing hidden in what a tool says of itself",
        never(pins, "hidden_character"),
        never(tool_toml, "hidden_character"),
        threats="E4",
        tests=(
            "workspace/test_pins.py::test_what_a_reviewer_does_not_see_cannot_be_pinned_and_other_words_can",
            "workspace/test_manifest.py::test_what_a_manifest_may_not_say_is_one_problem_on_its_line",
        ),
    ),
    brokered(
        "labels of what a tool says when it fails",
        replaced(carry, "TOLD_BY_TOOL", frozenset()),
        threats="E4",
        tests=("broker/test_broker.py::test_what_a_tool_says_when_it_fails_labels_the_run_as_its_results_do",),
    ),
    brokered(
        "acting for another user",
        replaced(run, "acting_subject", whoever),
        threats="E5",
        tests=("workspace/test_check.py::test_acting_for_another_user_needs_a_rule",),
    ),
    brokered(
        "the user behind the agent",
        replaced(Subjects, "all", property(lambda self: (self.agent, self.agent))),
        threats="E5",
        tests=("broker/test_broker.py::test_both_the_agent_and_its_user_must_be_allowed",),
    ),
    brokered(
        "arguments read strictly",
        replaced(broker, "parse_arguments", lenient),
        threats="E6",
        tests=("broker/test_broker.py::test_arguments_that_are_not_exact_are_refused_and_never_repeated",),
    ),
    brokered(
        "arguments against their schema",
        replaced(resolve, "validate", lambda _, value, **__: value),
        threats="E6",
        tests=(
            "broker/test_broker.py::test_arguments_that_are_not_exact_are_refused_and_never_repeated",
            "workspace/test_resolution.py::test_arguments_are_checked_without_coercion_and_never_repeated",
        ),
    ),
    brokered(
        "arguments as they were decided",
        never(carry, "check_bound"),
        threats="E7",
        tests=("broker/test_broker.py::test_what_runs_is_what_was_decided_whoever_rewrites_it_on_the_way",),
    ),
    brokered(
        "arguments of its own for each attempt",
        replaced(attempt.copy, "deepcopy", lambda value: value),
        threats="E7",
        tests=("broker/test_broker.py::test_a_tool_that_changes_what_it_was_given_changes_no_later_attempt",),
    ),
    brokered(
        "an engine that fails allows nothing",
        replaced(Decider, "decide", open_when_broken),
        threats="E9",
        tests=("broker/test_broker.py::test_rules_that_cannot_be_asked_allow_nothing",),
    ),
    brokered(
        "rules and their digest from one reading",
        replaced(session, "load_workspace_and_policy", read_twice),
        threats="E11",
        tests=(
            "policy/test_reload.py::test_the_rules_that_a_run_records_are_the_ones_it_decides_by_whoever_writes_meanwhile",
        ),
    ),
    brokered(
        "edits that have stood still",
        replaced(PolicyWatcher, "_settled", staticmethod(lambda _: True)),
        threats="E11",
        tests=(
            "policy/test_reload.py::test_an_edit_is_in_force_once_it_has_stood_still",
            "policy/test_reload.py::test_a_file_that_is_still_being_written_is_waited_for",
        ),
    ),
    brokered(
        "a cut turn",
        replaced(Broker, "decide", uncut(Broker.decide)),
        tests=("broker/test_broker.py::test_a_turn_cut_by_length_runs_none_of_its_calls",),
    ),
    brokered(
        "calls of one step counted together",
        replaced(RunState, "calls", lambda self, *, but=None: dict(self.settled)),
        threats="E8",
        tests=("broker/test_broker.py::test_two_calls_of_one_step_cannot_pass_a_limit_together",),
    ),
    # -- tries and limits (threats F) --
    brokered(
        "no second try of what cannot be undone",
        replaced(retry, "again", lambda *_, attempt, **__: attempt < 3),
        replaced(effect, "lost_attempt", lambda call, number: LOST(call, number).model_copy(update={"retry_in_s": 0.0})),
        threats="F1",
        tests=(
            "broker/test_broker.py::test_an_irreversible_call_that_times_out_after_its_effect_is_never_tried_again",
            "broker/test_broker.py::test_an_intent_without_an_end_is_unknown_for_an_irreversible_call_and_tried_again_for_a_keyed_one",
        ),
    ),
    brokered(
        "effects in doubt",
        never(effect, "check_repeated_effect"),
        threats="F2",
        tests=("broker/test_effects.py::test_a_model_that_asks_again_with_jittered_arguments_does_not_repeat_an_effect_in_doubt",),
    ),
    brokered(
        "the same call twice in one turn",
        never(effect, "check_twin_in_step"),
        tests=("broker/test_effects.py::test_the_same_irreversible_call_twice_in_one_turn_is_carried_out_once",),
    ),
    brokered(
        "one budget of tries",
        never(retry, "check"),
        replaced(retry, "left", lambda *_: True),
        threats="F2 F5",
        tests=(
            "broker/test_retries.py::test_the_brokers_tries_and_the_models_own_share_one_budget",
            "broker/test_retries.py::test_a_run_has_only_so_many_tries_beyond_the_first",
        ),
    ),
    brokered(
        "the end of a denial loop",
        replaced(RunState, "refused_in_a_row", 0),
        threats="F3",
        tests=("broker/test_retries.py::test_a_refused_call_asked_again_and_again_ends_as_denial_loop",),
    ),
    brokered(
        "waits that are bounded and spread",
        replaced(retry, "delay", lambda *given, **_: 2.0 ** given[3]),
        threats="F6",
        tests=("broker/test_retries.py::test_waits_grow_are_spread_over_their_whole_length_and_never_beyond_the_cap",),
    ),
    brokered(
        "stop between two attempts",
        replaced(LivePorts, "sleep", slept),
        threats="F6",
        tests=("broker/test_retries.py::test_stop_ends_the_wait_between_two_attempts",),
    ),
    brokered(
        "budgets spent by what happens",
        replaced(Broker, "_resolve", spent_when_asked),
        threats="F4",
        tests=("broker/test_budgets.py::test_a_call_that_was_held_or_refused_takes_nothing",),
    ),
    brokered(
        "a tool of this process that goes alone",
        replaced(attempt, "_caught", taken_for_done),
        threats="F8",
        tests=("broker/test_broker.py::test_a_tool_of_this_process_takes_only_itself_away",),
    ),
    Ablation(
        name="a code for each way to end",
        remove=(replaced(launch, "classify", one_crash), replaced(warm, "classify", one_crash)),
        threats=("F8",),
        tests=(
            "sandbox/test_sandbox.py::test_every_other_ending_has_its_code",
            "sandbox/test_sandbox.py::test_a_tool_that_does_not_end_is_ended",
            "sandbox/test_sandbox.py::test_a_declared_error_keeps_its_name",
        ),
    ),
    brokered(
        "rest for a tool that fails",
        never(circuit, "check_circuit"),
        tests=("broker/test_retries.py::test_a_tool_that_fails_again_and_again_rests_in_every_run",),
    ),
    brokered(
        "limits over all runs",
        replaced(limits, "limit_claims", lambda *_, **__: {}),
        tests=("broker/test_budgets.py::test_calls_beyond_a_shared_limit_are_refused_in_the_models_order_with_the_time_to_come_back",),
    ),
    # -- content (threats F7, G2, H3) --
    brokered(
        "hidden characters written out",
        replaced(sanitizer, "visible", lambda text: text),
        threats="F7",
        tests=("broker/test_broker.py::test_hidden_characters_of_a_tools_value_are_written_out",),
    ),
    brokered(
        "short words of a tool",
        replaced(carry, "LONGEST_TEXT", 10**9),
        replaced(attempt, "words_of", at_length),
        threats="E4 F7",
        tests=(
            "guardrails/test_content.py::test_what_a_tool_says_of_its_failure_is_short_legible_data_in_a_field_of_its_own",
        ),
    ),
    brokered(
        "pieces of a secret at an edge",
        replaced(KnownSecret, "edges", lambda *_: []),
        threats="E10",
        tests=("guardrails/test_content.py::test_a_secret_that_a_cap_cut_in_two_is_found_by_either_piece",),
    ),
    brokered(
        "known secrets",
        replaced(redact.Redactor, "_spans", lambda *_: []),
        replaced(redact.Redactor, "_spread", lambda _, value, **__: value),
        tests=(
            "guardrails/test_content.py::test_a_known_secret_is_found_in_every_encoding",
            "guardrails/test_canaries.py::test_a_canary_is_in_no_sink_whatever_a_confined_tool_does_with_it",
            "guardrails/test_content.py::test_a_known_secret_is_found_however_a_value_splits_it",
        ),
    ),
    brokered(
        "what looks like a secret",
        replaced(redact.Redactor, "_patterned", lambda _, text: text),
        tests=(
            "broker/test_broker.py::test_what_looks_like_a_secret_is_in_no_record",
            "guardrails/test_content.py::test_what_looks_like_a_secret_is_marked_whoever_issued_it",
        ),
    ),
    brokered(
        "the reviewer's phrases",
        never(Content, "blocked"),
        tests=(
            "guardrails/test_content.py::test_a_blocked_phrase_passes_in_no_direction",
            "guardrails/test_content.py::test_a_blocked_result_is_told_by_its_rule_and_its_effect",
        ),
    ),
    brokered(
        "personal data",
        replaced(Content, "replaced", lambda _, text, *__: text),
        tests=("guardrails/test_content.py::test_personal_data_is_taken_out_of_results_and_answers_where_it_is_really_that",),
    ),
    brokered(
        "answers that hold",
        replaced(AnswerContract, "problems", lambda *_: ()),
        tests=(
            "runtime/test_answers.py::test_an_answer_stands_on_results_of_this_run",
            "runtime/test_answers.py::test_a_guess_is_no_answer",
        ),
    ),
    # -- agents in the open (threats E5, and what a hijacked model does) --
    brokered(
        "whom and what the user named",
        replaced(context, "unnamed", lambda *_: ()),
        tests=(
            "guardrails/test_open_agents.py::test_after_a_strangers_text_mail_goes_only_to_whom_the_user_named",
            "guardrails/test_open_agents.py::test_a_page_is_asked_for_only_if_the_user_or_a_sender_that_the_user_named_gave_it",
            "guardrails/test_open_agents.py::test_after_a_strangers_text_own_things_are_touched_only_if_the_user_named_them",
        ),
    ),
    brokered(
        "words that are no names",
        replaced(known, "names_thing", lambda words, kind, name, _: known._holds(words, f"{kind}:{name}")),
        tests=(
            "guardrails/test_open_agents.py::test_a_strangers_name_for_a_thing_out_of_the_words_of_the_task_names_nothing",
            "guardrails/test_naming.py::test_an_ordinary_word_names_a_thing_only_with_evidence_for_its_kind",
        ),
    ),
    brokered(
        "names of another kind",
        replaced(naming, "_of_another_kind", lambda _: False),
        tests=("guardrails/test_naming.py::test_an_ordinary_word_names_a_thing_only_with_evidence_for_its_kind",),
    ),
    brokered(
        "names that the directory has for another kind",
        replaced(naming, "_known_elsewhere", lambda *_: False),
        tests=("guardrails/test_naming.py::test_the_directory_decides_what_words_alone_do_not",),
    ),
    brokered(
        "handles out of the words of the task",
        replaced(known, "calls", lambda *_, **__: True),
        tests=("guardrails/test_naming.py::test_a_sender_whose_name_is_a_word_of_the_task_gives_no_links",),
    ),
    brokered(
        "what goes out",
        replaced(context, "carried", lambda *_: frozenset()),
        tests=("guardrails/test_open_agents.py::test_what_goes_out_carries_nothing_that_nobody_named",),
    ),
    brokered(
        "a directory that strangers do not fill",
        replaced(fold, "UNTRUSTED", "never"),
        tests=("guardrails/test_open_agents.py::test_whom_the_agent_looks_up_after_a_strangers_text_is_not_known",),
    ),
    brokered(
        "one thing by one name",
        replaced(known, "_called", lambda line, value, *_: known._at(value, line.path)),
        tests=("guardrails/test_provenance.py::test_a_result_lists_what_its_manifest_says",),
    ),
    brokered(
        "names inside of an argument",
        replaced(resolve, "_named_at", lambda template, path, value: (value, [])),
        tests=(
            "policy/test_ownership.py::test_one_card_of_another_among_own_ones_is_denied",
            "workspace/test_resolution.py::test_names_may_stand_inside_of_an_argument_and_are_spelled_canonically_there",
        ),
    ),
    brokered(
        "acts that the words ask for",
        replaced(context, "intends", lambda *_: True),
        tests=("guardrails/test_open_agents.py::test_an_act_that_chooses_nothing_needs_words_that_ask_for_it",),
    ),
    brokered(
        "values that the user said",
        replaced(context, "said", lambda *_: True),
        tests=("guardrails/test_open_agents.py::test_a_password_is_changed_only_to_what_the_user_said",),
    ),
    brokered(
        "labels of what a call touched",
        replaced(carry, "labels_of", lambda *_: ()),
        tests=("guardrails/test_open_agents.py::test_a_reviewer_labels_what_comes_from_a_resource",),
    ),
    brokered(
        "the scope of a run",
        replaced(Decider, "_scope", property(lambda _: None)),
        tests=(
            "guardrails/test_open_agents.py::test_a_scope_lets_a_run_do_less_than_its_agent_may",
            "guardrails/test_open_agents.py::test_beyond_its_scope_a_run_asks_the_role_that_the_scope_names",
        ),
    ),
    # -- trusted code has a budget: what comes from outside is read in linear time, and away from the loop --
    brokered(
        "the calls that a turn may hold",
        replaced(budgets, "CALLS_A_TURN", 200),
        tests=("adversarial/test_own_budget.py::test_a_turn_of_thousands_of_calls_costs_no_more_than_the_calls_that_a_turn_may_hold",),
    ),
    brokered(
        "private keys that are found by hand",
        searched_with("private_key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)-----END [A-Z ]*PRIVATE KEY-----"),
        tests=(
            SECRETS,
            "adversarial/test_own_budget.py::test_a_text_of_256_kib_that_is_all_beginnings_of_keys_is_cleaned",
        ),
    ),
    brokered(
        "OpenAI's keys that are found by hand",
        searched_with("openai", r"sk-[A-Za-z0-9-_]*[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
        tests=(SECRETS,),
    ),
    brokered(
        "tokens that are found by hand",
        searched_with("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
        tests=(SECRETS,),
    ),
    brokered(
        "keys whose end is missing",
        replaced(secret_formats, "_KEY_REST", re.compile("(?!)")),
        tests=("adversarial/test_own_budget.py::test_a_private_key_is_replaced_whole_also_where_its_end_is_missing",),
    ),
    brokered(
        "secrets that are longer than a piece",
        replaced(secret_formats, "_whole", lambda _, end: end),
        tests=("adversarial/test_own_budget.py::test_a_secret_longer_than_what_two_pieces_share_is_replaced_whole",),
    ),
    brokered(
        "texts that are too long to look through",
        replaced(redact, "LONGEST_TEXT", 1 << 30),
        tests=("adversarial/test_own_budget.py::test_a_text_that_is_too_long_to_look_through_is_withheld_and_says_so",),
    ),
    brokered(
        "known secrets in many strings",
        replaced(redact.Redactor, "_spread", spread_over_all),
        tests=("adversarial/test_own_budget.py::test_a_known_secret_in_thousands_of_strings_is_replaced_in_each_in_linear_time",),
    ),
    brokered(
        "entities of thousands of digits",
        replaced(encodings, "_without_entities", html.unescape),
        tests=("adversarial/test_own_budget.py::test_a_number_of_thousands_of_digits_stops_no_cleaning",),
    ),
    brokered(
        "what a union remembers",
        replaced(json_validation._Check, "_union", forgetful_union),
        tests=("adversarial/test_own_budget.py::test_a_union_in_a_union_takes_time_in_proportion_to_its_levels",),
    ),
    brokered(
        "exactly one branch",
        replaced(json_validation._Check, "_matched", any_branch),
        tests=("adversarial/test_own_budget.py::test_keywords_mean_what_json_schema_says",),
    ),
    brokered(
        "linear patterns of schemas",
        replaced(json_validation, "compiled", Backtracking),
        tests=("adversarial/test_own_budget.py::test_a_pattern_takes_time_in_proportion_to_the_text",),
    ),
    brokered(
        "patterns without a linear engine",
        replaced(json_schema, "_SHAPES", {**json_schema._SHAPES, "pattern": lambda text: isinstance(text, str)}),
        tests=("adversarial/test_own_budget.py::test_a_pattern_that_has_no_linear_engine_is_refused_when_its_tool_is_pinned",),
    ),
    brokered(
        "unique items by hashing",
        replaced(json_validation, "_written", lambda value, _: Unhashed(value)),
        tests=("adversarial/test_own_budget.py::test_unique_items_are_found_in_linear_time",),
    ),
    brokered(
        "multiples in decimal",
        replaced(json_validation, "_decimal", lambda value, _: Fraction(value)),
        tests=("adversarial/test_own_budget.py::test_keywords_mean_what_json_schema_says",),
    ),
    brokered(
        "the size of what is remembered",
        replaced(remembered.Remembered, "_keep", kept_for_good),
        tests=("adversarial/test_own_budget.py::test_what_is_remembered_of_texts_is_bounded_by_their_size",),
    ),
    brokered(
        "the size and depth of TOML",
        never(outside, "_check_toml"),
        tests=("adversarial/test_own_budget.py::test_a_file_that_takes_its_parser_too_long_is_refused_with_its_name",),
    ),
    brokered(
        "the size of YAML",
        never(outside, "_check_yaml"),
        tests=("adversarial/test_own_budget.py::test_a_table_that_takes_its_parser_too_long_is_refused_with_its_name",),
    ),
    brokered(
        "heads that come byte by byte",
        replaced(Requests, "head", head_from_its_beginning),
        tests=("adversarial/test_own_budget.py::test_a_head_that_comes_byte_by_byte_is_looked_at_once",),
    ),
    brokered(
        "hellos that come byte by byte",
        replaced(ClientHelloReader, "take", hello_from_its_beginning),
        tests=("adversarial/test_own_budget.py::test_a_hello_that_comes_byte_by_byte_is_looked_at_once",),
    ),
    brokered(
        "large work beside the loop",
        replaced(threads, "LARGE", 1 << 40),
        tests=("adversarial/test_own_budget.py::test_what_takes_long_is_done_beside_the_loop",),
    ),
)  # fmt: skip
