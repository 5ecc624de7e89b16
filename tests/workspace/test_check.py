"""The workspace through the command line: a broken file is one clear error, with its line and its fix."""

from __future__ import annotations

import json
import os
import pty
import py_compile
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from pydantic import TypeAdapter

from remit.analysis.check import check_workspace
from remit.core.calls import Result
from remit.workspace.manifest.schema import manifest_schema
from remit.workspace.template import starter_folder
from support.runs import Remit


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1), errors="surrogateescape")


def test_the_starter_has_no_problem(session: Path) -> None:
    report = check_workspace(session)
    assert (report.errors, report.count("warning"), report.fail_on) == ((), 0, "warning")
    assert report.counts["tools"] == 6


BROKEN = [
    ("tools/files/tool.toml", 'effect = "read"', 'effect = "reads"', "tools/files/tool.toml:"),
    ("tools/files/tool.toml", "summary =", "sumary =", "tools/files/tool.toml:"),
    ("policies/rules.csv", "True, deny", "True, Deny", "policies/rules.csv:"),
    ("policies/rules.csv", "True, allow", "args.nothing == 1, allow", "policies/rules.csv:"),
    ("policies/cases.yaml", "  expect: allow", "  expect: maybe", "policies/cases.yaml:"),
    ("policies/cases.yaml", "- note: ", "- note: \udcff", "policies/cases.yaml:"),  # a byte that is not UTF-8
    ("tools/sql/cases.yaml", "arguments:", "argumets:", "tools/sql/cases.yaml:"),
    ("agent/triage/agent.toml", 'tools = ["files"', 'tools = ["flies"', "agent/triage/agent.toml:"),
    ("agent/triage/script.yaml", "- say:", "- sya:", "agent/triage/script.yaml:"),
]


@pytest.mark.parametrize(("file", "old", "new", "where"), BROKEN)
def test_a_broken_file_is_one_clear_error_with_its_line(
    remit: Remit, session: Path, file: str, old: str, new: str, where: str
) -> None:
    edit(session / file, old, new)
    output = remit("check")
    assert output.code == 2
    assert where in output.err
    assert "fix: " in output.err
    assert "Traceback" not in output.err


def test_problems_of_all_files_are_reported_together(remit: Remit, session: Path) -> None:
    edit(session / "tools/files/tool.toml", 'effect = "read"', 'effect = "reads"')
    edit(session / "policies/rules.csv", "True, deny", "True, Deny")
    output = remit("run", "triage", "x")
    assert output.code == 2
    assert "tools/files/tool.toml:" in output.err
    assert "policies/rules.csv:" in output.err


def test_a_broken_trace_file_is_one_clear_error_with_its_line(remit: Remit, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"resourceSpans": []}\n{"resourceSpans": [\n')
    for command in (("trace", "show"), ("trace", "verify"), ("replay",)):
        output = remit(*command, str(broken))
        assert output.code == 2
        assert "broken.jsonl:2: " in output.err
        assert "Traceback" not in output.err


def test_the_doctor_fails_if_no_accepted_tier_works(remit: Remit, session: Path) -> None:
    """The report shows that a weaker tier works; the command fails until remit.toml accepts that tier."""
    without = {"REMIT_BWRAP": "/nonexistent/bwrap"}
    output = remit("doctor", env=without)
    assert output.code == 1
    assert "fix: install bubblewrap" in output.out
    assert "landlock: works" in output.out
    assert "no tool runs here: remit.toml accepts only full" in output.out
    edit(session / "remit.toml", 'accept = ["full"]', 'accept = ["full", "landlock"]')
    assert remit("doctor", env=without).code == 0


def test_outside_a_workspace_the_fix_is_named(remit: Remit, tmp_path: Path) -> None:
    output = remit("check", cwd=tmp_path)
    assert output.code == 2
    assert "remit init" in output.err


def test_the_published_schema_of_manifests_is_the_one_that_is_checked() -> None:
    published = json.loads((starter_folder() / "tools" / "tool.schema.json").read_text())
    assert published == json.loads(json.dumps(manifest_schema()))


def test_the_published_schema_of_results_is_the_current_one() -> None:
    published = json.loads((starter_folder() / "tools" / "result.schema.json").read_text())
    assert published == json.loads(json.dumps(TypeAdapter(Result).json_schema()))


def test_a_new_tool_works_from_its_first_test_to_its_first_call(remit: Remit, session: Path) -> None:
    assert remit("tool", "new", "words").code == 0
    assert "2 passed, 0 failed" in remit("tool", "test", "words").out
    (session / "notes").mkdir()
    (session / "notes" / "a.txt").write_text("one two three")
    tried = remit("tool", "try", "words.count", "path=notes/a.txt", "--folder", str(session))
    assert (tried.code, tried.out.strip()) == (0, "3"), tried.err
    assert "not pinned" in remit("tool", "list").out
    edit(session / "agent/triage/agent.toml", 'tools = ["files"', 'tools = ["words", "files"')
    (session / "agent/triage/incident/notes").mkdir()
    (session / "agent/triage/incident/notes/a.txt").write_text("one two three")
    call = ("call", "words.count", '{"path": "notes/a.txt"}', "--agent", "triage", "--json")
    refused = remit(*call)
    assert (refused.code, refused.json["error"]["details"]) == (1, {"reason": "not_pinned"})
    assert remit("tool", "pin", "words").out == "words: new\n"
    denied = remit(*call)
    assert (denied.code, denied.json["error"]["code"]) == (1, "policy_denied")
    rules = session / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text()
        + "\np, agent:triage, words.count, file:notes/**, True, allow\np, role:operator, words.*, file:notes/**, True, allow\n"
    )
    allowed = remit(*call)
    assert (allowed.code, allowed.json["value"]) == (0, 3), allowed.out + allowed.err


def test_trying_a_tool_shows_its_traceback_and_what_was_refused(remit: Remit, session: Path) -> None:
    remit("tool", "new", "words")
    edit(
        session / "tools/words/main.py",
        "    try:\n",
        '    print("at work")\n    Path("other.txt").read_text()\n    try:\n',
    )
    (session / "notes").mkdir()
    (session / "notes" / "a.txt").write_text("one")
    (session / "other.txt").write_text("secret")
    output = remit("tool", "try", "words.count", "path=notes/a.txt", "--folder", str(session))
    assert output.code == 1
    assert "at work" in output.err
    assert "Traceback" in output.err
    assert "refused" in output.err
    assert "other.txt" in output.err


def test_what_a_tool_prints_is_shown_while_it_runs(remit: Remit, session: Path) -> None:
    remit("tool", "new", "words")
    edit(
        session / "tools/words/main.py",
        "    try:\n",
        '    print("at work")\n    __import__("time").sleep(60)\n    try:\n',
    )
    edit(session / "tools/words/tool.toml", "[at_most]", '[limits]\nwall = "60s"\n\n[at_most]')
    (session / "notes").mkdir()
    (session / "notes" / "a.txt").write_text("one")
    trying = subprocess.Popen(
        [sys.executable, "-m", "remit", "tool", "try", "words.count", "path=notes/a.txt", "--folder", str(session)],
        cwd=session,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert trying.stderr is not None
    line = trying.stderr.readline()
    running = trying.poll() is None
    trying.terminate()
    trying.communicate(timeout=30)
    assert (line, running) == ("at work\n", True)


def test_a_tool_of_which_the_manifest_says_no_trust_gets_a_sandbox_for_each_call(remit: Remit, session: Path) -> None:
    """Its card says so, and a file that was not decided is not mounted."""
    remit("tool", "new", "words")
    edit(session / "tools/words/tool.toml", 'source = "python"', 'source = "python"\ntrust = "none"')
    edit(
        session / "tools/words/main.py",
        "    try:\n",
        '    print(Path("/work/notes/b.txt").exists(), Path("/work/notes/a.txt").exists())\n    try:\n',
    )
    (session / "notes").mkdir()
    for name in ("a.txt", "b.txt"):
        (session / "notes" / name).write_text("one")
    output = remit("tool", "try", "words.count", "path=notes/a.txt", "--folder", str(session))
    assert (output.code, output.out) == (0, "1\n")
    assert "False True" in output.err
    assert "no trust: each call has its own sandbox" in remit("tool", "show", "words").out


def test_an_irreversible_action_is_not_tried_by_accident(remit: Remit) -> None:
    output = remit("tool", "try", "tickets.close", "key=INC-2041", "reason=x")
    assert output.code == 1
    assert "--yes" in output.err + output.out


def test_the_permission_card_says_who_enforces_each_line(remit: Remit) -> None:
    card = remit("tool", "show", "tickets").out
    assert "IRREVERSIBLE" in card
    assert "enforced by the kernel" in card
    assert "enforced by the tool itself" in card


def test_a_command_tool_runs_a_program_without_a_shell(remit: Remit, session: Path) -> None:
    folder = session / "tools" / "lines"
    folder.mkdir()
    (folder / "tool.toml").write_text(
        """name = "lines"
version = "0.1.0"
owner = "you@example.com"
summary = "Counts lines"
source = "command"

[always]
programs = ["wc"]

[at_most]
read = ["logs/**"]

[actions.count]
summary = "Count the lines of one file"
run = ["wc", "-l", "--", "{path}"]
touches = ["read file:{path}"]
effect = "read"
"""
    )
    output = remit("tool", "try", "lines.count", "path=logs/payments.log")
    assert output.code == 0, output.err
    assert output.out.split()[1] == "logs/payments.log"
    refused = remit("tool", "try", "lines.count", "path=logs/payments.log; id")
    assert refused.code == 1


def test_code_planted_beside_the_reviewed_code_does_not_run(remit: Remit, session: Path, tmp_path: Path) -> None:
    """The pin does not cover `__pycache__`; Python would prefer an unchecked file there to the source."""
    import importlib.util

    planted = tmp_path / "main.py"
    planted.write_text('def read(path: str, start_line: int = 1, lines: int = 400) -> dict: return {"planted": True}\n')
    cache = Path(importlib.util.cache_from_source(str(session / "tools/files/main.py")))
    cache.parent.mkdir(exist_ok=True)
    py_compile.compile(
        str(planted), cfile=str(cache), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    output = remit("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage", "--json")
    assert output.code == 0, output.out
    assert "planted" not in output.json["value"]


def test_a_hold_is_seen_by_the_next_call_and_lifted_by_name(remit: Remit) -> None:
    call = ("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage", "--json")
    assert remit("stop", "--tool", "files", "--reason", "audit").code == 0
    held = remit(*call)
    assert (held.code, held.json["error"]["code"]) == (1, "held")
    assert "audit" in remit("stop", "--list").out
    assert remit("start", "--tool", "files").code == 0
    assert remit(*call).code == 0


def test_a_call_that_asks_is_listed_and_cannot_be_granted_by_its_own_requester(remit: Remit) -> None:
    output = remit("call", "tickets.close", '{"key": "INC-2041", "reason": "fixed"}', "--agent", "triage", "--json")
    assert (output.code, output.json["error"]["code"]) == (1, "approval_required")
    run = output.json["run"]
    assert run[:8] in remit("approve", "list").out
    assert 'reason = "fixed"' in remit("approve", "show", run[:8]).out
    granted = remit("approve", "grant", run[:8])
    assert granted.code == 1
    assert "approval_invalid" in granted.err


def test_a_dry_run_decides_and_records_nothing(remit: Remit, session: Path) -> None:
    output = remit("call", "tickets.close", '{"key": "INC-2041", "reason": "fixed"}', "--agent", "triage", "--dry-run")
    assert output.code == 1
    assert output.out.startswith("ask")
    assert remit("trace", "list").out == "no runs yet\n"


def test_acting_for_another_user_needs_a_rule(remit: Remit, session: Path) -> None:
    call = ("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage", "--user", "dana")
    refused = remit(*call)
    assert refused.code == 1
    assert "may not act for user:dana" in refused.err
    rules = session / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text()
        + "\n# Operators may act for the lead\np, role:operator, remit.impersonate, user:dana, True, allow\n"
    )
    assert remit(*call).code == 0


def test_a_task_that_is_no_text_is_recorded_as_one(remit: Remit, session: Path) -> None:
    """As a terminal with another encoding sends it."""
    output = remit("call", "files.read", '{"path": "\udcff"}', "--agent", "triage", "--json")
    assert (output.code, output.json["error"]["code"]) == (1, "invalid_arguments"), output.err
    output = remit("run", "triage", "caf\udce9 is down")
    assert output.code == 0, output.err
    assert "caf? is down" in remit("trace", "list").out


def test_what_this_account_may_not_read_or_write_is_one_error_with_its_path(remit: Remit, session: Path) -> None:
    (session / "file").touch()
    output = remit("init", str(session / "file" / "below"))
    assert (output.code, output.out) == (2, "")
    assert str(session / "file") in output.err
    assert "fix: " in output.err
    assert "internal error" not in output.err


def test_init_never_overwrites(remit: Remit, session: Path, tmp_path: Path) -> None:
    assert remit("init", str(session)).code == 2
    own = tmp_path / "new" / "tests" / "test_triage.py"
    own.parent.mkdir(parents=True)
    own.write_text("# tests of the project\n")
    assert remit("init", str(tmp_path / "new")).code == 0
    assert own.read_text() == "# tests of the project\n"


def test_a_wheel_installed_elsewhere_writes_a_workspace_that_works(tmp_path: Path) -> None:
    """The wheel ships the starter; unpacked alone, away from the checkout, it writes the same workspace."""
    repository = starter_folder()
    subprocess.run(
        [sys.executable, "-c", BUILD, str(repository), str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("remit-*.whl")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    home = tmp_path / "home"
    script = f"import sys; sys.path.insert(0, {str(site)!r}); from remit.cli import main; main(sys.argv[1:])"
    made = subprocess.run(
        [sys.executable, "-c", script, "init", str(home)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    for command in (["check"], ["call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False, cwd=home
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in home.iterdir()} >= {"tools", "policies", "agent", "traces", "remit.toml", "tests"}
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
    )
    assert "4 passed" in tests.stdout, tests.stdout + tests.stderr
    where = "import remit.testing; print(remit.testing.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(site))  # the tests used the wheel, not the checkout


BUILD = """
import os, sys
os.chdir(sys.argv[1])
from hatchling.builders.wheel import WheelBuilder
next(WheelBuilder(sys.argv[1]).build(directory=sys.argv[2], versions=["standard"]))
"""


HELP = """
import json, sys
there = {name.partition(".")[0] for name in sys.modules}  # what a distribution loads into every interpreter
import click
from remit.cli import remit

def pages_of(command, words):
    context = click.Context(command, info_name=" ".join(words))
    yield [words, command.get_help(context), not isinstance(command, click.Group)]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from pages_of(command.get_command(context, name), [*words, name])

pages = list(pages_of(remit, ["remit"]))
outside = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - there
print(json.dumps([pages, sorted(name for name in outside if not name.startswith("_"))]))
"""


MESSAGES: Final = ("remit hook run",)  # what it prints is JSON for a program in any case


def test_every_command_has_examples_and_json_and_its_help_loads_two_small_libraries() -> None:
    """Help starts fast: beside the standard library it imports only click and lazy_loader."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    pages, libraries = json.loads(done.stdout)
    assert libraries == ["click", "lazy_loader", "remit"]
    assert len(pages) > 30
    for words, page, leaf in pages:
        name = " ".join(words)
        assert name in page.partition("Examples:")[2], name
        assert not leaf or "--json" in page or name in MESSAGES, name


def test_colours_are_for_terminals_unless_no_color_is_set(remit: Remit, session: Path) -> None:
    call = ("call", "files.read", '{"path": "secrets/payments.env"}', "--agent", "triage", "--dry-run")
    assert "\x1b" not in remit(*call).out

    def shown(**env: str) -> bytes:
        """The bytes that a terminal receives."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "remit", *call]
        subprocess.run(command, cwd=session, env={**os.environ, **env}, stdout=theirs, timeout=60, check=False)
        os.close(theirs)
        received = os.read(ours, 65_536)
        os.close(ours)
        return received

    assert shown(NO_COLOR="").startswith(b"\x1b[31mdeny\x1b[0m: ")
    assert shown(NO_COLOR="1").startswith(b"deny: ")


def test_the_journal_and_the_traces_are_their_owners_alone(remit: Remit, session: Path) -> None:
    remit("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage")
    for path in (session / "traces").glob("*.jsonl"):
        assert path.stat().st_mode & 0o077 == 0
    for path in (session / "traces").glob("*.db"):
        assert path.stat().st_mode & 0o077 == 0
        sqlite3.connect(path).close()
