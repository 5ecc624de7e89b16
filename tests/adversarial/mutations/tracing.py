"""Protections of reports, each with the tests that must fail without it."""

from __future__ import annotations

import re
from typing import Final

from adversarial.mutations.row import Mutation, replaced
from remit.tracing.reports import audit

ROWS: Final = (
    Mutation(
        name="no cell of a table is a formula",
        remove=(replaced(audit, "_FORMULA", re.compile(r"(\A)([=+@-])")),),
        tests=("tracing/test_way_out.py::test_no_cell_is_a_formula_with_any_separator",),
        still=("core/parsing/test_bounded_readers.py::test_ordinary_texts_are_read_as_before",),
    ),
)  # fmt: skip
