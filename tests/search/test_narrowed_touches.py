"""A manifest may ask for whatever of a set the rules permit, and says so; the rules decide each part of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from remit.core import WorkspaceError
from remit.core.calls import Context, Permitted, Request
from remit.policy.engine import load_policy
from remit.policy.folder import read_folder
from remit.sandbox import Sandbox
from remit.tools import workbench
from remit.workspace.labels import labels_in
from remit.workspace.loader import load_workspace
from remit.workspace.manifest.manifest import Action
from remit.workspace.manifest.touches import TouchError, parse_touch
from support.workspaces.collections import collections_workspace
from support.workspaces.manifests import WHOLE, parse


def with_touch(touch: str, *, stores: str = '["tickets", "search/*"]', more: str = "") -> str:
    text = WHOLE.replace('stores = ["tickets"]', f"stores = {stores}")
    return f'{text}\n[actions.get]\nsummary = "s"\neffect = "read"\ntouches = ["{touch}"]\n{more}'


@pytest.mark.parametrize(
    ("touch", "form", "store"),
    [
        ("read store:search/*", "each", "search/*"),
        ("write store:search/{collection}", "one", "search/*"),
        ("read store:search/{collection}", "one", "search/*"),
        ("read store:tickets", "constant", "tickets"),
        ("use document:**", "within", ""),
    ],
)
def test_a_touch_names_a_store_a_group_or_what_the_rules_permit(touch: str, form: str, store: str) -> None:
    template = parse_touch(touch)
    assert (template.form, template.store) == (form, store)


@pytest.mark.parametrize(
    "touch",
    [
        "write store:search/*",
        "use store:search/*",
        "read store:*/*",
        "read store:{name}",
        "use file:**",
        "use mail:**",
        "use none:**",
    ],
)
def test_only_a_read_of_stores_or_of_a_kind_without_a_grammar_is_narrowed(touch: str) -> None:
    with pytest.raises(TouchError):
        parse_touch(touch)


def test_a_group_that_the_manifest_does_not_allow_is_a_problem_at_its_line() -> None:
    for touch in ("read store:search/*", "read store:search/{collection}"):
        with pytest.raises(WorkspaceError, match=r"store 'search/\*' is not in 'at_most.stores'"):
            parse(with_touch(touch, stores='["tickets"]'))
    assert parse(with_touch("read store:search/*")).stores == ("tickets", "search/*")


def test_what_follows_from_rules_is_not_cached() -> None:
    with pytest.raises(WorkspaceError, match="'cache' on an action with resources that the rules permit one by one"):
        parse(with_touch("use document:**", more="cache = true\n"))


def test_a_tool_that_does_not_ask_what_is_permitted_is_not_pinned(tmp_path: Path) -> None:
    folder = collections_workspace(tmp_path / "workspace").parent
    main = folder / "tools/search/main.py"
    main.write_text(
        main.read_text().replace("    permitted: dict[str, Patterns],", "    other: dict[str, Patterns],", 1)
    )
    workspace = load_workspace(folder)
    with pytest.raises(WorkspaceError, match="does not ask what that is"):
        asyncio.run(workbench.pin_tools(workspace, ("search",), Sandbox(accept=("full",))))


PLAIN: Final = """
p, agent:a, search.*, document:handbook/**, True, allow
p, agent:a, *, **, 'private' in labels, deny
p, agent:a, search.find, document:handbook/x*, time < '23:59', deny
p, agent:a, search.find, document:drafts/**, approved('role:lead'), allow
p, agent:a, search.open, document:other/**, True, allow
p, agent:a, search.find, store:search/*, True, allow
p, role:r, *, **, True, allow
g, user:u, role:r
"""


def test_the_patterns_are_those_that_hold_for_the_call_without_approvals(tmp_path: Path) -> None:
    collections_workspace(tmp_path / "workspace")
    files = read_folder(tmp_path / "workspace/policies")
    policy = load_policy({**files, "policies/rules.csv": PLAIN.encode()})
    request = Request(subjects=("agent:a", "user:u"), action="search.find", resources=(), context=Context(time="12:00"))
    assert policy.permitted(request, "document") == Permitted(
        allow=(("document:handbook/**",), ("**",)), deny=("document:handbook/x*",)
    )
    private = request.model_copy(update={"context": Context(time="12:00", labels=frozenset({"private"}))})
    assert "**" in policy.permitted(private, "document").deny
    nobody = request.model_copy(update={"subjects": ("agent:a", "user:none")})
    assert policy.permitted(nobody, "document").allow == (("document:handbook/**",), ())


def test_what_is_no_label_of_its_place_puts_all_labels_of_the_place_on_the_run() -> None:
    action = Action(name="find", summary="s", labels_in_result={"items/*/labels/*": ("confidential", "internal")})
    assert labels_in(action, {"items": [{"labels": ["internal"]}, {"labels": []}]}) == ("internal",)
    for odd in ("secret", 7, ["internal"]):
        assert labels_in(action, {"items": [{"labels": [odd]}]}) == ("confidential", "internal")
    assert labels_in(action, {"items": []}) == ()
