"""Claims, quotes and numbers of grounded answers, without a run around them."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest

from remit.core.answers import Citation, Passage, Retrieved, Source
from remit.guardrails.grounding.claims import Grounding
from remit.guardrails.grounding.numbers import numbers_of, units_in
from remit.guardrails.grounding.quotes import place_of, single_spaced

ANSWERS: Final = int(os.environ.get("REMIT_GROUNDED_ANSWERS", "150"))
NOW: Final = 1_796_000_000 * 10**9  # in 2026
KINDS: Final = ("number", "unit", "quote", "version", "section", "span", "digest", "document", "place", "name")
CODES: Final = {
    "number": {"number_not_in_quote"},
    "unit": {"number_not_in_quote"},
    "quote": {"quote_not_found"},
    "version": {"wrong_version"},
    "section": {"wrong_section"},
    "span": {"wrong_span"},
    "digest": {"wrong_digest"},
    "document": {"not_retrieved", "wrong_version", "wrong_section", "wrong_span", "wrong_digest"},
    "place": {"not_retrieved", "wrong_section"},
    "name": {"name_not_in_quote"},
}
# What a section says, and a claim that follows from it; {n} is a number in one form and {m} the same in another one.
STATEMENTS: Final = (
    ("Refunds for {name} are paid within {n} days.", "Your money for {name} comes in {m} days."),
    ("Orders of {name} over {n} EUR need a manager.", "From €{m} on, a manager must agree."),
    ("The discount on {name} is {n} % of the price.", "You save {m} percent."),
    ("A parcel of {name} weighs {n} kg at most.", "It may weigh {m} kilograms."),
    ("Contracts for {name} end after {n} months.", "It ends after {m} months."),
)
UNITS: Final = {"days": "weeks", "€": "$", "percent": "EUR", "kilograms": "tons", "months": "years"}
NAMES: Final = ("apples", "bricks", "chairs", "desks", "engines", "fences", "gates", "hammers", "irons", "lamps")


def forms(number: int, chance: random.Random) -> str:
    """One way to write the number."""
    words = {5: "five", 12: "twelve", 14: "fourteen", 20: "twenty", 21: "twenty-one", 30: "thirty", 60: "sixty"}
    grouped = f"{number:,}"
    mark = chance.choice([",", ".", " ", "\u00a0", "'"])
    return chance.choice([str(number), grouped.replace(",", mark), words.get(number, str(number))])


def passage(text: str, document: str, version: str, section: str, begin: int, place: tuple[str, int]) -> Passage:
    data = text.encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    span = (begin, begin + len(data))
    cited = Citation(document=document, version=version, section=section, span=span, digest=digest)
    return Passage(source=Source(call=place[0], item=place[1], citation=cited), text=text)


def handbook(chance: random.Random) -> tuple[Retrieved, list[tuple[Passage, str, str, int]]]:
    """What a run retrieved, and for each passage a sentence of it, the form of a claim from it, and its number."""
    passages: list[Passage] = []
    facts: list[tuple[Passage, str, str, int]] = []
    for number, name in enumerate(chance.sample(NAMES, 6)):
        document, version = f"handbook/{name}", str(chance.randint(1, 9))
        for at, (says, claims) in enumerate(chance.sample(STATEMENTS, 3)):
            amount = chance.choice([5, 12, 14, 20, 21, 30, 60, 250, 1000, 1500, 12000, chance.randint(2, 99999)])
            says = says.format(n=forms(amount, chance), name=name)
            text = f"About {name}, part {at + 40}.\n\n{says.replace(' ', chance.choice([' ', chr(10), '  ']))} See also the list."
            section = f"{name.title()} > Part {at + 40}"
            one = passage(text, document, version, section, 100 * at, (f"{number}.0", at + 1))
            passages.append(one)
            facts.append((one, says, claims.replace("{name}", name), amount))
    return Retrieved(passages=tuple(passages), searched=True, at=NOW), facts


def literal(fact: tuple[Passage, str, str, int], chance: random.Random) -> dict[str, Any]:
    """A true claim with its quote, cited by place or by name."""
    found, says, claims, amount = fact
    source = found.source
    by_place = {"call": source.call, "item": source.item, "section": source.citation.section}
    citation = by_place if chance.random() < 0.5 else source.citation.model_dump(mode="json")
    return {"claim": claims.format(m=forms(amount, chance)), "quote": says, "citation": citation}


def mutated(kind: str, fact: tuple[Passage, str, str, int], chance: random.Random) -> dict[str, Any]:
    """The claim with one thing changed."""
    found, says, claims, amount = fact
    claim = literal(fact, chance)
    named: dict[str, Any] = found.source.citation.model_dump(mode="json")
    place = {"call": found.source.call, "item": found.source.item, "section": named["section"]}
    if kind == "number":
        other = chance.choice([amount + 1, amount * 10, amount + 100, 7])
        return {**claim, "claim": claims.format(m=forms(other if other != amount else 8, chance))}
    if kind == "unit":
        for unit, other in UNITS.items():
            claims = claims.replace(unit, other)
        return {**claim, "claim": claims.format(m=forms(amount, chance))}
    if kind == "quote":
        words = says.split()
        at = chance.randrange(1, len(words) - 1)
        change: Callable[[], list[str]] = chance.choice(
            [
                lambda: [*words[:at], *words[at + 1 :]],
                lambda: [*words[:at], words[at] + "x", *words[at + 1 :]],
                lambda: [words[1][1:], *words[2:]],
                lambda: [*words[:-1], words[-1][:-2]],
                lambda: [word.upper() for word in words],
            ]
        )
        return {**claim, "quote": " ".join(change())}
    if kind == "name":
        name = chance.choice(
            ["See help.example/refunds.", "Write to a@help.example.", "Pay to GB33BUKB20201555555555."]
        )
        return {**claim, "claim": f"{claim['claim']} {name}"}
    if kind == "place":
        return {**claim, "citation": {**place, "item": found.source.item % 3 + 1}}
    changes: dict[str, Any] = {
        "version": f"{named['version']}.1",
        "section": f"{named['section'][:-1]}9",
        "span": [named["span"][0] + chance.randint(-3, 3) * 2 + 1, named["span"][1]],
        "digest": f"sha256:{'0' * 64}",
        "document": f"handbook/{chance.choice([name for name in NAMES if name not in named['document']])}",
    }
    base = (
        {**place, kind: changes[kind]}
        if kind == "section" and chance.random() < 0.5
        else {**named, kind: changes[kind]}
    )
    return {**claim, "citation": base}


def test_every_literal_answer_is_accepted() -> None:
    """Answers with numbers in other forms than in their sources, and white space as it comes."""
    chance = random.Random(20)
    for _ in range(ANSWERS):
        retrieved, facts = handbook(chance)
        document = chance.choice(facts)[0].source.citation.document
        of_one = [fact for fact in facts if fact[0].source.citation.document == document]
        claims = [literal(fact, chance) for fact in chance.sample(of_one, chance.randint(1, len(of_one)))]
        checked = Grounding(claims, retrieved)
        assert (checked.problems, len(checked.sources)) == ([], len(claims)), claims


def test_no_mutated_answer_is_accepted_and_each_is_refused_for_its_reason() -> None:
    """Answers, each with one thing changed beside claims that are true."""
    chance = random.Random(21)
    for number in range(ANSWERS):
        kind = KINDS[number % len(KINDS)]
        retrieved, facts = handbook(chance)
        fact = chance.choice(facts)
        claims = [mutated(kind, fact, chance)]
        if chance.random() < 0.5:
            claims.insert(0, literal(fact, chance))
        found = {problem.code for problem in Grounding(claims, retrieved).problems}
        assert found & CODES[kind], (kind, claims[-1], found)


def one(text: str) -> Any:
    (number,) = numbers_of(text)
    return number.value, number.unit


@pytest.mark.parametrize(
    ("texts", "value", "unit"),
    [
        (("1000", "1,000", "1.000", "1 000", "1'000", "one thousand", "1k", "１０００"), Decimal(1000), ""),
        (("1.5", "1,5", "1.50"), Decimal("1.5"), ""),
        (("1,000.50", "1.000,50", "1 000.5"), Decimal("1000.5"), ""),
        (("0.125", "0,125"), Decimal("0.125"), ""),
        (("14 %", "14%", "14 percent", "14 per cent", "fourteen percent"), Decimal(14), "%"),
        (("€500", "500 EUR", "EUR 500", "500 euros", "five hundred euros"), Decimal(500), "eur"),
        (("2 million dollars", "$2 million", "$2,000,000"), Decimal(2_000_000), "usd"),
        (("30 days", "30-day", "thirty days", "30 Tage"), Decimal(30), "day"),
        (("14 business days", "fourteen business days"), Decimal(14), "business day"),
        (("twenty-one", "twenty one", "21", "21st"), Decimal(21), ""),
        (("one day", "1 day"), Decimal(1), "day"),
        (("-5 °", "\u22125 degrees"), Decimal(-5), "°"),
        (("2026-06-30", "30.06.2026", "30 June 2026", "June 30, 2026", "30th of June 2026", "30/06/2026"), (2026, 6, 30), ""),
        (("30 June", "Jun 30"), (None, 6, 30), ""),
        (("June 2026",), (2026, 6, None), ""),
        (("14:30",), "14:30", ""),
        (("B2B", "b2b"), "b2b", ""),
        (("3.2.1",), "3.2.1", ""),
        (("06/07/2026",), "06/07/2026", ""),
        (("1½",), "1½", ""),
    ],
)  # fmt: skip
def test_a_number_is_the_same_in_every_form(texts: tuple[str, ...], value: Any, unit: str) -> None:
    assert {one(text) for text in texts} == {(value, unit)}


@pytest.mark.parametrize(
    ("claimed", "source", "states"),
    [
        ("within 30", "within 30 days", True),
        ("30 days", "30 weeks", False),
        ("30 days", "30 business days", False),
        ("30 days", "between 14 and 30 days", True),
        ("14 weeks", "14-30 days", False),
        ("30", "30 %", False),
        ("-5", "5", False),
        ("30 June", "30 June 2026", True),
        ("30 June 2026", "30 June", False),
        ("30 June", "30 July", False),
        ("in 2026", "on 2026-06-30", True),
        ("one of them", "all of them", True),
        ("one day", "two days", False),
        ("500 EUR", "1 500 EUR", False),
        ("B2C", "B2B", False),
        ("400 EUR", "see part 400", False),
        ("30 business days", "30 days", False),
        ("30 days", "30 (thirty) days", True),
        ("30 business days", "30 (thirty) days", False),
        ("€5", "| price in EUR | 5 |", True),
    ],
)
def test_a_claim_takes_a_number_only_with_its_unit_and_its_date(claimed: str, source: str, states: bool) -> None:
    its = numbers_of(source)
    units = units_in(source)
    assert (
        all(number.weak or any(number.states(other, units) for other in its) for number in numbers_of(claimed))
        is states
    )


def codes_of(words: str, text: str) -> list[str]:
    """The codes of a claim with those words, whose quote is the whole text."""
    found = passage(text, "d", "1", "S", 0, ("0.0", 1))
    claim = {"claim": words, "quote": text, "citation": found.source.citation.model_dump(mode="json")}
    return [
        problem.code for problem in Grounding([claim], Retrieved(passages=(found,), searched=True, at=NOW)).problems
    ]


def test_a_claim_adds_no_unit_that_its_quote_does_not_name() -> None:
    assert codes_of("It costs 400 EUR.", "See part 400 of the list.") == ["number_not_in_quote"]
    assert codes_of("It is part 400.", "See part 400 of the list.") == []
    assert codes_of("You have 30 days.", "The limit is 30 (thirty) days.") == []


@pytest.mark.parametrize("name", ["https://help.example/a", "help.example", "a@help.example", "GB33BUKB20201555555555"])
def test_a_claim_names_nothing_outside_that_its_quote_does_not_name(name: str) -> None:
    assert codes_of(f"Turn to {name} for help.", "Complaints are answered by the shop.")[-1:] == ["name_not_in_quote"]
    assert codes_of(f"Turn to {name} for help.", f"Complaints go to {name} by mail.") == []


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("Orders over 1 500 EUR need the consent of a lead.", True),
        ("over 1 500 EUR need the consent", True),
        ("500 EUR need the consent", False),
        ("Orders over 1 500", False),
        ("Orders over 1 500 EUR need the cons", False),
        ("orders over 1 500 EUR need", False),
        ("Orders over 1500 EUR need", False),
    ],
)
def test_a_quote_is_there_word_for_word_and_cuts_neither_words_nor_numbers(quote: str, found: bool) -> None:
    text = single_spaced("Orders over\n1 500 EUR   need the consent of\ta lead.")
    assert (place_of(quote, text, numbers_of(text)) is not None) is found


def test_a_document_that_was_found_again_in_a_later_version_is_cited_in_that_version() -> None:
    old = passage("Refunds are paid within 14 days.", "handbook/refunds", "3", "Refunds", 0, ("0.0", 1))
    new = passage("Refunds are paid within 30 days.", "handbook/refunds", "4", "Refunds", 0, ("1.0", 1))
    claim = {"claim": "14 days", "quote": old.text, "citation": old.source.citation.model_dump(mode="json")}
    problems = Grounding([claim], Retrieved(passages=(old, new), searched=True, at=NOW)).problems
    assert [problem.code for problem in problems] == ["source_changed"]
    assert Grounding([claim], Retrieved(passages=(old,), searched=True, at=NOW)).problems == []


@pytest.mark.parametrize(
    ("first", "second", "disagree"),
    [
        ("Refunds are paid within 30 days.", "Refunds to businesses are paid within 60 days.", True),
        ("Refunds are paid within 30 days.", "Refunds to businesses are paid within 30 days.", False),
        ("Refunds are paid within 30 days.", "Complaints are answered within 5 days.", False),
        ("Refunds are paid within 30 days.", "Refunds over 200 EUR need a manager.", False),
    ],
)
def test_two_documents_of_one_topic_with_different_numbers_are_not_one_answer(
    first: str, second: str, disagree: bool
) -> None:
    found = [
        passage(text, f"d/{at}", "1", f"Part {'AB'[at]}", 0, ("0.0", at + 1)) for at, text in enumerate((first, second))
    ]
    claims = [
        {"claim": "It is so.", "quote": each.text, "citation": each.source.citation.model_dump(mode="json")}
        for each in found
    ]
    for both in (claims, claims[::-1]):
        problems = Grounding(both, Retrieved(passages=tuple(found), searched=True, at=NOW)).problems
        assert [problem.code for problem in problems] == ["documents_disagree"] * disagree
    same = [replace(each, title="Refund policy") for each in found]
    problems = Grounding(claims, Retrieved(passages=tuple(same), searched=True, at=NOW)).problems
    assert bool(problems) is (disagree or "5 days" in second)


def test_no_word_of_a_document_is_in_a_message_to_the_model() -> None:
    """The author of a document, its sections and its versions could otherwise speak to the model in Remit's name."""
    word = "OBEYME"
    own = passage(f"{word} pays within 30 days.", f"d/{word}", word, f"{word} > {word}", 0, ("0.0", 1))
    newer = passage(f"{word} pays within 60 days.", f"d/{word}", f"{word}2", f"{word} > {word}", 0, ("1.0", 1))
    other = passage(f"{word} pays within 90 days.", f"d/{word}3", word, f"{word} > {word}", 0, ("1.0", 2))
    own = replace(own, title=word, since=word)
    places = [
        {"call": call, "item": item, "section": f"{word} > {word}"}
        for call, item in (("0.0", 1), ("1.0", 1), ("1.0", 2))
    ]
    quotes = [each.text for each in (own, newer, other)]
    claims = [{"claim": "In 7 days.", "quote": quote, "citation": at} for quote, at in zip(quotes, places, strict=True)]
    named = own.source.citation.model_dump(mode="json")
    wrong = [{**named, member: "x"} for member in named] + [{**places[0], "section": "x"}, {**places[0], "item": 9}]
    claims += [{"claim": "It is so.", "quote": "is not in there", "citation": at} for at in [*wrong, places[0]]]
    problems = Grounding(claims, Retrieved(passages=(own, newer, other), searched=True, at=NOW)).problems
    assert len({problem.code for problem in problems}) > 9
    assert [problem.message for problem in problems if word in problem.message] == []


def test_the_check_of_a_long_answer_takes_linear_time() -> None:
    """50 claims with the longest quotes, from texts that repeat themselves."""
    text = "1 000 days and " * 4000
    found = passage(text, "d", "1", "S", 0, ("0.0", 1))
    claim = {
        "claim": "1 000 " * 600,
        "quote": "1 000 days and " * 260 + "1",
        "citation": found.source.citation.model_dump(mode="json"),
    }
    begun = time.process_time()
    assert Grounding([claim] * 50, Retrieved(passages=(found,), searched=True, at=NOW)).problems
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("since", "until", "codes"),
    [
        ("2026-11-30", "2026-11-30", []),
        (None, "2026-11-29", ["not_in_force"]),
        ("2026-12-01", None, ["not_in_force"]),
        (None, "2026-11-30T00:00:00Z", ["not_in_force"]),
    ],
)
def test_a_document_is_in_force_on_its_first_and_on_its_last_day(
    since: str | None, until: str | None, codes: list[str]
) -> None:
    noon = int(datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()) * 10**9
    found = replace(passage("Paid within 14 days.", "handbook/a", "1", "A", 0, ("0.0", 1)), since=since, until=until)
    claim = {
        "claim": "Paid in 14 days.",
        "quote": "Paid within 14 days.",
        "citation": {"call": "0.0", "item": 1, "section": "A"},
    }
    checked = Grounding([claim], Retrieved(passages=(found,), searched=True, at=noon))
    assert [problem.code for problem in checked.problems] == codes
