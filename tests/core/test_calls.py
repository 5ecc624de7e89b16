"""What the values of the vocabulary guarantee to every package."""

from __future__ import annotations

import pytest

from remit.core import Context, ProposedCall
from remit.core.events import ModelResponded


def test_a_copy_with_a_key_that_is_no_field_is_refused() -> None:
    """Pydantic ignores such a key, and then a content that should be left out of a record would stay in it."""
    proposed = ProposedCall(name="files__read", arguments='{"path": "a"}')
    event = ModelResponded(step=0, text="read", proposed_calls=(proposed,), finish="tool_calls")
    with pytest.raises(TypeError, match="ModelResponded has no field asks, words"):
        event.model_copy(update={"asks": (), "words": ""})
    assert event.model_copy(update={"proposed_calls": ()}).proposed_calls == ()
    assert Context().model_copy(update={"time": "09:30"}).time == "09:30"
