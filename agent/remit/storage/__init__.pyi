from .files import file_mode, sync_folder, write_atomically
from .store import Store, open_store

__all__ = [
    "Store",
    "file_mode",
    "open_store",
    "sync_folder",
    "write_atomically",
]
