"""One typed function for each action, with its name. This file never imports remit."""

from pathlib import Path


class NotText(Exception):
    """The file is not UTF-8."""


def count(path: str) -> int:
    """Count the words of the file."""
    try:
        return len(Path(path).read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise NotText(f"{path} is not UTF-8") from error
