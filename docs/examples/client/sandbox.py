"""Run code in the sandbox, without a policy and without a record."""

import asyncio
import tempfile
from pathlib import Path

from remit import Profile, Sandbox

CODE = """
from pathlib import Path

def count(path: str) -> int:
    return len(Path(path).read_text().split())
"""


async def count_words(profile: Profile) -> None:
    """Count the words of a file that is granted, and of one that is not."""
    async with Sandbox() as sandbox:
        for name in ("a.txt", "b.txt"):
            output = await sandbox.run(profile, {"path": name}, declared={})
            print(name, output.code or output.value)


with tempfile.TemporaryDirectory() as folder:
    code, root = Path(folder, "tool"), Path(folder, "work")
    code.mkdir()
    root.mkdir()
    (code / "main.py").write_text(CODE)
    (root / "a.txt").write_text("three short words")
    (root / "b.txt").write_text("not granted")
    asyncio.run(
        count_words(Profile(tool="words", action="count", source="python", code=code, root=root, reads=("a.txt",)))
    )
