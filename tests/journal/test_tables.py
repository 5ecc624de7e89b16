"""The tables that statements use are those that the classes declare."""

from __future__ import annotations

from support.journal_columns import FILE, text_of_columns


def test_statements_have_the_columns_types_and_keys_of_the_classes() -> None:
    """Otherwise: python tests/support/journal_columns.py --write"""
    assert FILE.read_text() == text_of_columns()
