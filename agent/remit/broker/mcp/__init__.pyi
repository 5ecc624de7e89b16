from .arguments import server_arguments, with_server
from .content import output_schema
from .listing import Listing, differences
from .messages import Message, NotMcp, ServerError, read_message
from .session import Session
from .speaker import IS_ERROR, McpCall, McpListing, speaker_of

__all__ = [
    "IS_ERROR",
    "Listing",
    "McpCall",
    "McpListing",
    "Message",
    "NotMcp",
    "ServerError",
    "Session",
    "differences",
    "output_schema",
    "read_message",
    "server_arguments",
    "speaker_of",
    "with_server",
]
