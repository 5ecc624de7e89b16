"""A tool whose MCP server runs elsewhere: imported from its URL, decided by rules, recorded, replayed without the server."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from remit.cli.secret import secret_command
from support.http_servers import ReceivedRequest, Response, Server
from support.lifecycle import replayed
from support.mcp_remote import ECHO, ScriptedServer, as_events, as_json, result
from support.runs import Command, CommandResult, Played, turn
from support.workspaces.ledger import pin
from support.workspaces.mcp import KIT, again, made, text_of

SEND = {**ECHO, "name": "send", "description": "Sends the text"}


def imported(command: Command, folder: Path, port: int, *options: str, scheme: str = "http") -> CommandResult:
    """`remit tool import mcp` of the server on this machine, as the tool `kit`."""
    words = ("tool", "import", "mcp", "--name", "kit", "--range", "127.0.0.0/8", *options, "--json")
    return command(folder, *words, f"{scheme}://localhost:{port}/mcp")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace without the tool `kit`, which its agent names."""
    made(tmp_path)
    for path in (tmp_path / "tools/kit").iterdir():
        path.unlink()
    (tmp_path / "tools/kit").rmdir()
    return tmp_path


def test_a_server_is_imported_from_its_url_called_under_rules_and_replayed_without_it(
    workspace: Path, command: Command
) -> None:
    server = ScriptedServer(tools=[ECHO, SEND])
    with Server(server) as listening:
        done = imported(command, workspace, listening.port)
        assert done.code == 0, done.out + done.err
        assert done.json["actions"] == 2
        pin(workspace)
        run = again(workspace, [turn(kit__echo={"text": "hello"})])
        assert text_of(run, 0) == "hello"
        assert run.result(0)["labels"] == ["untrusted"]
    assert not replayed(run).divergences


def test_a_lost_answer_of_an_irreversible_call_is_an_unknown_outcome_and_it_is_not_repeated(
    workspace: Path, command: Command
) -> None:
    server = ScriptedServer(tools=[SEND], call=lambda _message, _request: as_events(": lost\n\n"))
    with Server(server) as listening:
        assert imported(command, workspace, listening.port).code == 0
        pin(workspace)
        run = again(workspace, [turn(kit__send={"text": "a"}), turn(kit__send={"text": "a"})])
    assert run.error(0)["code"] == "outcome_unknown"
    assert server.methods.count("tools/call") == 1
    assert not replayed(run).divergences


def test_a_changed_tool_does_not_run_until_it_is_pinned_and_the_others_go_on(workspace: Path, command: Command) -> None:
    server = ScriptedServer(tools=[ECHO, SEND])
    with Server(server) as listening:
        assert imported(command, workspace, listening.port).code == 0
        pin(workspace)
        server.tools = [ECHO, {**SEND, "description": "Sends the text to everyone"}]
        run = again(workspace, [turn(kit__send={"text": "a"}), turn(kit__echo={"text": "b"})])
        assert run.error(0)["code"] == "policy_denied"
        assert "remit tool pin kit" in run.error(0)["next_step"]
        assert text_of(run, 1) == "b"
        assert server.methods.count("tools/call") == 1
        pin(workspace)
        assert text_of(again(workspace, [turn(kit__send={"text": "a"})]), 0) == "a"
    assert not replayed(run).divergences


def test_how_a_server_differs_from_its_pin_is_noted_once_shown_and_closed_once_it_is_as_pinned(
    workspace: Path, command: Command
) -> None:
    server = ScriptedServer(tools=[ECHO, SEND])
    now = [
        {**ECHO, "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}, "to": {}}}},
        {**SEND, "description": "Sends the text to everyone", "annotations": {"readOnlyHint": True}},
        {**ECHO, "name": "new"},
    ]
    with Server(server) as listening:
        assert imported(command, workspace, listening.port).code == 0
        pin(workspace)
        assert command(workspace, "alert", "list", "--json").json == []
        server.tools = now
        for _ in range(2):
            run = again(workspace, [turn(kit__echo={"text": "a"}), turn(kit__send={"text": "a"})])
            assert [run.error(step)["code"] for step in (0, 1)] == ["policy_denied"] * 2
        assert "tools/call" not in server.methods
        alerts = command(workspace, "alert", "list", "--json").json
        assert len(alerts) == 1
        alert = alerts[0]
        assert (alert["kind"], alert["subject"]) == ("server", "kit")
        differing = [line.split(" was ")[0] for line in alert["changes"]]
        assert differing == ["'echo': 'inputSchema'", "'new': it", "'send': 'annotations'", "'send': 'description'"]
        assert "'new': it was not there when the server was pinned" in alert["changes"]
        assert command(workspace, "tool", "list", "--json").json[0]["changed"] == alert["changes"]
        assert "changed" in command(workspace, "tool", "list").out
        assert "CHANGED since it was pinned, and does not run: 'new'" in command(workspace, "tool", "show", "kit").out
        pin(workspace)
        assert text_of(again(workspace, [turn(kit__echo={"text": "a"})]), 0) == "a"
        assert command(workspace, "alert", "list", "--json").json == []
        assert command(workspace, "tool", "list", "--json").json[0]["changed"] == []


@pytest.mark.usefixtures("trusting")
def test_a_token_is_sent_by_the_proxy_and_stands_in_no_record(
    workspace: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ScriptedServer(
        call=lambda message, request: as_json(message["id"], result(request.headers["authorization"]))
    )
    server.before = lambda _, request: None if "authorization" in request.headers else Response(status=401)
    with Server(server, name="localhost") as listening:
        refused = imported(command, workspace, listening.port, scheme="https")
        assert refused.code != 0
        assert "the server wants a login" in refused.out
        unset = imported(command, workspace, listening.port, "--secret", "tickets", scheme="https")
        assert unset.code != 0
        assert "'tickets' is not set" in unset.out
        monkeypatch.setenv("REMIT_SECRET_TICKETS", "canary-of-this-test")
        assert imported(command, workspace, listening.port, "--secret", "tickets", scheme="https").code == 0
        pin(workspace)
        run = again(workspace, [turn(kit__echo={"text": "a"})])
    assert "canary" not in text_of(run, 0)
    assert server.requests[-1].headers["authorization"] == "Bearer canary-of-this-test"
    assert not any(b"canary-of-this-test" in path.read_bytes() for path in workspace.rglob("*") if path.is_file())


ALL_USERS = "user:operator", "user:dana", "user:eve"


def with_users(folder: Path) -> None:
    """Let three users use the agent, of whom two have a token."""
    settings, rules = folder / "remit.toml", folder / "policies/rules.csv"
    settings.write_text(f"users = {list(ALL_USERS)}\n{settings.read_text()}".replace("'", '"'))
    rules.write_text(
        f"{rules.read_text()}# All of them\np, user:dana, *, **, True, allow\np, user:eve, *, **, True, allow\n"
    )
    for user in ALL_USERS[:2]:
        done = set_secret("tickets", "--user", user, value=f"token-of-{user[5:]}")
        assert done == (0, f"stored tickets@{user} for this workspace in the store\n")


def set_secret(*words: str, value: str) -> tuple[int, str]:
    done = CliRunner().invoke(secret_command, ["set", *words], input=value)
    return done.exit_code, done.output if done.exception is None else str(done.exception)


def check_refused_without_a_token(run: Played) -> None:
    assert run.error(0)["code"] == "policy_denied"
    assert run.error(0)["details"]["reason"] == "no_secret"
    assert "not set for user:eve: run `remit secret set tickets --user user:eve`" in run.error(0)["message"]
    assert not replayed(run).divergences


@pytest.mark.usefixtures("trusting")
def test_each_user_has_a_token_of_their_own_and_no_call_uses_that_of_another(
    workspace: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ScriptedServer()
    with Server(server, name="localhost") as listening:
        monkeypatch.setenv("REMIT_SECRET_TICKETS", "token-of-the-reviewer")
        done = imported(command, workspace, listening.port, "--secret", "tickets", "--per-user", scheme="https")
        assert done.code == 0, done.out
        pin(workspace)
        monkeypatch.chdir(workspace)
        with_users(workspace)
        for user in (*ALL_USERS[:2], ALL_USERS[0]):
            assert text_of(again(workspace, [turn(kit__echo={"text": "a"})], user=user), 0) == "a"
            assert server.requests[-1].headers["authorization"] == f"Bearer token-of-{user[5:]}"
        before = len(server.requests)
        check_refused_without_a_token(again(workspace, [turn(kit__echo={"text": "a"})], user="user:eve"))
        assert len(server.requests) == before
    assert set_secret("tickets", value="token-of-everyone")[0] != 0
    assert set_secret("tickets", "--user", "eve", value="token-of-eve")[0] != 0


@pytest.mark.usefixtures("trusting")
def test_a_server_in_a_sandbox_reaches_its_service_as_the_user_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []

    def service(request: ReceivedRequest) -> Response:
        got.append(request.headers.get("authorization", ""))
        return Response(body=b"hello")

    with Server(service, name="localhost") as listening:
        host = f"localhost:{listening.port}"
        always = f"""
[always]
hosts = ["GET {host}/me"]
ranges = ["127.0.0.0/8"]

[[always.secrets]]
name = "tickets"
host = "{host}"
header = "Authorization"
value = "Bearer {{tickets}}"
per_user = true

[limits]
"""
        pin(made(tmp_path, kit=KIT.replace("[limits]\n", always)))
        monkeypatch.chdir(tmp_path)
        with_users(tmp_path)
        ask = turn(kit__do={"text": f"get https://{host}/me"})
        for user in ALL_USERS[:2]:
            assert text_of(again(tmp_path, [ask], user=user), 0) == "hello"
        assert got == ["Bearer token-of-operator", "Bearer token-of-dana"]
        check_refused_without_a_token(again(tmp_path, [ask], user="user:eve"))
        # A call finds the token that its user has set by then.
        assert set_secret("tickets", "--user", "user:eve", value="token-of-eve")[0] == 0
        assert text_of(again(tmp_path, [ask], user="user:eve"), 0) == "hello"
        assert got[2:] == ["Bearer token-of-eve"]


@pytest.mark.parametrize("url", ["ftp://x/mcp", "https://u@x.example/mcp", "http://1.2.3.4/m", "http://x.example/mcp"])
def test_an_import_of_a_url_that_is_no_server_is_refused_and_writes_nothing(
    workspace: Path, command: Command, url: str
) -> None:
    done = command(workspace, "tool", "import", "mcp", "--name", "kit", url)
    assert done.code != 0
    assert not (workspace / "tools/kit").exists()


def test_two_calls_at_once_of_a_run_reach_the_server_one_after_another(workspace: Path, command: Command) -> None:
    server = ScriptedServer()
    with Server(server) as listening:
        assert imported(command, workspace, listening.port).code == 0
        pin(workspace)
        run = again(workspace, [turn(kit__echo=[{"text": "a"}, {"text": "b"}])])
        assert [text_of(run, 0, index) for index in (0, 1)] == ["a", "b"]
    assert server.methods.count("initialize") == 3  # of the import, of the pin, and one of the run


def test_a_read_of_a_server_elsewhere_is_decided_by_what_its_arguments_contain(
    workspace: Path, command: Command
) -> None:
    server = ScriptedServer(tools=[{**ECHO, "annotations": {"readOnlyHint": True}}])
    with Server(server) as listening:
        assert imported(command, workspace, listening.port).code == 0
        manifest, rules = workspace / "tools/kit/tool.toml", workspace / "policies/rules.csv"
        manifest.write_text(manifest.read_text().replace("# decide: ", ""))
        rules.write_text(
            f"{rules.read_text()}# No address leaves\np, agent:helper, kit.*, mcp:*, 'address' in contains, deny\n"
        )
        pin(workspace)
        run = again(workspace, [turn(kit__echo={"text": "write to dana@example.com"}), turn(kit__echo={"text": "hi"})])
        assert run.error(0)["code"] == "policy_denied"
        assert text_of(run, 1) == "hi"
        assert server.methods.count("tools/call") == 1
