"""`make release` at the size of a test: equal builds, the lists of what is inside, and what stops a release."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from support import ROOT


@pytest.fixture(scope="module")
def release() -> ModuleType:
    described = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no commit to build")
def test_two_builds_from_different_places_are_equal_byte_for_byte(
    release: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(release, "OUT", tmp_path)
    wheel, sdist = release.built_twice()
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
    monkeypatch.setattr(release, "OUT", tmp_path)
    with pytest.raises(release.Stop, match=r"two builds differ in remit\.whl"):
        release.built_twice()


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
