"""Two spellings of one thing get the same canonical name, or are refused."""

from __future__ import annotations

import json
import os
import unicodedata
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from remit.core.errors import Refusal
from remit.core.parsing.names import canonical
from remit.core.parsing.urls import canonical_url
from support import corpus

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def problem(kind: str, value: str) -> str:
    """The problem in the refusal. The refusal never repeats the text of the model."""
    with pytest.raises(Refusal) as refused:
        canonical(kind, value)
    assert refused.value.code == "invalid_arguments"
    assert len(value) < 15 or value not in refused.value.message
    return str(refused.value.details["problem"])


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling", ["docs/a.md", "./docs/a.md", "docs//a.md", "docs/./a.md", "docs/a.md/", ".//docs///./a.md/."]
)
def test_spellings_of_one_file_are_one_name(spelling: str) -> None:
    assert canonical("file", spelling) == "docs/a.md"


def test_the_working_folder_has_a_name() -> None:
    assert {canonical("file", spelling) for spelling in (".", "./", ".//.")} == {"."}


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("", "length"),
        ("a" * 256, "length"),
        ("a/" * 2100, "length"),
        ("/etc/passwd", "absolute"),
        ("//etc/passwd", "absolute"),
        ("~/.ssh/id_rsa", "absolute"),
        ("C:/boot.ini", "absolute"),
        ("file:///etc/passwd", "absolute"),
        ("../etc/passwd", "parent_folder"),
        ("docs/../../etc/passwd", "parent_folder"),
        ("docs/../docs/a.md", "parent_folder"),
        ("docs/..", "parent_folder"),
        ("docs\\a.md", "backslash"),
        ("docs/a.md\0.txt", "hidden_character"),
        ("docs/a\n.md", "hidden_character"),
        ("docs/\x7fa.md", "hidden_character"),
        ("docs/\u202egpj.exe", "hidden_character"),
        ("docs/a\u200b.md", "hidden_character"),
        ("docs/a\ufeff.md", "hidden_character"),
        ("docs/a\u00a0b.md", "hidden_character"),
        ("docs/a\u3164b.md", "hidden_character"),
        ("docs/a\ufe0f.md", "hidden_character"),
        ("docs/\U000e0041.md", "hidden_character"),
        ("docs/\ue000.md", "hidden_character"),
        ("docs/\ud800.md", "lone_surrogate"),
        ("%2e%2e/etc/passwd", "percent_escape"),
        ("docs%2Fa.md", "percent_escape"),
        ("docs/a.md%00", "percent_escape"),
        ("docs/%61.md", "percent_escape"),
        ("docs/%u002e.md", "percent_escape"),
        ("%%32%65", "percent_escape"),
        ("docs/a.md.", "dot_or_space_at_end"),
        ("docs/a.md ", "dot_or_space_at_end"),
        ("docs./a.md", "dot_or_space_at_end"),
        (".../a.md", "dot_or_space_at_end"),
        (" docs/a.md", "dot_or_space_at_end"),
        ("docs\uff0fa.md", "lookalike"),
        ("\uff0e\uff0e/a.md", "lookalike"),
        ("docs/\u2025/a.md", "lookalike"),
        ("docs/\u2024\u2024/a.md", "lookalike"),
        ("docs/\u2100.md", "lookalike"),
        ("docs/\uff05.md", "lookalike"),
        ("docs/e\u0301.md", "not_normalised"),
        ("docs/\u212b.md", "not_normalised"),
        ("docs/*.md", "wildcard"),
        ("docs/**", "wildcard"),
        ("docs/a?.md", "wildcard"),
        ("docs/[a].md", "wildcard"),
        ("docs/{a,b}.md", "wildcard"),
    ],
)
def test_what_is_not_one_file_below_the_folder_is_refused(spelling: str, expected: str) -> None:
    assert problem("file", spelling) == expected


@pytest.mark.parametrize(
    "name", [".htaccess", "a b/c-d_e+f@g.txt", "100%.txt", "é.md", "日本/語.md", "a..b", "log 12:30.txt", "-x", "a~"]
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert canonical("file", name) == name


@UNHURRIED
@given(st.text(alphabet=st.sampled_from("ab./\\% ~:é\u0301\u202e*\0"), max_size=12) | st.text(max_size=30))
def test_a_canonical_file_is_below_the_folder_and_its_own_canonical_form(spelling: str) -> None:
    try:
        name = canonical("file", spelling)
    except Refusal:
        return
    assert canonical("file", name) == name
    assert os.path.normpath(name) == name
    assert name != ".."
    assert not name.startswith(("/", "../"))
    assert os.path.normpath(os.path.join("/root", spelling)) == os.path.normpath(os.path.join("/root", name))
    assert unicodedata.normalize("NFC", name) == name


@UNHURRIED
@given(st.lists(st.sampled_from(["docs", "a.md", "b"]), min_size=1, max_size=4), st.data())
def test_two_spellings_of_a_path_give_one_resource(parts: list[str], data: st.DataObject) -> None:
    noise = st.sampled_from(["/", "//", "/./", "/././/"])
    lead = data.draw(st.sampled_from(["", "./", ".//"]))
    spelling = lead + parts[0] + "".join(data.draw(noise) + part for part in parts[1:])
    assert canonical("file", spelling) == "/".join(parts)


def test_no_outside_traversal_spelling_names_anything_above_the_folder() -> None:
    names = set()
    lines = corpus("directory_traversal.txt").split("\n")
    assert len(lines) > 100
    for line in lines:
        try:
            names.add(canonical("file", line))
        except Refusal:
            continue
    assert names == {".htaccess"}


# -- hosts, URLs, addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "resource", "address"),
    [
        ("HTTPS://API.Example.com", "https://api.example.com/", "https://api.example.com/"),
        ("https://api.example.com:443/v1/users", "https://api.example.com/v1/users", None),
        ("https://api.example.com:8443/", "https://api.example.com:8443/", None),
        ("https://api.example.com/a/", "https://api.example.com/a/", None),
        (
            "https://api.example.com/?q=a%20b#".rstrip("#"),
            "https://api.example.com/",
            "https://api.example.com/?q=a%20b",
        ),
        (
            "https://api.example.com/a%20b?x=/../y",
            "https://api.example.com/a%20b",
            "https://api.example.com/a%20b?x=/../y",
        ),
        ("https://api.example.com/caf%c3%a9", "https://api.example.com/caf%C3%A9", None),
        ("https://api.example.com/café", "https://api.example.com/caf%C3%A9", None),
        ("https://bücher.example/", "https://xn--bcher-kva.example/", None),
        ("https://XN--BCHER-KVA.example/", "https://xn--bcher-kva.example/", None),
        ("https://127.0.0.1/", "https://127.0.0.1/", None),
        ("https://[2001:db8::1]/", "https://[2001:db8::1]/", None),
    ],
)
def test_a_url_has_one_spelling(spelling: str, resource: str, address: str | None) -> None:
    url = canonical_url("https", spelling)
    assert url.resource == canonical("https", spelling) == resource
    assert url.address == (address or resource)
    assert canonical_url("https", url.address) == url


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "https:",
        "https://",
        "https:///path",
        "http://example.com/",
        "//example.com/",
        "https:/example.com",
        "https:\\\\example.com",
        "https://ann@example.com/",
        "https://ok.com@evil.com/",
        "https://ok.com\\@evil.com/",
        "https://example.com/#fragment",
        "https://example.com./",
        "https://exa mple.com/",
        "https://exam\tple.com/",
        "https://example.com\n/",
        "https://evil\0.example.com/",
        "https://ex%61mple.com/",
        "https://example.com:0/",
        "https://example.com:/",
        "https://example.com:99999/",
        "https://example.com:0443/",
        "https://-a.example.com/",
        "https://a_b.example.com/",
        "https://*.example.com/",
        "https://ⓔⓧⓐⓜⓟⓛⓔ.com/",
        "https://example。com/",
        "https://exa\u00admple.com/",
        "https://xn--a/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://2130706433/",
        "https://127.0.0.1.0/",
        "https://256.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::1%25eth0]/",
        "https://[2001:DB8::1]/",
        "https://[::1/",
        "https://example.com/a/../b",
        "https://example.com/a/./b",
        "https://example.com/a//b",
        "https://example.com/a/%2e%2e/b",
        "https://example.com/a%2fb",
        "https://example.com/a%5cb",
        "https://example.com/a\\b",
        "https://example.com/%61dmin",
        "https://example.com/%2561dmin",
        "https://example.com/%c0%af",
        "https://example.com/%",
        "https://example.com/%zz",
        "https://example.com/a b",
        "https://example.com/a%00",
        "https://example.com/**",
        "https://example.com/a\u202eb",
        "https://example.com/" + "a" * 8200,
    ],
)
def test_a_url_that_readers_repair_in_different_ways_is_refused(spelling: str) -> None:
    problem("https", spelling)


def test_an_outside_url_is_canonicalised_as_the_standard_says_or_refused() -> None:
    cases = [case for case in json.loads(corpus("wpt_urltestdata.json")) if isinstance(case, dict)]
    accepted = 0
    for case in cases:
        for scheme in ("http", "https"):
            try:
                url = canonical_url(scheme, case["input"])
            except Refusal:
                continue
            assert not case.get("failure"), case["input"]
            assert url.resource == f"{case['protocol']}//{case['host']}{case['pathname']}", case["input"]
            assert url.address.removesuffix("?") == f"{url.resource}{case['search']}", case["input"]
            assert not case["hash"], case["input"]
            accepted += 1
    assert accepted > 25


def test_no_outside_spelling_of_an_address_hides_its_host() -> None:
    for line in corpus("ssrf_urls.txt").splitlines():
        try:
            host = urlsplit(canonical("http", line)).hostname or ""
        except Refusal:
            continue
        assert host in line.lower(), (
            line
        )  # no number base, no mapped address, no lookalike: the host is there to be read
        assert urlsplit(line).hostname == host


@UNHURRIED
@given(st.text(alphabet="abAB.-/:?%20é@", max_size=20))
def test_a_canonical_url_is_its_own_canonical_form(rest: str) -> None:
    try:
        url = canonical_url("https", f"https://{rest}")
    except Refusal:
        return
    assert canonical_url("https", url.address) == url
    assert canonical_url("https", url.resource).resource == url.resource
    assert url.address.isascii()


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("API.Example.com", "api.example.com"), ("localhost", "localhost"), ("Bücher.example", "xn--bcher-kva.example")],
)
def test_a_host_has_one_spelling(spelling: str, name: str) -> None:
    assert canonical("host", spelling) == name


@pytest.mark.parametrize(
    "spelling", ["", "a.", ".a", "a..b", "a b", "a/b", "a:443", "*.example.com", "a\n", "1.2.3", "a" * 64]
)
def test_what_is_not_one_host_is_refused(spelling: str) -> None:
    problem("host", spelling)


def test_spellings_of_one_mailbox_are_one_name() -> None:
    assert {canonical("mail", spelling) for spelling in ("ann@example.com", "Ann@Example.COM")} == {"ann@example.com"}


@pytest.mark.parametrize(
    "spelling",
    [
        "ann",
        "@example.com",
        "ann@",
        "ann@@example.com",
        "ann@example.com@evil.com",
        "Ann <ann@example.com>",
        "ann(x)@example.com",
        '"ann"@example.com',
        "ann@example.com,bob@example.com",
        "ann@example.com ",
        "ann@example.com.",
        "ann@[127.0.0.1]",
        "ann@127.0.0.1",
        ".ann@example.com",
        "a..b@example.com",
        "*@example.com",
        "ann%evil.com@example.com",
        "ànn@example.com",
        "ann@example.com\nBcc: x@evil.com",
        "a" * 65 + "@example.com",
    ],
)
def test_what_is_not_one_mailbox_is_refused(spelling: str) -> None:
    problem("mail", spelling)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("Orders", "orders"), ("main.orders", "orders"), ("MAIN.Orders", "orders"), ("sqlite_master", "sqlite_schema")],
)
def test_a_table_has_one_spelling(spelling: str, name: str) -> None:
    assert canonical("table", spelling) == name


@pytest.mark.parametrize(
    "spelling",
    ["", "temp.x", "a.b.c", '"orders"', "order items", "o*", "1a", "sqlite_dbpage", "pragma_table_info", "ördërs"],
)
def test_what_is_not_one_table_is_refused(spelling: str) -> None:
    problem("table", spelling)


@pytest.mark.parametrize("kind", ["service", "id", "ticket", "anything"])
def test_an_id_is_kept_as_it_is(kind: str) -> None:
    assert canonical(kind, "Check-out_1.2@eu+x") == "Check-out_1.2@eu+x"
    for spelling in ("", "a/b", "a*", "a b", "-a", ".a", "a" * 129, "a\n", "é", "a:b", "a,b"):
        problem(kind, spelling)


@pytest.mark.parametrize("kind", ["store", "document"])
def test_the_id_of_a_store_or_a_document_has_parts_with_a_slash_between_them(kind: str) -> None:
    for name in ("Check-out_1.2@eu+x", "search/handbook", "handbook/returns/eu"):
        assert canonical(kind, name) == name
    for spelling in (
        "",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "a/.b",
        "a/*",
        "a b",
        "a\n",
        "é",
        "a:b",
        "a,b",
        "a/" * 256 + "a",
    ):
        problem(kind, spelling)


@UNHURRIED
@given(
    st.sampled_from(["file", "http", "https", "host", "mail", "table", "service", "store", "document"]),
    st.text(max_size=40),
)
def test_every_kind_is_idempotent_and_hides_no_wildcard(kind: str, spelling: str) -> None:
    try:
        name = canonical(kind, spelling)
    except Refusal:
        return
    assert canonical(kind, name) == name
    assert not set(name) & set("*\\\0\n\r\t")
    assume(kind not in ("file", "http", "https"))
    assert "/" not in name
