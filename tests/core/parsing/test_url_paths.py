"""Parts of a path that servers read differently are refused; parts that all read alike are accepted in one spelling."""

from __future__ import annotations

import pytest

from remit.core.errors import Refusal
from remit.core.parsing import canonical_url

REFUSED = {
    "/public/..;/admin": "a servlet container cuts ';' off and then climbs",
    "/public/.;/admin": "a servlet container cuts ';' off and then drops the part",
    "/public/..;a=b/admin": "the same with a parameter",
    "/public/;/admin": "the part is empty once ';' is cut off",
    "/public/;x/admin": "the same with a parameter",
    "/admin;x": "a servlet container reads /admin, for which another rule may hold",
    "/public/..%3B/admin": "a proxy in front decodes it first",
    "/public/%3B/admin": "the part is empty to who decodes it first",
    "/a//b": "many servers merge the slashes",
    "//admin": "many servers merge the slashes",
    "/a/./b": "resolved by some",
    "/a/../b": "resolved by some",
    "/a/..": "resolved by some, at the end too",
    "/a/.../b": "Windows takes dots at the end of a name away",
    "/a/..%20/b": "Windows takes spaces at the end of a name away",
    "/a/%20../b": "some readers strip a name",
    "/a/%2e%2e/b": "decoded before it is resolved, or after",
    "/a/.%2e/b": "half of it is escaped",
    "/a%2fb": "one part or two",
    "/a%2Fb": "one part or two",
    "/a%5cb": "one part, or two on Windows",
    "/a\\b": "one part, or two on Windows",
    "/a%252fb": "decoded once or twice",
    "/\uff0e\uff0e/admin": "wide dots, which best-fit mappings make plain",
    "/%EF%BC%8E%EF%BC%8E/admin": "the same, escaped",
    "/\u2025/admin": "one character that is two dots in compatibility form",
    "/a\uff0fb": "a wide slash",
    "/a\uff3cb": "a wide backslash",
    "/a%00": "the name ends there for some",
    "/a%0d%0ab": "a line break in the log of some, in the request of others",
}
ACCEPTED = {
    "/": "the root",
    "/a/b": "plain parts",
    "/a/": "a slash at the end names another resource, and all keep it",
    "/.well-known/x": "a dot in front of a name",
    "/v1..v2/a.": "dots in or after a name",
    "/..a/b..c": "dots in front of a name",
    "/a%20b": "a space in a name",
    "/10.1002/3.0.CO%3B2-2": "a ';' that belongs to the name, and is written so",
    "/caf%C3%A9": "a letter",
    "/it's,(x)=1:2@3&4+5!~$*"[:-1]: "the other delimiters, which have no meaning in a part",
}


@pytest.mark.parametrize("path", list(REFUSED), ids=list(REFUSED.values()))
def test_a_path_that_servers_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(Refusal) as refused:
        canonical_url("https", f"https://h.example{path}")
    assert refused.value.code == "invalid_arguments"


@pytest.mark.parametrize("path", list(ACCEPTED), ids=list(ACCEPTED.values()))
def test_a_path_that_all_servers_read_alike_is_its_own_one_spelling(path: str) -> None:
    assert canonical_url("https", f"https://h.example{path}").resource == f"https://h.example{path}"
