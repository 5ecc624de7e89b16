"""The manifest of an MCP server is read strictly: what starts it, and which of its tools are actions."""

from __future__ import annotations

import pytest

from remit.core.errors import WorkspaceError
from remit.workspace.manifest.manifest import Manifest, parse_manifest
from support.workspaces.manifests import WHOLE
from support.workspaces.mcp import KIT

FILE = "tools/kit/tool.toml"
COMMAND = 'command = ["python", "./server.py"]'


def parse(text: str) -> Manifest:
    return parse_manifest(text, file=FILE)


def command(manifest: Manifest) -> tuple[str, ...]:
    return manifest.server_command(python="/bin/python", own="/tool", files="/work/files", packages="/environment")


def test_a_server_has_its_command_its_variables_and_one_sandbox_for_a_run() -> None:
    manifest = parse(KIT)
    assert manifest.life == "run"
    assert command(manifest) == ("/bin/python", "-S", "-s", "-B", "-X", "utf8", "/tool/server.py")
    variables = manifest.server_variables(own="/tool", files="/work/files", packages="/environment")
    assert variables == {"PYTHONPATH": "/environment", "FOLDER": "/work/files"}
    node = KIT.replace(COMMAND, 'command = ["node", "{packages}/node_modules/x/index.js", "{files}"]')
    with_node = parse(node.replace("[at_most]", '[always]\nprograms = ["node"]\n[at_most]'))
    assert command(with_node) == ("node", "/environment/node_modules/x/index.js", "/work/files")


def test_everything_that_a_server_returns_is_untrusted_and_a_name_of_its_tool_may_differ() -> None:
    actions = parse(KIT).actions
    assert {action.adds_labels for action in actions.values()} == {("untrusted",)}
    assert (actions["read_file"].tool, actions["echo"].tool) == ("read-file", "echo")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (COMMAND, "command = []", "'command' is empty"),
        (COMMAND, 'command = ["node", "x.js"]', "'node' is not in 'always.programs'"),
        (COMMAND, 'command = ["python", "./../server.py"]', "has '..'"),
        (COMMAND, 'command = ["python", "{home}/server.py"]', "has '..', or a placeholder"),
        ('source = "mcp"', 'source = "mcp"\nlife = "call"', "a server serves the calls of a run"),
        ('source = "mcp"', 'source = "mcp"\ntrust = "none"', "exclude each other"),
        ('effect = "idempotent"', 'effect = "idempotent"\ncache = true', "does not follow from arguments"),
        ('touches = ["write file:{path}"]', 'touches = ["write store:notes"]', "gets no store to write"),
        ("[at_most]", '[always]\nsecrets = [{ name = "key", exposed = true, env = "KEY" }]\n[at_most]', "no secret"),
        (f'[server]\n{COMMAND}\nenv = {{ FOLDER = "{{files}}" }}', "", "the table [server] is missing"),
    ],
)
def test_what_does_not_fit_a_server_is_a_problem(old: str, new: str, what: str) -> None:
    assert old in KIT
    with pytest.raises(WorkspaceError) as error:
        parse(KIT.replace(old, new, 1).replace("[at_most]", '[at_most]\nstores = ["notes"]', 1))
    assert any(what in problem.what for problem in error.value.problems), error.value.problems


@pytest.mark.parametrize(
    ("line", "what"),
    [('[server]\ncommand = ["python"]\n[always]', "only for source = 'mcp'"), ("", "")],
)
def test_a_tool_that_is_no_server_has_no_server_table(line: str, what: str) -> None:
    if not line:
        assert parse_manifest(WHOLE, file=FILE).command == ()
        return
    with pytest.raises(WorkspaceError) as error:
        parse_manifest(WHOLE.replace("[always]", line, 1), file=FILE)
    assert [problem.what for problem in error.value.problems] == [f"[server] is {what}"]


REMOTE = """
name = "kit"
version = "1.0.0"
owner = "tests@example.com"
summary = "A server elsewhere"
source = "mcp"

[server]
url = "https://mcp.example.com/mcp"

[always]
hosts = ["GET,POST mcp.example.com:443/mcp"]

[actions.echo]
summary = "Return the text"
touches = ["use mcp:mcp.example.com"]
effect = "read"
"""


def test_a_server_at_a_url_is_reached_at_the_host_of_its_manifest_and_confined_by_nothing_here() -> None:
    manifest = parse(REMOTE)
    assert (manifest.server_url, manifest.confined, manifest.life) == ("https://mcp.example.com/mcp", False, "run")
    assert manifest.actions["echo"].adds_labels == ("untrusted",)
    assert parse(KIT).confined


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('touches = ["use mcp:mcp.example.com"]', "", "no line of 'touches' names the server"),
        ("[actions.echo]", '[at_most]\nread = ["docs/**"]\n[actions.echo]', "gets no files and no stores"),
        ("[always]", '[always]\nenv = ["TZ"]', "'always.env' has no effect"),
        ("[always]", '[always]\nprograms = ["git"]', "'always.programs' has no effect"),
        ("[always]", 'command = ["python", "./x.py"]\n[always]', "'command' of a server that runs at a URL"),
        ("[always]", 'env = { A = "b" }\n[always]', "'env' of a server that runs at a URL"),
    ],
)
def test_a_server_at_a_url_gets_no_files_and_each_action_names_it(old: str, new: str, what: str) -> None:
    with pytest.raises(WorkspaceError) as error:
        parse(REMOTE.replace(old, new, 1))
    assert any(what in problem.what for problem in error.value.problems), error.value.problems


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("https://other.example.com/mcp", "no line of 'always.hosts' allows POST"),
        ("https://mcp.example.com/other", "no line of 'always.hosts' allows POST"),
        ("https://mcp.example.com:8443/mcp", "no line of 'always.hosts' allows POST"),
        ("http://mcp.example.com/mcp", "is not encrypted"),
        ("https://user@mcp.example.com/mcp", "is no plain URL"),
        ("https://mcp.example.com/a/../mcp", "is no plain URL"),
        ("file:///etc/passwd", "is no plain URL"),
    ],
)
def test_an_address_that_the_manifest_does_not_allow_is_a_problem(url: str, what: str) -> None:
    with pytest.raises(WorkspaceError) as error:
        parse(REMOTE.replace("https://mcp.example.com/mcp", url, 1))
    assert any(what in f"{problem.what}" for problem in error.value.problems), error.value.problems


def test_the_arguments_of_the_address_of_a_resource_are_resources_of_the_decision() -> None:
    """A name without `://` is that of a tool."""
    memo = '[actions.memo]\ntool = "memo://notes/{name}"\nsummary = "Read a note"\ntouches = ["use memo:{name}"]\n\n'
    assert parse(KIT.replace("[actions.echo]", f"{memo}[actions.echo]")).actions["memo"].tool == "memo://notes/{name}"
    with pytest.raises(WorkspaceError) as error:
        parse(KIT.replace("[actions.echo]", f"{memo.replace('use memo:{name}', 'use memo:all')}[actions.echo]"))
    assert "no line of 'touches' names {name} of the address" in error.value.problems[0].what
