"""`remit tool new --from FORM`: each form is a tool that works as it is written, or is refused with what to write."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from remit.core.errors import UsageError, WorkspaceError
from remit.sandbox import Sandbox
from remit.sandbox.packages.requirements import declared_packages
from remit.tools.making.files import FORMS, Origin, new_tool
from remit.tools.offered import model_view, spec_lines
from remit.tools.workbench import run_tool_cases
from remit.workspace.loader import load_workspace
from remit.workspace.manifest.manifest import parse_manifest
from support.runs import Remit
from support.workspaces.files import write_workspace


def make(root: Path, form: str, source: str = "", name: str = "made") -> Path:
    new_tool(root, name, Origin(form=form, source=source))
    return root / "tools" / name


def without_packages(folder: Path) -> None:
    """Use the packages of Remit itself: an own environment needs a package index."""
    main = folder / "main.py"
    main.write_text(main.read_text().partition("# ///\n")[2])


@pytest.mark.parametrize(
    ("form", "source", "cases"),
    [
        ("words", "", 2),
        ("package", "", 2),
        ("http", "", 6),
        ("http", "https://my-api.example.com/v2/issues", 6),
        ("command", "", 3),
        ("command", "wc -l -- {path:file}", 3),
        ("command", "date", 1),
        ("command", "git log --max-count={n:int} [--since={since}] -- {path:file}", 3),
    ],
)
def test_each_form_of_a_new_tool_passes_its_own_cases(session: Path, form: str, source: str, cases: int) -> None:
    folder = make(session, form, source)
    if form == "package":
        assert declared_packages(folder).dependencies == ("markdown-it-py>=3",)
        without_packages(folder)
    results = asyncio.run(run_tool_cases(load_workspace(session), "made", Sandbox()))
    assert [result.message for result in results] == [""] * cases


def test_a_new_tool_is_found_without_a_problem_by_the_check(remit: Remit, session: Path) -> None:
    """The only thing that is left is the review."""
    for form in set(FORMS) - {"openapi"}:
        assert remit("tool", "new", f"from_{form}", "--from", form).code == 0
        if form == "package":
            without_packages(session / "tools" / f"from_{form}")
        assert remit("tool", "pin", f"from_{form}").code == 0
    checked = remit("check")
    assert checked.code == 0, checked.out + checked.err
    assert ", 0 problems" in checked.out


@pytest.mark.parametrize(
    ("url", "host", "base"),
    [
        ("https://API.example.org/v1/issues/", "GET,POST api.example.org:443/v1/issues/*", "https://api.example.org/v1/issues"),
        ("https://api.example.org:8443/a", "GET,POST api.example.org:8443/a/*", "https://api.example.org:8443/a"),
        ("https://my-api.example.com", "GET,POST my-api.example.com:443/*", "https://my-api.example.com"),
    ],
)  # fmt: skip
def test_a_tool_of_a_service_reaches_the_items_at_its_url_and_nothing_else(
    session: Path, url: str, host: str, base: str
) -> None:
    folder = make(session, "http", url)
    manifest = parse_manifest((folder / "tool.toml").read_text(), file="tools/made/tool.toml")
    assert manifest.hosts == (host,)
    assert [(item.name, item.port, item.template) for item in manifest.credentials] == [
        (host.partition(" ")[2].partition(":")[0], int(host.partition(":")[2].partition("/")[0]), "Bearer {made}")
    ]
    assert f'BASE = "{base}"\n' in (folder / "main.py").read_text()


@pytest.mark.parametrize(
    ("form", "source", "what"),
    [
        ("http", "http://api.example.org/a", "write https://host/path"),
        ("http", "https://api.example.org/a?b=c", "cannot be the address of a service"),
        ("http", "https://api.example.org/a%20b", "cannot be the address of a service"),
        ("http", "https://10.0.0.1/a", "10.0.0.1"),
        ("http", 'https://api.example.org/"]\nx = 1', "cannot be named|write"),
        ("command", "", ""),
        ("command", "   ", "names no program"),
        ("command", "/bin/ls", "begin with its name, without a folder"),
        ("command", "{program}", "names no program"),
        ("command", "git log -L{who}", "as a word of its own"),
        ("command", "git 'log", "cannot be read"),
        ("words", "something", "made from nothing else"),
        ("word", "", "did you mean words"),
    ],
)
def test_what_no_tool_can_be_made_of_is_refused_and_nothing_is_written(
    tmp_path: Path, form: str, source: str, what: str
) -> None:
    if not what:  # the twin: the template of the form
        make(tmp_path, form, source)
        return
    with pytest.raises(UsageError, match=what):
        make(tmp_path, form, source)
    assert not (tmp_path / "tools").exists()


@pytest.mark.parametrize("name", ["Words", "my__tool", "_a", "remit", "none", "a" * 32, "ä", "../a", ""])
def test_a_name_that_no_manifest_accepts_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name"):
        make(tmp_path, "words", name=name)
    assert not (tmp_path / "tools").exists()
    make(tmp_path, "words", name="a" * 31)


def test_the_words_of_a_command_line_stay_words_of_the_manifest(tmp_path: Path) -> None:
    """Quotes and brackets of the command line are data of the manifest, never its syntax."""
    folder = make(tmp_path, "command", "grep -e 'a \"b\" ]\n[always]' -- {path:file}")
    manifest = parse_manifest((folder / "tool.toml").read_text(), file="tools/made/tool.toml")
    assert manifest.actions["run"].run == ("grep", "-e", 'a "b" ]\n[always]', "--", "{path}")
    assert (manifest.programs, manifest.actions["run"].effect) == (("grep",), "once")


def test_a_program_that_only_reads_needs_no_approval_and_another_one_does(remit: Remit, session: Path) -> None:
    """One option of the command decides what the rules for a new agent ask."""
    for name, options in (("counts", ["--reads"]), ("sends", [])):
        assert remit("tool", "new", name, "--from", "command", "wc -l -- {path:file}", *options).code == 0
        assert remit("tool", "pin", name).code == 0
        assert remit("agent", "new", f"{name}er", "--tools", name, "--write").code == 0
    write_workspace(session, {"data/counts/a.txt": "a\nb\n"})
    for name in ("counts", "sends"):
        manifest = session / f"agent/{name}er/agent.toml"
        manifest.write_text(manifest.read_text().replace('# seed = "data"', 'seed = "data"'))
    done = remit("call", "counts.run", '{"path": "counts/a.txt"}', "--agent", "countser")
    assert (done.code, "2 counts/a.txt" in done.out) == (0, True), done.out
    failed = remit("call", "counts.run", '{"path": "counts/none.txt"}', "--agent", "countser").out
    assert "printed: wc: counts/none.txt: No such file or directory" in failed, "the program says what is wrong"
    assert "approval_required" in remit("call", "sends.run", '{"path": "sends/a.txt"}', "--agent", "sendser").out
    refused = remit("tool", "new", "more", "--reads")
    assert (refused.code, "says that a program changes nothing" in refused.err) == (2, True)


def test_types_and_groups_of_a_command_line_become_those_of_the_manifest(tmp_path: Path) -> None:
    folder = make(
        tmp_path, "command", "git log --max-count={n:int} [--since={since}] [-L {range} -w] [a-z] -- {path:file}"
    )
    action = parse_manifest((folder / "tool.toml").read_text(), file="tools/made/tool.toml").actions["run"]
    assert action.run == (
        *("git", "log", "--max-count={n}", ("--since={since}",), ("-L", "{range}", "-w"), "[a-z]", "--", "{path}"),
    )
    assert {name: argument.type for name, argument in action.args.items()} == {"n": "integer"}
    assert action.touches == ("read file:{path}",)
    with pytest.raises(UsageError, match="is not closed"):
        make(tmp_path, "command", "git log [--since={since}", name="other")


def test_the_command_names_the_forms_that_exist(remit: Remit) -> None:
    refused = remit("tool", "new", "words", "--from", "word")
    assert refused.code == 2
    assert all(repr(form) in refused.err for form in FORMS)
    assert remit("tool", "new", "words").out.startswith("wrote tools/words/cases.yaml\n")


def test_the_schema_of_a_tool_is_what_a_model_is_offered(remit: Remit, session: Path) -> None:
    """Text for people, and JSON as it is sent; for a tool that is not pinned too."""
    make(session, "words")
    assert remit("tool", "schema", "made").out == (
        "made__count\n  Count the words of one file. Count the words of the file.\n    path             string, required\n"
    )
    assert remit("tool", "schema", "made", "--json").json == [
        {
            "name": "made__count",
            "description": "Count the words of one file. Count the words of the file.",
            "input": {
                "type": "object",
                "properties": {"path": {"type": "string"}},
                "required": ["path"],
                "additionalProperties": False,
            },
        }
    ]
    assert "did you mean made?" in remit("tool", "schema", "mode").err


def test_the_schema_of_a_tool_shows_limits_choices_defaults_and_descriptions(session: Path) -> None:
    folder = make(session, "words")
    (folder / "main.py").write_text(
        "from typing import Annotated, Literal\n\nfrom pydantic import Field\n\n\ndef count(\n    path: str,\n"
        '    unit: Annotated[Literal["words", "lines"], Field(description="What is counted")] = "words",\n'
        "    most: Annotated[int | None, Field(ge=1)] = None,\n    tags: list[str] = [],\n) -> int:\n    return 1\n"
    )
    (spec,) = asyncio.run(model_view(load_workspace(session), "made", Sandbox()))
    assert list(spec_lines(spec))[2:] == [
        "    path             string, required",
        '    unit             "words" | "lines", default "words": What is counted',
        "    most             integer | null, minimum 1, default null",
        "    tags             array of string, default []",
    ]
    (folder / "main.py").write_text("def count(path) -> int:\n    return 1\n")
    with pytest.raises(WorkspaceError, match="give every parameter and the result a type"):
        asyncio.run(model_view(load_workspace(session), "made", Sandbox()))
