"""Who may say who a request is from: the settings `[issuers.NAME]` of `remit.toml`.

An issuer is an identity provider (OpenID Connect), or the backend of an application that has signed its user in. A token of it is
accepted only with the audience of the setting, and gives no more than the setting names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal, TypeAlias, cast

from pydantic import AfterValidator, Discriminator, Field, Tag

from remit.core import Problem
from remit.core.parsing import Matching, TomlTable, invalid, toml_line

# By asymmetric keys only: with a symmetric one, everybody who checks a token can make one. RFC 8725 section 3.1.
Algorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]

_HOST: Final = r"(?:https://[^\s/?#@]+|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?)"
Name = Annotated[
    str, Matching(r"[a-z][a-z0-9_-]{0,30}", "a name", "write at most 31 lower-case letters, digits, _ and -")
]
IssuerUrl = Annotated[
    str,
    Matching(
        rf"{_HOST}(?:/[^\s?#]*)?", "the URL of an issuer", 'write its `iss`, with https: "https://login.example.com"'
    ),
]
ApplicationUrl = Annotated[
    str,
    Matching(
        r"https?://[^\s?#]+", "the URL of an application", 'write the `iss` of its tokens: "https://shop.example.com"'
    ),
]
RedirectUrl = Annotated[
    str,
    Matching(rf"{_HOST}/login/callback", "the address of this service", 'write "https://HOST/login/callback"'),
]
Audience = Annotated[str, Matching(r"[^\s\x00-\x1f]{1,200}", "an audience", "write the `aud` of its tokens")]
Claim = Annotated[str, Matching(r"[^\s\x00-\x1f]{1,200}", "the name of a claim", 'write "sub", "email" or another one')]
Role = Annotated[str, Matching(r"role:[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", "a role", 'write "role:NAME"')]


def _public(text: str) -> str:
    """The key, if it says that it is a public one; the service reads it when it starts."""
    plain = text.strip()
    if not plain.startswith("-----BEGIN PUBLIC KEY-----") or not plain.endswith("-----END PUBLIC KEY-----"):
        raise invalid("has a text that is no public key in PEM", "write what `openssl pkey -pubout` prints")
    return text


PublicKey = Annotated[str, Field(max_length=4096), AfterValidator(_public)]


class LoginTable(TomlTable):
    """How people log in with a browser: the client that the identity provider knows. It is public, and uses PKCE (RFC 7636)."""

    client_id: Audience = Field(description="The id of the client at the identity provider")
    redirect: RedirectUrl = Field(description='Where the provider sends people back to: "https://HOST/login/callback"')
    scopes: Annotated[list[Claim], Field(max_length=20)] = Field(
        default=["openid"],
        description="What is asked of the provider: with `openid`, and what gives the claims that are used",
    )


class OidcIssuer(TomlTable):
    """An identity provider (OpenID Connect). Claims that are not mapped give nothing."""

    kind: Literal["oidc"] = Field(description="An identity provider with OpenID Connect")
    issuer: IssuerUrl = Field(description="Its `iss`; /.well-known/openid-configuration is below it")
    audience: Audience = Field(description="The `aud` that tokens for this workspace have")
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = Field(
        default=["RS256", "ES256"], description="The algorithms of signatures that are accepted"
    )
    subject: Claim = Field(
        default="sub",
        description='The claim with the name of the user; "email" counts only if the provider says that it is verified',
    )
    roles: dict[Claim, dict[str, Role]] = Field(
        default={}, description='Roles by claim and value: roles.groups = {"on-call" = "role:oncall-lead"}'
    )
    login: LoginTable | None = Field(default=None, description="How people log in with a browser; absent: they cannot")


class ApplicationIssuer(TomlTable):
    """An application whose backend signs a token for the user that it has signed in, for one request each."""

    kind: Literal["application"] = Field(description="An application that signs tokens for its users")
    issuer: ApplicationUrl = Field(description="The `iss` of its tokens")
    audience: Audience = Field(description="The `aud` that its tokens have")
    keys: Annotated[list[PublicKey], Field(min_length=1, max_length=5)] = Field(
        description="The public keys of its backend, in PEM; several while one is replaced"
    )
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = Field(
        default=["ES256", "EdDSA", "RS256"], description="The algorithms of signatures that are accepted"
    )
    agents: Annotated[list[Name], Field(min_length=1)] = Field(
        description="The agents with which its users work; with others they do nothing through it"
    )
    approvals: bool = Field(
        default=False, description="true: it may pass on an approval that its user gave in its own window"
    )


def _branch(value: object) -> str | None:
    """The branch of the union; in brackets, which the paths of problems leave out."""
    kind = cast("dict[object, object]", value).get("kind") if isinstance(value, dict) else None
    return f"[{kind}]" if kind in ("oidc", "application") else None


Issuer: TypeAlias = Annotated[
    Annotated[OidcIssuer, Tag("[oidc]")] | Annotated[ApplicationIssuer, Tag("[application]")],
    Discriminator(
        _branch,
        custom_error_type="wrong",
        custom_error_message="{what}",
        custom_error_context={"what": "has no kind that exists", "fix": 'write kind = "oidc" or kind = "application"'},
    ),
]
IssuerTables: TypeAlias = dict[Name, Issuer]


def issuer_problems(issuers: Iterable[OidcIssuer | ApplicationIssuer], *, file: str, text: str) -> Iterator[Problem]:
    """A problem for each pair of issuer and audience that one workspace names twice."""
    for issuer, audience in repeated_pairs(issuers):
        what = f"'issuers' has {issuer!r} with the audience {audience!r} twice"
        yield Problem(file=file, line=toml_line(text, "issuers"), what=what, fix="remove one of them")


def repeated_pairs(issuers: Iterable[OidcIssuer | ApplicationIssuer]) -> Iterator[tuple[str, str]]:
    """Each pair of issuer and audience that occurs more than once: a token of it could mean two things."""
    seen: set[tuple[str, str]] = set()
    for issuer in issuers:
        for audience in audiences(issuer):
            if (issuer.issuer, audience) in seen:
                yield issuer.issuer, audience
            seen.add((issuer.issuer, audience))


def audiences(issuer: OidcIssuer | ApplicationIssuer) -> tuple[str, ...]:
    """The audiences that are accepted: that of tokens, and that of logins with a browser."""
    login = issuer.login if isinstance(issuer, OidcIssuer) else None
    return (
        (issuer.audience,)
        if login is None or login.client_id == issuer.audience
        else (issuer.audience, login.client_id)
    )
