from .call import RemoteCall, open_remote
from .sessions import RemoteServers

__all__ = ["RemoteCall", "RemoteServers", "open_remote"]
