"""`remit metrics`: the gauges of the workspace, for Prometheus or by OTLP."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text

if TYPE_CHECKING:
    from remit.tracing import GaugeReader


@click.command("metrics", short_help="the state of the workspace as metrics, for alerts")
@click.option("--once", is_flag=True, help="Print the metrics once, in the text format of Prometheus.")
@click.option(
    "--listen", metavar="[HOST:]PORT", help="Answer http://HOST:PORT/metrics; without HOST on 127.0.0.1 only."
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics once, as JSON.")
def metrics_command(once: bool, listen: str | None, as_json: bool) -> None:
    """Report the state of the workspace as metrics: lost runs, effects in doubt, approvals that wait, denials by rule, errors by source.

    Run it beside the agents: a process that was killed sends no metric, so another process must. It reads the lists of the journal and
    no history. Without --once, --listen and --json it sends by OTLP, as the `OTEL_*` variables say, until it is interrupted. The alerts
    of traces/alerts.yaml read these metrics.

    \b
    Examples:
      remit metrics --once
      remit metrics --once > /var/lib/node_exporter/remit.prom     # every minute, for the textfile collector
      remit metrics --listen 9477
      OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 remit metrics
    """
    from remit.tracing import GaugeReader, prometheus_text
    from remit.workspace import open_session

    opened = open_session()
    gauges = GaugeReader(opened.journal, opened.workspace.agents)
    if as_json:
        echo(json_text([asdict(item) for items in gauges.read().values() for item in items]))
    elif once:
        echo(prometheus_text(gauges.read()), nl=False)
    elif listen is not None:
        _listen(gauges, listen)
    else:
        _send(gauges)


def _listen(gauges: GaugeReader, address: str) -> None:
    from remit.tracing import serve_metrics

    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{address!r} is not an address: write 9477 or 0.0.0.0:9477", param_hint="--listen")
    try:
        serve_metrics(
            gauges.read, host.strip("[]") or "127.0.0.1", int(port), lambda url: echo(f"listening: {url}", err=True)
        )
    except OSError as failure:
        raise click.UsageError(
            f"cannot listen on {address}: {failure.strerror or failure}; name another port"
        ) from None


def _send(gauges: GaugeReader) -> None:
    from remit.tracing import Export

    export = Export.from_environment({**os.environ, "OTEL_TRACES_EXPORTER": "none"}, gauges=gauges)
    if export is None:
        raise click.UsageError(
            "no collector is named: set OTEL_EXPORTER_OTLP_ENDPOINT, or print the metrics with --once, or serve them with --listen"
        )
    try:
        threading.Event().wait()
    finally:
        export.close()
