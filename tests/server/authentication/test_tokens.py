"""Tokens of identity providers and applications: each that is not exactly right is refused, and says why in the record only."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final

import pytest
from joserfc.jwk import ECKey, RSAKey

from remit.core import KeyScope, Principal, UsageError
from remit.server.authentication import AccessDenied
from remit.server.authentication.providers import PAUSE_S, Providers
from remit.server.authentication.tokens import CACHED, TokenVerifier, Trusted
from remit.workspace import ApplicationIssuer, OidcIssuer
from support.tokens import AUDIENCE, HOUR, ISSUER, SHOP, Provider, Shop, hmac_signed, unsigned

OTHER: Final = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
ROLES: Final = {"groups": {"leads": "role:oncall-lead"}}


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.late = 0.0

    def __call__(self) -> float:
        return time.time() + self.late


def oidc(**changes: Any) -> OidcIssuer:
    given = {"kind": "oidc", "issuer": ISSUER, "audience": AUDIENCE, "roles": ROLES, **changes}
    return OidcIssuer.model_validate(given)


async def never_used(tenant: str, issuer: str, number: str, until: float) -> bool:
    """Tokens of a provider are used as often as they come; `test_access.py` uses up those of applications in a journal."""
    return True


def verifier(provider: Provider, clock: Callable[[], float] = time.time, **changes: Any) -> TokenVerifier:
    trusted = Trusted({"acme": {"corp": oidc(**changes)}, "other": {"corp": oidc(audience="remit-other", **changes)}})
    return TokenVerifier(trusted, Providers(provider, clock), never_used, clock)


@pytest.fixture
def provider() -> Provider:
    return Provider()


async def test_the_token_of_a_provider_names_its_user_in_the_workspace_of_its_audience(provider: Provider) -> None:
    checks = verifier(provider)
    assert await checks.principal(provider.token()) == Principal(
        subject="user:ann", authenticated="oidc", account="ann", issuer=ISSUER, tenant="acme"
    )
    other = await checks.principal(provider.token(aud=["remit-other", "elsewhere"]))
    assert other.tenant == "other"


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        (["leads"], ("role:oncall-lead",)),
        ("leads", ("role:oncall-lead",)),
        (["Leads", "role:oncall-lead", "leads "], ()),
        ({"leads": True}, ()),
        (None, ()),
        ([["leads"], 1, None], ()),
    ],
)
async def test_a_claim_gives_only_the_roles_that_the_setting_names(provider: Provider, groups: Any, roles: Any) -> None:
    principal = await verifier(provider).principal(provider.token(groups=groups, roles=["role:oncall-lead"]))
    assert principal.roles == roles


BAD: Final[dict[str, tuple[str, Callable[[Provider], str]]]] = {
    "no token": ("malformed", lambda _: "abc"),
    "two parts": ("malformed", lambda it: it.token().rpartition(".")[0]),
    "a text that is no JSON": ("malformed", lambda _: "e30.e.e"),
    "a claim twice": (
        "malformed",
        lambda it: ".".join([it.token().split(".")[0], urlsafe_b64encode(b'{"sub":"ann","sub":"eve"}').decode(), "x"]),
    ),
    "a list in place of claims": ("malformed", lambda _: "e30.W10.e"),
    "a critical header": (
        "malformed",
        lambda it: unsigned(it.claims(), {"alg": "RS256", "crit": ["b64"], "b64": False}),
    ),
    "a token of another kind": ("malformed", lambda it: it.token(header={"typ": "logout+jwt"})),
    "too long": ("malformed", lambda it: it.token(pad="x" * 20_000)),
    "alg=none": ("algorithm", lambda it: unsigned(it.claims(), {"alg": "none"})),
    "alg=None in other letters": ("algorithm", lambda it: unsigned(it.claims(), {"alg": "nOnE"})),
    "HMAC with the public key": (
        "algorithm",
        lambda it: hmac_signed(it.claims(), it.key.as_pem(private=False), {"alg": "HS256", "kid": "one"}),
    ),
    "an algorithm that the setting does not name": ("algorithm", lambda it: it.token(header={"alg": "RS512"})),
    "a kid of nothing": ("unknown_signer", lambda it: it.token(header={"kid": "two"})),
    "a kid that is a path": ("unknown_signer", lambda it: it.token(header={"kid": "../../etc/passwd"})),
    "a key in the header": (
        "signature",
        lambda it: it.token(key=OTHER, header={"jwk": OTHER.as_dict(private=False), "jku": "https://evil.example.com"}),
    ),
    "signed by another key under the same kid": ("signature", lambda it: it.token(key=OTHER)),
    "claims changed after signing": (
        "signature",
        lambda it: ".".join(
            [*(a := it.token().split("."))[:1], unsigned(it.claims(sub="eve"), {}).split(".")[1], a[2]]
        ),
    ),
    "no signature": ("signature", lambda it: it.token().rpartition(".")[0] + "."),
    "expired": ("expired", lambda it: it.token(exp=int(time.time()) - 60)),
    "without an end": ("claims", lambda it: it.token(exp=None)),
    "an end that is a text": ("claims", lambda it: it.token(exp="never")),
    "an end that is true": ("claims", lambda it: it.token(exp=True)),
    "not valid yet": ("not_yet_valid", lambda it: it.token(nbf=int(time.time()) + HOUR)),
    "made in the future": ("not_yet_valid", lambda it: it.token(iat=int(time.time()) + HOUR)),
    "for another audience": ("wrong_audience", lambda it: it.token(aud="elsewhere")),
    "without an audience": ("wrong_audience", lambda it: it.token(aud=None)),
    "for two workspaces": ("wrong_audience", lambda it: it.token(aud=[AUDIENCE, "remit-other"])),
    "of another issuer": ("unknown_issuer", lambda it: it.token(iss="https://evil.example.com")),
    "of nearly the issuer": ("unknown_issuer", lambda it: it.token(iss=f"{ISSUER}/")),
    "without an issuer": ("unknown_issuer", lambda it: it.token(iss=None)),
    "without a user": ("claims", lambda it: it.token(sub=None)),
    "of nobody": ("claims", lambda it: it.token(sub="none")),
    "a user with a colon": ("claims", lambda it: it.token(sub="a:b")),
    "a user with a line": ("claims", lambda it: it.token(sub="ann\nrole:admin")),
    "a user of other letters": ("claims", lambda it: it.token(sub="аnn")),
    "a user that is a list": ("claims", lambda it: it.token(sub=["ann"])),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_token_that_is_not_exactly_right_is_refused(provider: Provider, case: str) -> None:
    why, make = BAD[case]
    checks = verifier(provider)
    with pytest.raises(AccessDenied) as refused:
        await checks.principal(make(provider))
    assert refused.value.why == why
    assert (await checks.principal(provider.token())).subject == "user:ann", "the good one is accepted"


async def test_an_email_counts_only_if_the_provider_says_that_it_is_verified(provider: Provider) -> None:
    checks = verifier(provider, subject="email")
    token = provider.token(email="ann@example.com", email_verified=True)
    assert (await checks.principal(token)).subject == "user:ann@example.com"
    for verified in (False, None, "true", 1):
        with pytest.raises(AccessDenied, match="claims"):
            await checks.principal(provider.token(email="dana@example.com", email_verified=verified))


async def test_a_new_key_of_the_provider_is_found_and_forged_kids_make_it_ask_no_more(provider: Provider) -> None:
    clock = Clock()
    checks = verifier(provider, clock)
    await checks.principal(provider.token())
    assert len(provider.asked) == 2, "its description and its keys"
    for number in range(20):
        with pytest.raises(AccessDenied, match="unknown_signer"):
            await checks.principal(provider.token(header={"kid": f"forged-{number}"}))
    assert len(provider.asked) == 2
    new = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
    provider.published = [dict(new.as_dict(private=False))]
    clock.late = PAUSE_S + 1
    assert (await checks.principal(provider.token(key=new, header={"kid": "two"}))).subject == "user:ann"
    assert len(provider.asked) == 4
    with pytest.raises(AccessDenied, match="unknown_signer"):
        await checks.principal(provider.token(jti="not checked before"))


async def test_keys_stay_in_use_while_the_provider_is_down_but_not_for_ever(provider: Provider) -> None:
    clock = Clock()
    checks = verifier(provider, clock)
    await checks.principal(provider.token())
    provider.down, clock.late = True, 2 * HOUR
    assert await checks.principal(provider.token(exp=int(clock()) + HOUR))
    clock.late = 25 * HOUR
    with pytest.raises(AccessDenied, match="issuer_unreachable"):
        await checks.principal(provider.token(exp=int(clock()) + HOUR))


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example.com"},
        {"jwks_uri": "http://login.example.com/keys"},
        {"jwks_uri": "http://127.0.0.1/keys"},
        {"token_endpoint": None},
    ],
)
async def test_a_provider_that_describes_itself_wrongly_is_not_believed(provider: Provider, change: Any) -> None:
    provider.changes = change
    with pytest.raises(AccessDenied, match="issuer_unreachable"):
        await verifier(provider).principal(provider.token())


@pytest.mark.parametrize(
    "published",
    [
        [{"kty": "oct", "kid": "one", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}],
        [{**Provider().published[0], "use": "enc"}],
        [{**Provider().published[0], "alg": "RS512"}],
        [{**Provider().published[0], "n": Provider().published[0]["n"][:171]}],
        [dict(ECKey.generate_key("P-256", {"kid": "one"}).as_dict(private=False))],
        [dict(Provider().key.as_dict(private=True))],
        [],
        "keys",
    ],
    ids=[
        "a shared secret",
        "for encryption",
        "for another algorithm",
        "short",
        "of a curve",
        "private",
        "none",
        "no list",
    ],
)
async def test_a_key_that_is_not_for_the_signature_checks_nothing(provider: Provider, published: Any) -> None:
    provider.published = published
    with pytest.raises(AccessDenied, match="unknown_signer"):
        await verifier(provider).principal(provider.token())


async def test_a_checked_token_is_kept_until_its_end(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    from remit.server.authentication import tokens

    clock, checks_made = Clock(), []
    checks = verifier(provider, clock)
    signature = tokens._is_signed
    monkeypatch.setattr(tokens, "_is_signed", lambda *given: checks_made.append(1) or signature(*given))
    token = provider.token()
    for _ in range(5):
        await checks.principal(token)
    assert len(checks_made) == 1
    clock.late = HOUR + 60
    with pytest.raises(AccessDenied, match="expired"):
        await checks.principal(token)
    assert CACHED <= 10_000


# ── applications ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def shop_verifier(shop: Shop, clock: Callable[[], float] = time.time, **changes: Any) -> TokenVerifier:
    given = {"kind": "application", "issuer": SHOP, "audience": AUDIENCE, "keys": [shop.public], "agents": ["triage"]}
    trusted = Trusted({"acme": {"shop": ApplicationIssuer.model_validate({**given, **changes})}})
    return TokenVerifier(trusted, Providers(Provider()), never_used, clock)


async def test_an_application_speaks_for_its_user_with_its_agents_and_approves_only_if_the_setting_says_so() -> None:
    shop = Shop()
    principal = await shop_verifier(shop).principal(shop.token())
    reads = ("remit.run", "remit.resume", "remit.read")
    assert principal == Principal(
        subject="user:ann",
        authenticated="application",
        account="ann",
        issuer=SHOP,
        tenant="acme",
        scope=KeyScope(actions=reads, agents=("triage",)),
    )
    passing = await shop_verifier(shop, approvals=True).principal(shop.token())
    assert passing.scope == KeyScope(actions=(*reads, "remit.approve"), agents=("triage",))


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("lifetime", {"exp": 600}),
        ("claims", {"iat": None}),
        ("claims", {"jti": None}),
        ("claims", {"jti": "1"}),
        ("claims", {"jti": 12345678}),
        ("expired", {"iat": -600, "exp": -540}),
        ("wrong_audience", {"aud": "elsewhere"}),
        ("claims", {"sub": "none"}),
    ],
)
async def test_a_token_of_an_application_is_short_and_new(why: str, changes: Any) -> None:
    shop = Shop()
    checks = shop_verifier(shop)
    now = int(time.time())  # when the test runs: a token is for a minute
    claims = {name: now + value if name in ("iat", "exp") and value else value for name, value in changes.items()}
    with pytest.raises(AccessDenied) as refused:
        await checks.principal(shop.token(**claims))
    assert refused.value.why == why
    assert await checks.principal(shop.token())


async def test_the_key_of_one_application_signs_for_no_other() -> None:
    shop, thief = Shop(), Shop()
    with pytest.raises(AccessDenied, match="signature"):
        await shop_verifier(shop).principal(thief.token())
    with pytest.raises(AccessDenied, match="algorithm"):
        await shop_verifier(shop).principal(
            hmac_signed({"iss": SHOP, "aud": AUDIENCE}, shop.public.encode(), {"alg": "HS256"})
        )


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_workspaces_cannot_trust_one_issuer_with_one_audience() -> None:
    with pytest.raises(
        UsageError, match=r"'acme' and 'other' both trust https://login\.example\.com with the audience 'remit'"
    ):
        Trusted({"acme": {"corp": oidc()}, "other": {"also": oidc()}})
    assert len(list(Trusted({"acme": {"corp": oidc()}, "other": {"also": oidc(audience="remit-other")}}))) == 2


def test_a_public_key_that_cannot_be_used_is_refused_at_the_start() -> None:
    text = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    given = {"kind": "application", "issuer": SHOP, "audience": AUDIENCE, "agents": ["triage"], "keys": [text]}
    with pytest.raises(UsageError, match=r"a public key of issuers\.shop cannot be read"):
        Trusted({"acme": {"shop": ApplicationIssuer.model_validate(given)}})
    rsa = {**given, "keys": [Shop().public], "algorithms": ["RS256"]}
    with pytest.raises(UsageError, match="is for none of its algorithms"):
        Trusted({"acme": {"shop": ApplicationIssuer.model_validate(rsa)}})
