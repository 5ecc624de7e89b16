"""Patterns against resources and sets, compared with an independent, slower implementation of the same rules.

These are unit tests of `policy.language.patterns`: they compare some hundred thousand pairs, too many for `Policy.decide`.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.policy.language.patterns import GlobError, parse_pattern, parse_resource

PIECES = ("a", "ab", "*", "a*", "*b", "*a*", "**")
NAMES = ("a", "ab", ".a", "zz")  # no pattern contains zz; shells hide .a
DEEP = 6  # deeper than the longest pattern below the deepest folder


@cache
def reads(pattern: tuple[str, ...], name: tuple[str, ...]) -> bool:
    """True if the pattern matches, by trying every number of segments for each `**`."""
    if not pattern:
        return not name
    if pattern == ("**",):
        return len(name) >= 1
    if pattern[0] == "**":
        return any(reads(pattern[1:], name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and segment_reads(pattern[0], name[0]) and reads(pattern[1:], name[1:])


@cache
def segment_reads(pattern: str, segment: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), segment, re.DOTALL) is not None


def patterns(longest: int) -> list[tuple[str, ...]]:
    found = [pieces for length in range(1, longest + 1) for pieces in product(PIECES, repeat=length)]
    return [pieces for pieces in found if ("**", "**") not in pairwise(pieces)]


def paths(names: tuple[str, ...], deepest: int) -> list[tuple[str, ...]]:
    return [path for depth in range(1, deepest + 1) for path in product(names, repeat=depth)]


def test_a_pattern_matches_exactly_the_resources_of_the_reference() -> None:
    """Every pattern and every path of up to three segments, for both questions."""
    resources = [(path, parse_resource("file:" + "/".join(path))) for path in paths(NAMES, 3)]
    for pieces in patterns(3):
        pattern = parse_pattern("file:" + "/".join(pieces))
        for path, resource in resources:
            expected = reads(pieces, path)
            assert pattern.covers(resource) is expected, (pattern.text, resource.text)
            assert pattern.intersects(resource) is expected, (pattern.text, resource.text)


def test_a_pattern_covers_a_set_exactly_if_it_matches_everything_in_it() -> None:
    """It intersects the set if it matches something in it. Compared with an enumeration of the whole set."""
    names = ("a", "ab", "zz")
    universe = paths(names, DEEP)
    folders = [(), *paths(names, 2)]
    below = {
        folder: sum(
            1 << index for index, path in enumerate(universe) if path[: len(folder)] == folder and path != folder
        )
        for folder in folders
    }
    sets = {folder: parse_resource("file:" + "/".join((*folder, "**"))) for folder in folders}
    for pieces in patterns(3):
        pattern = parse_pattern("file:" + "/".join(pieces))
        matched = sum(1 << index for index, path in enumerate(universe) if reads(pieces, path))
        for folder, members in below.items():
            assert pattern.covers(sets[folder]) is (members & matched == members), (pattern.text, folder)
            assert pattern.intersects(sets[folder]) is (members & matched != 0), (pattern.text, folder)


@settings(database=None, derandomize=True, deadline=None, max_examples=500)
@given(
    st.text("ab.*", min_size=1, max_size=8).filter(lambda text: "**" not in text),
    st.text("ab.", min_size=1, max_size=10),
)
def test_a_star_matches_any_text_within_one_segment(pattern: str, name: str) -> None:
    """Compared with the equivalent regular expression."""
    if {pattern, name} & {".", ".."}:
        return
    expected = segment_reads(pattern, name)
    assert parse_pattern(f"file:{pattern}").covers(parse_resource(f"file:{name}")) is expected
    assert parse_pattern(f"file:{pattern}/x").covers(parse_resource(f"file:{name}/x")) is expected


def test_a_pattern_with_many_stars_is_matched_without_backtracking() -> None:
    """A backtracking matcher would practically never end (as in CVEs of other glob engines)."""
    pattern = parse_pattern("file:" + "a*" * 1000 + "b")
    assert not pattern.covers(parse_resource("file:" + "a" * 8000))
    deep = parse_pattern("file:" + "**/a*/" * 50 + "b")
    assert not deep.intersects(parse_resource("file:" + "a/" * 2000 + "c"))


@pytest.mark.parametrize(
    ("pattern", "resource", "covers", "intersects"),
    [
        ("**", "none:", True, True),
        ("**", "file:**", True, True),
        ("none:", "none:", True, True),
        ("none:*", "none:", True, True),
        ("file:**", "none:", False, False),
        ("file:**", "file:.env", True, True),
        ("file:**", "file:.", True, True),
        ("file:**", "file:./**", True, True),
        ("file:secrets/**", "file:./**", False, True),
        ("file:secrets/**", "file:secrets", False, False),
        ("file:secrets/**", "file:secrets/**", True, True),
        ("file:secrets/**", "file:secrets-not/**", False, False),
        ("file:docs/*.md", "file:docs/**", False, True),
        ("file:docs/*/**", "file:docs/**", False, True),
        ("file:docs/**/*", "file:docs/**", True, True),
        ("file:**/id_rsa", "file:home/.ssh/id_rsa", True, True),
        ("file:**/id_rsa", "file:home/**", False, True),
        ("file:home/*", "file:home/u/x", False, False),
        ("file:home/*", "file:home/**", False, True),
        ("file:home", "file:home/**", False, False),
        ("https://api.example.com/**", "https://api.example.com/", True, True),
        ("https://api.example.com/**", "https://api.example.com/v1/users", True, True),
        ("https://api.example.com/**", "https://api.example.com.evil.org/", False, False),
        ("https://*.example.com/**", "https://example.com/", False, False),
        ("https://*.example.com/**", "https://evil.org/x.example.com/y", False, False),
        ("https:**", "https://api.example.com/v1", True, True),
        ("http://api.example.com/**", "https://api.example.com/", False, False),
        ("mail:*@example.com", "mail:ann@example.com", True, True),
        ("mail:*@example.com", "mail:ann@example.com.evil.org", False, False),
        ("ticket:INC-*", "ticket:INC-1", True, True),
        ("ticket:INC-*", "ticket:inc-1", False, False),
    ],
)
def test_common_patterns_cover_and_intersect_as_documented(
    pattern: str, resource: str, covers: bool, intersects: bool
) -> None:
    """Examples for readers."""
    parsed, requested = parse_pattern(pattern), parse_resource(resource)
    assert (parsed.covers(requested), parsed.intersects(requested)) == (covers, intersects)


@pytest.mark.parametrize(
    "resource",
    [
        "docs/a.md",
        "",
        ":x",
        "file:",
        "File:a",
        "file:/etc/passwd",
        "file:a//b",
        "file:a/",
        "file:a/./b",
        "file:../b",
        "file:a/..",
        "file:..",
        "file:./a",
        "file:a\\b",
        "file:a/*",
        "file:a*/**",
        "file:**/**",
        "file:a\n",
        "file:a\x00b",
        "file:a\u202eb",
        "file:a\u200bb",
        "file:e\u0301",
        "file:" + "a" * 9000,
        "https://h/a//b",
        "https://h/../b",
        "file:a\ud800",
    ],
)
def test_a_resource_that_is_not_canonical_is_refused(resource: str) -> None:
    """Two spellings of one resource never reach the rules as two resources."""
    with pytest.raises(GlobError):
        parse_resource(resource)


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "docs/**",
        "",
        "file:",
        "file:docs/",
        "file:docs//a",
        "file:./docs",
        "file:a/../b",
        "file:a**",
        "file:**a",
        "file:a/***/b",
        "file:**/**",
        "file:a?",
        "file:[ab]",
        "file:{a}",
        "file:a\\*",
        "file:/etc/**",
        "FILE:a",
        "https://h//a",
        "file:e\u0301*",
        "file:a\u00adb",
    ],
)
def test_a_misleading_pattern_is_refused(pattern: str) -> None:
    """A pattern that could never match is a problem when loaded, not a rule that never applies."""
    with pytest.raises(GlobError):
        parse_pattern(pattern)
