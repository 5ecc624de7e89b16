"""The audit stream: what people and rules decided, as one JSON object an event, for a security team's own tools.

records   one event as a record of the Open Cybersecurity Schema Framework
stream    sends what was not sent yet, from the journal, at least once
sinks     where records go: standard output, a file
otlp_logs the same for an OpenTelemetry collector
"""
