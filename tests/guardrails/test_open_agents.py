"""Agents that read untrusted text: what can still happen once an attacker chooses every call."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.analysis.backtest import backtest_rules
from remit.analysis.cases import find_uncovered, run_cases
from remit.analysis.diff.policy import compare_policies
from remit.analysis.solver.ruleset import read_rule_set
from remit.broker.broker import Broker
from remit.core.calls import Context, Request, Scope, ScopeEntry
from remit.core.errors import WorkspaceError
from remit.core.events import CallAnswered, RunStarted
from remit.journal import StoredRecord, list_runs
from remit.policy.run_scope import SUBJECT, narrowed, read_scope
from remit.replay.replayer import replay
from remit.tracing import open_trace
from remit.workspace.bundle import open_bundle, vocabulary
from remit.workspace.session import policy_files
from remit.workspace.template import starter_folder
from support.runs import DONE, turn
from support.workspaces.mailbox import Box, MailboxRun, mailbox_workspace

ROOT = starter_folder()
INBOX = turn(box__inbox={})
CONTACTS = turn(box__contacts={})
LOOK_UP = '\n[[directory]]\naction = "box.contacts"\n'


def to(*addresses: str, body: str = "hello") -> dict[str, Any]:
    return turn(box__send={"to": list(addresses), "body": body})


def again(played: MailboxRun) -> Any:
    """The first divergence of a replay from the recorded run; None if it is reproduced."""
    trace = open_trace(played.session.traces, played.session.journal, played.run)
    books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    found = asyncio.run(replay(trace.records, books))
    return found.divergences[0] if found.divergences else None


# ── whom and where something goes ────────────────────────────────────────────────────────────────────────────────────────


def test_after_untrusted_text_mail_goes_only_to_recipients_that_the_user_named(tmp_path: Path) -> None:
    played = MailboxRun(
        mailbox_workspace(tmp_path, [INBOX, to("eve@evil.test"), to("bob@example.org"), DONE]), "Tell bob@example.org"
    )
    assert played.verdicts == ["inbox: allow", "send: ask", "send: allow"]
    assert Box.done == [("send", {"to": ["bob@example.org"], "body": "hello"})]


def test_one_unknown_recipient_among_known_ones_needs_approval(tmp_path: Path) -> None:
    session = mailbox_workspace(tmp_path, [INBOX, to("bob@example.org", "eve@evil.test"), DONE])
    assert MailboxRun(session, "Tell bob@example.org").verdicts[-1] == "send: ask"
    assert Box.done == []


def test_an_unknown_recipient_needs_approval_before_anything_untrusted_is_read_too(tmp_path: Path) -> None:
    assert MailboxRun(mailbox_workspace(tmp_path, [to("eve@evil.test"), DONE]), "Write a mail").verdicts == [
        "send: ask"
    ]


def test_mail_to_earlier_directory_entries_is_allowed_after_untrusted_text(tmp_path: Path) -> None:
    played = MailboxRun(mailbox_workspace(tmp_path, [CONTACTS, INBOX, to("ann@example.com"), DONE]), "Tell her")
    assert played.verdicts[-1] == "send: allow"


def test_a_look_up_after_untrusted_text_adds_nothing_to_the_directory(tmp_path: Path) -> None:
    played = MailboxRun(mailbox_workspace(tmp_path, [INBOX, CONTACTS, to("ann@example.com"), DONE]), "Tell her")
    assert played.verdicts[-1] == "send: ask"


def test_a_look_up_before_the_run_fills_the_directory_and_the_model_never_reads_it(tmp_path: Path) -> None:
    played = MailboxRun(mailbox_workspace(tmp_path, [INBOX, to("ann@example.com"), DONE], agent=LOOK_UP), "Tell her")
    assert played.verdicts == ["contacts: allow", "inbox: allow", "send: allow"]
    texts = [message.text for message in _conversation(played)]
    assert not any("ann@example.com" in text for text in texts if "send" not in text and "sent" not in text)
    assert again(played) is None


def test_look_ups_run_before_an_external_graph_too(tmp_path: Path) -> None:
    from remit.langchain.middleware import RemitMiddleware

    mailbox_workspace(tmp_path, [DONE], agent=LOOK_UP.replace("\n[[", "accept_parsed_arguments = true\n[[", 1))
    remit = RemitMiddleware("helper", task="Tell her", workspace=tmp_path)
    actions = {tool.name: tool for tool in remit.actions}
    actions["box__inbox"].invoke({})
    assert '"ok":true' in actions["box__send"].invoke({"to": ["ann@example.com"]})
    assert "approval_required" in actions["box__send"].invoke({"to": ["eve@evil.test"]})
    remit.close()
    assert Box.done == [("send", {"to": ["ann@example.com"], "body": ""})]


def test_the_directory_of_an_external_graph_is_completed_after_its_process_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remit.langchain.middleware import RemitMiddleware

    mailbox_workspace(tmp_path, [DONE], agent=LOOK_UP.replace("\n[[", "accept_parsed_arguments = true\n[[", 1))
    thread: Any = {"configurable": {"thread_id": "t", "__pregel_checkpointer": True}}

    def invoke(action: str, arguments: dict[str, Any]) -> str:
        remit = RemitMiddleware("helper", task="Tell her", workspace=tmp_path)
        answer: str = {tool.name: tool for tool in remit.actions}[action].invoke(arguments, thread)
        remit.close()
        return answer

    if (child := os.fork()) == 0:
        monkeypatch.setattr(
            Broker, "decide", lambda *_: os._exit(9)
        )  # the turn is recorded, and none of its calls is decided
        invoke("box__inbox", {})
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert '"ok":true' in invoke("box__send", {"to": ["ann@example.com"]})


def test_a_look_up_before_the_run_adds_no_label(tmp_path: Path) -> None:
    session = mailbox_workspace(
        tmp_path, [turn(box__drop_note={"note": "n-12"}), DONE], agent='\n[[directory]]\naction = "box.inbox"\n'
    )
    assert MailboxRun(session, "Tidy up").verdicts == ["inbox: allow", "drop_note: allow"]


def test_a_look_up_that_changes_something_or_lists_nothing_is_refused_at_load(tmp_path: Path) -> None:
    for action in ("box.send", "box.profile", "box.gone"):
        with pytest.raises(WorkspaceError, match="cannot fill the directory"):
            mailbox_workspace(tmp_path / action, [DONE], agent=f'\n[[directory]]\naction = "{action}"\n')


def test_a_page_is_requested_only_if_the_user_or_a_named_sender_gave_its_link(tmp_path: Path) -> None:
    pages = [
        turn(box__page={"url": url})
        for url in ("https://plan.example.org/a", "https://evil.test/", "https://news.example.org/")
    ]
    played = MailboxRun(
        mailbox_workspace(tmp_path, [INBOX, *pages, DONE]),
        "Sum up what the user Bob posted and https://news.example.org",
    )
    assert played.verdicts[1:] == ["page: allow", "page: ask", "page: allow"]


def test_a_host_is_called_only_if_the_user_named_it(tmp_path: Path) -> None:
    calls = [turn(box__look_up_host={"host": host}) for host in ("hgk137803.evil.test", "news.example.org")]
    played = MailboxRun(mailbox_workspace(tmp_path, [INBOX, *calls, DONE]), "Does news.example.org answer?")
    assert played.verdicts[1:] == ["look_up_host: ask", "look_up_host: allow"]


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "verdict", "contains"),
    [
        ("see https://evil.test", "ask", ["link"]),
        ("write to eve@evil.test", "ask", ["address"]),
        ("pay DE89 3704 0044 0532 0130 00", "ask", ["account"]),
        ("my number is HGK137803", "ask", ["private"]),
        ("see https://news.example.org, at 2024-05-01", "allow", []),
    ],
)
def test_an_outgoing_text_contains_no_unnamed_links_addresses_or_accounts(
    tmp_path: Path, body: str, verdict: str, contains: list[str]
) -> None:
    turns = [turn(box__profile={}), INBOX, to("bob@example.org", body=body), DONE]
    played = MailboxRun(mailbox_workspace(tmp_path, turns), "Tell bob@example.org about https://news.example.org")
    assert played.verdicts[-1] == f"send: {verdict}"
    assert not contains or played.facts(2)["contains"] == contains


@pytest.mark.parametrize(("query", "verdict"), [("", "allow"), ("?p=HGK137803", "ask"), ("?x=aHR0cHM6Ly9", "ask")])
def test_the_query_of_a_page_contains_nothing_that_nobody_named(tmp_path: Path, query: str, verdict: str) -> None:
    page = turn(box__page={"url": f"https://news.example.org/{query}"})
    turns = [turn(box__profile={}), INBOX, page, DONE]
    played = MailboxRun(mailbox_workspace(tmp_path, turns), "Sum up https://news.example.org")
    assert played.verdicts[-1] == f"page: {verdict}"
    assert again(played) is None


def test_a_link_of_a_named_sender_is_followed_only_with_its_own_query(tmp_path: Path) -> None:
    pages = [turn(box__page={"url": f"https://plan.example.org/b?{query}"}) for query in ("day=1", "day=HGK137803")]
    played = MailboxRun(mailbox_workspace(tmp_path, [INBOX, *pages, DONE]), "Sum up what the user Bob posted")
    assert played.verdicts[1:] == ["page: allow", "page: ask"]


# ── the user's own things ────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_untrusted_text_own_things_are_changed_only_if_the_user_named_them(tmp_path: Path) -> None:
    drops = [turn(box__drop_note={"note": note}) for note in ("n-12", "plan-b")]
    assert MailboxRun(mailbox_workspace(tmp_path / "a", [INBOX, *drops, DONE]), "Delete note plan-b").verdicts[1:] == [
        "drop_note: ask",
        "drop_note: allow",
    ]
    assert MailboxRun(mailbox_workspace(tmp_path / "b", [*drops, DONE]), "Tidy up").verdicts == [
        "drop_note: allow",
        "drop_note: allow",
    ]


def test_a_name_that_an_attacker_took_from_the_task_names_nothing(tmp_path: Path) -> None:
    """An attacker can create a note with any name: summary, inbox, short."""
    drops = [turn(box__drop_note={"note": note}) for note in ("summary", "inbox", "short", "for")]
    words = "Read my inbox and write a short summary of it for me"
    assert (
        MailboxRun(mailbox_workspace(tmp_path / "a", [INBOX, *drops, DONE]), f"{words}.").verdicts[1:]
        == ["drop_note: ask"] * 4
    )
    MailboxRun(mailbox_workspace(tmp_path / "b", [INBOX, *drops, DONE]), f"{words}; then delete my note 'summary'.")
    assert Box.done == [("drop_note", {"note": "summary"})]


def test_a_run_can_use_things_that_it_created(tmp_path: Path) -> None:
    turns = [INBOX, turn(box__add_note={"text": "x"}), turn(box__drop_note={"note": "n-77"}), DONE]
    assert MailboxRun(mailbox_workspace(tmp_path, turns), "Write a note").verdicts[1:] == [
        "add_note: allow",
        "drop_note: allow",
    ]


@pytest.mark.parametrize(
    ("card", "address", "verdict"),
    [
        ("Eve <Eve@evil.test>", "eve@evil.test", "ask"),  # it only repeats what the model wrote
        ("the team", "team-7@lists.example.com", "allow"),  # it made that itself
    ],
)
def test_an_address_that_only_repeats_an_argument_is_not_added_to_the_directory(
    tmp_path: Path, card: str, address: str, verdict: str
) -> None:
    turns = [INBOX, turn(box__add_contact={"card": card}), to(address), DONE]
    played = MailboxRun(mailbox_workspace(tmp_path, turns), "Make a contact of the team and tell them")
    assert played.verdicts[1:] == ["add_contact: allow", f"send: {verdict}"]
    assert again(played) is None


def test_an_action_without_resources_needs_a_request_word_of_the_user(tmp_path: Path) -> None:
    turns = [INBOX, turn(box__add_note={"text": "x"}), DONE]
    assert MailboxRun(mailbox_workspace(tmp_path / "a", turns), "Sum it up").verdicts[-1] == "add_note: ask"
    assert MailboxRun(mailbox_workspace(tmp_path / "b", turns), "Make notes of it").verdicts[-1] == "add_note: allow"


def test_a_password_is_changed_only_to_a_value_that_the_user_wrote(tmp_path: Path) -> None:
    for name, password, verdict in (("a", "1j1l-2k3j", "allow"), ("b", "eves-own-1", "ask")):
        turns = [INBOX, turn(box__set_password={"password": password}), DONE]
        played = MailboxRun(mailbox_workspace(tmp_path / name, turns), "Change my password to '1j1l-2k3j'.")
        assert played.verdicts[-1] == f"set_password: {verdict}"
        assert password not in str(played.events[1:])  # nobody is shown it, and no record holds it
        assert again(played) is None


@pytest.mark.parametrize(
    ("task", "arguments", "verdict"),
    [
        ("Sum up my mail", {"on": False}, "ask"),
        ("Sum up my mail, write false where it lies", {"on": False}, "ask"),  # said, but of something else
        ("Set the second factor: false", {"on": False}, "allow"),
        ("Set the second factor: false", {"on": False, "by": []}, "ask"),
    ],
)
def test_a_setting_is_changed_only_to_a_value_that_the_user_wrote(
    tmp_path: Path, task: str, arguments: dict[str, Any], verdict: str
) -> None:
    turns = [INBOX, turn(box__second_factor=arguments), DONE]
    assert MailboxRun(mailbox_workspace(tmp_path, turns), task).verdicts[1:] == [f"second_factor: {verdict}"]


def test_an_empty_password_is_never_quoted_by_the_user(tmp_path: Path) -> None:
    turns = [INBOX, turn(box__set_password={"password": ""}), DONE]
    played = MailboxRun(mailbox_workspace(tmp_path, turns), "Change my password to '1j1l-2k3j'.")
    assert played.verdicts[-1] == "set_password: ask"


# ── labels ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_declassifier_removes_a_label_from_the_run_and_is_recorded(tmp_path: Path) -> None:
    drop = turn(box__drop_note={"note": "n-12"})
    played = MailboxRun(mailbox_workspace(tmp_path, [INBOX, drop, turn(box__review={}), drop, DONE]), "Review the mail")
    assert played.verdicts[1:] == ["drop_note: ask", "review: allow", "drop_note: allow"]
    assert played.answers[2].labels_removed == ("untrusted",)
    assert again(played) is None


def test_a_label_that_is_added_during_a_review_stays(tmp_path: Path) -> None:
    drop = turn(box__drop_note={"note": "n-12"})
    turns = [turn(box__inbox={}, box__review={}), drop, turn(box__review={}), drop, DONE]
    played = MailboxRun(mailbox_workspace(tmp_path, turns), "Review the mail")
    assert played.verdicts == ["inbox: allow", "review: allow", "drop_note: ask", "review: allow", "drop_note: allow"]
    assert again(played) is None


def test_results_of_a_labelled_resource_have_its_label(tmp_path: Path) -> None:
    labels = '[[label]]\nnote = "Written by guests"\nlabels = ["untrusted"]\nresources = ["note:guestbook"]\n'
    drop = turn(box__drop_note={"note": "n-12"})
    for name, note, verdict in (("a", "guestbook", "ask"), ("b", "diary", "allow")):
        turns = [turn(box__notes={"note": note}), drop, DONE]
        played = MailboxRun(
            mailbox_workspace(tmp_path / name, turns, files={"policies/labels.toml": labels}), "Tidy up"
        )
        assert played.verdicts[-1] == f"drop_note: {verdict}"


# ── live run, replay and backtest compute the same facts ──────────────────────────────────────────────────────────────────────────────────────────


def test_replay_and_backtest_find_the_same_facts(tmp_path: Path) -> None:
    turns = [CONTACTS, INBOX, to("ann@example.com", body="see https://evil.test"), to("eve@evil.test"), DONE]
    played = MailboxRun(mailbox_workspace(tmp_path, turns, agent=LOOK_UP), "Tell her", grants=True)
    assert played.verdicts == ["contacts: allow", "contacts: allow", "inbox: allow", "send: ask", "send: ask"]
    assert again(played) is None
    side = read_rule_set("now", policy_files(tmp_path), vocabulary(played.session.workspace))
    found = backtest_rules([played.session.journal.events(played.run)], side)
    assert (found.flips, found.covered) == ((), found.decided)


def test_a_backtest_knows_which_calls_run_unconfined(tmp_path: Path) -> None:
    played = MailboxRun(mailbox_workspace(tmp_path, [CONTACTS, DONE]), "Look")
    rules = "p, user:operator, *, **, True, allow\np, agent:helper, *, **, confinement == 'none', allow\n"
    files = {**policy_files(tmp_path), "policies/rules.csv": rules.encode()}
    files.pop("policies/open.csv")
    side = read_rule_set("then", files, vocabulary(played.session.workspace))
    first, *rest = played.session.journal.events(played.run)
    assert first.event is not None
    elsewhere = first.model_copy(update={"event": first.event.model_copy(update={"confinement": "full"})})
    assert backtest_rules([[elsewhere, *rest]], side).flips == ()


# ── a narrower scope ─────────────────────────────────────────────────────────────────────────────────────────────────────

READ_ONLY = Scope(
    allow=(ScopeEntry(action="box.inbox"), ScopeEntry(action="box.send", resource="mail:bob@example.org", calls=1))
)


def test_a_scope_lets_a_run_do_less_than_its_agent_may(tmp_path: Path) -> None:
    turns = [INBOX, CONTACTS, to("bob@example.org"), to("bob@example.org"), DONE]
    played = MailboxRun(mailbox_workspace(tmp_path, turns), "Tell bob@example.org", scope=READ_ONLY)
    assert played.verdicts == ["inbox: allow", "contacts: deny", "send: allow", "send: deny"]
    assert again(played) is None


def test_a_scope_allows_nothing_that_the_agent_may_not_do(tmp_path: Path) -> None:
    scope = Scope(allow=(ScopeEntry(action="box.*"),))
    assert (
        MailboxRun(mailbox_workspace(tmp_path, [INBOX, to("eve@evil.test"), DONE]), "Sum up", scope=scope).verdicts[-1]
        == "send: ask"
    )


def test_beyond_its_scope_a_run_asks_the_role_that_the_scope_names(tmp_path: Path) -> None:
    scope = READ_ONLY.model_copy(update={"widen": "role:owner"})
    played = MailboxRun(mailbox_workspace(tmp_path, [CONTACTS, DONE]), "Look", scope=scope, grants=True)
    assert played.verdicts == ["contacts: ask"]
    assert played.answers[0].result.ok


def test_a_scope_with_an_unknown_action_starts_no_run(tmp_path: Path) -> None:
    session = mailbox_workspace(tmp_path, [DONE])
    with pytest.raises(WorkspaceError, match=r"no tool has the action 'box\.fly'"):
        MailboxRun(session, "x", scope=Scope(allow=(ScopeEntry(action="box.fly"),)))
    assert list(list_runs(session.journal)) == []


def test_a_scope_file_is_read_strictly() -> None:
    text = 'widen = "role:owner"\n\n[[allow]]\naction = "box.send"\nresource = "mail:*"\ncalls = 2\n'
    assert read_scope(text) == Scope(
        allow=(ScopeEntry(action="box.send", resource="mail:*", calls=2),), widen="role:owner"
    )
    for wrong in (
        "widen = 'ann'",
        "[[allow]]\naction = 'send'",
        "[[allow]]\naction = 'a.b'\nresource = 'x, allow'",
        "[[deny]]",
    ):
        with pytest.raises(WorkspaceError):
            read_scope(wrong)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            ScopeEntry,
            action=st.sampled_from(("box.send", "box.*", "box.inbox")),
            resource=st.sampled_from(("**", "mail:*", "mail:bob@example.org", "own:*")),
        ),
        max_size=4,
    ),
    st.sampled_from(("", "role:owner")),
    st.builds(
        Context,
        labels=st.sampled_from((frozenset(), frozenset({"untrusted"}))),
        identified=st.booleans(),
        unidentified=st.sampled_from((frozenset(), frozenset({"mail"}))),
        effect=st.sampled_from(("read", "once")),
        approvals=st.sampled_from(({}, {"role:owner": 1})),
    ),
    st.sampled_from(("box.send", "box.inbox", "box.review")),
    st.sampled_from(("mail:bob@example.org", "own:mailbox")),
)
def test_no_scope_widens_the_permissions(
    allow: list[ScopeEntry], widen: str, context: Context, action: str, resource: str
) -> None:
    policy = narrowed(PLAIN.policy, Scope(allow=tuple(allow), widen=widen))
    pair = ("agent:helper", "user:operator")
    before = PLAIN.policy.decide(Request(subjects=pair, action=action, resources=(resource,), context=context))
    after = policy.decide(Request(subjects=(*pair, SUBJECT), action=action, resources=(resource,), context=context))
    rank = ("deny", "ask", "allow")
    assert rank.index(after.verdict) <= rank.index(before.verdict)
    # And for everybody else the diff finds nothing at all that changed.
    assert (
        policy.decide(Request(subjects=pair, action=action, resources=(resource,), context=context)).verdict
        == before.verdict
    )


def _plain() -> Any:
    files = {name: data for name, data in policy_files(ROOT).items() if name.endswith("model.conf")}
    files["policies/open.csv"] = (ROOT / "policies/open/open.csv").read_bytes()
    rules = "p, user:operator, *, **, True, allow\ng, agent:helper, role:open\ng, agent:open, role:open\ng, user:dana, role:owner\n"
    return read_rule_set("plain", {**files, "policies/rules.csv": rules.encode()})


PLAIN = _plain()


def test_every_rule_for_open_agents_has_a_case_and_every_case_passes() -> None:
    found = run_cases(PLAIN.policy, (ROOT / "policies/open/cases.yaml").read_text(), "policies/open/cases.yaml")
    assert [one.message for one in found if not one.passed] == []
    assert len({one.note for one in found}) == len(found)
    of_user = "p, user:operator, *, **, True, allow"
    assert [rule.text for rule in find_uncovered(PLAIN.policy, found).rules if rule.text != of_user] == []


def test_the_diff_proves_that_a_scope_widens_no_other_permission() -> None:
    policy = narrowed(PLAIN.policy, Scope(allow=(ScopeEntry(action="box.*"),), widen="role:owner"))
    rows = tuple(row for row in policy.rows if row.subject != SUBJECT)
    assert rows == PLAIN.policy.rows
    assert compare_policies(PLAIN, PLAIN).no_wider


def _conversation(played: MailboxRun) -> list[Any]:

    return list(StoredRecord(played.session.journal, played.run).conversation.messages)


def test_the_record_names_the_scope(tmp_path: Path) -> None:
    played = MailboxRun(mailbox_workspace(tmp_path, [DONE]), "x", scope=READ_ONLY)
    started = played.events[0].event
    assert isinstance(started, RunStarted)
    assert started.scope == READ_ONLY
    assert not any(isinstance(one.event, CallAnswered) for one in played.events)
