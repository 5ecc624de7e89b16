"""`remit allow`: the complete, smallest and tried change with which a refused call passes."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.analysis.drafting.call import CallToAllow, Patch, draft_for_call
from remit.analysis.drafting.toml_edit import with_item
from remit.core import UsageError
from remit.workspace.session import open_session
from remit.workspace.template import write_starter
from support.runs import CommandResult, Remit

READ = ("files.read", '{"path": "%s"}', "--agent", "triage")
NOTES = """
name = "notes"
version = "1.0.0"
owner = "tests@example.com"
summary = "Keeps notes"
source = "python"

[at_most]
write = ["notes/**"]
read = ["notes/**"]

[actions.keep]
summary = "Keep a note"
touches = ["write file:{path}"]
effect = "idempotent"
"""
CODE = '''
def keep(path: str) -> str:
    """Keep a note, and list it."""
    open(path, "w").write("kept")
    return open("notes/all.txt").read()
'''


def files_of(folder: Path) -> dict[str, bytes]:
    areas = ("policies", "agent", "tools")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for area in areas
        for path in sorted((folder / area).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def read(path: str) -> tuple[str, ...]:
    return tuple(part % path if "%" in part else part for part in READ)


def test_a_denied_call_passes_after_one_command_and_nothing_else_does(remit: Remit, session: Path) -> None:
    before = files_of(session)
    refused = remit("call", "files.list", '{"folder": "reports"}', "--agent", "triage", "--json")
    change = refused.json["allow"]
    assert (refused.code, change["verdict"], change["repin"], change["broken"]) == (1, "allow", [], [])
    assert files_of(session) == before
    command = change["command"].split()[1:]
    shown = remit(*command[:-1], "--json").json
    assert (shown["diff"], shown["written"]) == (change["diff"], False)
    assert remit(*command).out.splitlines()[-1] == "written"
    row = "p, agent:triage, files.list, file:reports/**, True, allow"
    assert row in (session / "policies/rules.csv").read_text()
    changed = {file for file, data in files_of(session).items() if data != before.get(file)}
    assert changed == {"policies/rules.csv", "policies/cases.yaml"}
    assert remit("check").code == 0
    assert remit("call", "files.list", '{"folder": "reports"}', "--agent", "triage").code == 0
    assert remit("call", "files.list", '{"folder": "data"}', "--agent", "triage").code == 1
    assert "needs no change" in remit(*command[:-1]).out


def test_the_user_gets_a_row_too_and_an_irreversible_call_asks_a_person_who_exists(remit: Remit, session: Path) -> None:
    (session / "policies/rules.csv").write_text(
        (session / "policies/rules.csv").read_text().replace("p, role:operator, http.*,", "p, role:manager, http.*,")
    )
    call = ("http.post", '{"url": "https://example.com/hook", "body": "x"}', "--agent", "triage")
    done = remit("allow", *call, "--write", "--json").json
    asked = "https://example.com/hook, approved('role:oncall-lead'), allow"
    assert [line for line in done["diff"].splitlines() if line.startswith("+p, ")] == [
        f"+p, {subject}, http.post, {asked}" for subject in ("agent:triage", "user:operator")
    ]
    assert (done["verdict"], done["asks"]) == ("ask", [["role:oncall-lead", ["user:dana"]]])
    assert done["broken"] == [], "cases that fail already are not the fault of the change"
    assert '+tools = ["files", "sql", "tickets", "python", "http.post"]' in done["diff"]
    assert remit("call", *call, "--dry-run").out.startswith("ask: ")


def test_a_file_outside_of_the_manifest_gets_its_narrowest_line_and_a_new_review(remit: Remit, session: Path) -> None:
    (session / "agent/triage/incident/docs").mkdir()
    (session / "agent/triage/incident/docs/plan.md").write_text("the plan")
    done = remit("allow", *read("docs/plan.md"), "--write", "--json").json
    assert (done["repin"], done["files"][0]) == (["files"], "tools/files/tool.toml")
    added = tomllib.loads((session / "tools/files/tool.toml").read_text())["at_most"]["read"]
    assert added[-1] == "docs/plan.md"
    unreviewed = remit("call", *read("docs/plan.md"), "--json").json
    assert unreviewed["error"]["details"] == {"reason": "not_pinned"}
    assert "review tools/files, then run `remit tool pin files`" in unreviewed["allow"]["advice"]
    assert remit("tool", "pin", "files").code == 0
    assert remit("call", *read("docs/plan.md")).code == 0
    assert remit("call", *read("docs/other.md")).code == 1
    tried = remit("tool", "try", "files.read", "path=docs/other.md")
    assert 'to allow it, in tool.toml: add "docs/other.md" to read in [at_most]' in tried.err


def test_what_the_sandbox_refused_is_named_with_its_table_and_the_hint_ends(remit: Remit, session: Path) -> None:
    """The tool reads a file that no argument names: `[at_most]` has it already, so `touches` is what lacks it."""
    folder = session / "tools/notes"
    folder.mkdir()
    (folder / "tool.toml").write_text(NOTES)
    (folder / "main.py").write_text(CODE)
    (session / "agent/triage/incident/notes").mkdir()
    (session / "agent/triage/incident/notes/all.txt").write_text("all")
    line = 'add "read file:notes/all.txt" to touches in [actions.keep]'
    tried = remit("tool", "try", "notes.keep", "path=notes/a.txt", "--folder", str(session / "agent/triage/incident"))
    assert f"refused read notes/all.txt; to allow it, in tool.toml: {line}\n" in tried.err
    call = ("notes.keep", '{"path": "notes/a.txt"}', "--agent", "triage")
    assert remit("tool", "pin", "notes").code == 0
    assert remit("allow", *call, "--write").code == 0
    refused = remit("call", *call, "--json").json
    assert refused["error"]["code"] == "sandbox_violation"
    done = remit(*refused["allow"]["command"].split()[1:], "--json").json
    assert [line for line in done["diff"].splitlines() if line.startswith("+") and "touches" in line] == [
        '+touches = ["write file:{path}", "read file:notes/all.txt"]'
    ]
    assert remit("tool", "pin", "notes").code == 0
    assert remit("call", *call).code == 0


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (read("secrets/payments.env"), "a rule denies this call, and no new rule can allow it: policies/rules.csv:22"),
        (
            ("files.write", '{"path": "reports/a.md", "text": "%s"}' % ("x" * 20_001), "--agent", "triage"),
            "a row beside it would undo the condition: change it by hand if it is too narrow: policies/rules.csv:59",
        ),
        (
            ("files.raed", "{}", "--agent", "triage"),
            "no tool of this workspace has the action 'files.raed'\n    did you mean files.read?",
        ),
        (
            ("files.read", '{"pat": "a"}', "--agent", "triage"),
            "no rule or manifest can allow this call: invalid_arguments",
        ),
        (read("../../etc/passwd"), "no rule or manifest can allow this call: invalid_arguments"),
        (("files.read", "{}"), "name a call"),
        (("files.read", "{}", "--agent", "trige"), "there is no agent 'trige' here: did you mean triage?"),
        (("0123abcd/0.0",), "no run"),
    ],
    ids=["denied", "limited", "misspelled", "arguments", "outside", "no agent", "no such agent", "no such run"],
)
def test_a_call_that_no_change_may_allow_gets_none(
    remit: Remit, session: Path, call: tuple[str, ...], why: str
) -> None:
    before = files_of(session)
    done: CommandResult = remit("allow", *call, "--write")
    assert done.code == (1 if "files.raed" in call else 2)
    assert why in done.err
    assert files_of(session) == before


def test_without_another_person_no_rule_for_an_irreversible_call_is_drafted(remit: Remit, session: Path) -> None:
    rules = session / "policies/rules.csv"
    kept = [line for line in rules.read_text().splitlines() if not line.startswith("g, user:dana")]
    rules.write_text("\n".join(kept) + "\n")
    call = ("tickets.close", '{"key": "ABC-1", "reason": "x"}', "--agent", "triage")
    done = remit("allow", *call)
    assert done.code == 2
    assert "role:oncall-lead" in done.err


def test_a_change_that_breaks_a_case_is_shown_and_not_written(remit: Remit, session: Path) -> None:
    cases = session / "policies/cases.yaml"
    cases.write_text(
        cases.read_text()
        + "\n- {note: triage lists no reports, agent: agent:triage, user: user:operator, action: files.list, "
        + 'resources: ["file:reports/**"], expect: deny}\n'
    )
    call = ("files.list", '{"folder": "reports"}', "--agent", "triage")
    before = files_of(session)
    shown = remit("allow", *call)
    assert (shown.code, "contradicts a case: triage lists no reports" in shown.out) == (1, True)
    assert remit("allow", *call, "--write").code == 2
    assert files_of(session) == before


def drafted(root: Path, action: str, arguments: dict[str, Any]) -> Patch:
    """The change for a call of the agent triage, in this process."""
    call = CallToAllow(agent="triage", user="user:operator", action=action, arguments=json.dumps(arguments))
    return asyncio.run(draft_for_call(open_session(root), call))


def test_a_condition_that_limits_a_call_gets_no_row_beside_it(tmp_path: Path) -> None:
    write_starter(session := tmp_path / "w")
    with pytest.raises(UsageError, match="a row beside it would undo the condition"):
        drafted(session, "files.write", {"path": "reports/a.md", "text": "x" * 20_001})
    assert drafted(session, "files.write", {"path": "reports/a.md", "text": "x"}).changes == ()


def test_a_drafted_rule_for_what_cannot_be_undone_asks(tmp_path: Path) -> None:
    write_starter(session := tmp_path / "w")
    asking = drafted(session, "tickets.close", {"key": "ABC-1", "reason": "x"})
    assert (asking.verdict, asking.asks) == ("ask", (("role:oncall-lead", ("user:dana",)),))
    reading = drafted(session, "tickets.get", {"key": "ABC-1"})
    assert (reading.verdict, reading.asks) == ("allow", ())


# -- edits of TOML texts -----------------------------------------------------------------------------------------------

ITEMS = st.lists(st.sampled_from(["a", "b#c", "x]y", 'q"q', "d'e", "ü", "[", "{"]), max_size=4, unique=True)
STYLES = st.sampled_from(["{}", "{} # note ]", "{}  "])


def written(items: list[str], several: bool, comma: bool, note: str) -> str:
    texts = [repr(item) if '"' in item else f'"{item}"' for item in items]
    if not several:
        return f"[{', '.join(texts)}{',' if comma and texts else ''}]"
    lines = [f"    {text}{',' if comma or at < len(texts) - 1 else ''} # {note}" for at, text in enumerate(texts)]
    return "[\n" + "\n".join(lines) + "\n]" if lines else "[\n]"


@given(ITEMS, st.booleans(), st.booleans(), STYLES, st.booleans(), st.sampled_from(["] [", "an item", '"', "'"]))
def test_an_item_is_added_and_every_other_line_stays(
    items: list[str], several: bool, comma: bool, style: str, inside: bool, note: str
) -> None:
    listed = written(items, several, comma, note)
    head = '[t]\n"other" = ["z"] # [\n' if inside else 'other = ["z"]\n'
    text = f"# first\n{head}list = {style.format(listed)}\n\n[last]\nlist = ['a']\n"
    path = ("t", "list") if inside else ("list",)
    edited = with_item(text, path, "new", file="a.toml")
    expected: dict[str, Any] = tomllib.loads(text)
    (expected["t"] if inside else expected)["list"].append("new")
    assert tomllib.loads(edited) == expected
    assert with_item(edited, path, "new", file="a.toml") == edited
    rest = iter(edited)
    assert all(character in rest for character in text), "an edit only inserts"
    assert len(edited) - len(text) < 20


@pytest.mark.parametrize(
    ("text", "path", "edited"),
    [
        ("[at_most]\n# files\nread = []\n", ("at_most", "write"), '[at_most]\nwrite = ["x"]\n# files\nread = []\n'),
        ("a = 1\n", ("at_most", "write"), 'a = 1\n\n[at_most]\nwrite = ["x"]\n'),
        ('a = ["y"]\n[t]\n', ("a",), 'a = ["y", "x"]\n[t]\n'),
        ("a = [\n  'y'\n]\n", ("a",), "a = [\n  'y',\n  \"x\",\n]\n"),
    ],
    ids=["a new key", "a new table", "one line", "several lines"],
)
def test_a_missing_list_is_written_into_its_table(text: str, path: tuple[str, ...], edited: str) -> None:
    assert with_item(text, path, "x", file="a.toml") == edited


def test_a_text_that_cannot_be_edited_safely_is_refused_with_the_item() -> None:
    with pytest.raises(UsageError, match=r'add "x" to write in \[at_most\] by hand'):
        with_item("at_most = { read = [] }\n", ("at_most", "write"), "x", file="a.toml")
