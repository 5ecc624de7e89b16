"""Protections of decisions for applications (AuthZEN), each with the tests that must fail without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from adversarial.mutations.row import DECIDES, Mutation, brokered, never
from remit.core import Decision, Json
from remit.policy.authzen import decision_point, searches
from remit.policy.authzen.decision_point import DecisionPoint
from remit.policy.authzen.questions import Entity
from remit.server.given import GivenDecisions
from remit.server.handlers import authzen
from remit.server.http.route import Asked

PROBLEM: Final = DecisionPoint.problem


def without_disabled(self: DecisionPoint, subject: Entity, action: str, resource: Entity) -> object:
    """A subject that was disabled is asked about like any other."""
    return PROBLEM(replace(self, is_disabled=lambda _: False), subject, action, resource)


def whole(decision: Decision) -> dict[str, Json]:
    """The application reads what an operator reads."""
    if decision.verdict == "allow":
        return {"decision": True}
    rules = [rule.note for rule in decision.rules]
    return {
        "decision": False,
        "context": {"reason": decision.message, "remit": {"code": decision.reason, "rules": rules}},
    }


def any_point(asked: Asked) -> object:
    """Each account is the first enforcement point."""
    return next(iter(asked.workspace.settings.enforcement_points.values()))


ROWS: Final = (
    Mutation(
        name="AuthZEN: a resource has one canonical name",
        remove=(lambda patch: patch.setattr(decision_point, "is_canonical", lambda _: True),),
        tests=(
            "policy/authzen/test_decision_point.py::test_what_is_not_listed_or_has_no_canonical_name_is_denied_without_asking_the_rules",
        ),
        still=DECIDES,
    ),
    Mutation(
        name="AuthZEN: a disabled subject may do nothing",
        remove=(lambda patch: patch.setattr(DecisionPoint, "problem", without_disabled),),
        tests=(
            "policy/authzen/test_decision_point.py::test_a_disabled_subject_may_do_nothing_and_no_search_finds_it",
            "server/test_authzen.py::test_a_disabled_subject_is_denied_at_once",
        ),
        fixtures=True,
        still=DECIDES,
    ),
    Mutation(
        name="AuthZEN: an answer says no more of a rule than it discloses",
        remove=(lambda patch: patch.setattr(decision_point, "_body", whole),),
        tests=("policy/authzen/test_decision_point.py::test_a_denial_says_no_more_than_its_rule_discloses",),
        still=DECIDES,
    ),
    Mutation(
        name="AuthZEN: an allow that stock Casbin does not confirm is no",
        remove=(lambda patch: patch.setattr(DecisionPoint, "_is_confirmed", lambda *_: True),),
        tests=(
            "policy/authzen/test_decision_point.py::test_an_answer_that_stock_casbin_does_not_confirm_is_no",
            "server/test_authzen.py::test_with_casbin_always_stock_casbin_is_asked_too",
        ),
        fixtures=True,
        still=DECIDES,
    ),
    Mutation(
        name="AuthZEN: the token of a page belongs to one search",
        remove=(lambda patch: patch.setattr(searches, "digest", lambda _: ""),),
        tests=("policy/authzen/test_decision_point.py::test_a_token_belongs_to_one_search",),
        still=DECIDES,
    ),
    Mutation(
        name="AuthZEN: a page of a search takes a bounded number of decisions",
        remove=(lambda patch: patch.setattr(searches, "MOST_DECIDED", 10**9),),
        tests=("policy/authzen/test_decision_point.py::test_a_page_ends_after_a_bounded_number_of_decisions",),
        still=DECIDES,
    ),
    brokered(
        "AuthZEN: only a listed account gets decisions",
        lambda patch: patch.setattr(authzen, "_enforcement_point", any_point),
        tests=(
            "server/test_authzen.py::test_only_a_listed_account_gets_decisions",
            "server/test_authzen.py::test_a_key_gets_decisions_only_if_it_is_for_them",
            "server/test_authzen.py::test_an_enforcement_point_gets_no_decision_about_actions_of_another",
        ),
    ),
    brokered(
        "AuthZEN: no decision is given while the record fails",
        never(GivenDecisions, "check"),
        tests=("server/test_authzen.py::test_no_decision_is_given_while_the_record_fails",),
    ),
)
