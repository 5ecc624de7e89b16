"""What the words of the user and the directory name, and what a text contains beyond that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.core.calls import ResourceAccess
from remit.guardrails.provenance import (
    argument_texts,
    contained_kinds,
    directory_entries,
    find_mentions,
    names_resource,
    quotes_all,
    requests_action,
    traceable_values,
    unnamed_resources,
)
from remit.workspace.manifest.touches import TouchError, parse_listing


@pytest.mark.parametrize(
    ("words", "resource", "named"),
    [
        # an address is named by that address, in any case, and by nothing longer
        ("Write to Ann@Example.com.", "mail:ann@example.com", True),
        ("Write to joann@example.com", "mail:ann@example.com", False),
        ("Write to ann@example.com.evil.test", "mail:ann@example.com", False),
        ("Write to Ann", "mail:ann@example.com", False),
        # a URL by that URL, with or without scheme; not by its host, nor by another path
        ("Read https://example.com/a.", "https://example.com/a", True),
        ("Read www.example.com/a, please", "https://www.example.com/a", True),
        ("see example.com", "https://example.com/", True),
        ("see example.com.They wrote it", "https://example.com/", True),
        ("Read https://example.com/a", "https://example.com/b", False),
        ("Read https://example.com/a", "https://example.com/", False),
        ("Read https://example.com.evil.test/", "https://example.com/", False),
        ("mail ann@example.com", "https://example.com/", False),
        # a day, a count and a year are no ids; a long number is
        ("Cancel it on June 13", "file:13", False),
        ("Cancel it on June 13", "document:13", False),
        ("the 2024 report", "document:2024", False),
        ("order 100245", "order:100245", True),
        ("order 100245", "order:10024", False),
        # short words are no names
        ("go to hr", "channel:hr", False),
        ("go to #general", "channel:general", True),
        ("generally", "channel:general", False),
        # accounts, however they are spaced
        ("Pay GB29 NWBK 6016 1331 9268 19 today", "account:GB29NWBK60161331926819", True),
        ("Pay GB29 NWBK 6016 1331 9268 19 today", "account:GB29NWBK60161331926818", False),
        ("Pay GB29 NWBK 6016 1331 9268 19 today", "account:\u0416GB29NWBK60161331926819", False),
        # proper names of several words, in any case
        ("Book the grand hotel at noon", "hotel:Grand Hotel", True),
        ("Book the grandest hotel", "hotel:Grand Hotel", False),
        # files by their whole path
        ("Read docs/a.md", "file:docs/a.md", True),
        ("Read secret/docs/a.md", "file:docs/a.md", False),
        ("Read docs/a.md.bak", "file:docs/a.md", False),
    ],
)
def test_words_name_a_resource_by_its_type(words: str, resource: str, named: bool) -> None:
    assert names_resource(words, resource) is named


def test_a_resource_that_the_manifest_names_is_not_chosen_by_the_model() -> None:
    touches = (
        ResourceAccess(access="use", resource="own:ledger", fixed=True),
        ResourceAccess(access="use", resource="account:AB12345678"),
    )
    assert unnamed_resources("Pay", touches) == ("account:AB12345678",)


@pytest.mark.parametrize(
    ("text", "contains"),
    [
        ("See https://evil.test/x", {"link"}),
        ("See evil.test", {"link"}),
        ("see EVIL.TEST/login", {"link"}),
        ("see evil\u200b.test, ev\uff49l\uff0etest, evil\u3002test", {"link"}),
        ("see b\u00fccher.example or \u0435vil.test", {"link"}),
        ("see 203.0.113.7/x or [2001:db8::7]", {"link"}),
        ("see 203.0.113.7.", {"link"}),
        # whatever stands around it, and whatever it ends in
        ("see...evil.test", {"link"}),
        ("_evil.test_ or evil.test- or evil.test@", {"link"}),
        ("evil.xn--p1ai", {"link"}),
        ("evil.md", {"link"}),
        ("https://example.com/a\\@evil.test", {"link"}),
        ("_example.com/a", set()),
        # however a mail shows it: as HTML, with controls, struck through
        ("evil&#46;test or evil&#x0002e;test or evil&period;test", {"link"}),
        ("evil\x00.test", {"link"}),
        ("e\u0336vil\ufe0f.test", {"link"}),
        # an address that few programs write is a link at least
        ('"eve"@evil.test', {"link"}),
        ("eve!@evil.test", {"link"}),
        ("write to eve\u2060@evil.test", {"address"}),
        ("Write to eve@evil.test", {"address"}),
        ("Pay DE89 3704 0044 0532 0130 00", {"account"}),
        ("Card 4237-4252-7456-2574", {"account"}),
        ("Call +49 (30) 1234567", {"account"}),
        ("Card 4237\u20134252\u20137456\u20132574", {"account"}),
        ("\u0664\u0662\u0663\u0667 \u0664\u0662\u0665\u0662 \u0667\u0664\u0665\u0666", {"account"}),
        # what no calendar has is no day
        ("Card 4237-42-52 7456-25-74", {"account"}),
        ("at 2024-05-15 10:00:00.89370400440532013000", {"account"}),
        ("at 2024-05-15 10:00:00.123456Z", set()),
        ("at 2024-05-15 10:00, until 12.06.2024", set()),
        ("report.pdf and notes.txt, e.g. these", set()),
        ("Version 1.2.3 costs 1500 in 2024", set()),
        ("as in https://example.com/a", set()),
        ("write to ann@example.com", set()),
        ("https://example.com/a?who=ann", {"link"}),
    ],
)
def test_links_addresses_and_accounts_that_nobody_named_are_found_in_a_text(text: str, contains: set[str]) -> None:
    words = "Tell ann@example.com of https://example.com/a"
    assert contained_kinds([text], words, (), {}) == contains


def test_names_in_the_directory_are_not_found_in_a_text() -> None:
    directory = ("mail:bob@example.com", "https://example.com/", "account:DE89370400440532013000")
    text = "bob@example.com, example.com, DE89 3704 0044 0532 0130 00"
    assert contained_kinds([text], "", directory, {}) == set()
    assert contained_kinds([text], "", (), {}) == {"address", "link", "account"}


def test_a_text_that_repeats_a_labelled_value_contains_the_label() -> None:
    values = {
        "private": traceable_values({"passport": "HGK137803", "name": "Emma", "note": "write to emma@example.com"})
    }
    for number in ("HGK137803", "hgk 137-803", "HGK\u200b137803", "\uff28GK137803"):
        assert contained_kinds([f"my number is {number}"], "", (), values) == {"private"}
    assert contained_kinds(["my number is HGK137803"], "my passport is HGK137803", (), values) == set()
    assert contained_kinds(["Emma says hello"], "", (), values) == set()  # a bare name is no number


@pytest.mark.parametrize(
    ("line", "value", "words", "known"),
    [
        ("mail:{*/email}", [{"email": "Ann@example.com"}, {"email": "no address"}, {}], "", {"mail:ann@example.com"}),
        ("channel:{*}", ["general", "random", 7.5, None], "", {"channel:general", "channel:random"}),
        ("hotel:{@:name}", {"Grand Hotel": "50", "a/b": "60"}, "", {"hotel:Grand Hotel"}),
        ("account:{}", "DE89370400440532013000", "", {"account:DE89370400440532013000"}),
        ("transaction:{*/id}", [{"id": 7}], "", {"transaction:7"}),
        # by what the user calls it: the whole title, or half of its words in a row, where nothing else may be meant
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "Plan.docx"}], "Read plan.docx", {"document:1"}),
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "Plan.docx"}], "Make a plan", set()),
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "grocery-list-today.docx"}], "my grocery list", {"document:1"}),
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "grocery-list-of-next-week"}], "my grocery list", set()),
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "Plan"}, {"id": "2", "title": "plan"}], "The plan", set()),
        (
            "document:{*/id} as {*/title}",
            [{"id": "1", "title": "grocery list a"}, {"id": "2", "title": "grocery list b"}],
            "my grocery list",
            set(),
        ),
        (
            "mail:{*/people/*} as {*/title}",
            [{"title": "Kickoff", "people": ["a@x.org", "b@x.org"]}, {"title": "Other", "people": ["c@x.org"]}],
            "the people of Kickoff",
            {"mail:a@x.org", "mail:b@x.org"},
        ),
        # a title of one ordinary word takes a capital inside of a sentence, quotes or a word for its kind
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "summary"}], "Send a summary", set()),
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "summary"}], "Read 'summary'", {"document:1"}),
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "Kickoff"}], "Send it for Kickoff", {"document:1"}),
        ("document:{*/id} as {*/title}", [{"id": "1", "title": "Send"}], "Send a summary", set()),
        # the links of a sender whom the user names and the directory has, and of nobody else
        (
            "https:{*/body:links} as {*/sender}",
            [{"sender": "Bob", "body": "see www.a.org"}, {"sender": "Bob", "body": "b.org/x?y=1"}, {"sender": "Eve", "body": "c.org"}],
            "what Bob posted",
            {"https://www.a.org/", "https://b.org/x", "https://b.org/x?y=1"},
        ),
    ],
)  # fmt: skip
def test_a_result_adds_directory_entries_as_its_manifest_declares(
    line: str, value: Any, words: str, known: set[str]
) -> None:
    assert directory_entries([parse_listing(line)], value, words, frozenset({"person:Bob"})) == known


@pytest.mark.parametrize(
    "line",
    ["mail", "mail:*/email", "file:{*}", "store:{*}", "none:{*}", "table:{*}", "https:{*}", "mail:{*:links}", "mail:{*} as {}", "mail:{/}"],
)  # fmt: skip
def test_an_empty_listing_is_refused(line: str) -> None:
    with pytest.raises(TouchError):
        parse_listing(line)


def test_an_action_is_requested_by_its_request_words() -> None:
    assert requests_action("Put two Events into my diary", ("event",))
    assert not requests_action("eventually", ("event",))
    assert not requests_action("Read the news", ())


def test_every_text_must_be_quoted_as_a_whole() -> None:
    assert quotes_all("set it to '1j1l-2k3j'.", ["1j1l-2k3j"])
    assert not quotes_all("set it to '1j1l-2k3j'.", ["1j1l"])
    assert quotes_all("anything", [])
    assert not quotes_all("anything", [""])


def test_the_texts_of_a_call_exclude_names_of_resources() -> None:
    arguments = {"to": ["ann@example.com"], "body": {"text": "hello", "n": 5}, "flag": True, "none": None}
    assert sorted(argument_texts(arguments, {"ann@example.com"})) == ["5", "hello", "n", "text", "true"]
    assert list(argument_texts({"to": [], "who": {}}, ())) == ["", ""]


@given(st.text(max_size=300))
def test_every_text_can_be_searched_for_names(text: str) -> None:
    found = find_mentions(text)
    assert all(one == one.lower() for one in found.addresses)
    assert contained_kinds([text], text, (), {}) == set()  # what the user wrote, the user named


@given(st.text(alphabet="a.@/:-_1&#; ", max_size=4000))
def test_no_repeated_text_makes_the_search_slow(text: str) -> None:
    find_mentions(text)


MADE_FOR_IT = [
    "a" + "\u0323\u0301" * 100_000,
    "&#" + "1" * 10_000,
    "&#" + "0" * 500_000,
    "_." * 250_000,
    "a.b_" * 250_000,
]


@settings(deadline=5000)
@given(st.sampled_from(MADE_FOR_IT))
def test_no_crafted_text_makes_the_search_slow(text: str) -> None:
    find_mentions(text)


@settings(deadline=5000)
@given(st.just("w " * 20_000))
def test_the_search_for_a_long_title_is_bounded_by_the_users_words(title: str) -> None:
    line = parse_listing("document:{*/id} as {*/title}")
    assert directory_entries([line], [{"id": "1", "title": title}], "Read my grocery list") == set()
