"""Rules that are edited while calls are decided: a valid edit is in force within a second, never in part."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.calls import Context, Request
from remit.core.errors import WorkspaceError
from remit.core.events import ApprovalRequested, CallDecided, PolicyChanged, Recorded, RunStarted
from remit.core.parsing import read_file
from remit.policy import engine as policy
from remit.policy import folder as policy_folder
from remit.policy import reload
from remit.policy.engine import Policy
from remit.policy.reload import PolicyWatcher, read_folder
from remit.replay.replayer import ReplayResult, find_tampering, replay
from remit.runtime import runner as run
from remit.runtime.live import LivePorts
from remit.tracing import read_trace
from remit.workspace import files as workspace_files
from remit.workspace import session
from remit.workspace.bundle import open_bundle
from support import ROOT
from support.lifecycle import LARGE
from support.principals import OPERATOR
from support.runs import DONE, Play, Played, turn

MODEL = (ROOT / "policies" / "model.conf").read_text()
ALLOW = "p, agent:t, a.b, **, True, allow\n"
DENY = "p, agent:t, a.b, **, True, deny\n"
REQUEST = Request(subjects=("agent:t",), action="a.b", resources=("file:x",), context=Context())


RELOADS = int(os.environ.get("REMIT_RELOADS", "120"))  # 1000 takes half a minute


class Clock:
    """Time that advances by 0.3 s at each call."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.3
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.conf").write_text(MODEL)
    write(tmp_path, ALLOW)
    return tmp_path


def write(folder: Path, text: str, name: str = "rules.csv") -> None:
    """Save as an editor does: a new file replaces the old one."""
    (folder / f".{name}.new").write_text(text)
    (folder / f".{name}.new").rename(folder / name)


def watched(folder: Path, report: Callable[[WorkspaceError], None] | None = None) -> PolicyWatcher:
    files = read_folder(folder)
    return PolicyWatcher(folder, policy.load_policy(files), files, report=report, clock=Clock())


def settled(watcher: PolicyWatcher) -> Policy:
    """The policy in force after two checks of unchanged files."""
    watcher.current()
    return watcher.current()


def test_an_edit_is_in_force_once_the_files_are_unchanged_for_a_while(folder: Path) -> None:
    """Not earlier: the first half of a file can be a valid policy without its last denies."""
    watcher = watched(folder)
    opened = watcher.current()
    write(folder, ALLOW + DENY)
    assert watcher.current() is opened
    assert watcher.current().decide(REQUEST).reason == "denied_by_rule"
    assert watcher.files == read_folder(folder)


def test_a_file_that_is_still_being_written_is_waited_for(folder: Path) -> None:
    """Each check finds it longer than before."""
    watcher = watched(folder)
    opened = watcher.current()
    with (folder / "rules.csv").open("a") as rules:
        for _ in range(5):
            rules.write("p, agent:u, a.b, **, True, allow\n")
            rules.flush()
            assert watcher.current() is opened
        rules.write(DENY)
    assert settled(watcher).decide(REQUEST).reason == "denied_by_rule"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: write(folder, ALLOW + "p, agent:t, a.b, **, True, deni\n"), id="a bad row"),
        pytest.param(lambda folder: write(folder, MODEL.replace("&& !some(where (p.eft == deny))", ""), "model.conf"), id="a bad model"),
        pytest.param(lambda folder: (folder / "model.conf").unlink(), id="no model"),
        pytest.param(lambda folder: (folder / "rules.csv").write_bytes(b"\xff\n"), id="not UTF-8"),
    ],
)  # fmt: skip
def test_an_invalid_edit_changes_nothing_and_is_reported_once(folder: Path, damage: Callable[[Path], None]) -> None:
    """A valid edit after it is in force."""
    reported: list[WorkspaceError] = []
    watcher = watched(folder, reported.append)
    opened = watcher.current()
    damage(folder)
    for _ in range(5):
        assert watcher.current() is opened
    assert watcher.problem is not None
    assert reported == [watcher.problem]
    write(folder, MODEL, "model.conf")
    write(folder, DENY)
    assert settled(watcher).decide(REQUEST).reason == "denied_by_rule"
    assert watcher.problem is None


def test_rules_stay_in_force_if_their_folder_disappears(folder: Path, tmp_path: Path) -> None:
    """The problem is reported, and gone once the folder is back."""
    watcher = watched(folder)
    opened = watcher.current()
    folder.rename(tmp_path.with_name("elsewhere"))
    assert settled(watcher) is opened
    assert watcher.problem is not None
    tmp_path.with_name("elsewhere").rename(folder)
    assert settled(watcher) is opened
    assert watcher.problem is None


def test_an_edit_of_comments_keeps_the_loaded_policy(folder: Path) -> None:
    """So the policy that a run recorded is the one in force."""
    watcher = watched(folder)
    opened = watcher.current()
    write(folder, f"# A note\n{ALLOW}")
    assert settled(watcher) is opened


def test_files_are_not_read_again_while_nothing_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check costs one stat per file."""
    watcher = watched(folder)
    settled(watcher)
    monkeypatch.setattr(reload, "read_folder", lambda _: pytest.fail("read without a change"))
    for _ in range(5):
        watcher.current()
    (folder / ".rules.csv.swp").write_text("an editor's swap file")
    settled(watcher)


def test_a_reset_modification_time_does_not_hide_an_edit(folder: Path) -> None:
    """The file has the same size and the same modification time."""
    watcher = watched(folder)
    settled(watcher)
    before = (folder / "rules.csv").stat()
    (folder / "rules.csv").write_text(ALLOW.replace("allow", "deny "[:5]).replace("deny \n", "deny\n\n"))
    os.utime(folder / "rules.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "rules.csv").stat().st_size == before.st_size
    assert settled(watcher).decide(REQUEST).reason == "denied_by_rule"


def test_no_decision_belongs_to_neither_version_while_policies_reload(folder: Path) -> None:
    """Eight threads decide while the rules change; each version allows one of two calls and names itself."""
    (folder / "rules.csv").unlink()
    versions = [
        "g, agent:t, role:r\np, role:r, a.b, file:{0}/**, True, allow\n# version {0}\np, agent:t, a.b, file:*/x, True, {1}\n".format(*version)
        for version in (("even", "allow"), ("odd", "deny"))
    ]  # fmt: skip
    write(folder, versions[0])
    files = [{"policies/model.conf": MODEL.encode(), "policies/rules.csv": text.encode()} for text in versions]
    requests = [REQUEST.model_copy(update={"resources": (name,)}) for name in ("file:even/x", "file:odd/x")]
    possible = [[policy.load_policy(version).decide(request) for version in files] for request in requests]
    now = [0.0]  # only the editing thread advances the time; the first thread to ask then checks the files
    watcher = PolicyWatcher(folder, policy.load_policy(files[0]), files[0], clock=lambda: now[0])
    done = threading.Event()
    wrong: list[str] = []
    decided = [0] * 8
    interval = sys.getswitchinterval()

    def decide(worker: int) -> None:
        while not done.is_set():
            rules = watcher.current()
            for request, decisions in zip(requests, possible, strict=True):
                if (decision := rules.decide(request)) not in decisions:
                    wrong.append(repr(decision))
            decided[worker] += 2

    sys.setswitchinterval(1e-4)
    try:
        workers = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
        for worker in workers:
            worker.start()
        reloads = 0
        for number in range(RELOADS):
            before = watcher.current()
            write(folder, versions[(number + 1) % 2])
            while watcher.current() is before and now[0] < 10 * RELOADS:
                now[0] += 0.3
            reloads += watcher.current() is not before
        done.set()
        for worker in workers:
            worker.join(timeout=30)
    finally:
        done.set()
        sys.setswitchinterval(interval)
    assert wrong == []
    assert min(decided) > 0
    assert reloads == RELOADS


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────────────

ASKS_LEAD = "account:*, approved('role:lead'), allow"


def test_a_run_records_the_rules_by_which_it_decides_even_if_the_file_changes_meanwhile(
    clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E11: each read returns another edit, so a digest of bytes other than the parsed ones would be detected."""
    folder = clerk([DONE])
    readings = list[Path]()

    def edited(path: Path, **options: Any) -> bytes:
        if path.name != "rules.csv":
            return read_file(path, **options)
        readings.append(path)
        edit = f"p, agent:clerk, ledger.look, account:a{len(readings)}, True, deny\n"
        return read_file(path, **options) + edit.encode()

    for module in (workspace_files, policy_folder):
        monkeypatch.setattr(module, "read_file", edited)
    opened = session.open_session(folder)
    assert readings
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="keep", subject="user:operator", by=OPERATOR, model=model)
    ended = asyncio.run(run.start_run(opened, start))
    (bundle,) = read_trace(ended.trace).bundles().values()
    started = next(item.event for item in opened.journal.events(ended.run) if isinstance(item.event, RunStarted))
    assert open_bundle(bundle).policy.digest == started.policy_digest == opened.policy.digest


def test_a_running_broker_follows_an_edit_within_a_second(play: Play) -> None:
    """Through the live ports that a run's broker uses."""
    played = play([DONE])
    ports = LivePorts(played.opened)
    before = ports.policy(0, 0)
    rules = played.folder / "policies" / "rules.csv"
    write(rules.parent, rules.read_text().replace("args.amount <= 100", "args.amount <= 50"))
    until = time.monotonic() + 1.0
    while ports.policy(0, 0) is before and time.monotonic() < until:
        threading.Event().wait(0.02)
    assert ports.policy(0, 0).digest == session.open_session(played.folder).policy.digest != before.digest


def played_with_edit(clerk: Callable[..., Path], old: str, new: str, *, wait: float = 5.0) -> Played:
    """A run with a call that waits for a lead; its rules are edited while it waits."""
    folder = clerk(LARGE)
    opened = session.open_session(folder)
    rules = folder / "policies" / "rules.csv"
    edited: list[str] = []

    def tell(recorded: Recorded) -> None:
        if isinstance(recorded.event, ApprovalRequested) and not edited:
            edited.append(rules.read_text().replace(old, new))
            write(rules.parent, edited[0])

    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="keep", subject="user:operator", by=OPERATOR, model=model)
    ended = asyncio.run(run.start_run(opened, start, wait=wait, on_event=tell))
    return Played(folder=folder, opened=opened, ended=ended)


def replayed(played: Played) -> ReplayResult:
    trace = read_trace(played.ended.trace)
    bundles = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    return asyncio.run(replay(trace.records, bundles, tampering=find_tampering(trace.faults(), trace.chain)))


@pytest.mark.parametrize(
    ("new", "effects", "verdicts"),
    [
        pytest.param("account:*, True, allow", 1, ["ask", "allow"], id="it needs no approval any more"),
        pytest.param("account:*, args.amount < 5000, allow", 0, ["ask", "deny"], id="it is denied now"),
    ],
)
def test_a_waiting_call_is_decided_again_under_the_new_rules(
    clerk: Callable[..., Path], new: str, effects: int, verdicts: list[str]
) -> None:
    """Nobody has to answer a request that is settled; and the run replays under both policies."""
    played = played_with_edit(clerk, ASKS_LEAD, new)
    assert played.ended.finished is not None
    assert len(played.effects) == effects
    decided = [item.event for item in played.records if isinstance(item.event, CallDecided)]
    assert [event.decision.verdict for event in decided if event.decision] == verdicts
    changed = [item.event for item in played.records if isinstance(item.event, PolicyChanged)]
    assert [event.problem for event in changed] == [""]
    assert replayed(played).reproduced


def test_an_edit_makes_a_new_approval_request(clerk: Callable[..., Path]) -> None:
    """A grant for the earlier request would not count, because the decision differs."""
    played = played_with_edit(clerk, ASKS_LEAD, "account:*, approvals('role:lead') >= 2, allow", wait=1.2)
    requests = [item.event for item in played.records if isinstance(item.event, ApprovalRequested)]
    assert [sum(missing.count for missing in request.missing) for request in requests] == [1, 2]
    assert played.ended.waiting == (requests[1],)
    assert requests[0].decision_digest != requests[1].decision_digest


def test_an_invalid_edit_while_a_call_waits_changes_nothing_and_is_recorded(clerk: Callable[..., Path]) -> None:
    """The trace of the run shows the operator the reason."""
    played = played_with_edit(clerk, ASKS_LEAD, "account:*, approved(role:lead), allow", wait=1.2)
    changed = [item.event for item in played.records if isinstance(item.event, PolicyChanged)]
    assert len(changed) == 1
    assert "policies/rules.csv" in changed[0].problem
    assert [len(played.ended.waiting), len(played.effects)] == [1, 0]


def test_a_hidden_rule_is_shown_to_the_operator_and_not_to_the_model(clerk: Callable[..., Path]) -> None:
    """In a whole run."""
    folder = clerk([turn(ledger__pay={"name": "vault", "amount": 5}), DONE])
    rules = folder / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text().replace("# Nobody touches the vault", "# Nobody touches the vault\n# disclose: none")
    )
    opened = session.open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="keep", subject="user:operator", by=OPERATOR, model=model)
    played = Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))
    error = played.error(0)
    assert (error["code"], error["details"]["reason"], error["details"]["rules"]) == (
        "policy_denied",
        "no_rule_allows",
        [],
    )
    assert "Nobody touches" not in str(error)
    (decided,) = (item.event for item in played.records if isinstance(item.event, CallDecided))
    assert decided.decision is not None
    assert [rule.note for rule in decided.decision.rules] == ["Nobody touches the vault"]
    assert replayed(played).reproduced
