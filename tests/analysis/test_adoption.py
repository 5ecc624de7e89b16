"""Tools that a program has already come under Remit by one command, and a new agent works with its rules and cases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remit.analysis.check import edit_workspace
from remit.broker.host.tools import host_functions
from remit.core.errors import UsageError, WorkspaceError
from remit.tools.making.guesses import guess, nouns_of
from remit.workspace.loader import load_workspace
from support.runs import Remit

SHOP = '''"""The tools of a shop."""

from langchain_core.tools import tool


@tool
def get_order(order_id: str) -> str:
    """Read an order."""
    return f"order {order_id}: a lamp"


@tool("refund-order")
def refund(order: str, amount: int) -> str:
    """Give money back.

    It cannot be undone.
    """
    return f"refunded {amount} EUR for {order}"


def save(path: str, url: str) -> str:
    """Save a page."""
    return path


def untyped(x):
    return x


TOOLS = [get_order, refund, save, untyped]
NONE = [untyped]
'''


@pytest.fixture
def shop(session: Path) -> Path:
    """The starter, with a module of tools; each test has a module of its own name, because Python imports one once."""
    (session / f"shop_{session.parent.name}.py".replace("-", "_")).write_text(SHOP)
    return session


def entry(shop: Path) -> str:
    return f"shop_{shop.parent.name}".replace("-", "_") + ":TOOLS"


def decided(text: str) -> str:
    return re.sub(r"^# decide: ", "", text, flags=re.MULTILINE)


def test_adopting_shows_the_files_and_writes_them_only_when_asked(remit: Remit, shop: Path) -> None:
    shown = remit("tool", "adopt", entry(shop), "--name", "desk", "--agent", "desk")
    assert shown.code == 0
    assert '+# decide: touches = ["use order:{order_id}"]' in shown.out
    assert f"to write it: remit tool adopt {entry(shop)} --name desk --agent desk --write" in shown.out
    assert "no action: untyped: parameter 'x' has no type" in shown.err
    assert not (shop / "tools/desk").exists()
    assert remit("check").code == 0
    written = remit("tool", "adopt", entry(shop), "--name", "desk", "--agent", "desk", "--write", "--json").json
    assert (written["open"], written["written"]) == (10, True)
    assert written["files"] == [
        "tools/desk/tool.toml",
        "tools/desk/cases.yaml",
        "agent/desk/agent.toml",
        "agent/desk/prompt.md",
        "remit.toml",
    ]


def test_an_adopted_tool_does_not_load_before_each_line_is_decided_and_works_then(remit: Remit, shop: Path) -> None:
    """From a module to an allowed call of an agent: adopt, decide, pin, allow, call."""
    remit("tool", "adopt", entry(shop), "--name", "desk", "--agent", "desk", "--write")
    refused = remit("check")
    assert refused.code == 2
    assert refused.err.count("has a line that is not decided") == 10
    manifest = shop / "tools/desk/tool.toml"
    text = manifest.read_text()
    assert re.findall(r"\[actions\.(\w+)\]", text) == ["get_order", "refund_order", "save"]
    one_left = decided(text).replace('effect = "read"', '# decide: effect = "read"', 1)
    manifest.write_text(one_left)
    pinned = remit("tool", "pin", "desk")
    assert (pinned.out, "action 'get_order' has a line that is not decided" in pinned.err) == ("desk: new\n", True)
    manifest.write_text(decided(text))
    assert "3 passed, 0 failed" in remit("tool", "test", "desk").out
    assert remit("tool", "pin", "desk").out == "desk: changed\n"
    call = ("desk.get_order", '{"order_id": "17"}', "--agent", "desk")
    assert "no rule allows" in remit("call", *call).out
    assert remit("allow", *call, "--write").code == 0
    assert "order 17: a lamp" in remit("call", *call).out
    assert ", 0 problems" in remit("check").out


def test_the_rules_for_an_adopted_tool_are_written_with_their_cases_by_one_command(remit: Remit, shop: Path) -> None:
    remit("tool", "adopt", entry(shop), "--name", "desk", "--agent", "desk", "--write")
    manifest = shop / "tools/desk/tool.toml"
    manifest.write_text(decided(manifest.read_text()))
    assert remit("tool", "pin", "desk").code == 0
    write = ("policy", "suggest", "--tool", "desk", "--agent", "desk", "--write")
    lines = remit(*write).out.splitlines()
    assert lines[-1] == "written"
    assert "+p, agent:desk, desk.get_order, order:*, True, allow" in lines
    assert "+p, agent:desk, desk.refund_order, order:*, approved('role:oncall-lead'), allow" in lines
    assert "order 17: a lamp" in remit("call", "desk.get_order", '{"order_id": "17"}', "--agent", "desk").out
    assert remit("policy", "test").code == 0
    assert " 0 warnings" in remit("policy", "check").out
    again = remit(*write)
    assert (again.code, again.out) == (0, "nothing is missing: the rules decide each action already\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--agent", "triage"), "name it by --tool"),
        (("--tool", "fils", "--agent", "triage"), "did you mean files?"),
        (("--tool", "http", "--agent", "triage"), "does not have the tool"),
        (("--tool", "files", "--agent", "nobody"), "nobody"),
    ],
)
def test_rules_are_written_only_for_an_agent_and_a_tool_of_it(
    remit: Remit, session: Path, arguments: tuple[str, ...], why: str
) -> None:
    before = (session / "policies/rules.csv").read_bytes()
    refused = remit("policy", "suggest", *arguments, "--write")
    assert (refused.code != 0, why in refused.err) == (True, True)
    assert (session / "policies/rules.csv").read_bytes() == before


def test_the_guesses_follow_names_and_arguments() -> None:
    text = {"type": "string"}
    nouns = nouns_of(["get_order", "list_orders", "refund_order"])
    assert nouns == {"order"}

    def touches(action: str, **arguments: object) -> tuple[str, tuple[str, ...]]:
        found = guess(action, {"properties": arguments}, nouns)
        return found.effect, found.touches

    assert touches("get_order", id=text) == ("read", ("use order:{id}",))
    assert touches("refund_order", order=text, amount={"type": "number"}) == ("once", ("use order:{order}",))
    assert touches("delete", user_id=text, customer_id={"type": "integer"}) == ("once", ("use customer:{customer_id}",))
    assert touches("read_file", path=text, folder=text) == ("read", ("read file:{path}", "read file:{folder}/**"))
    assert touches("write_file", path={"anyOf": [text, {"type": "null"}]}) == ("once", ("write file:{path}",))
    assert touches("send_mail", to=text, body=text) == ("once", ("use mail:{to}",))
    assert touches("query", sql=text, url=text) == ("read", ("use table:{sql:sql}", "use url:{url}"))
    assert touches("search", **{"order id": text, "options": {"type": "object"}}) == ("read", ())
    assert guess("fetch", {"properties": {"url": text}}, ()).methods == ("GET",)


def test_a_new_tool_from_langchain_loads_at_once_as_the_strictest(remit: Remit, shop: Path) -> None:
    made = remit("tool", "new", "desk", "--from", "langchain", entry(shop))
    assert made.code == 0, made.err
    assert '+host_tools = ["desk"]' in made.out
    assert "3 passed, 0 failed" in remit("tool", "test", "desk").out
    actions = load_workspace(shop).tools["desk"].manifest.actions.values()
    assert {(action.effect, action.touches) for action in actions} == {("once", ("use service:desk",))}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("shop_missing:TOOLS",), "No module named 'shop_missing'; write the module beside remit.toml"),
        (("json:nothing", "--name", "a"), "has no attribute 'nothing'"),
        (("json:__all__", "--name", "a"), "in the list is no function"),
        (("{entry}", "--name", "files"), "the tool 'files' exists already"),
        (("{entry}", "--name", "De-sk"), "is not a valid name"),
        (("{entry}", "--name", "desk", "--agent", "triage"), "the agent 'triage' exists already"),
        (("{module}:NONE", "--name", "desk"), "has no function that can be an action\n    untyped: parameter 'x'"),
        (("{module}:SHOP", "--name", "desk"), "has no attribute 'SHOP'"),
    ],
)  # fmt: skip
def test_what_cannot_be_adopted_is_refused_and_nothing_is_written(
    remit: Remit, shop: Path, words: tuple[str, ...], what: str
) -> None:
    names = {"entry": entry(shop), "module": entry(shop).partition(":")[0]}
    refused = remit("tool", "adopt", *(word.format(**names) for word in words), "--write")
    assert refused.code == 2
    assert what in refused.err
    assert remit("check").code == 0


def test_an_entry_that_is_no_list_is_refused() -> None:
    with pytest.raises(UsageError, match="no table or list of functions"):
        host_functions("json:decoder", None)
    with pytest.raises(UsageError, match="is no function and no LangChain tool: remove it"):
        host_functions("sys:path", None)


# -- agents ------------------------------------------------------------------------------------------------------------


def test_a_new_agent_runs_and_its_rules_and_cases_hold(remit: Remit, session: Path) -> None:
    shown = remit("agent", "new", "clerk", "--tools", "files,tickets")
    assert shown.code == 0, shown.err
    assert "to write it: remit agent new clerk --tools files,tickets --write" in shown.out
    assert not (session / "agent/clerk").exists()
    written = remit("agent", "new", "clerk", "--tools", "files,tickets", "--write", "--json").json
    assert written["files"] == [
        "agent/clerk/agent.toml",
        "agent/clerk/prompt.md",
        "agent/clerk/script.yaml",
        "policies/rules.csv",
        "policies/cases.yaml",
    ]
    checked = remit("check")
    assert ", 0 problems" in checked.out, checked.err
    assert "0 failed" in remit("policy", "test").out
    assert remit("run", "clerk", "hello").code == 0
    allowed = remit("call", "files.read", '{"path": "logs/payments.log", "lines": 1}', "--agent", "clerk", "--dry-run")
    assert allowed.out.startswith("allow")
    asked = remit("call", "tickets.close", '{"key": "INC-1", "reason": "x"}', "--agent", "clerk", "--dry-run")
    assert "role:oncall-lead" in asked.out
    denied = remit("call", "files.read", '{"path": "secrets/payments.env"}', "--agent", "clerk", "--dry-run")
    assert denied.out.startswith("deny")


def test_a_new_agent_gets_no_row_for_what_a_rule_denies_or_its_user_may_already(remit: Remit) -> None:
    diff = remit("agent", "new", "clerk", "--tools", "files", "--json").json["diff"]
    assert "p, agent:clerk, files.read, file:logs/**, True, allow" in diff
    assert "file:secrets" not in diff
    assert "user:operator, files." not in diff


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("clerk", "--tools", "fils"), "there is no tool 'fils': did you mean files?"),
        (("triage", "--tools", "files"), "the agent 'triage' exists already"),
        (("Cl/erk", "--tools", "files"), "is not a valid name"),
        (("clerk", "--tools", "tickets", "--approver", "boss"), "is not a role"),
        (("clerk", "--tools", "tickets", "--approver", "role:boss"), "no user but user:operator has role:boss"),
    ],
)
def test_an_agent_that_cannot_be_is_refused_and_nothing_is_written(
    remit: Remit, session: Path, words: tuple[str, ...], what: str
) -> None:
    refused = remit("agent", "new", *words, "--write")
    assert refused.code == 2, refused.out
    assert what in refused.err
    assert not (session / "agent/clerk").exists()


def test_a_change_that_breaks_the_workspace_is_taken_back(session: Path) -> None:
    """A new file in a new folder disappears again."""
    with pytest.raises(WorkspaceError, match="half"):
        edit_workspace(session, {"tools/half/tool.toml": b"name = 1\n"})
    assert not (session / "tools/half").exists()
