"""Traces of other tools: their spans as turns and calls, and these as a run of Remit that can be listed, compared and decided again.

documents   reads OTLP JSON: an object, an array or JSON Lines, also compressed
conventions one span as a turn of a model, a call of a tool, or the work of an agent
messages    the messages and tool calls in the attributes of a span
conversion  the spans of one trace as the events of a run
"""
