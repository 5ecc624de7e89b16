"""Protections of the policy engine, each with the tests that must fail without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final

from adversarial.mutations.row import DECIDES, Mutation, brokered, replaced
from remit.analysis.attacks import trying
from remit.analysis.attacks.accepted import Acceptance
from remit.analysis.attacks.values import Calls, Material, calls_of
from remit.analysis.backtest import FactsRead
from remit.analysis.drafting import call as drafting
from remit.analysis.solver import paths
from remit.broker.decisions import Decider
from remit.core.calls import Permitted, Request
from remit.policy import cases, reload
from remit.policy.engine import Judgement, Policy
from remit.policy.index import Index, RuleTable
from remit.policy.language import conditions, entities, facts, loader, names, teams
from remit.policy.language.conditions import Condition
from remit.policy.reload import PolicyWatcher
from remit.runtime import runner

JUDGE: Final = Policy.judge


def prefixed(self: Index, action: str) -> tuple[RuleTable, ...]:
    """A rule for `read` matches `read_and_exec` too."""
    return tuple(table for named, table in self._tables.items() if action.startswith(named.rstrip("*")))


def of_the_action(accepted: Iterable[Acceptance], action: str, _: object) -> tuple[Acceptance, ...]:
    """A line accepts every call of its action."""
    return tuple(line for line in accepted if line.action == action)


def all_of_them(material: Material, text: str) -> Calls:
    """Whatever is tried counts as everything."""
    return dataclasses.replace(calls_of(material, text), complete=True)


# Stock Casbin would refuse the call too, so it is disabled to test Remit's matcher alone.
WITHOUT_CASBIN: Final = (
    lambda patch: patch.setattr(Decider, "_confirmed", lambda *_: True),
    lambda patch: patch.setattr(runner, "_check_rules", lambda _: None),
)


def permitted_by_own_resources(self: Policy, asked: Request, kind: str) -> Permitted:
    """The patterns of rows whose conditions hold for the resource of the request itself."""
    rows = [row for row in self.rows if row.pattern.kind == kind and row.condition.holds(asked.context)]
    return Permitted(allow=(tuple(row.pattern.text for row in rows),))


def unless_denied(self: Policy, asked: Request) -> Judgement:
    """A call that no rule matches is allowed."""
    judged = JUDGE(self, asked)
    return Judgement(True, list(self.rows[:1])) if not judged.allowed and not judged.rows else judged


ROWS: Final = (
    Mutation(
        name="a property in doubt cannot be read, and neither can its presence",
        remove=(lambda patch: patch.setattr(facts, "_check_clear", lambda *_: None),),
        tests=(
            "policy/test_properties.py::test_a_property_in_doubt_is_denied_by_a_rule_that_asks_for_it",
            "policy/test_properties.py::test_neither_presence_nor_absence_of_a_property_in_doubt_allows",
        ),
        still=DECIDES,
    ),
    Mutation(
        name="only listed properties can be stated",
        remove=(
            lambda patch: patch.setattr(
                entities.Stated, "of", classmethod(lambda cls, _, subject, resource: cls(subject=subject, resource=resource))
            ),
        ),
        tests=("policy/test_properties.py::test_an_enforcement_point_states_what_it_may_and_nothing_else",),
        still=DECIDES,
    ),
    Mutation(
        name="what is stated differently from the workspace does not count",
        remove=(lambda patch: patch.setattr(entities, "_merged", lambda _, known, stated, __: {**known, **stated}),),
        tests=("policy/test_properties.py::test_a_property_in_doubt_is_denied_by_a_rule_that_asks_for_it",),
        still=DECIDES,
    ),
    Mutation(
        name="no pattern is permitted to a tool because of a property of one resource",
        remove=(lambda patch: patch.setattr(Policy, "permitted", permitted_by_own_resources),),
        tests=("policy/test_properties.py::test_a_pattern_that_is_permitted_to_a_tool_depends_on_no_property",),
        still=DECIDES,
    ),
    Mutation(
        name="the Casbin model is checked when it is loaded",
        remove=(lambda patch: patch.setattr(loader, "check_model", lambda _: ()),),
        tests=("policy/test_load.py::test_a_model_that_differs_from_the_required_one_is_refused",),
        still=DECIDES,
    ),
    Mutation(
        name="a row of a team names what its team.toml lists",
        remove=(lambda patch: patch.setattr(teams.Team, "outside_rule", lambda *_: ()),),
        tests=("policy/test_teams.py::test_a_row_outside_of_the_bounds_of_its_team_is_refused_with_its_line",),
        still=DECIDES,
    ),
    Mutation(
        name="a team changes no role of others",
        remove=(lambda patch: patch.setattr(teams.Team, "outside_link", lambda *_: ()),),
        tests=("policy/test_teams.py::test_a_row_outside_of_the_bounds_of_its_team_is_refused_with_its_line",),
        still=DECIDES,
    ),
    Mutation(
        name="a pattern is within a bound only if the bound matches all that it matches",
        remove=(lambda patch: patch.setattr(teams, "_within", lambda pattern, bound: bound.kind == pattern.kind),),
        tests=("policy/test_teams.py::test_a_row_outside_of_the_bounds_of_its_team_is_refused_with_its_line",),
        still=DECIDES,
    ),
    Mutation(
        name="an edit in the folder of a team is noticed",
        remove=(lambda patch: patch.setattr(reload, "team_folders", lambda _: []),),
        tests=("policy/test_teams.py::test_an_edit_of_a_team_is_in_force_and_one_outside_of_its_bounds_is_not",),
        still=DECIDES,
    ),
    Mutation(
        name="a kind of resource that no file declares is an error",
        remove=(lambda patch: patch.setattr(names, "_kind_use", lambda *_: ()),),
        tests=("policy/test_mistakes.py::test_a_kind_of_resource_that_no_file_declares_is_an_error",),
        still=DECIDES,
    ),
    Mutation(
        name="a misspelled agent or user in a policy case is an error",
        remove=(lambda patch: patch.setattr(cases, "undeclared_names", lambda *_, **__: ()),),
        tests=("policy/test_mistakes.py::test_a_misspelled_name_in_a_case_is_a_problem_of_the_case",),
        still=DECIDES,
    ),
    Mutation(
        name="a draft writes no row beside a condition that limits the call",
        remove=(lambda patch: patch.setattr(drafting, "rules_that_fail", lambda *_: ()),),
        tests=("analysis/test_allow.py::test_a_condition_that_limits_a_call_gets_no_row_beside_it",),
        still=DECIDES,
    ),
    Mutation(
        name="a drafted rule for what cannot be undone asks a person who exists",
        remove=(lambda patch: patch.setattr(drafting, "chosen_approver", lambda *_: ""),),
        tests=("analysis/test_allow.py::test_a_drafted_rule_for_what_cannot_be_undone_asks",),
        still=DECIDES,
    ),
    Mutation(
        name="a backtest computes each fact that a rule reads",
        remove=(lambda patch: patch.setattr(FactsRead, "_read", lambda *_: frozenset()),),
        tests=(
            "analysis/test_backtest_facts.py::test_a_decision_with_the_facts_that_the_rules_read_is_the_one_with_all_facts",
        ),
        still=DECIDES,
    ),
    Mutation(
        name="an accepted attack is accepted for its places only",
        remove=(lambda patch: patch.setattr(trying, "acceptances_of", of_the_action),),
        tests=("analysis/test_attack.py::test_a_weakened_manifest_is_found",),
        fixtures=True,
        still=DECIDES,
    ),
    Mutation(
        name="an action with more places than are tried counts as a way through",
        remove=(lambda patch: patch.setattr(trying, "calls_of", all_of_them),),
        tests=("analysis/test_attack.py::test_more_places_than_are_tried_count_as_a_way_through_until_they_are_accepted",),
        fixtures=True,
        still=DECIDES,
    ),
    Mutation(
        name="circular or too deep roles are refused",
        remove=(lambda patch: patch.setattr(loader, "check_links", lambda _: ()),),
        tests=(
            "policy/test_load.py::test_a_cycle_of_roles_is_refused_at_the_row_that_closes_it",
            "policy/test_casbin_reference.py::test_roles_that_casbin_follows_only_in_part_do_not_load",
        ),
        still=DECIDES,
    ),
    Mutation(
        name="a condition that cannot be evaluated denies",
        remove=(lambda patch: patch.setattr(Condition, "holds", lambda self, facts: self.answer(facts) is True),),
        tests=("policy/test_conditions.py::test_an_unreadable_condition_never_allows_and_always_denies",),
        still=DECIDES,
    ),
    Mutation(
        name="a denial discloses no more than its rules allow",
        remove=(lambda patch: patch.setattr(loader, "parse_disclosure", lambda notes: ("remedy", " ".join(notes))),),
        tests=(
            "policy/test_next_step.py::test_a_hidden_rule_reads_like_no_rule_at_all",
            "policy/test_next_step.py::test_each_of_several_denying_rules_is_disclosed_at_its_own_level",
        ),
        still=DECIDES,
    ),
    brokered(
        "a rule that requires zero approvals is refused",
        replaced(conditions._ConditionReader, "_report", lambda *_: lambda _: True),
        threats="D6",
        tests=("broker/test_approvals.py::test_a_rule_that_asks_for_nobody_is_refused_when_it_is_loaded",),
    ),
    brokered(
        "a rule for one action matches no longer name",
        replaced(Index, "tables", prefixed),
        *WITHOUT_CASBIN,
        threats="E2",
        tests=("broker/test_broker.py::test_a_rule_or_list_for_one_action_does_not_cover_a_longer_name",),
    ),
    brokered(
        "nothing is allowed without a rule",
        replaced(Policy, "judge", unless_denied),
        *WITHOUT_CASBIN,
        threats="E3",
        tests=(
            "broker/test_broker.py::test_a_copy_of_a_tool_under_another_name_has_no_permissions",
            "broker/test_broker.py::test_both_the_agent_and_its_user_must_be_allowed",
        ),
    ),
    brokered(
        "a policy is loaded only when its files are stable",
        replaced(PolicyWatcher, "_settled", staticmethod(lambda _: True)),
        threats="E11",
        tests=(
            "policy/test_reload.py::test_an_edit_is_in_force_once_the_files_are_unchanged_for_a_while",
            "policy/test_reload.py::test_a_file_that_is_still_being_written_is_waited_for",
        ),
    ),
    Mutation(
        name="a comparison of rules sees names of several parts",
        remove=(lambda patch: patch.setattr(paths, "SLASHED", frozenset()),),
        tests=(
            "analysis/test_reviewer_questions.py::test_a_change_that_widens_permissions_is_reported_in_a_sentence[a collection]",
            "analysis/test_reviewer_questions.py::test_a_change_that_widens_permissions_is_reported_in_a_sentence[a document]",
            "analysis/test_reviewer_questions.py::test_the_starter_rules_have_no_warning",
        ),
    ),
)  # fmt: skip
