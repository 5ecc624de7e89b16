"""Sends metrics by OTLP, as the standard `OTEL_*` variables configure it. With `otel_spans` the only user of the SDK."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

from remit.tracing.gauges import GaugeReader
from remit.tracing.metrics import GAUGES, INSTRUMENTS, Measurement
from remit.tracing.otel_spans import CLOSING_S, resource
from remit.tracing.otlp import SCOPE

# Bucket boundaries in seconds and in tokens, as the GenAI conventions recommend.
SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)


class Meter:
    """Sends measurements to the collector that the environment names. What cannot be sent is dropped.

    `gauges` are read at each export, from another thread; None: no gauges are sent.
    """

    def __init__(self, gauges: GaugeReader | None, reader: MetricReader | None = None) -> None:
        reader = reader or PeriodicExportingMetricReader(OTLPMetricExporter())
        self._provider = MeterProvider([reader], resource(), shutdown_on_exit=False)
        meter = self._provider.get_meter(SCOPE["name"], SCOPE["version"])
        self._instruments: dict[str, Counter | Histogram] = {}
        for name, (kind, unit, text) in INSTRUMENTS.items():
            made = (
                meter.create_counter(name, unit, text)
                if kind == "count"
                else meter.create_histogram(
                    name, unit, text, explicit_bucket_boundaries_advisory=SECONDS if unit == "s" else TOKENS
                )
            )
            assert isinstance(made, Counter | Histogram)
            self._instruments[name] = made
        if gauges is None:
            return
        for name, text in GAUGES.items():
            meter.create_observable_gauge(name, [_observing(gauges.observe(name))], "{item}", text)

    def record(self, measurement: Measurement) -> None:
        """Record one measurement; never blocks."""
        instrument = self._instruments[measurement.name]
        if isinstance(instrument, Counter):
            instrument.add(measurement.value, measurement.attributes)
        else:
            instrument.record(measurement.value, measurement.attributes)

    def close(self) -> None:
        """Send the last measurements; takes a few seconds at most."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING_S)


def _observing(read: Callable[[], Iterable[Measurement]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda options: [Observation(item.value, item.attributes) for item in read()]
