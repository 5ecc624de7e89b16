"""Prints whole messages of the code, sampled by a seed: for a reading by somebody who does not know the code.

.venv/bin/python tests/docs/sample_messages.py [--count 40] [--seed 1] [--places]
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.test_words import MESSAGES, ROOT, TEXTS, code

from support.source_texts import called_name, literals, parsed


def whole_messages(path: Path) -> Iterator[tuple[str, str]]:
    """Each message with its fix or next step, or each option with its help; and the place that makes it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            called = called_name(node)
            texts = [text for item in node.args if called in {*MESSAGES, "option"} for text in literals(item)]
            texts += [
                f"{item.arg}: {text}" for item in node.keywords if item.arg in TEXTS for text in literals(item.value)
            ]
            whole = " | ".join(texts)
            if len(whole.split()) > 3 and "Print as JSON" not in whole:
                yield whole, f"{path.relative_to(ROOT)}:{node.lineno}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--places", action="store_true", help="Print where each message is made.")
    given = parser.parse_args()
    found = sorted({message for path in code() for message in whole_messages(path)})
    for number, (text, place) in enumerate(random.Random(given.seed).sample(found, given.count), 1):
        print(f"{number:>3}. {text}" + (f"\n     {place}" if given.places else ""))
    print(f"{given.count} of {len(found)} messages, seed {given.seed}", file=sys.stderr)


if __name__ == "__main__":
    main()
