"""`remit tool observe`: what the cases of a tool use, compared with what its manifest grants."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import UsageError
from remit.sandbox import Observed, Sandbox
from remit.tools.usage_audit import UsageReport, Used, observe_tool
from remit.workspace.loader import load_workspace
from support.runs import Remit
from support.sandbox import ToolHarness, sandbox

TOML = """\
name = "reporter"
version = "1.0.0"
owner = "you@example.com"
summary = "Report"

[always]
env = {env}
programs = {programs}

[at_most]
read = {read}
write = {write}
stores = {stores}

[actions.act]
summary = "Read one file, write another"
touches = {touches}
effect = "idempotent"
"""
EXACT: dict[str, list[str]] = {
    "env": ["REPORT_TITLE"],
    "programs": [],
    "read": ["docs/**"],
    "write": ["reports/**"],
    "stores": [],
    "touches": ["read file:{path}", "write file:{report}"],
}
HONEST = """
import os

def act(path: str, report: str) -> str:
    text = os.environ["REPORT_TITLE"] + open(path).read()
    with open(report + ".part", "w") as part:
        part.write(text)
    os.rename(report + ".part", report)
    return text
"""
CASE = """\
- note: a report is written
  action: reporter.act
  arguments: {path: docs/a.md, report: reports/a.md}
  setup: {files: {docs/a.md: "text", docs/b.md: "other"}}
  expect: EXPECT
"""


@pytest.fixture(autouse=True)
def title(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT_TITLE", "Title: ")


def write(session: Path, code: str, *, expect: str = '{value: "Title: text"}', **grants: list[str]) -> Path:
    folder = session / "tools" / "reporter"
    folder.mkdir(exist_ok=True)
    given = {key: json.dumps(values) for key, values in (EXACT | grants).items()}
    (folder / "tool.toml").write_text(TOML.format(**given))
    (folder / "main.py").write_text(code)
    (folder / "cases.yaml").write_text(CASE.replace("EXPECT", expect))
    return folder


def observed(session: Path, name: str = "reporter") -> UsageReport:
    return asyncio.run(observe_tool(load_workspace(session), name))


# -- what is granted and used ------------------------------------------------------------------------------------------


def test_a_tool_that_uses_what_it_declares_passes(session: Path) -> None:
    """A temporary file that is renamed to the decided one is not a use of its own."""
    write(session, HONEST)
    report = observed(session)
    assert (report.ok, report.undeclared, report.unused, report.smaller) == (True, (), (), "")
    assert report.used == (
        Used(use="read", what="docs/a.md"),
        Used(use="variable", what="REPORT_TITLE"),
        Used(use="write", what="reports/a.md"),
    )


def test_grants_that_no_case_needs_are_listed_and_the_smaller_manifest_still_works(session: Path) -> None:
    folder = write(
        session,
        HONEST,
        env=["TZ", "REPORT_TITLE"],
        programs=["true"],
        read=["logs/**", "docs/**"],
        write=["reports/**", "drafts/*.md"],
        stores=["cache"],
        touches=["read file:{path}", "read file:docs/b.md", "write store:cache", "write file:{report}"],
    )
    report = observed(session)
    assert report.ok
    assert [(item.key, item.grant) for item in report.unused] == [
        ("at_most.read", "logs/**"),
        ("at_most.write", "drafts/*.md"),
        ("at_most.stores", "cache"),
        ("always.programs", "true"),
        ("always.env", "TZ"),
        ("actions.act.touches", "read file:docs/b.md"),
        ("actions.act.touches", "write store:cache"),
    ]
    assert {item.grant: item.line for item in report.unused}["logs/**"] == 11
    (kept,) = [item for item in report.unused if item.needed]
    assert (kept.grant, kept.needed) == ("cache", "store 'cache' is not in 'at_most.stores'")
    text = (folder / "tool.toml").read_text()
    for line in report.smaller.splitlines():
        if " = " in line:
            key = line.partition(" = ")[0]
            text = "\n".join(line if old.startswith(f"{key} = ") else old for old in text.splitlines())
    (folder / "tool.toml").write_text(text + "\n")
    again = observed(session)
    assert (again.ok, [item.grant for item in again.unused]) == (True, ["cache"])


# -- what is used and not granted --------------------------------------------------------------------------------------

# Python reports some of these uses. It cannot report those of a C library, and honest tools have C libraries.
REACHING = """
import ctypes, os, socket, subprocess
LIBC = ctypes.CDLL(None, use_errno=True)

def act(path: str, report: str) -> str:
    reach = {
        "python": lambda: open("docs/b.md"),
        "library": lambda: LIBC.open(b"docs/c.md", 0),
        "program": lambda: subprocess.run(["id"]),
        "system": lambda: LIBC.system(b"true"),
        "socket": lambda: LIBC.socket(2, 1, 0),
        "name": lambda: socket.getaddrinfo("api.example.com", 443),
        "left": lambda: open("cache.bin", "w").close(),
        "removed": lambda: LIBC.unlink(os.fsencode(ROOT + "/docs/a.md")),
        "outside": lambda: open("/etc/hosts"),
        "variable": lambda: os.environ["API_TOKEN"],
    }
    for use in reach.values():
        try:
            use()
        except (OSError, KeyError):
            pass
    open(report, "w").write(open(path).read())
    return "done"
"""


def test_every_undeclared_use_is_reported_with_the_line_that_allows_it(remit: Remit, session: Path) -> None:
    folder = write(session, f"ROOT = '/work'\n{REACHING}", expect="{value: done}", env=[])
    cases = (folder / "cases.yaml").read_text().replace('docs/b.md: "other"', 'docs/b.md: "b", docs/c.md: "c"')
    (folder / "cases.yaml").write_text(cases)
    result = remit("tool", "observe", "reporter", "--json")
    assert (result.code, result.json["ok"], result.json["failed"]) == (1, False, []), result.out + result.err
    undeclared = {(item["use"], item["what"]): item["allow"] for item in result.json["undeclared"]}
    assert undeclared == {
        ("read", "docs/b.md"): 'add "read file:docs/b.md" to touches in [actions.act]',
        ("read", "docs/c.md"): 'add "read file:docs/c.md" to touches in [actions.act]',
        ("start", "id"): 'add "id" to programs in [always]',
        ("connect", "api.example.com:443"): 'add "api.example.com:443" to hosts in [always]',
        (
            "write",
            "cache.bin",
        ): 'add "write file:cache.bin" to touches in [actions.act]; add "cache.bin" to write in [at_most]',
        (
            "write",
            "docs/a.md",
        ): 'add "write file:docs/a.md" to touches in [actions.act]; add "docs/a.md" to write in [at_most]',
        ("read", "/etc/hosts"): "nothing: a tool reaches only its working folder",
        ("variable", "API_TOKEN"): 'add "API_TOKEN" to env in [always]',
    }
    assert {(item["file"], item["line"], item["action"]) for item in result.json["undeclared"]} == {
        ("tools/reporter/cases.yaml", 1, "reporter.act")
    }


COMMAND = """\
name = "lines"
version = "1.0.0"
owner = "you@example.com"
summary = "Lines"
source = "command"

[always]
programs = ["sh", "cat", "sed"]
env = ["TZ"]

[at_most]
read = ["logs/**"]

[actions.show]
summary = "Show a file"
run = ["sh", "./show.sh", "{path}"]
touches = ["read file:{path}"]
effect = "read"
"""


def test_the_use_of_a_program_and_its_children_is_observed(session: Path) -> None:
    folder = session / "tools" / "lines"
    folder.mkdir()
    (folder / "tool.toml").write_text(COMMAND)
    (folder / "show.sh").write_text('cat -- "$1"\ncat logs/other 2>/dev/null\nwc -l "$1" 2>/dev/null\ntrue\n')
    (folder / "cases.yaml").write_text(
        "- note: shows\n  action: lines.show\n  arguments: {path: logs/a}\n"
        '  setup: {files: {logs/a: "a", logs/other: "b"}}\n  expect: {value: a}\n'
    )
    report = observed(session, "lines")
    assert [(used.use, used.what) for used in report.used] == [("read", "logs/a"), ("start", "cat"), ("start", "sh")]
    assert {(item.use, item.what) for item in report.undeclared} == {("read", "logs/other"), ("start", "wc")}
    assert [(item.key, item.grant) for item in report.unused] == [("always.programs", "sed")]
    assert report.unjudged == ("always.env: a program reads its environment without a system call",)


WEB = """\
name = "web"
version = "1.0.0"
owner = "you@example.com"
summary = "Ask"
source = "python"

[always]
hosts = ["GET localhost:{port}", "unused.example.com:443"]
ranges = ["127.0.0.0/8", "::1/128"]

[actions.ask]
summary = "Ask two servers"
effect = "read"
"""
ASK = """\
import socket
import urllib.error
import urllib.request

def ask() -> str:
    text = urllib.request.urlopen("http://localhost:PORT/a").read().decode()
    try:
        urllib.request.urlopen("http://other.example.com/")
    except urllib.error.HTTPError:
        pass
    return text
"""


def test_hosts_are_compared_with_the_record_of_the_proxy(session: Path) -> None:
    folder = session / "tools" / "web"
    folder.mkdir()
    (folder / "tool.toml").write_text(WEB.format(port=8000))
    (folder / "main.py").write_text(ASK.replace("PORT", "8000"))
    row = '{request: "GET http://localhost:8000/a", body: hello}'
    (folder / "cases.yaml").write_text(
        f"- {{note: asks, action: web.ask, setup: {{http: [{row}]}}, expect: {{value: hello}}}}\n"
    )
    report = observed(session, "web")
    assert (report.failed, report.used) == ((), (Used(use="connect", what="localhost:8000"),))
    assert [(item.use, item.what, item.allow) for item in report.undeclared] == [
        ("connect", "other.example.com:80", 'add "GET other.example.com:80/" to hosts in [always]')
    ]
    assert [(item.key, item.grant) for item in report.unused] == [("always.hosts", "unused.example.com:443")]
    assert report.smaller == '[always]\nhosts = ["GET localhost:8000"]'


def test_a_case_that_expects_a_violation_is_not_a_use_and_a_failing_case_fails_the_report(session: Path) -> None:
    reaching = "def act(path: str, report: str) -> str:\n    return open('docs/b.md').read()\n"
    write(session, reaching, expect="{error: sandbox_violation}")
    assert observed(session).undeclared == ()
    write(session, HONEST, expect="{value: other}")
    report = observed(session)
    assert (report.ok, len(report.failed)) == (False, 1)


def test_an_action_that_no_case_starts_is_not_judged(session: Path) -> None:
    folder = write(session, HONEST + "\ndef other() -> str:\n    return ''\n", read=["docs/**", "logs/**"])
    with (folder / "tool.toml").open("a") as manifest:
        manifest.write('\n[actions.other]\nsummary = "Other"\neffect = "read"\n')
    report = observed(session)
    assert (report.ok, [item.grant for item in report.unused], report.smaller) == (True, ["logs/**"], "")
    assert report.unjudged == ("reporter.other: no case starts it, so there is no smaller manifest",)


def test_a_tool_that_cannot_be_observed_is_an_error_with_its_reason(session: Path) -> None:
    folder = write(session, HONEST)
    (folder / "cases.yaml").write_text(
        CASE.replace("docs/a.md", "../a.md").replace("EXPECT", "{error: invalid_arguments}")
    )
    with pytest.raises(UsageError, match="starts tool 'reporter'"):
        observed(session)
    with pytest.raises(UsageError, match="there is no tool 'other'"):
        observed(session, "other")


# -- the sandbox is that of any run ------------------------------------------------------------------------------------

ESCAPES = """
import ctypes, os, socket, subprocess, threading
LIBC = ctypes.CDLL(None, use_errno=True)

def raw(*arguments):
    ctypes.set_errno(0)
    LIBC.syscall(*(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments))
    return ctypes.get_errno()

def act(root: str, outside: str) -> dict[str, str]:
    attempts = {
        "decided": lambda: open("logs/a").read(),
        "neighbour": lambda: open(root + "/logs/b").read(),
        "outside": lambda: open(outside).read(),
        "write": lambda: open(root + "/logs/b", "w"),
        "link": lambda: os.link(root + "/logs/b", "linked"),
        "rename": lambda: os.rename(root + "/logs/b", root + "/logs/c"),
        "program": lambda: subprocess.run(["/bin/true"]),
        "execve": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "inet": lambda: socket.socket(),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "netlink": lambda: socket.socket(16, 3),
        "namespaces": lambda: raw(272, 0x10000000),
        "listener": lambda: raw(317, 1, 8, 0),
        "notify": lambda: raw(317, 3, 0, 0),
        "dumpable": lambda: raw(157, 4, 1, 0, 0, 0),
        "thread": lambda: threading.Thread(target=lambda: None).start(),
        "descriptors": lambda: [one for one in range(3, 200) if raw(72, one, 1) == 0],
    }
    results = {}
    for name, attempt in attempts.items():
        try:
            results[name] = str(attempt())
        except OSError as failure:
            results[name] = f"errno {failure.errno}"
    return results
"""


@pytest.mark.parametrize("tier", ["full", "landlock"])
async def test_observation_does_not_change_the_result_of_a_call(tmp_path: Path, tier: Any) -> None:
    """Refused uses fail with the same error, and allowed ones succeed."""
    harness = ToolHarness(base=tmp_path, tier=tier)
    harness.file("logs/a", "decided")
    harness.file("logs/b", "other")
    profile = replace(harness.profile(reads=("logs/a",)), trust="none")  # its own sandbox in both cases
    (profile.code / "main.py").write_text(ESCAPES)
    arguments = {"root": harness.seen, "outside": str(harness.file("../outside"))}
    seen: list[Observed] = []
    watched = Sandbox(accept=(tier,), observed=lambda _, one: seen.append(one))
    plain = await sandbox(tier).run(profile, arguments, declared={})
    observed_output = await watched.run(profile, arguments, declared={})
    assert plain.code is None, plain.message + plain.stderr
    assert observed_output.value == plain.value
    assert observed_output.value["decided"] == "decided"
    assert [name for name, text in plain.value.items() if text.startswith("errno")] == [
        *("neighbour", "outside", "write", "link", "rename", "program", "execve", "fork", "inet", "unix", "netlink")
    ]
    assert len(seen) == 1
