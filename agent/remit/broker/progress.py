"""What a tool prints or yields while it runs, line by line: people see it before the result is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from remit.core import Call
from remit.core.events import AttemptProgressed
from remit.guardrails import Sanitizer
from remit.journal import Record

MOST: Final = 100  # lines of one attempt that are recorded while it runs; the end of the attempt has everything
LONGEST: Final = 500  # characters of one line


@dataclass(kw_only=True)
class Progress:
    """Records the lines of one attempt, sanitized. Nothing waits for them."""

    record: Record
    sanitizer: Sanitizer
    call: Call
    attempt: int
    _line: bytearray = field(default_factory=bytearray)
    _count: int = 0

    def see(self, printed: bytes) -> None:
        """Add what was printed. A line is recorded once it is complete."""
        if self._count >= MOST:
            return
        self._line += printed
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            self._record(line[: 4 * LONGEST].decode(errors="replace").strip())
        self._line = rest[: 4 * LONGEST]

    def _record(self, text: str) -> None:
        if not text or self._count >= MOST:
            return
        self._count += 1
        progressed = AttemptProgressed(
            step=self.call.step,
            index=self.call.index,
            attempt=self.attempt,
            number=self._count,
            text=self.sanitizer.text(text, action=self.call.action)[:LONGEST],
        )
        if self.record.get(progressed.key) is None:  # an attempt that asked a person goes on
            self.record.append(progressed)
