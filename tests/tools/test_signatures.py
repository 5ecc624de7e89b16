"""A function that cannot be an action is refused at pin, with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core import WorkspaceError
from support.workspaces.typed import bank

REFUSED = {
    "a default that is no finite number": (
        'def pay(to: str, most: float = float("inf")) -> str:\n    return to\n',
        "function 'pay': a default is not a finite number, which JSON cannot represent",
        "write a finite default, or None",
    ),
    "a type that is imported for type checkers only": (
        'def pay(to: "Missing") -> str:\n    return to\n',
        "function 'pay': name 'Missing' is not defined",
        "import the type where main.py runs, not under TYPE_CHECKING",
    ),
    "a pattern that looks ahead": (
        "from typing import Annotated\nfrom pydantic import StringConstraints\n"
        'def pay(to: Annotated[str, StringConstraints(pattern="^(?!tmp)[a-z]+$")]) -> str:\n    return to\n',
        "function 'pay': a type cannot be built: error: look-around, including look-ahead and look-behind, is not supported",
        "write a pattern without (?=, (?!, (?<= and (?<!, or check the text in a validator",
    ),
    "a positional parameter": (
        "def pay(to: str, /) -> str:\n    return to\n",
        "function 'pay': parameter 'to' cannot be passed by name",
        "write it as a plain named parameter",
    ),
    "no result type": (
        "def pay(to: str):\n    return to\n",
        "function 'pay': it has no return type",
        "give every parameter and the result a type",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_signature_that_cannot_be_called_is_refused_with_its_reason_and_the_fix(tmp_path: Path, case: str) -> None:
    source, what, fix = REFUSED[case]
    with pytest.raises(WorkspaceError) as refused:
        bank(tmp_path, source)
    (problem,) = refused.value.problems
    assert (problem.file, problem.what, problem.fix) == ("tools/bank/main.py", what, fix)
