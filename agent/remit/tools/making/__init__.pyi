from .files import FORMS, VALID_NAME, NewTool, Origin, check_name, new_tool, write_tool
from .guesses import Guess, guess, nouns_of
from .host import HostFiles, host_files
from .texts import one_line, toml_value

__all__ = [
    "FORMS",
    "VALID_NAME",
    "Guess",
    "HostFiles",
    "NewTool",
    "Origin",
    "check_name",
    "guess",
    "host_files",
    "new_tool",
    "nouns_of",
    "one_line",
    "toml_value",
    "write_tool",
]
