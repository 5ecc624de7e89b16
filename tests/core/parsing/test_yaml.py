"""Tables in YAML are read as JSON values."""

from __future__ import annotations

from remit.core.parsing.yaml import read_rows


def test_a_character_that_json_escapes_in_two_halves_is_one_character() -> None:
    """JSON is YAML, so a row that was copied from a trace means the same."""
    (row,) = read_rows(r'[{"note": "\ud83d\ude00 é", "\ud83d\ude00": ["a\ud83d\ude00"]}]', file="cases.yaml")
    assert row.value == {"note": "😀 é", "😀": ["a😀"]}
