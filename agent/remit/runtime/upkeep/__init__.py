"""Keeps the runs of a workspace no longer than it says.

retention   delete old runs with their traces and objects, seal finished ones
erasure     erase what people, models and tools wrote
"""
