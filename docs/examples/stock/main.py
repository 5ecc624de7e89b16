"""What is in stock."""

import json
from pathlib import Path


def count(item: str) -> int:
    """Return how many pieces of one item are in stock."""
    return int(json.loads(Path("stock.json").read_text()).get(item, 0))
