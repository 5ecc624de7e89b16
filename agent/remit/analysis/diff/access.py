"""What a change of remit.toml newly gives to those outside: to issuers of tokens, enforcement points and notifications."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from remit.guardrails import SecretSource
from remit.policy.authzen import EnforcementPoint
from remit.sandbox.egress import Exposed
from remit.workspace import ApplicationIssuer, Channel, OidcIssuer


def new_issuers(
    _: str, before: Mapping[str, OidcIssuer | ApplicationIssuer], after: Mapping[str, OidcIssuer | ApplicationIssuer]
) -> Iterator[str]:
    """Whose tokens now count, and what they give."""
    for name, issuer in after.items():
        was = before.get(name)
        if issuer == was:
            continue
        gives = sorted(_given(issuer) - (_given(was) if was is not None else frozenset()))
        yield f"the issuer {name} ({issuer.issuer}) now says who asks the service" + "".join(
            f"; {one}" for one in gives
        )


def _given(issuer: OidcIssuer | ApplicationIssuer) -> frozenset[str]:
    """What its tokens give, in words."""
    if isinstance(issuer, OidcIssuer):
        mapped = issuer.roles.items()
        return frozenset(
            f"{claim} = {value!r} gives {role}" for claim, roles in mapped for value, role in roles.items()
        )
    passes_on = frozenset({"it passes on approvals"} if issuer.approvals else ())
    return passes_on | {f"its users work with agent:{agent}" for agent in issuer.agents}


def new_channels(_: str, before: Iterable[Channel], after: Iterable[Channel]) -> Iterator[str]:
    """Where notifications now go."""
    known = {channel.webhook or channel.apprise for channel in before}
    for channel in [channel for channel in after if (channel.webhook or channel.apprise) not in known]:
        where = channel.webhook or f"the service of the secret {channel.apprise!r}"
        yield f"notifications now name agents, actions and roles to {where}"


def new_enforcement_points(
    _: str, before: Mapping[str, EnforcementPoint], after: Mapping[str, EnforcementPoint]
) -> Iterator[str]:
    """What enforcement points now ask and state."""
    for name, point in after.items():
        was = before.get(name)
        if was is None or was.account != point.account:
            yield f"{point.account} may now ask for decisions as the enforcement point {name}"
        for stated in sorted(point.properties - (was.properties if was is not None else frozenset())):
            yield f"the enforcement point {name} may now state {stated}"


def new_secret_sources(_: str, before: Mapping[str, SecretSource], after: Mapping[str, SecretSource]) -> Iterator[str]:
    """Which programs now run as the account of Remit, and which files are now secrets."""
    for name, source in after.items():
        was = before.get(name)
        if source.command and (was is None or source.command != was.command):
            yield f"the account of Remit now runs {' '.join(source.command)!r} for the secret {name!r}"
        if source.file and (was is None or source.file != was.file):
            yield f"the file {source.file} is now the secret {name!r}"
        if was is not None and source.ttl > was.ttl:
            yield f"the secret {name!r} is now used for {source.ttl:g} s (was {was.ttl:g})"


def exposed_secrets(owner: str, before: Iterable[Exposed], after: Iterable[Exposed]) -> Iterator[str]:
    for item in [item for item in after if item not in set(before)]:
        yield f"{owner} now receives the secret {item.secret} itself, in the environment variable {item.env}"


def shared_secrets(owner: str, before: Iterable[str], after: Iterable[str]) -> Iterator[str]:
    for name in sorted(set(before) - set(after)):
        yield f"{owner} now uses one secret {name} for all users (was one of each user)"
