"""A program that looks at the world of a scenario after a run."""

from pathlib import Path


def check() -> str | None:
    """Look at the world after the run."""
    found = [path.name for path in Path("reports").glob("*.md")]
    return f"unexpected reports: {', '.join(found)}" if found else None
