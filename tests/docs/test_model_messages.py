"""The catalogue of texts that a model reads is complete, and each text is short, literal and says the next step."""

from __future__ import annotations

import re
from typing import get_args

from remit.core.errors import NEXT_STEPS, ModelCode
from support.model_messages import PAGE, collect, page


def test_the_catalogue_is_what_the_code_says() -> None:
    texts = collect()
    assert len(texts) >= 40
    assert page(texts) == PAGE.read_text("utf-8"), "run tests/support/model_messages.py --write"


def test_a_text_for_a_model_has_at_most_two_sentences() -> None:
    assert [text for text in collect() if len(re.findall(r"[.;!?](?:\s|$)", text.message)) > 1] == []


def test_every_code_has_a_next_step_and_a_next_step_is_one_instruction() -> None:
    assert set(NEXT_STEPS) == set(get_args(ModelCode))
    steps = [*NEXT_STEPS.values(), *(step for text in collect() for step in text.next_step.split(" / ") if step)]
    assert [step for step in steps if not re.match(r"[a-z…]", step) or re.search(r"[.!?](?:\s|$)", step)] == []


def test_a_text_for_a_model_names_an_object() -> None:
    """A value that is filled in, or the thing that the text is about."""
    things = (
        r"\b(call|calls|run|tool|arguments?|approval|result|answer|budget|agent|files?|path|text|action|turn|hosts?|query|value"
        r"|sandbox|name|store|URL|JSON|schema|number|string|request|person|rules|table|tables|statement|folder|port|address)\b"
    )
    nothing = [text for text in collect() if "…" not in text.message and not re.search(things, text.message)]
    assert nothing == []
