"""`remit remote`: calls and approvals at a service on another machine, as the person whose token is in the environment."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlsplit

import click

from remit.cli.output import echo, json_text, style
from remit.cli.text_argument import TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST: Final = 8 << 20  # bytes of an answer
CONNECT_S: Final = 10.0
SILENCE_S: Final = 70.0  # the service answers within a minute
MOST_PAGES: Final = 50  # of requests, in which one is looked for
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@click.group("remote", short_help="make calls and answer requests at a service on another machine")
def remote_command() -> None:
    """Make calls and answer requests at a service on another machine. There, you are the person of your token.

    REMIT_SERVICE is the address of the service. REMIT_TOKEN is an access token that an issuer of its remit.toml has given you, or an API key;
    the command line of your identity provider prints one. No workspace is needed here.

    \b
    Examples:
      export REMIT_SERVICE=https://remit.example.com REMIT_TOKEN="$(az account get-access-token --query accessToken -o tsv)"
      remit remote call tickets.close '{"key": "INC-2041", "reason": "fixed"}' --agent triage
      remit remote list
      remit remote show 3f2a
      remit remote grant 3f2a --role role:oncall-lead
      remit remote reject 3f2a --reason "wrong ticket"
    """


@remote_command.command("call")
@click.argument("action")
@click.argument("arguments")
@click.option("--agent", required=True, help="The agent that makes the call.")
@click.option("--user", help="Act for another user, if the rules allow you the action remit.impersonate.")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="How long to wait for approvals. Default: 0.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer of the service as JSON.")
def call_command(action: str, arguments: str, agent: str, user: str | None, wait: float, as_json: bool) -> None:
    """Call ACTION with ARGUMENTS (a JSON object). The service decides, confines and records it.

    \b
    Examples:
      remit remote call files.read '{"path": "runbooks/payments-pool.md"}' --agent triage
      remit remote call tickets.close '{"key": "INC-2041", "reason": "fixed"}' --agent triage --wait 50
    """
    from remit.core.parsing import parse_arguments

    body = {"agent": agent, "action": action, "arguments": parse_arguments(arguments), "user": user, "wait": wait}
    answer = _answer("POST", "/v1/calls", body, as_json)
    value = answer["value"]
    echo(value if isinstance(value, str) else json_text(value, indent=2))


@remote_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(as_json: bool) -> None:
    """List the open requests that you may answer or read, the oldest first.

    \b
    Examples:
      remit remote list --json
    """
    found = _requests(as_json)
    if as_json:
        echo(json_text(found))
        return
    for item in found:
        needs = ", ".join(f"{one['count']} × {one['role']}" for one in item["missing"])
        place = f"{item['run'][:8]}/{item['step']}.{item['index']}"
        echo(f"{place}  {item['summary'].splitlines()[0]}  needs {needs}  until {item['expires']}")
    if not found:
        echo("no request waits for you")


@remote_command.command("show")
@click.argument("request")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show_command(request: str, as_json: bool) -> None:
    """Show exactly the call that would run. REQUEST is RUN, or RUN/STEP.INDEX; the beginning of a run id is enough.

    \b
    Examples:
      remit remote show 3f2a
    """
    found = _answer("GET", _path(request, as_json), None, as_json)["value"]
    echo(json_text(found) if as_json else f"{found['summary']}\n  until {found['expires']}")


@remote_command.command("grant")
@click.argument("request")
@click.option("--role", help="The role you approve in. Required if the request needs several roles.")
@click.option("--reason", type=TEXT, default="", help="With role:break-glass: the reason for the emergency approval.")
@click.option("--minutes", type=click.IntRange(1, 1440), default=15, show_default=True, help="With role:break-glass: how many minutes it is valid.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def grant_command(request: str, role: str | None, reason: str, minutes: int, as_json: bool) -> None:
    """Approve one call. You approve as the user of your token; nobody approves their own call.

    \b
    Examples:
      remit remote grant 3f2a
      remit remote grant 3f2a/0.0 --role role:oncall-lead
    """
    body = {"role": role, "reason": reason, "minutes": minutes}
    done = _answer("POST", f"{_path(request, as_json)}/grant", body, as_json)["value"]
    echo(json_text(done) if as_json else f"approved as {done['approver']} in {done['role']}; {done['next']}")


@remote_command.command("reject")
@click.argument("request")
@click.option("--reason", type=TEXT, required=True, help="Why you reject it. The model reads this text.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def reject_command(request: str, reason: str, as_json: bool) -> None:
    """Reject one call. One rejection is enough, even if several approvals are needed.

    \b
    Examples:
      remit remote reject 3f2a --reason "wrong ticket"
    """
    done = _answer("POST", f"{_path(request, as_json)}/reject", {"reason": reason}, as_json)["value"]
    echo(json_text(done) if as_json else f"rejected {done['id']}")


def _requests(as_json: bool) -> list[dict[str, Any]]:
    """The open requests that the person may see."""
    found: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(MOST_PAGES):
        page = _answer("GET", f"/v1/approvals?limit=200{cursor}", None, as_json)["value"]
        found += page["approvals"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={quote(page['next'])}"
    echo(f"there are more requests than the first {len(found)}: name one as RUN/STEP.INDEX", err=True)
    return found


def _path(request: str, as_json: bool) -> str:
    """The path of the request that a person names. Raises UsageError unless it is one."""
    from remit.core import UsageError

    run, _, call = request.partition("/")
    if not call:
        places = [item["id"] for item in _requests(as_json) if run and item["run"].startswith(run)]
        if len(places) != 1:
            shown = ", ".join(places[:5]) or "none"
            raise UsageError(f"{request!r} matches {len(places)} open requests, not one: {shown}")
        run, _, call = places[0].partition("/")
    return f"/v1/approvals/{quote(run, safe='')}/{quote(call, safe='')}"


def _answer(method: str, path: str, body: Mapping[str, Any] | None, as_json: bool) -> dict[str, Any]:
    """What the service answers. A refusal is printed, and ends the command with 1; no answer is a UsageError."""
    from remit.core import Refusal, UsageError
    from remit.core.parsing import parse_json

    url, token = _service()
    status, data = asyncio.run(_asked(url, token, method, path, body))
    answer: dict[str, Any] = {}
    with suppress(Refusal, UnicodeDecodeError):
        read = parse_json(data.decode(), longest=LARGEST)
        answer = cast("dict[str, Any]", read) if isinstance(read, dict) else {}
    error = cast("dict[str, Any]", answer["error"] if isinstance(answer.get("error"), dict) else {})
    if answer.get("ok") is not True and not (answer.get("ok") is False and {"code", "message"} <= error.keys()):
        raise UsageError(f"what answers at {url} with {status} is no service of Remit: check REMIT_SERVICE")
    if answer["ok"]:
        return answer
    if as_json:
        echo(json_text(answer))
    else:
        echo(f"{style(error['code'], fg='red')}: {error['message']}", err=True)
        if error.get("next_step"):
            echo(f"  {error['next_step']}", err=True)
        if answer.get("run"):
            echo(f"  run: {answer['run']}", err=True)
    sys.exit(1)


async def _asked(url: str, token: str, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
    """The status and the body of the answer. Raises UsageError if there is none."""
    import remit.outgoing
    from remit.core import UsageError

    bounds = remit.outgoing.Bounds(connect=CONNECT_S, silence=SILENCE_S)
    headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
    try:
        async with (
            remit.outgoing.open_client(bounds, headers=headers) as client,
            client.stream(method, url + path, json=body) as got,
        ):
            return got.status_code, await remit.outgoing.read_body(got, LARGEST)
    except remit.outgoing.TooLarge as failure:
        raise UsageError(f"the answer of {url} is longer than {failure}") from None
    except remit.outgoing.FAILURES as failure:
        why = str(failure) or type(failure).__name__
        raise UsageError(
            f"{url} does not answer: {why}; if you sent something, look there whether it has arrived"
        ) from None


def _service() -> tuple[str, str]:
    """The address of the service, and the token. Raises UsageError if one of them is none."""
    from remit.core import UsageError

    url, token = os.environ.get("REMIT_SERVICE", "").rstrip("/"), os.environ.get("REMIT_TOKEN", "")
    if not _is_safe(url):
        raise UsageError("REMIT_SERVICE is no address of a service: set it to https://HOST[:PORT]")
    if not _TOKEN.fullmatch(token):
        raise UsageError(
            "REMIT_TOKEN is no token: set it to an access token of your identity provider, or to an API key"
        )
    return url, token


def _is_safe(url: str) -> bool:
    """True for the address of a service. INVARIANT: a token is sent over TLS only, or to this machine."""
    try:
        parts = urlsplit(url)
        is_local = parts.scheme == "http" and parts.hostname in _LOOPBACK
        return (parts.scheme == "https" or is_local) and url == f"{parts.scheme}://{parts.netloc}" and "@" not in url
    except ValueError:
        return False
