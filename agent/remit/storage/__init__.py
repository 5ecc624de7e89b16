"""Shared storage: bytes under names, which every machine of one deployment reads and writes.

store   what Remit needs of it, and which kind a URL names
folder  a folder that the machines share
bucket  a bucket of an S3-compatible service; the only module that knows obstore
bounds  what both refuse, and how they say so
files   files that are written whole or not at all

What lies there, under which name, is decided by those who use it: definitions (`tracing/object_store.py`), working folders
(`runtime/upkeep/folders.py`), and copies of the record (`journal/copies/`).
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
