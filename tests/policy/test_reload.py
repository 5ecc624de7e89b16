"""Rules that are edited while calls are decided: followed within a second, never by half, never to worse than before."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.core.calls import Context, Request
from remit.core.errors import WorkspaceError
from remit.core.events import ApprovalRequested, CallDecided, PolicyChanged, Recorded, RunStarted
from remit.policy import engine as policy
from remit.policy import reload
from remit.policy.engine import Policy
from remit.policy.reload import PolicyWatcher, read_folder
from remit.replay.replayer import ReplayResult, replay, tampering
from remit.runtime import runner as run
from remit.runtime.live import LivePorts
from remit.tracing import read
from remit.workspace import session
from remit.workspace.bundle import open_bundle
from support import ROOT
from support.lifecycle import LARGE
from support.runs import DONE, Play, Played, turn

MODEL = (ROOT / "policies" / "model.conf").read_text()
ALLOW = "p, agent:t, a.b, **, True, allow\n"
DENY = "p, agent:t, a.b, **, True, deny\n"
REQUEST = Request(subjects=("agent:t",), action="a.b", resources=("file:x",), context=Context())


RELOADS = int(os.environ.get("REMIT_RELOADS", "120"))  # 1000 takes half a minute


class Clock:
    """Time that passes when it is told to."""

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
    """As an editor saves: a new file put in the old one's place."""
    (folder / f".{name}.new").write_text(text)
    (folder / f".{name}.new").rename(folder / name)


def watched(folder: Path, report: Callable[[WorkspaceError], None] | None = None) -> PolicyWatcher:
    files = read_folder(folder)
    return PolicyWatcher(folder, policy.load_policy(files), files, report=report, clock=Clock())


def settled(found: PolicyWatcher) -> Policy:
    """What is in force once the files have stood still for two looks."""
    found.current()
    return found.current()


def test_an_edit_is_in_force_once_it_has_stood_still(folder: Path) -> None:
    """And only then: half a file can be a good policy without its last denies."""
    found = watched(folder)
    opened = found.current()
    write(folder, ALLOW + DENY)
    assert found.current() is opened
    assert found.current().decide(REQUEST).reason == "denied_by_rule"
    assert found.files == read_folder(folder)


def test_a_file_that_is_still_being_written_is_waited_for(folder: Path) -> None:
    """Each look finds it longer than the look before."""
    found = watched(folder)
    opened = found.current()
    with (folder / "rules.csv").open("a") as rules:
        for _ in range(5):
            rules.write("p, agent:u, a.b, **, True, allow\n")
            rules.flush()
            assert found.current() is opened
        rules.write(DENY)
    assert settled(found).decide(REQUEST).reason == "denied_by_rule"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: write(folder, ALLOW + "p, agent:t, a.b, **, True, deni\n"), id="a bad row"),
        pytest.param(lambda folder: write(folder, MODEL.replace("&& !some(where (p.eft == deny))", ""), "model.conf"), id="a bad model"),
        pytest.param(lambda folder: (folder / "model.conf").unlink(), id="no model"),
        pytest.param(lambda folder: (folder / "rules.csv").write_bytes(b"\xff\n"), id="not UTF-8"),
    ],
)  # fmt: skip
def test_a_bad_edit_keeps_the_rules_before_it_and_is_reported_once(folder: Path, spoil: Callable[[Path], None]) -> None:
    """A good one after it is in force again."""
    told: list[WorkspaceError] = []
    found = watched(folder, told.append)
    opened = found.current()
    spoil(folder)
    for _ in range(5):
        assert found.current() is opened
    assert found.problem is not None
    assert told == [found.problem]
    write(folder, MODEL, "model.conf")
    write(folder, DENY)
    assert settled(found).decide(REQUEST).reason == "denied_by_rule"
    assert found.problem is None


def test_a_folder_that_is_gone_keeps_the_rules(folder: Path, tmp_path: Path) -> None:
    """Nothing is allowed or denied by its absence."""
    found = watched(folder)
    opened = found.current()
    folder.rename(tmp_path.with_name("elsewhere"))
    assert settled(found) is opened
    assert found.problem is not None
    tmp_path.with_name("elsewhere").rename(folder)
    assert settled(found) is opened
    assert found.problem is None


def test_the_same_rules_in_other_words_stay_as_they_were_loaded(folder: Path) -> None:
    """So that what a run has recorded is what it stands on."""
    found = watched(folder)
    opened = found.current()
    write(folder, f"# A note\n{ALLOW}")
    assert settled(found) is opened


def test_files_are_not_read_again_while_nothing_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look costs one stat a file."""
    found = watched(folder)
    settled(found)
    monkeypatch.setattr(reload, "read_folder", lambda _: pytest.fail("read without a change"))
    for _ in range(5):
        found.current()
    (folder / ".rules.csv.swp").write_text("what an editor keeps beside the file")
    settled(found)


def test_times_that_a_tool_sets_back_do_not_hide_an_edit(folder: Path) -> None:
    """The same size, the same time of change as far as the file says."""
    found = watched(folder)
    settled(found)
    before = (folder / "rules.csv").stat()
    (folder / "rules.csv").write_text(ALLOW.replace("allow", "deny "[:5]).replace("deny \n", "deny\n\n"))
    os.utime(folder / "rules.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "rules.csv").stat().st_size == before.st_size
    assert settled(found).decide(REQUEST).reason == "denied_by_rule"


def test_no_decision_belongs_to_neither_version_while_policies_reload(folder: Path) -> None:
    """Eight threads decide, the rules change all the while; each version allows one of two calls and names itself."""
    (folder / "rules.csv").unlink()
    versions = [
        "g, agent:t, role:r\np, role:r, a.b, file:{0}/**, True, allow\n# version {0}\np, agent:t, a.b, file:*/x, True, {1}\n".format(*one)
        for one in (("even", "allow"), ("odd", "deny"))
    ]  # fmt: skip
    write(folder, versions[0])
    files = [{"policies/model.conf": MODEL.encode(), "policies/rules.csv": text.encode()} for text in versions]
    requests = [REQUEST.model_copy(update={"resources": (name,)}) for name in ("file:even/x", "file:odd/x")]
    possible = [[policy.load_policy(one).decide(request) for one in files] for request in requests]
    now = [0.0]  # only the one who edits lets time pass; whoever asks first then looks
    found = PolicyWatcher(folder, policy.load_policy(files[0]), files[0], clock=lambda: now[0])
    done = threading.Event()
    wrong: list[str] = []
    decided = [0] * 8
    interval = sys.getswitchinterval()

    def decide(worker: int) -> None:
        while not done.is_set():
            rules = found.current()
            for request, decisions in zip(requests, possible, strict=True):
                if (said := rules.decide(request)) not in decisions:
                    wrong.append(repr(said))
            decided[worker] += 2

    sys.setswitchinterval(1e-4)
    try:
        workers = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
        for worker in workers:
            worker.start()
        reloads = 0
        for number in range(RELOADS):
            before = found.current()
            write(folder, versions[(number + 1) % 2])
            while found.current() is before and now[0] < 10 * RELOADS:
                now[0] += 0.3
            reloads += found.current() is not before
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


def test_the_rules_that_a_run_records_are_the_ones_it_decides_by_whoever_writes_meanwhile(
    clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E11: each reading of the file finds another edit, so a digest of other bytes than those that were parsed would show."""
    folder = clerk([DONE])
    read_bytes, readings = Path.read_bytes, list[Path]()

    def edited(path: Path) -> bytes:
        if path.name != "rules.csv":
            return read_bytes(path)
        readings.append(path)
        return read_bytes(path) + f"p, agent:clerk, ledger.look, account:a{len(readings)}, True, deny\n".encode()

    monkeypatch.setattr(Path, "read_bytes", edited)
    opened = session.open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="keep", subject="user:operator", account="tester", model=model)
    ended = asyncio.run(run.start_run(opened, start))
    (book,) = read(ended.trace).bundles().values()
    started = next(item.event for item in opened.journal.events(ended.run) if isinstance(item.event, RunStarted))
    assert open_bundle(book).policy.digest == started.policy_digest == opened.policy.digest


def test_a_running_broker_follows_an_edit_within_a_second(play: Play) -> None:
    """The world that a live run's broker asks."""
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
    """A run whose call waits for a lead, and whose rules are edited while it waits."""
    folder = clerk(LARGE)
    opened = session.open_session(folder)
    rules = folder / "policies" / "rules.csv"
    edited: list[str] = []

    def tell(recorded: Recorded) -> None:
        if isinstance(recorded.event, ApprovalRequested) and not edited:
            edited.append(rules.read_text().replace(old, new))
            write(rules.parent, edited[0])

    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="keep", subject="user:operator", account="tester", model=model)
    ended = asyncio.run(run.start_run(opened, start, wait=wait, on_event=tell))
    return Played(folder=folder, opened=opened, ended=ended)


def replayed(played: Played) -> ReplayResult:
    trace = read(played.ended.trace)
    books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    return asyncio.run(replay(trace.records, books, tampering=tampering(trace.faults(), trace.chain)))


@pytest.mark.parametrize(
    ("new", "effects", "verdicts"),
    [
        pytest.param("account:*, True, allow", 1, ["ask", "allow"], id="it needs nobody any more"),
        pytest.param("account:*, args.amount < 5000, allow", 0, ["ask", "deny"], id="nobody may do it any more"),
    ],
)
def test_a_waiting_call_is_decided_again_under_the_new_rules(
    clerk: Callable[..., Path], new: str, effects: int, verdicts: list[str]
) -> None:
    """Nobody has to answer what is no question any more; and the run replays under both rulebooks."""
    played = played_with_edit(clerk, ASKS_LEAD, new)
    assert played.ended.finished is not None
    assert len(played.effects) == effects
    decided = [item.event for item in played.records if isinstance(item.event, CallDecided)]
    assert [event.decision.verdict for event in decided if event.decision] == verdicts
    changed = [item.event for item in played.records if isinstance(item.event, PolicyChanged)]
    assert [event.problem for event in changed] == [""]
    assert replayed(played).reproduced


def test_what_is_asked_after_an_edit_is_asked_anew(clerk: Callable[..., Path]) -> None:
    """A grant for the earlier question would not count: it is another decision."""
    played = played_with_edit(clerk, ASKS_LEAD, "account:*, approvals('role:lead') >= 2, allow", wait=1.2)
    requests = [item.event for item in played.records if isinstance(item.event, ApprovalRequested)]
    assert [sum(missing.count for missing in request.missing) for request in requests] == [1, 2]
    assert played.ended.waiting == (requests[1],)
    assert requests[0].decision_digest != requests[1].decision_digest


def test_a_bad_edit_while_a_call_waits_changes_nothing_and_is_recorded(clerk: Callable[..., Path]) -> None:
    """The operator reads why in the run's own trace."""
    played = played_with_edit(clerk, ASKS_LEAD, "account:*, approved(role:lead), allow", wait=1.2)
    changed = [item.event for item in played.records if isinstance(item.event, PolicyChanged)]
    assert len(changed) == 1
    assert "policies/rules.csv" in changed[0].problem
    assert [len(played.ended.waiting), len(played.effects)] == [1, 0]


def test_what_a_rule_hides_reaches_the_operator_and_not_the_model(clerk: Callable[..., Path]) -> None:
    """Through a whole run."""
    folder = clerk([turn(ledger__pay={"name": "vault", "amount": 5}), DONE])
    rules = folder / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text().replace("# Nobody touches the vault", "# Nobody touches the vault\n# disclose: none")
    )
    opened = session.open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="keep", subject="user:operator", account="tester", model=model)
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
