"""`remit audit`: the audit stream, to standard output, a file or an OpenTelemetry collector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text

if TYPE_CHECKING:
    from remit.tracing import NotArrived, Sink


@click.command("audit", short_help="send decisions, approvals and acts of operators as audit records")
@click.option(
    "--to",
    default="stdout",
    show_default=True,
    metavar="stdout|otlp|FILE",
    help="Where the records go; a FILE is appended to.",
)
@click.option("--follow", is_flag=True, help="Go on and send records as they come, until it is interrupted.")
@click.option("--arguments", is_flag=True, help="Add the arguments of calls to decisions. They are what a model wrote.")
@click.option("--json", "as_json", is_flag=True, help="With --to otlp or FILE: print how many were sent as JSON.")
def audit_command(to: str, follow: bool, arguments: bool, as_json: bool) -> None:
    """Send what was not sent yet: decisions, approvals, emergencies, holds, settlements, changes of rules, pins and secrets, reads.

    A record is one JSON object of the Open Cybersecurity Schema Framework (OCSF 1.8.0). Each arrives at least once: the journal keeps how
    far the stream has come, and moves on when the records have arrived. `metadata.uid` names the event, so that a receiver drops what
    came twice. `--to otlp` sends logs to the collector that the `OTEL_*` variables name. Exit code 1 if the records did not arrive.

    \b
    Examples:
      remit audit
      remit audit --to /var/log/remit/audit.jsonl --follow
      OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 remit audit --to otlp --follow
    """
    from remit.tracing import AuditStream, NotArrived
    from remit.workspace import authorize, check_enabled, open_session, principal_of_process, run_resource

    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    check_enabled(opened.journal, by)
    for agent in sorted(opened.workspace.agents):  # a record says what an agent did, also for other people
        authorize(opened.policy, by, "remit.read", run_resource(agent, own=False), f"read audit records of {agent}")
    sink = _sink(to)
    stream = AuditStream(opened.journal, sink, arguments=arguments)
    try:
        if follow:
            stream.follow(_report)
        sent = stream.send()
    except NotArrived as failure:
        _report(failure)
        raise SystemExit(1) from failure
    finally:
        sink.close()
    if to != "stdout":
        echo(json_text({"ok": True, "sent": sent}) if as_json else f"sent {sent} audit records")


def _report(failure: NotArrived) -> None:
    echo(f"the audit records did not arrive, and stay in the journal: {failure}", err=True)


def _sink(to: str) -> Sink:
    from remit.core import UsageError
    from remit.tracing import AuditFile, LineSink, log_sink_from_environment

    if to == "stdout":
        return LineSink(echo)
    if to != "otlp":
        return AuditFile(Path(to))
    sink = log_sink_from_environment()
    if sink is None:
        raise UsageError(
            "no collector is named: set OTEL_EXPORTER_OTLP_ENDPOINT, or write the records to a file: --to FILE"
        )
    return sink
