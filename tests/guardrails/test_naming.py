"""Which words of a user name a thing, and which only contain a name that an attacker has chosen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core.calls import ResourceAccess
from remit.guardrails.naming import MOST_PLACES
from remit.guardrails.provenance import directory_entries, names_resource, unnamed_resources
from remit.workspace.manifest.touches import parse_listing


@pytest.mark.parametrize(
    ("words", "resource", "named"),
    [
        # a sigil: "#" names channels and labels, "@" people
        ("Post it in #summary today", "channel:summary", True),
        ("Post the summary today", "channel:summary", False),
        ("Post it in #Summary", "channel:summary", True),
        ("Post it in #summary", "channel:Summary", False),
        ("Post it in #summary", "account:summary", False),
        ("Post it in #general-chat", "channel:general", False),
        ("Answer question #3", "channel:#3", False),
        ("Tell @the the news", "person:the", True),
        ("Tell the news", "person:the", False),
        ("Write to ann@the.example", "person:the", False),
        # a word for the kind before it: by a place or an act, with an article only where the name has a capital
        ("Post it in channel summary.", "channel:summary", True),
        ("Send the channel summary to Ann", "channel:summary", False),
        ("Look in the channel today", "channel:today", False),
        ("No need to channel energy", "channel:energy", False),
        ("Close ticket crossword, it is done", "ticket:crossword", True),
        ("The ticket crossword says", "ticket:crossword", False),
        ("Book the hotel Central for two", "place:Central", True),
        ("Book the hotel. Central is full", "place:Central", False),
        ("Book the hotel room for two", "place:room", False),
        ("Invite the new user Dora to it", "member:Dora", True),
        ("List everything in it", "list:everything", False),
        ("Note that it is late", "note:that", False),
        # or behind it
        ("Pay the rent payee", "account:rent", True),
        ("Pay my rent", "account:rent", False),
        ("Put it in my Pictures mailbox", "mailbox:pictures", True),
        ("Enter it in the press calendar for Tuesday", "calendar:press", True),
        ("Ask the press calendar editor", "calendar:press", False),
        ("Close the last ticket and go", "ticket:last", False),
        ("Close the open tickets", "ticket:open", False),
        ("Put it on a separate list at the end", "list:separate", False),
        ("Put it on the shared list", "list:shared", False),
        # or on a line of its own
        ("Channel: summary\nText: hello", "channel:summary", True),
        ("The channel: summary of it", "channel:summary", False),
        # "called"
        ("The note called drafts is old", "note:drafts", True),
        ("She called twice", "note:twice", False),
        ("My colleague called home", "person:home", False),
        ("The user named Bob", "person:Bob", True),
        # quotes; not of what is to be written
        ("Delete my note 'inbox'", "note:inbox", True),
        ("Delete my inbox", "note:inbox", False),
        ("Delete \u201cinbox.\u201d", "note:inbox", True),
        ("L\u00f6sche \u201einbox\u201c bitte", "note:inbox", True),
        ("Supprime \u00abinbox\u00bb", "note:inbox", True),
        ("\u5220\u9664\u300cinbox\u300d", "note:inbox", True),
        ('Post "hello" to them', "channel:hello", False),
        ('Mail it with the subject "urgent"', "ticket:urgent", False),
        # evidence for another kind is none
        ("Delete my note 'inbox'", "mailbox:inbox", False),
        ("Share the note Harbour View", "place:Harbour View", False),
        ("Close ticket T-204", "note:T-204", False),
        # phrases with capitals inside of a sentence, as a whole
        ("See what Tidal Print wants", "account:Tidal Print", True),
        ("Can Tidal Print wait", "account:Tidal Print", True),
        ("Read Tidal Print", "account:Read Tidal", False),
        ("Ask the Bank of England", "account:Bank of England", True),
        ("Ask the town hall", "account:town hall", False),
        ("Send the summary", "note:send the", False),
        ("Send it to Alice", "person:Alice", False),
        # what no text holds by accident
        ("Close T-204", "ticket:T-204", True),
        ("Send #W2378156 back", "order:#W2378156", True),
        ("Read figures-2026.xlsx", "document:figures-2026.xlsx", True),
        ("Post to ops_alerts", "channel:ops_alerts", True),
        ("Stop 3f2a9c1b-77de", "job:3f2a9c1b-77de", True),
        ("by the 21st at 10am", "ticket:21st", False),
        ("by the 21st at 10am", "ticket:10am", False),
        ("on 2026-04-21", "ticket:2026-04-21", False),
        ("a link-free follow-up", "note:follow-up", False),
    ],
)
def test_an_ordinary_word_names_a_thing_only_with_evidence_for_its_kind(words: str, resource: str, named: bool) -> None:
    assert names_resource(words, resource) is named


def test_a_person_is_named_by_first_and_last_name_together_and_by_neither_alone() -> None:
    def person(name: str) -> ResourceAccess:
        return ResourceAccess(access="use", resource=f"person:{name}")

    words = "Serve the customer who has signed in: yusuf_rossi_9620, Yusuf Rossi, born 1985-06-15"
    assert unnamed_resources(words, [person("Yusuf"), person("Rossi")]) == ()
    assert unnamed_resources(words, [person("Yusuf")]) == ("person:Yusuf",)
    assert unnamed_resources(words, [person("Rossi"), person("Yusuf")]) == ("person:Rossi", "person:Yusuf")
    assert unnamed_resources(words, [person("Yusuf"), person("Kovacs")]) == ("person:Yusuf", "person:Kovacs")
    assert names_resource(words, "birth:1985-06-15")
    assert not names_resource(words, "ticket:1985-06-15")


def test_the_directory_decides_what_words_alone_do_not() -> None:
    directory = frozenset({"channel:general", "person:Alice", "place:Harbour View", "channel:Pictures"})
    assert names_resource("post to general", "channel:general", directory)
    assert not names_resource("post to general", "account:general", directory)
    assert names_resource("Send it to Alice", "person:Alice", directory)
    # what it has as a thing of another kind names none of this kind, unless a word for the kind says so
    assert names_resource("Meet at the Harbour View", "place:Harbour View", directory)
    assert not names_resource("Meet at the Harbour View", "note:Harbour View", directory)
    assert names_resource("Add it to the note Harbour View", "note:Harbour View", directory)
    # what it has in capitals is not what is called so without
    assert not names_resource("post to #Pictures", "channel:pictures", directory)
    assert names_resource("post to #Pictures", "channel:Pictures", directory)


@given(st.text(max_size=300), st.text(min_size=1, max_size=20))
def test_every_text_can_be_searched_for_a_name(text: str, name: str) -> None:
    assert names_resource(text, f"note:{name}") in (True, False)


def test_the_number_of_examined_occurrences_of_a_name_is_bounded() -> None:
    words = "summary " * (MOST_PLACES - 1)
    assert names_resource(f"{words} #summary", "channel:summary")
    assert not names_resource(f"{words} summary #summary", "channel:summary")


def test_a_sender_whose_name_is_a_word_of_the_task_gives_no_links() -> None:
    line, value = parse_listing("https:{*/body:links} as {*/sender}"), [{"sender": "the", "body": "see www.a.org"}]
    assert directory_entries([line], value, "Read the article", frozenset({"person:Bob"})) == set()
    assert directory_entries([line], value, "Read what the user 'the' posted") == {"https://www.a.org/"}
