"""Protections of the service, each with the tests that must fail without it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from adversarial.mutations.row import Mutation, Remove, never, replaced
from remit.client import passkeys
from remit.passkeys import assertion
from remit.server.authentication import access, api_keys, claims, providers, refusals, tokens
from remit.server.authentication.access import Access
from remit.server.authentication.sessions import BrowserSession, Expiring, Sessions
from remit.server.authentication.tokens import TokenVerifier, Trusted
from remit.server.handlers import operation
from remit.server.http import route
from remit.server.pages import html, login, requests
from remit.server.pages.passkeys import Signing

TOKENS: Final = "server/authentication/test_tokens.py::"
ACCESS: Final = "server/authentication/test_access.py::"
PAGES: Final = "server/pages/test_pages.py::"
PASSKEYS: Final = "server/pages/test_passkeys.py::"
BAD: Final = f"{TOKENS}test_a_token_that_is_not_exactly_right_is_refused"


def answered(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    """A mutation of the service; a good token is still accepted."""
    good = (f"{TOKENS}test_an_email_counts_only_if_the_provider_says_that_it_is_verified",)
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=good)


def known_here(journal: Any, issuer: str, number: str, **_: Any) -> bool:
    """Remember used tokens in the memory of one process, which the object of its journal stands for."""
    used = _used.setdefault(id(journal), set())
    before = len(used)
    used.add((issuer, number))
    return len(used) > before


_used: dict[int, set[tuple[str, str]]] = {}


def any_agent(*_: Any) -> str:
    return "did you mean triage?"


def first_trust(trusted: Trusted, _: Any) -> Any:
    return next(iter(trusted))


ROWS: Final = (
    answered(
        "the near name of a refused agent is one that the asker may start",
        replaced(route, "did_you_mean", any_agent),
        tests=("server/test_people.py::test_who_may_not_start_an_agent_does_not_learn_that_it_exists",),
    ),
    answered(
        "tokens are signed by the issuer",
        replaced(tokens, "_is_signed", lambda *_: True),
        tests=(
            f"{BAD}[signed by another key under the same kid]",
            f"{BAD}[claims changed after signing]",
            f"{TOKENS}test_the_key_of_one_application_signs_for_no_other",
        ),
    ),
    answered(
        "the setting says which algorithms are accepted",
        replaced(tokens, "_algorithm", lambda token, _: token.header["alg"]),
        replaced(providers, "fits", lambda *_: True),
        replaced(tokens, "_is_signed", lambda *_: True),
        tests=(f"{BAD}[alg=none]", f"{BAD}[HMAC with the public key]"),
    ),
    answered(
        "a key is used for its own algorithm only",
        replaced(providers, "fits", lambda *_: True),
        replaced(tokens, "_is_signed", lambda *_: True),
        tests=(f"{TOKENS}test_a_key_that_is_not_for_the_signature_checks_nothing[of a curve]",),
    ),
    answered(
        "tokens end",
        never(claims, "check_times"),
        tests=(
            f"{BAD}[expired]",
            f"{BAD}[not valid yet]",
            f"{TOKENS}test_a_token_of_an_application_is_short_and_new[lifetime-changes0]",
        ),
    ),
    answered(
        "a token is for one workspace",
        replaced(Trusted, "of", first_trust),
        tests=(f"{BAD}[for another audience]", f"{BAD}[for two workspaces]", f"{BAD}[of another issuer]"),
    ),
    answered(
        "the token of an application is used once",
        never(TokenVerifier, "_use_up"),
        tests=(f"{ACCESS}test_a_token_of_an_application_is_used_once_by_whichever_process_serves_the_workspace",),
    ),
    answered(
        "used tokens are known to every process of the workspace",
        replaced(access, "use_token", known_here),
        tests=(
            f"{ACCESS}test_a_token_of_an_application_is_used_once_by_whichever_process_serves_the_workspace",
            f"{ACCESS}test_of_many_uses_of_one_token_at_once_in_two_processes_one_is_accepted",
        ),
    ),
    answered(
        "only an account of this machine gets a link to log in",
        replaced(operation, "_is_account", lambda _: True),
        tests=(f"{ACCESS}test_only_an_account_of_this_machine_gets_a_link_to_log_in",),
    ),
    answered(
        "forged key ids make the service ask no provider",
        replaced(providers, "PAUSE_S", 0.0),
        tests=(f"{TOKENS}test_a_new_key_of_the_provider_is_found_and_forged_kids_make_it_ask_no_more",),
    ),
    answered(
        "addresses of a provider are https",
        replaced(providers, "is_safe", lambda *_: True),
        tests=(f"{TOKENS}test_a_provider_that_describes_itself_wrongly_is_not_believed[change1]",),
    ),
    answered(
        "a disabled principal is not authenticated",
        replaced(Access, "enabled", lambda _, principal: principal),
        tests=(
            f"{ACCESS}test_a_disabled_principal_is_refused_at_once_with_key_and_with_token",
            f"{PAGES}test_a_disabled_person_is_logged_out_at_once",
        ),
    ),
    answered(
        "the secret of a key is compared",
        replaced(api_keys, "hmac", SimpleNamespace(compare_digest=lambda *_: True)),
        tests=(f"{ACCESS}test_what_does_not_prove_who_asks_is_refused_without_detail_and_recorded[another secret]",),
    ),
    answered(
        "refusals cannot fill the journal",
        replaced(refusals, "EVERY_S", -1.0),
        tests=(f"{ACCESS}test_an_attacker_cannot_fill_the_journal",),
    ),
    answered(
        "a browser session only reads the API",
        replaced(access, "_SAFE", ("GET", "HEAD", "POST")),
        tests=(f"{PAGES}test_the_cookie_of_a_browser_changes_nothing_through_the_api",),
    ),
    answered(
        "a form comes from a page of the service",
        replaced(html, "is_from_here", lambda *_: True),
        tests=(f"{PAGES}test_a_form_of_another_site_does_nothing_even_with_the_token",),
    ),
    answered(
        "a form has the token of its session",
        replaced(BrowserSession, "accepts", lambda *_: True),
        tests=(f"{PAGES}test_a_form_without_the_token_of_the_session_does_nothing",),
    ),
    answered(
        "texts of a run are text on a page",
        replaced(html, "_templates", lambda made=html._templates: made().overlay(autoescape=False)),
        tests=(f"{PAGES}test_every_text_of_a_run_stays_text[<script>alert(1)</script>]",),
    ),
    answered(
        "pages are framed nowhere and run no script of others",
        replaced(html, "HEADERS", {}),
        tests=(f"{PAGES}test_no_page_is_framed_cached_or_runs_a_script_of_others",),
    ),
    answered(
        "a session ends when a person logs out, or logs in again",
        never(Sessions, "end"),
        tests=(
            f"{PAGES}test_logging_out_ends_the_session_at_the_service",
            f"{PAGES}test_a_session_has_a_new_id_after_login_so_nobody_can_choose_it",
        ),
    ),
    answered(
        "after a login a person goes to a page of the service only",
        replaced(login, "_NEXT", SimpleNamespace(fullmatch=lambda _: True)),
        tests=(f"{PAGES}test_who_is_not_logged_in_is_sent_to_the_login_and_back",),
    ),
    answered(
        "a request is shown only to people whom it concerns",
        replaced(requests, "_is_concerned", lambda *_: True),
        tests=(f"{PAGES}test_a_request_that_is_not_for_a_person_is_as_if_it_did_not_exist",),
    ),
    answered(
        "a signature of a passkey is over the approval, at the address of the service",
        never(assertion, "check_client_data"),
        tests=(
            f"{PASSKEYS}test_a_signature_for_another_request_does_not_count",
            f"{PASSKEYS}test_a_signature_counts_for_its_bounds_only[changed0]",
            f"{PASSKEYS}test_a_signature_made_elsewhere_or_without_the_person_does_not_count",
            f"{PASSKEYS}test_the_record_of_an_approval_shows_any_change_of_what_was_signed",
        ),
    ),
    answered(
        "a device has verified the person who signs",
        never(assertion, "check_device"),
        tests=(f"{PASSKEYS}test_a_signature_made_elsewhere_or_without_the_person_does_not_count",),
    ),
    answered(
        "a passkey counts for its person, once it is confirmed and until it is revoked",
        never(passkeys, "check_signature"),
        replaced(passkeys, "active_passkeys", lambda journal, _: passkeys.list_passkeys(journal)),
        tests=(
            f"{PASSKEYS}test_a_passkey_signs_for_its_person_and_only_once_another_person_has_confirmed_it",
            f"{PASSKEYS}test_a_revoked_passkey_signs_nothing",
        ),
    ),
    answered(
        "who has a passkey approves nothing in the console without it",
        replaced(Signing, "signed", lambda _, __, consent, ___: consent),
        tests=(f"{PASSKEYS}test_who_has_a_confirmed_passkey_approves_only_with_its_signature",),
    ),
    answered(
        "a challenge of a passkey is used once",
        replaced(Expiring, "take", Expiring.find),
        tests=(f"{PASSKEYS}test_a_signature_counts_once",),
    ),
)
