from .files import file_mode, sync_folder, write_atomically
from .store import Store, forget_run, open_store

__all__ = [
    "Store",
    "file_mode",
    "forget_run",
    "open_store",
    "sync_folder",
    "write_atomically",
]
