"""What once failed for a new author of tools, row by row: the test that shows each row right, and tests of rows that had none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from remit.broker.host import host_functions
from remit.core.errors import UsageError
from remit.core.events import AttemptBegun, AttemptEnded
from remit.journal.live_record import StoredRecord
from support import TESTS
from support.http_servers import Server
from support.langchain_agents import ASKED, LangChainWorkspace, results
from support.langchain_agents import new_workspace as new_workspace
from support.runs import Remit
from support.workspaces.files import write_workspace
from support.workspaces.langchain import SHOP, says
from support.workspaces.typed import bank

HERE: Final = "tools/test_author_stumbles.py::"
AUTHORITIES, FIDELITY, PEOPLE = (
    "sandbox/egress/test_authorities.py::",
    "langchain/test_fidelity.py::",
    "langchain/test_people.py::",
)
ALLOW, MIDDLEWARE, ADOPTION = (
    "analysis/test_allow.py::",
    "langchain/test_middleware.py::",
    "analysis/test_adoption.py::",
)
SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "a date that is none is an invalid argument, and nothing is in doubt": (
        f"{HERE}test_an_irreversible_call_with_a_value_of_another_type_is_not_entered",
        "broker/test_decoding.py::test_a_validator_that_refuses_answers_with_the_words_of_its_author_and_nothing_is_in_doubt",
    ),
    "a run of a graph is not resumed with another model, and each list says what makes it go on": (
        f"{MIDDLEWARE}test_a_run_of_a_graph_says_what_makes_it_go_on_and_a_deploy_does_not_stop_it",
        f"{MIDDLEWARE}test_a_run_that_its_program_never_ended_is_complete_and_closed",
    ),
    "a secret over plain HTTP is not sent, and the exchange says why": (
        f"{AUTHORITIES}test_a_secret_that_is_not_sent_says_why",
    ),
    "a private authority is one line of the manifest": (
        f"{AUTHORITIES}test_a_host_with_a_private_authority_is_reached_and_gets_its_secret",
    ),
    "a hint names its table, and is not given twice": (
        f"{ALLOW}test_what_the_sandbox_refused_is_named_with_its_table_and_the_hint_ends",
        f"{ALLOW}test_a_file_outside_of_the_manifest_gets_its_narrowest_line_and_a_new_review",
    ),
    "a hint for a host keeps the method and the path": (
        f"{HERE}test_the_line_for_a_request_that_is_refused_has_its_method_and_path",
    ),
    "a command of a LangChain tool updates the state": (
        f"{PEOPLE}test_a_command_of_a_tool_updates_the_state_and_its_message_is_the_result",
    ),
    "an artifact is kept": (f"{FIDELITY}test_the_answer_of_a_tool_with_an_artifact_keeps_it",),
    "an image is a block that the model sees": (
        f"{FIDELITY}test_images_and_files_reach_the_model_as_blocks_and_are_recorded_once_by_digest",
    ),
    "an object is JSON once": (f"{FIDELITY}test_a_result_that_langchain_writes_as_json_is_json_once",),
    "a bad argument of a LangChain tool is one that the model can correct": (
        f"{HERE}test_a_bad_argument_of_a_langchain_tool_says_what_is_wrong_with_it",
    ),
    "the words of an exception are in the record": (
        f"{FIDELITY}test_the_words_of_an_exception_and_its_place_are_in_the_record_and_the_model_reads_its_class",
    ),
    "a tool with only a coroutine runs in a graph without a loop": (
        f"{FIDELITY}test_a_tool_with_only_a_coroutine_runs_once_in_a_graph_without_a_loop",
    ),
    "a tool without a manifest, or that has changed, is refused when the agent is built": (
        f"{FIDELITY}test_all_problems_of_the_given_tools_are_reported_when_the_agent_is_built",
    ),
    "an agent inside of a tool of the same agent works": (
        f"{FIDELITY}test_an_agent_inside_a_tool_has_a_run_of_its_own_also_in_parallel_calls",
    ),
    "the rules for a new tool are written by one command, for the agent and its user, with an approver who exists": (
        f"{ADOPTION}test_the_rules_for_an_adopted_tool_are_written_with_their_cases_by_one_command",
        f"{ALLOW}test_the_user_gets_a_row_too_and_an_irreversible_call_asks_a_person_who_exists",
        f"{ALLOW}test_without_another_person_no_rule_for_an_irreversible_call_is_drafted",
    ),
    "bytes are a result": (
        "sandbox/test_decoding.py::test_only_a_function_whose_return_type_is_bytes_returns_them",
        "tools/test_content.py::test_bytes_are_kept_by_their_digest_and_the_result_names_them",
    ),
    "a generator is a list, and one of another type is named": (
        "langchain/test_progress.py::test_what_a_generator_yields_is_its_result_and_is_seen_while_it_runs",
        "tools/test_author_mistakes.py::test_a_mistake_is_found_before_anything_runs",
    ),
    "a file that is not there says how a run gets its files": (
        f"{HERE}test_a_file_that_is_not_there_says_how_a_run_gets_its_files",
    ),
    "a module may run a loop while it is imported, and lies beside remit.toml": (
        f"{HERE}test_a_module_that_runs_a_loop_while_it_is_imported_is_loaded_in_a_loop_too",
        f"{HERE}test_a_module_that_is_not_there_says_where_to_write_it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", list(SHOWN))
def test_each_row_has_its_tests(row: str) -> None:
    """A test that was renamed or removed leaves its row without one."""
    for place in SHOWN[row]:
        file, _, name = place.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE), place


# -- values of types that JSON does not have ---------------------------------------------------------------------------

TYPED: Final = """
def at(to: str, when: datetime.datetime) -> str:
    return entered(when.isoformat())

def on(to: str, day: datetime.date) -> str:
    return entered(day)

def by_id(to: str, id: uuid.UUID) -> str:
    return entered(id)

def sum(to: str, amount: decimal.Decimal) -> str:
    return entered(amount)
"""
WRONG: Final = {"at": "when", "on": "day", "by_id": "id", "sum": "amount"}


def test_an_irreversible_call_with_a_value_of_another_type_is_not_entered(tmp_path: Path) -> None:
    made = bank(tmp_path, TYPED)
    wrong = [{action: {"to": "a1", name: "yesterday"}} for action, name in WRONG.items()]
    played = made.play(*wrong, {"at": {"to": "a1", "when": "2026-01-02T03:04:05Z"}})
    for step, name in enumerate(WRONG.values()):
        error = played.error(step)
        assert (error["code"], error["attempts"], name in error["message"]) == ("invalid_arguments", 0, True)
        assert "pydantic" not in str(error)
    assert made.effects == ["2026-01-02T03:04:05+00:00"]
    assert [item.event.step for item in played.records if isinstance(item.event, AttemptBegun)] == [len(WRONG)]
    assert StoredRecord(played.opened.journal, played.ended.run).state.in_doubt == ()


def test_a_bad_argument_of_a_langchain_tool_says_what_is_wrong_with_it(
    new_workspace: Callable[..., LangChainWorkspace],
) -> None:
    shop = SHOP.replace("def get_order(order: str) -> str:", "def get_order(order: str, when: datetime) -> str:")
    workspace = new_workspace(
        SHOP=shop.replace("import asyncio, time", "import asyncio, time\nfrom datetime import datetime")
    )
    good, bad = (
        ("get_order", {"order": "1", "when": "2026-01-02T03:04:05"}),
        ("get_order", {"order": "1", "when": "yesterday"}),
    )
    refused, done = results(workspace.agent(says(bad), says(good)).invoke(ASKED))
    error = refused["error"]
    assert (error["code"], error["attempts"], "when" in error["message"]) == ("invalid_arguments", 0, True)
    assert done["value"] == "order 1: a lamp"
    assert len(workspace.events(AttemptEnded)) == 1


# -- hints -------------------------------------------------------------------------------------------------------------


FORGE: Final = """name = "forge"
version = "1.0.0"
owner = "tests@example.com"
summary = "Issues"
source = "python"

[always]
hosts = ["GET localhost:{port}/repos/acme/shop/issues/**"]
ranges = ["127.0.0.0/8", "::1/128"]

[actions.get]
summary = "Read"
touches = ["use own:forge"]
effect = "read"
"""
FETCH: Final = """
import urllib.request

def get(url: str) -> str:
    return urllib.request.urlopen(url).read().decode()
"""


def test_the_line_for_a_request_that_is_refused_has_its_method_and_path(remit: Remit, session: Path) -> None:
    """`issues/**` is what lies below `issues`, so the line for `issues` itself is missing, and no wider one."""
    with Server() as server:
        address = f"localhost:{server.port}/repos/acme/shop/issues"
        write_workspace(
            session, {"tools/forge/tool.toml": FORGE.format(port=server.port), "tools/forge/main.py": FETCH}
        )
        refused = remit("tool", "try", "forge.get", f"url=http://{address}")
        assert f'to allow it, in tool.toml: add "GET {address}" to hosts in [always]' in refused.err
        assert remit("tool", "try", "forge.get", f"url=http://{address}/7").code == 0


def test_a_file_that_is_not_there_says_how_a_run_gets_its_files(remit: Remit, session: Path) -> None:
    """The first call of a new agent: its folder is empty, and nothing of the call is wrong."""
    for words in (
        ("tool", "new", "words"),
        ("tool", "pin", "words"),
        ("agent", "new", "clerk", "--tools", "words", "--write"),
    ):
        assert remit(*words).code == 0
    call = ("call", "words.count", '{"path": "notes/a.md"}', "--agent", "clerk")
    line = "each run of clerk begins with an empty folder: name a folder of yours as seed in agent/clerk/agent.toml"
    failed = remit(*call)
    assert (failed.code, line in failed.out) == (1, True), failed.out
    write_workspace(session, {"mine/notes/a.md": "one two"})
    manifest = session / "agent/clerk/agent.toml"
    manifest.write_text(manifest.read_text().replace('# seed = "data"', 'seed = "mine"'))
    assert remit(*call).code == 0


# -- modules with tools of a program -----------------------------------------------------------------------------------

LOOPED: Final = """
import asyncio

async def made():
    await asyncio.sleep(0)
    return [look]

def look(order: str) -> str:
    "Look."
    return order

TOOLS = asyncio.run(made())
"""


def test_a_module_that_runs_a_loop_while_it_is_imported_is_loaded_in_a_loop_too(tmp_path: Path) -> None:
    """As the official MCP adapters have to: they get their tools from a coroutine."""
    module = f"looped_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{module}.py").write_text(LOOPED)

    async def load() -> Any:
        return host_functions(f"{module}:TOOLS", tmp_path)

    assert list(asyncio.run(load())) == ["look"]


def test_a_module_that_is_not_there_says_where_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write the module beside remit\.toml, or install it"):
        host_functions("no_such_module_here:TOOLS", tmp_path)
