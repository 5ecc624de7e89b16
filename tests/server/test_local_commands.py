"""Commands that a service carries out for the accounts of this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import click
import pytest

from remit.cli import remit as whole_command
from remit.cli.local import executing, peers
from remit.cli.local.answering import local_commands
from remit.cli.local.asking import answered_by_service
from remit.cli.local.forwarded import OPTIONS, command_of
from remit.core import NOBODY, UsageError
from remit.workspace import Settings, open_session
from remit.workspace.identity import account_of
from support.accounts import ONLY_ROOT, OTHER, gid_of, identity, passable_starter
from support.runs import Remit

NOTE: Final = "runbooks/payments-pool.md"
CALL: Final = ("call", "files.read", json.dumps({"path": NOTE}), "--agent", "triage")
ASKS: Final = ("call", "tickets.close", '{"key": "INC-2041", "reason": "fixed"}', "--agent", "triage", "--wait", "100")
INTERRUPTED: Final = "interrupted; everything recorded so far is kept"
REFUSED: Final = "error: the service does not know your account: [identity] of remit.toml names those that it knows\n"
_VARIES: Final = re.compile(r"[0-9a-f]{32}|\b[0-9a-f]{8}\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")

Asked = Callable[..., tuple[int | None, str, str]]


@pytest.fixture
def asked(session: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Ask the service for a command in the workspace: its exit code (None: it has to be done by oneself) and its output."""
    monkeypatch.chdir(session)
    monkeypatch.setenv("NO_COLOR", "1")

    def ask(*words: str) -> tuple[int | None, str, str]:
        capfd.readouterr()
        for _ in range(
            20
        ):  # the first command waits until the process has imported Remit, which a busy machine does slowly
            code = answered_by_service(words)
            if code is not None or not command_of(words):
                break
        return (code, *capfd.readouterr())

    return ask


@contextmanager
def listened(root: Path, group: str = "") -> Iterator[None]:
    with local_commands(root, group=group):
        yield


def as_account(uid: int, gid: int, words: Sequence[str], root: Path) -> tuple[int | None, str]:
    """What a process of that account gets: its exit code, and all of its output."""
    out = root.parent / f"out-{uid}"
    out.unlink(missing_ok=True)
    process = os.fork()
    if process == 0:
        code = 99
        try:
            file = os.open(out, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", encoding="utf-8")
            os.chdir(root)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            found = answered_by_service(words)
            code = 98 if found is None else found
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    return (None if code == 98 else code), out.read_text()


# The same output


def same(text: str) -> str:
    """The text without ids and times of runs."""
    return _VARIES.sub("…", text)


def test_a_service_prints_and_ends_as_the_command_does_by_itself(session: Path, remit: Remit, asked: Asked) -> None:
    done = remit(*CALL)
    assert done.code == 0
    (trace,) = (session / "traces").glob("*.jsonl")
    explain = ("policy", "explain", "files.read", f"file:{NOTE}", "--agent", "triage", "--user", "user:operator")
    commands = [
        ("approve", "list"),
        ("approve", "list", "--json"),
        ("approve", "show", "ffff"),
        ("trace", "list"),
        ("trace", "list", "--json", "--limit=1"),
        ("trace", "show", trace.stem),
        ("trace", "show", trace.stem[:8], "--json"),
        ("trace", "verify", trace.stem),
        explain,
        (*explain, "--json", "--env", "production"),
        ("policy", "explain", "files.read", "file:secrets/payments.env", "--agent", "triage"),
        CALL,
        ("call", "files.read", '{"path": "secrets/payments.env"}', "--agent", "triage"),
        ("call", "files.read", "{", "--agent", "triage", "--json"),
        ("call", "files.read", "{}", "--agent", "nobody"),
        (*CALL, "--dry-run"),
        ("run", "nobody", "a task"),
    ]
    by_itself = [remit(*words) for words in commands]
    with listened(session):
        answered = [asked(*words) for words in commands]
    for words, own, (code, out, err) in zip(commands, by_itself, answered, strict=True):
        assert (words, code, same(err)) == (words, own.code, same(own.err))
        if words[:2] != ("trace", "list"):  # which has had more runs to list
            assert same(out) == same(own.out)
        assert bool(out) == bool(own.out)


def test_an_edit_of_the_definition_counts_for_the_next_command(session: Path, asked: Asked) -> None:
    words = ("policy", "explain", "files.read", f"file:{NOTE}", "--agent", "triage", "--user", "user:operator")
    with listened(session):
        assert asked(*words)[0] == 0
        rules = session / "policies" / "rules.csv"
        rules.write_text(f"{rules.read_text()}\n# Closed for now\np, user:operator, files.read, file:**, True, deny\n")
        code, out, _ = asked(*words)
    assert code == 1
    assert "Closed for now" in out


def test_an_edit_of_an_agent_or_a_tool_counts_for_the_next_command_of_the_same_process(
    session: Path, remit: Remit, asked: Asked
) -> None:
    agent, code_of_tool = session / "agent" / "triage" / "agent.toml", session / "tools" / "files" / "main.py"
    whole = agent.read_text()
    with listened(session):
        assert [asked(*CALL)[0] for _ in range(2)] == [0, 0]
        agent.write_text(whole.replace('tools = ["files", ', "tools = ["))
        code, out, _ = asked(*CALL)
        assert (code, "files.read" in out) == (1, True)
        agent.write_text(whole)
        assert asked(*CALL)[0] == 0
        code_of_tool.write_text(code_of_tool.read_text() + "\n# another line\n")
        code, out, _ = asked(*CALL)
        assert (code, same(out)) == (1, same(remit(*CALL).out))


def test_commands_of_an_account_run_in_one_process_that_keeps_no_file_of_a_terminal(
    session: Path, asked: Asked
) -> None:
    with listened(session):
        printed = asked(*CALL)[1]
        (process,) = processes_of_commands()
        done = subprocess.run(
            [sys.executable, "-m", "remit", *CALL], cwd=session, capture_output=True, text=True, timeout=60, check=False
        )  # which returns once nobody has the pipes of its output any more
        assert (done.returncode, done.stdout) == (0, printed)
        assert asked("approve", "show", "ffff")[0] == 2
        assert asked(*CALL)[1] == printed
        assert processes_of_commands() == [process]
        assert {os.readlink(f"/proc/{process}/fd/{number}") for number in range(3)} == {os.devnull}
    until(lambda: not Path(f"/proc/{process}").exists())


def processes_of_commands() -> list[int]:
    """The processes of the service of this test that execute commands, or wait for one."""
    return [process for service in children_of(os.getpid()) for process in children_of(service)]


def children_of(process: int) -> list[int]:
    """The processes that a process has started and that belong to a service for commands."""
    of_threads = Path(f"/proc/{process}/task").glob("*/children")
    return [
        int(child)
        for names in of_threads
        for child in names.read_text().split()
        if "remit.cli.local.answering" in Path(f"/proc/{child}/cmdline").read_text()
    ]


def test_without_a_service_or_after_its_end_the_command_is_done_by_itself(session: Path, asked: Asked) -> None:
    assert asked("approve", "list") == (None, "", "")
    with listened(session):
        assert asked("approve", "list")[0] == 0
    assert asked("approve", "list") == (None, "", "")
    assert list((session / ".remit" / "service").iterdir()) == []


def test_a_second_service_of_a_workspace_does_not_take_the_place_of_the_first(session: Path, asked: Asked) -> None:
    with listened(session):
        with pytest.raises(UsageError, match="another service"), listened(session):
            pass
        assert asked("approve", "list")[0] == 0


# What it does not do


@pytest.mark.parametrize(
    "words",
    [
        ("trace", "export", "3f2a", "-o", "x.jsonl"),
        ("trace", "show", "3f2a", "--html", "x.html"),
        ("trace", "show", "3f2a", "--html=x.html"),
        ("trace", "show", "/etc/passwd"),
        ("trace", "verify", "traces/golden/x.jsonl"),
        ("run", "triage", "x", "--model", "script:x.yaml"),
        ("run", "triage", "x", "--scope", "x.toml"),
        ("call", "--", "files.read"),
        ("tool", "try", "files.read"),
        ("secret", "set", "x"),
        ("approve",),
        ("policy",),
        (),
    ],
)
def test_a_command_that_reads_or_writes_what_an_argument_names_is_not_for_a_service(words: tuple[str, ...]) -> None:
    assert command_of(words) == ""


def test_the_options_that_a_service_accepts_exist_and_none_names_a_file() -> None:
    for name, options in OPTIONS.items():
        command: click.Command = whole_command
        for word in name.split():
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), word)
            assert found is not None
            command = found
        kinds = {option: item.type for item in command.params for option in item.opts if option.startswith("--")}
        assert options <= set(kinds), name
        assert not [option for option in options if isinstance(kinds[option], click.Path | click.File)], name


def packet(root: Path, data: bytes, files: Sequence[int] = (0, 1, 2)) -> list[dict[str, Any]]:
    """What the service answers to a packet, up to the end of the connection."""
    answers = []
    with peers.service_folder(root) as folder, peers.connected_to(folder) as connection:
        connection.settimeout(30)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(item.to_bytes(4, sys.byteorder) for item in files))]
        connection.sendmsg([data], rights if files else [])
        while data := connection.recv(65536):
            answers.append(json.loads(data))
    return answers


def test_what_is_no_request_is_done_by_nobody_and_the_next_command_is_answered(session: Path, asked: Asked) -> None:
    place = session.stat()
    request = {"words": ["approve", "list"], "workspace": [place.st_dev, place.st_ino], "shown": {}}
    own = [{"own": True}]
    with listened(session):
        assert asked("approve", "list")[0] == 0
        changes: tuple[dict[str, Any], ...] = (
            {"words": ["trace", "export", "3f2a", "-o", "x.jsonl"]},
            {"words": ["approve\0", "list"]},
            {"words": "approve list"},
            {"words": [1]},
            {"workspace": [place.st_dev, place.st_ino + 1]},
            {"workspace": None},
            {"shown": {"PAGER": "/bin/sh"}},
            {"shown": []},
        )
        for changed in changes:
            assert packet(session, json.dumps({**request, **changed}).encode()) == own, changed
        for data in (b"{", b"\xff", b"[]", b"[" * 60_000, b"0" * 100_000, json.dumps({}).encode()):
            assert packet(session, data) == own, data[:20]
        assert packet(session, json.dumps(request).encode(), files=()) == own
        assert packet(session, json.dumps(request).encode(), files=(0, 1)) == own
        assert packet(session, json.dumps(request).encode(), files=(0, 1, 2, 0, 1)) == own
        assert asked("approve", "list")[0] == 0


# Who asks


def answer_to(uid: int, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a client of that account gets. A unit test: only root can have other accounts, and root has no number of its own choice."""
    monkeypatch.setattr(executing, "peer_uid", lambda _: uid)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        there.send(b"no request")
        executing.executed(here, Path.cwd(), settings)
        return dict(json.loads(there.recv(4096)))


def test_an_account_that_nobody_has_mapped_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Settings(identity={f"uid-{OTHER}": "user:dana"})
    assert answer_to(OTHER, known, monkeypatch) == {"own": True}  # it is known, and what it sent is no request
    assert "does not know your account" in answer_to(OTHER + 1, known, monkeypatch)["refused"]
    assert "refused" in answer_to(OTHER, Settings(identity={f"uid-{OTHER}": NOBODY}), monkeypatch)


def test_the_process_of_one_account_answers_no_other_account(session: Path) -> None:
    assert answer_of_process_for(session, os.geteuid()) == {"own": True}
    assert answer_of_process_for(session, os.geteuid() + 1) is None


def answer_of_process_for(root: Path, uid: int) -> dict[str, Any] | None:
    """What a process that executes commands of that account answers to this account; None if it answers nothing."""
    control, its_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with control, here:
        if (process := os.fork()) == 0:
            for other in (control, here, there):
                other.close()
            try:
                executing.execute_each(its_control, root, Settings(identity={"*": "user:operator"}), uid)
            finally:
                os._exit(0)
        with its_control, there:
            here.send(b"no request")
            socket.send_fds(control, [b"c"], [there.fileno()])
        try:
            answer = here.recv(4096)
        except ConnectionResetError:  # it was closed, and what was sent not read
            answer = b""
        os.waitpid(process, 0)
    return json.loads(answer) if answer else None


def test_the_number_that_stands_for_accounts_of_a_container_is_refused_even_if_it_is_mapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = Settings(identity={"*": "user:operator", account_of(65534): "user:operator"})
    assert "refused" in answer_to(65534, every, monkeypatch)
    assert "refused" in answer_to(-1, every, monkeypatch)
    assert answer_to(OTHER, every, monkeypatch) == {"own": True}


@ONLY_ROOT
def test_another_account_acts_as_its_own_user_and_cannot_open_the_journal(
    passable: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = passable
    monkeypatch.chdir(session)
    identity(session, {account_of(os.geteuid()): "user:operator", f"uid-{OTHER}": "user:dana"})
    group = gid_of("nogroup")
    with listened(session, "nogroup"):
        assert asked(*ASKS[:-2])[0] == 1
        run = json.loads(asked("trace", "list", "--json")[1])[0]["run"]
        listed = as_account(OTHER, group, ("approve", "list"), session)
        assert (listed[0], run[:8] in listed[1]) == (0, True)
        assert as_account(OTHER + 1, group, ("approve", "list"), session) == (1, REFUSED)
        assert as_account(65534, group, ("approve", "list"), session) == (1, REFUSED)
        assert as_account(OTHER, OTHER, ("approve", "list"), session) == (None, "")  # not in the group
        reject = ("approve", "reject", run[:8], "--reason", "wrong ticket")
        assert as_account(OTHER, group, reject, session)[0] == 0
        assert "user:dana" in asked("trace", "show", run)[1]
    with pytest.raises(PermissionError):
        as_account_opens(OTHER, session / "traces" / "journal.db")


@ONLY_ROOT
def test_two_people_with_two_accounts_approve_each_others_calls_and_neither_their_own(
    passable: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = passable
    monkeypatch.chdir(session)
    identity(session, {account_of(os.geteuid()): "user:operator", f"uid-{OTHER}": "user:dana"})
    rules = session / "policies" / "rules.csv"
    rules.write_text(f"{rules.read_text()}\ng, user:operator, role:oncall-lead\n")
    group = gid_of("nogroup")

    def operator(*words: str) -> tuple[int | None, str]:
        code, out, err = asked(*words)
        return code, out + err

    def dana(*words: str) -> tuple[int | None, str]:
        return as_account(OTHER, group, words, session)

    with listened(session, "nogroup"):
        assert operator("approve", "list")[0] == 0
        for asks, answers, approver in ((operator, dana, "user:dana"), (dana, operator, "user:operator")):
            assert asks(*ASKS[:-2])[0] == 1
            listed = json.loads(answers("approve", "list", "--json")[1])
            (run,) = {row["run"] for row in listed}
            grant = ("approve", "grant", run[:8], "--yes", "--reason", "as agreed")
            code, refused = asks(*grant)
            assert (code, "approval_invalid" in refused) == (1, True), refused
            assert answers(*grant)[0] == 0
            shown = operator("trace", "show", run)[1]
            assert approver in shown
            assert operator("run", "--resume", run[:8])[0] == 0
            assert not json.loads(operator("approve", "list", "--json")[1])


def as_account_opens(uid: int, file: Path) -> None:
    if (process := os.fork()) == 0:
        os.setresuid(uid, uid, uid)
        try:
            file.open("rb")
        except PermissionError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(process, 0)[1]:
        raise PermissionError(file)


@pytest.fixture
def passable() -> Iterator[Path]:
    with passable_starter() as folder:
        yield folder


# Who answers


def squatted(session: Path) -> Path:
    folder = session / ".remit" / "service"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def test_a_folder_that_others_can_change_is_not_used(session: Path, asked: Asked) -> None:
    with listened(session):
        assert asked("approve", "list")[0] == 0
        squatted(session).chmod(0o777)
        code, out, err = asked("approve", "list")
        assert (code, out) == (None, "")
        assert "does not belong to the owner of the workspace alone" in err
        squatted(session).chmod(0o750)
        assert asked("approve", "list")[0] == 0


def test_a_folder_or_socket_that_is_a_link_is_not_used(session: Path, asked: Asked, tmp_path: Path) -> None:
    with listened(session):
        folder = squatted(session)
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
        assert "is no folder" in asked("approve", "list")[2]
        folder.unlink()
        squatted(session)
        (folder / "commands").symlink_to(tmp_path / "elsewhere" / "commands")
        assert "does not belong to the account" in asked("approve", "list")[2]
        (folder / "commands").unlink()
        (tmp_path / "elsewhere" / "commands").rename(folder / "commands")
        assert asked("approve", "list")[0] == 0


@ONLY_ROOT
def test_a_socket_or_listener_of_another_account_is_not_used(session: Path, asked: Asked) -> None:
    """The workspace belongs to one account, and another one has put its own socket there."""
    os.chown(session, OTHER, OTHER)
    folder = squatted(session)
    os.chown(folder, OTHER + 1, OTHER + 1)
    assert "does not belong to the owner" in asked("approve", "list")[2]
    os.chown(folder, OTHER, OTHER)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, peers.service_folder(session) as opened:
        listener.bind(peers.place_in(opened))
        os.chown(folder / "commands", OTHER + 1, -1)
        assert "does not belong to the account" in asked("approve", "list")[2]
        os.chown(folder / "commands", OTHER, -1)


@ONLY_ROOT
def test_a_process_of_another_account_that_listens_is_not_used(session: Path, asked: Asked) -> None:
    os.chown(session, OTHER, OTHER)
    folder = squatted(session)
    ready, say = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, peers.service_folder(session) as opened:
        listener.bind(peers.place_in(opened))
        if (process := os.fork()) == 0:
            try:
                os.setresuid(OTHER + 1, OTHER + 1, OTHER + 1)
                listener.listen(1)  # the kernel reports the account that says this
                os.write(say, b"x")
                time.sleep(60)
            finally:
                os._exit(0)
        os.close(say)
        try:
            assert os.read(ready, 1)
            for item in (folder, folder / "commands"):
                os.chown(item, OTHER, OTHER)
            assert "not one of the account" in asked("approve", "list")[2]
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


# Interrupted


@contextmanager
def waiting_call(session: Path, asked: Asked) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A call in a process of its own that the service carries out and that waits for an approval, and its run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "remit", *ASKS],
        cwd=session,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        yield process, until(lambda: next((run for run in waiting(asked) if is_driven(session, run)), None))
    finally:
        process.kill()
        process.communicate()


def waiting(asked: Asked) -> list[str]:
    return [row["run"] for row in json.loads(asked("approve", "list", "--json")[1])]


def until(look: Callable[[], Any]) -> Any:
    """What `look` finds, once it finds something."""
    for _ in range(100):
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("it was not found within a minute")


def test_ctrl_c_and_a_client_that_is_killed_interrupt_the_command_in_the_service(session: Path, asked: Asked) -> None:
    with listened(session):
        assert asked("approve", "list")[0] == 0
        with waiting_call(session, asked) as (process, run):
            assert is_driven(session, run)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err.strip()) == (130, "", INTERRUPTED)
        until(lambda: not is_driven(session, run))
        with waiting_call(session, asked) as (process, run):
            assert is_driven(session, run)
            process.kill()
        until(lambda: not is_driven(session, run))


def test_the_end_of_a_service_interrupts_its_commands(session: Path, asked: Asked) -> None:
    with ExitStack() as service:
        service.enter_context(listened(session))
        assert asked("approve", "list")[0] == 0
        with waiting_call(session, asked) as (process, run):
            service.close()
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err.strip()) == (130, INTERRUPTED)
    assert not is_driven(session, run)


def is_driven(session: Path, run: str) -> bool:
    """True while a process has the lease of the run."""
    opened = open_session(session)
    try:
        with opened.journal.brief_lease(run):
            return False
    except UsageError:
        return True
    finally:
        opened.journal.close()
