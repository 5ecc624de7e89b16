"""A resource of an MCP server is read by an action of its own, under a decision that names it, as labelled data."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core.events import AttemptEnded
from support.lifecycle import replayed
from support.runs import turn
from support.workspaces.mcp import KIT, RULES, played

MEMO = """[actions.memo]
tool = "memo://notes/{name}"
summary = "Read a note"
touches = ["use memo:{name}"]
effect = "read"

[actions.echo]"""
WITH_MEMO = KIT.replace("[actions.echo]", MEMO)


@pytest.mark.parametrize("modern", [False, True])
def test_a_resource_is_read_as_decided_labelled_and_replayed(tmp_path: Path, modern: bool) -> None:
    rules = f"{RULES}# One note is closed\np, agent:helper, kit.memo, memo:closed, True, deny\n"
    turns = [turn(kit__memo={"name": name}) for name in ("open", "closed", "missing")]
    run = played(tmp_path, turns, {"modern": modern}, kit=WITH_MEMO, rules=rules)
    (block,) = run.result(0)["value"]["content"]
    assert block["resource"] == {"uri": "memo://notes/open", "mimeType": "text/plain", "text": "at memo://notes/open"}
    assert run.result(0)["labels"] == ["untrusted"]
    assert (run.error(1)["code"], run.error(1)["attempts"]) == ("policy_denied", 0)
    assert "error -32002: Resource not found" in run.error(2)["message"]
    assert not replayed(run).divergences


def test_the_bytes_of_a_resource_are_an_object_that_the_result_names(tmp_path: Path) -> None:
    run = played(tmp_path, [turn(kit__memo={"name": "image"})], kit=WITH_MEMO)
    (block,) = run.result(0)["value"]["content"]
    (ended,) = [item.event for item in run.records if isinstance(item.event, AttemptEnded)]
    assert [item.digest for item in ended.objects] == [block["resource"]["blob"]["object"]]
    assert not replayed(run).divergences


def test_an_argument_stays_within_its_place_of_the_address(tmp_path: Path) -> None:
    """What the decision names is what is read: nothing in a name leads elsewhere."""
    run = played(tmp_path, [turn(kit__memo={"name": "a/b?c#d ..e"})], kit=WITH_MEMO)
    result = run.result(0)
    if result["ok"]:
        assert result["value"]["content"][0]["resource"]["uri"] == "memo://notes/a%2Fb%3Fc%23d%20..e"
    else:
        assert run.error(0)["code"] == "invalid_arguments"


@pytest.mark.parametrize("name", [".", "..", "a%2e", "a\\b"])
def test_what_a_server_might_read_as_another_place_is_refused(tmp_path: Path, name: str) -> None:
    run = played(tmp_path, [turn(kit__memo={"name": name})], kit=WITH_MEMO)
    assert run.error(0)["code"] == "invalid_arguments"
