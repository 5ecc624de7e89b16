"""Keeps a journal small and right: seals, erases and deletes runs, and compares projections with events.

sealing   one compressed object for all events of a finished run
erasure   erase what people, models and tools wrote
deletion  delete runs, and return their disk space
check     compare the projections with the events, and compute them again
"""
