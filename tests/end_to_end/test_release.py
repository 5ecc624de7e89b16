"""`make release` and `make full` at the size of a test: equal builds, the lists of what is inside, what stops a release."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support import ROOT


def module(name: str) -> ModuleType:
    described = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert described is not None
    assert described.loader is not None
    loaded = importlib.util.module_from_spec(described)
    described.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def release() -> ModuleType:
    return module("release")


@pytest.fixture
def full() -> ModuleType:
    return module("full")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no commit to build")
def test_two_builds_from_different_places_are_equal_byte_for_byte(release: ModuleType, tmp_path: Path) -> None:
    wheel, sdist = release.built_twice(tmp_path)
    version = release.checked_version()
    assert (wheel.name, sdist.name) == (f"remit-{version}-py3-none-any.whl", f"remit-{version}.tar.gz")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no commit to build")
def test_a_build_that_depends_on_its_place_stops_the_release(
    release: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build = release.run

    def placed(line: list[str], folder: Path, env: dict[str, str] | None = None) -> object:
        if "hatchling" not in line:
            return build(line, folder, env)
        (folder / "dist").mkdir()
        return (folder / "dist/remit.whl").write_text(str(folder))

    monkeypatch.setattr(release, "run", placed)
    with pytest.raises(release.Stop, match=r"two builds differ in remit\.whl"):
        release.built_twice(tmp_path)


def test_every_installed_package_of_a_debian_root_is_listed_and_removed_ones_are_not(
    release: ModuleType, tmp_path: Path
) -> None:
    status = tmp_path / "var/lib/dpkg/status"
    with pytest.raises(release.Stop, match="is no root of Debian"):
        list(release.debian_components(tmp_path))
    status.parent.mkdir(parents=True)
    block = "Package: {}\nStatus: {}\nArchitecture: amd64\nVersion: 1:2.3-4+deb12u1\nDescription: text\n more\n"
    status.write_text(
        block.format("libc6", "install ok installed") + "\n" + block.format("gone", "deinstall ok config-files")
    )
    (one,) = release.debian_components(tmp_path)
    assert one["purl"] == "pkg:deb/debian/libc6@1%3A2.3-4%2Bdeb12u1?arch=amd64"


def test_a_distribution_that_the_sbom_lacks_stops_the_release(release: ModuleType) -> None:
    bom = {"metadata": {"component": {"name": "remit"}}, "components": [{"name": "ruamel-yaml", "version": "1"}]}
    found = [("remit", "0.1.0", "Apache-2.0"), ("ruamel.yaml", "1", "MIT")]
    release.check_listed(found, bom)
    with pytest.raises(release.Stop, match=r"does not list ruamel\.yaml 2"):
        release.check_listed([("ruamel.yaml", "2", "MIT")], bom)


def test_a_licence_that_is_unknown_stops_the_release(release: ModuleType) -> None:
    assert "| h11 | 1 | MIT |" in release.licence_list([("h11", "1", "MIT")])
    for unfit in ("", "GPL-3.0-only", "Proprietary"):
        with pytest.raises(release.Stop, match="not known to fit"):
            release.licence_list([("some", "1", unfit)])


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def test_every_target_and_every_benchmark_is_part_of_make_full_or_left_out_by_name(full: ModuleType) -> None:
    assert set(full.LEFT_OUT) <= make_targets()
    listed = set(full.targets())
    assert {"check", "ablate", "release", "bench-broker", "bench-attacks"} <= listed
    assert not listed & full.LEFT_OUT
    assert {f"bench-{path.stem}" for path in (ROOT / "tests/benchmarks").glob("*.py")} - listed == {
        "bench-bfcl",
        "bench-documents",
        "bench-tau2",
    }


def test_make_full_goes_on_after_the_targets_that_passed_and_says_what_failed(
    full: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests/benchmarks").mkdir(parents=True)
    rows = "one:  ## Passes\n\t@test -z '$(ARGS)' && echo done >> ran\n\ntwo:  ## Fails\n\t@test -e repaired\n\nhelp:  ## Shows\n\t@true\n"
    (tmp_path / "Makefile").write_text(rows)
    for line in (
        ["init", "-q"],
        ["add", "Makefile"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *line], cwd=tmp_path, check=True)
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=--write")  # as `make full ARGS=--write` sets it
    monkeypatch.setenv("ARGS", "--write")
    monkeypatch.setattr(full, "ROOT", tmp_path)
    monkeypatch.setattr(full, "OUT", tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["full.py"])
    assert full.main() == 1
    assert "two: FAILED" in capsys.readouterr().out
    (tmp_path / "repaired").touch()
    monkeypatch.setattr(sys, "argv", ["full.py", "--write"])
    assert full.main() == 0
    assert "one: passed before" in capsys.readouterr().out
    assert (tmp_path / "ran").read_text() == "done\n"  # once
    (page,) = (tmp_path / "docs/benchmarks").iterdir()
    assert page.read_text().count("| passed |") == 2
    monkeypatch.setattr(sys, "argv", ["full.py", "three"])
    assert full.main() == 2
