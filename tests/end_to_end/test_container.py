"""The definition of the container, as far as it can be checked where no container runs."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML
from uv import find_uv_bin

from support import ROOT

FOLDER: Final = ROOT / "container"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile in order, each with its text."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, text in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, text))
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((FOLDER / "compose.yaml").read_text())
    return found


def test_the_container_runs_as_an_account_of_its_own_and_has_no_tool_that_builds() -> None:
    build, final = stages()
    assert final[-1] == ("CMD", '["serve"]')
    assert [text for name, text in final if name == "USER"] == ["10001:10001"]
    after = [name for name, _ in final[[name for name, _ in final].index("USER") :]]
    assert not {"RUN", "COPY", "ADD"} & set(
        after
    )  # what is installed belongs to root, so that the service cannot change it
    runs = " ".join(text for name, text in final if name == "RUN")
    assert "pip uninstall" in runs
    assert not re.search(r"\b(?:apt-get|gcc|curl|uv sync)\b", runs)
    assert [text for name, text in final if name == "COPY"] == ["--from=build /opt/remit /opt/remit"]
    assert not any("--editable" in text for _, text in build)


def test_the_image_has_bytecode_and_the_packages_of_the_lock() -> None:
    build, _ = stages()
    syncs = [text for name, text in build if name == "RUN" and "uv sync" in text]
    assert any("UV_COMPILE_BYTECODE=1" in text for name, text in build if name == "ENV")
    assert all({"--locked", "--no-dev"} <= set(text.split()) for text in syncs)
    assert "--no-editable" in syncs[-1]
    extras = re.findall(r"--extra (\w+)", syncs[-1])
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"serve", "postgres"} <= set(extras) <= set(known)
    command = [find_uv_bin(), "export", "--locked", "--offline", "--no-dev", *(f"--extra={name}" for name in extras)]
    exported = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^uvicorn==", exported, re.MULTILINE)
    assert not re.search(r"^(?:pytest|mypy|hypothesis)==", exported, re.MULTILINE)


def test_the_build_gets_all_that_the_package_is_made_from_and_neither_records_nor_tests() -> None:
    rules = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"

    def is_sent(path: str) -> bool:
        return any(fnmatch(path, rule[1:]) or path.startswith(f"{rule[1:]}/") for rule in rules if rule[0] == "!")

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in (*wheel["packages"], *wheel["force-include"], "pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        assert (ROOT / path).exists(), path
        assert is_sent(path), path
    for path in ("traces/journal.db", "traces/golden/x.jsonl", ".venv/bin/python", ".git/config", "tests/conftest.py"):
        assert not is_sent(path), path


def test_both_containers_can_write_only_where_they_must(services: dict[str, Any]) -> None:
    for name, service in services["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name
    remit = services["services"]["remit"]
    assert remit["user"] == "10001:10001"
    assert "cap_add" not in remit
    written = {item["target"] for item in remit["volumes"] if not item.get("read_only")}
    assert written == {"/srv/workspace/traces", "/srv/workspace/work"}
    assert all(port.startswith("127.0.0.1:") for port in remit["ports"])


def test_only_the_service_reaches_the_database_and_its_password_is_in_no_variable(services: dict[str, Any]) -> None:
    postgres = services["services"]["postgres"]
    assert postgres["networks"] == ["inside"]
    assert services["networks"]["inside"] == {"internal": True}
    assert "ports" not in postgres
    for service in services["services"].values():
        variables = service["environment"]
        assert not [name for name in variables if name.endswith("PASSWORD")]
        assert set(service["secrets"]) <= set(services["secrets"])


def test_what_runs_is_built_from_this_repository(services: dict[str, Any]) -> None:
    build = services["services"]["remit"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert Path(build["dockerfile"] + ".dockerignore").name == "Dockerfile.dockerignore"


def test_workers_run_in_the_same_container_as_the_service_and_have_no_port(services: dict[str, Any]) -> None:
    worker, remit = services["services"]["worker"], services["services"]["remit"]
    assert worker["command"] == ["worker"]
    assert worker["ports"] == []
    assert worker["deploy"]["replicas"] == 2
    own = ("command", "ports", "deploy", "stop_grace_period")
    assert {key: worker[key] for key in worker if key not in own} == {
        key: remit[key] for key in remit if key not in own
    }
