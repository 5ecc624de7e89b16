"""The definition of the container, as far as it can be checked where no container runs."""

from __future__ import annotations

import json
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
from support.browser import lacking
from support.promtool import PROMTOOL

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
        variables = service.get("environment", {})
        assert not [name for name in variables if name.endswith("PASSWORD")]
        assert set(service.get("secrets", [])) <= set(services["secrets"])


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


def test_every_container_that_runs_tools_has_the_profile_with_which_the_full_sandbox_works(
    services: dict[str, Any],
) -> None:
    """`test_doctor_names_the_setting_of_the_container_and_with_it_the_full_tier_holds` shows that it does."""
    for name in ("remit", "worker"):
        assert "seccomp=seccomp.json" in services["services"][name]["security_opt"]
    profile = json.loads((FOLDER / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert {"unshare", "mount", "pivot_root", "sethostname"} <= allowed
    assert not allowed & {"bpf", "perf_event_open", "init_module", "finit_module", "kexec_load", "open_by_handle_at"}


def test_prometheus_of_the_compose_file_has_the_alerts_and_scrapes_the_collector(
    services: dict[str, Any], tmp_path: Path
) -> None:
    if PROMTOOL is None:
        lacking("promtool", "install the package prometheus, or set REMIT_PROMTOOL")
    mounted = {item.split(":")[1]: item.split(":")[0] for item in services["services"]["prometheus"]["volumes"]}
    assert (FOLDER / mounted["/etc/prometheus/alerts.yaml"]).resolve() == ROOT / "traces" / "alerts.yaml"
    config = (FOLDER / mounted["/etc/prometheus/prometheus.yml"]).read_text()
    (tmp_path / "prometheus.yml").write_text(
        config.replace("/etc/prometheus/alerts.yaml", str(ROOT / "traces/alerts.yaml"))
    )
    checked = subprocess.run(
        [PROMTOOL, "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout
    collector = YAML(typ="safe").load((FOLDER / "collector.yaml").read_text())
    (target,) = YAML(typ="safe").load(config)["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.partition(":")[0] in services["services"]
    assert collector["exporters"]["prometheus"]["endpoint"].endswith(f":{target.partition(':')[2]}")
    assert all({"otlp"} == set(pipeline["receivers"]) for pipeline in collector["service"]["pipelines"].values())


def test_the_pods_have_no_right_that_the_containers_lack(services: dict[str, Any]) -> None:
    """`make manifests` checks the file against the schemas of Kubernetes."""
    objects = list(YAML(typ="safe").load_all((FOLDER / "kubernetes" / "remit.yaml").read_text()))
    pods = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"
    }
    assert set(pods) == {"remit-serve", "remit-worker", "remit-metrics"}
    for pod in pods.values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "Localhost", "localhostProfile": "remit.json"}
        written = {item["mountPath"] for item in container["volumeMounts"] if not item.get("readOnly")}
        assert written == {"/srv/workspace/traces", "/srv/workspace/work", "/tmp"}
        assert str(pod["securityContext"]["runAsUser"]) == services["services"]["remit"]["user"].partition(":")[0]
