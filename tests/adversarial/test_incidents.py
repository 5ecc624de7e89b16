"""Five incidents: from an alert to the root cause in two commands, as in `docs/how-to/five-incidents.md`. `make faithful` plays all five."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from remit.cli.demo import NAMES
from remit.cli.demo.incidents import INCIDENTS
from remit.workspace import write_starter
from support import ROOT
from support.documents import INCIDENTS as PAGE
from support.documents import commands_of
from support.postgres import journal_setting
from support.runs import Command

SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
SEEDED = int(os.environ.get("REMIT_INCIDENTS", "1"))  # each takes some seconds


def test_every_incident_has_a_short_description() -> None:
    assert [*SECTIONS, "all"] == [*INCIDENTS, "all"] == list(NAMES)
    for text in SECTIONS.values():
        assert len([line for line in text.splitlines() if line and not line.startswith("<!--")]) <= 12


def test_the_first_command_is_in_the_alert() -> None:
    groups = yaml.safe_load((ROOT / "traces" / "alerts.yaml").read_text())["groups"]
    find = {rule["alert"]: rule["annotations"]["find"] for group in groups for rule in group["rules"]}
    for name, text in SECTIONS.items():
        alert = re.findall(r"`(Remit\w+)`", text)[0]
        asked = re.sub(r"\\{\\{[^{}]*\\}\\}", r"\\S+", re.escape(find[alert]))
        assert re.fullmatch(asked, " ".join(commands_of(text)[0])), (name, find[alert])


@pytest.mark.parametrize("name", list(INCIDENTS)[:SEEDED])
def test_two_commands_lead_from_the_alert_to_the_root_cause(name: str, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "workspace"
    write_starter(folder)
    settings = folder / "remit.toml"
    settings.write_text(journal_setting() + settings.read_text())
    INCIDENTS[name](folder)
    block = SECTIONS[name].split("```console\n")[1].split("```")[0].splitlines()
    listing, showing = commands_of(SECTIONS[name])
    listed = command(folder, *listing[1:])
    (run,) = [line.split()[0] for line in listed.out.splitlines()]  # the one, of the good run and the bad
    shown = command(folder, *[run if word == "RUN" else word for word in showing[1:]])
    assert (listed.code, shown.code) == (0, 0), listed.err + shown.err
    expected = [line for line in block if not line.startswith("$ ")]
    assert len(expected) >= 2
    for line in expected:
        assert re.search(re.escape(line).replace("…", ".+"), shown.out), (line, shown.out)
