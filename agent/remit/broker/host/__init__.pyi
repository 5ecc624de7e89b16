from .calls import decode_for_host, run_function
from .clients import refuse_outside_of_hooks
from .content import HostValue, block_value, content_value, objects_of, with_objects
from .results import ResultReader
from .tools import (
    Explained,
    Hosted,
    HostTool,
    action_of,
    content_of,
    describe_function,
    describe_host,
    describe_tool,
    host_functions,
    invoke_tool,
    kept_for_tool,
    load_host,
    try_host,
)

__all__ = [
    "Explained",
    "HostTool",
    "HostValue",
    "Hosted",
    "ResultReader",
    "action_of",
    "block_value",
    "content_of",
    "content_value",
    "decode_for_host",
    "describe_function",
    "describe_host",
    "describe_tool",
    "host_functions",
    "invoke_tool",
    "kept_for_tool",
    "load_host",
    "objects_of",
    "refuse_outside_of_hooks",
    "run_function",
    "try_host",
    "with_objects",
]
