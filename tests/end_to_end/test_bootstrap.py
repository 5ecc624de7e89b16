"""Setting up with nothing but python3, against a fake package index, a fake proxy and a fake uv on loopback."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support import ROOT

# A fake uv: it logs its arguments and environment, and fails with the text in says.txt if that file exists.
FAKE_UV = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
settings = {{name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_", "VIRTUAL_", "HTTPS_"))}}
with (here / "calls.jsonl").open("a") as log:
    log.write(json.dumps([sys.argv[1:], settings]) + "\\n")
failure = here / "says.txt"
if failure.exists():
    sys.exit(failure.read_text())
if "--offline" in sys.argv and not (here / "cached").exists():
    sys.exit("error: not in the cache")
Path(".venv").mkdir(exist_ok=True)
"""


@dataclass
class Index:
    """A package index that also serves as a proxy: it answers requests for every address."""

    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def index() -> Iterator[Index]:
    served = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append((self.path, self.headers.get("authorization")))
            found = served.pages.get(self.path)
            if found is None:
                self.send_error(404)
                return
            kind, body = found
            if kind == "moved":
                self.send_response(302)
                self.send_header("location", body.decode())
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join(5)


@dataclass
class Setup:
    """A checkout with the script, and the one wheel that the script accepts."""

    root: Path
    script: ModuleType
    wheel: bytes
    name: str

    @property
    def uv(self) -> Path:
        return self.root / ".cache" / f"uv-{self.script.UV}"

    def calls(self) -> list[list[str]]:
        return [arguments for arguments, _ in self.log()]

    def log(self) -> list[tuple[list[str], dict[str, str]]]:
        file = self.uv / "calls.jsonl"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    for name in list(os.environ):
        if (
            name.upper().startswith(("PIP_", "UV_", "SSL_CERT", "REQUESTS_", "CURL_", "XDG_"))
            or "_proxy" in name.lower()
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "home").mkdir()
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("pyproject.toml", "uv.lock"):
        (root / name).write_text(f"# {name}\n")
    spec = importlib.util.spec_from_file_location("remit_bootstrap", ROOT / ".ci" / "bootstrap.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"uv-{script.UV}.data/scripts/uv", FAKE_UV)
    wheel = data.getvalue()
    platforms = "manylinux_2_17_x86_64"
    pins = {key: (platforms, hashlib.sha256(wheel).hexdigest()) for key in script.WHEELS}
    monkeypatch.setattr(script, "WHEELS", pins)
    monkeypatch.setattr(script, "ROOT", root)
    monkeypatch.setattr(script, "PYPI", "http://127.0.0.1:9/pypi")  # nothing listens on the discard port
    # Files of this machine are ignored: only files below the folder of the test count.
    read = script.PipSettings.files
    mine = staticmethod(lambda env: [file for file in read(env) if file.startswith(str(tmp_path))])
    monkeypatch.setattr(script.PipSettings, "files", mine)
    return Setup(root=root, script=script, wheel=wheel, name=f"uv-{script.UV}-py3-none-{platforms}.whl")


def serve_json(index: Index, setup: Setup, wheel: bytes | None = None) -> None:
    listing = {"files": [{"filename": setup.name, "url": "../../files/" + setup.name, "hashes": {}}]}
    index.pages["/simple/uv/"] = ("application/vnd.pypi.simple.v1+json", json.dumps(listing).encode())
    index.pages["/files/" + setup.name] = ("application/octet-stream", setup.wheel if wheel is None else wheel)


def run(setup: Setup, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", *arguments])
    return int(setup.script.main())


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The text after `error:`, of the only error line."""
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0].removeprefix("error: ")


# Fetching


def test_the_pinned_wheel_is_fetched_and_installs_what_the_lock_says(
    setup: Setup, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_json(index, setup)
    monkeypatch.setattr(setup.script, "PYPI", index.url + "/simple")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere/else")

    assert run(setup, monkeypatch) == 0

    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    sync = ["sync", "--locked", "--compile-bytecode", f"--python={python}"]
    assert setup.calls() == [[*sync, "--offline"], sync]
    env = setup.log()[-1][1]
    assert env["UV_PYTHON_DOWNLOADS"] == "never"
    assert env["UV_SYSTEM_CERTS"] == "1"
    assert "VIRTUAL_ENV" not in env


def test_an_html_index_works_too(setup: Setup, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    page = f'<!DOCTYPE html><a href="/other.whl">x</a><a href="/files/{setup.name}#sha256=beef&amp;x">uv</a>'
    index.pages["/simple/uv/"] = ("text/html; charset=utf-8", page.encode())
    index.pages["/files/" + setup.name] = ("application/octet-stream", setup.wheel)
    monkeypatch.setenv("PIP_INDEX_URL", index.url + "/simple/")

    assert run(setup, monkeypatch) == 0
    assert setup.calls()


def test_a_folder_works_as_an_index(
    setup: Setup, tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "simple" / "uv"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(f'<a href="{setup.name}">uv</a>')
    (folder / setup.name).write_bytes(setup.wheel)
    monkeypatch.setenv("PIP_INDEX_URL", index.url + "/empty")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "nothing").as_uri() + " " + (tmp_path / "simple").as_uri())

    assert run(setup, monkeypatch) == 0
    assert index.asked == [("/empty/uv/", None)]


def test_a_wheel_with_another_hash_is_refused_and_nothing_runs(
    setup: Setup, index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_json(index, setup, wheel=setup.wheel + b"!")
    monkeypatch.setenv("PIP_INDEX_URL", index.url + "/simple")

    assert run(setup, monkeypatch) == 1
    assert "has the wrong hash" in error_line(capsys)
    assert not setup.uv.exists()


def test_the_password_of_an_index_is_sent_there_only_and_never_shown(
    setup: Setup, index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index.pages["/simple/uv/"] = ("moved", b"/moved/")
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("://", "://ann:s%20cret@") + "/simple")

    assert run(setup, monkeypatch) == 1
    assert index.asked == [("/simple/uv/", "Basic YW5uOnMgY3JldA=="), ("/moved/", None)]
    assert "cret" not in error_line(capsys)


def test_the_proxy_of_pip_is_used_for_every_request(
    setup: Setup, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_json(index, setup)
    index.pages = {"http://pypi.example" + path: page for path, page in index.pages.items()}
    monkeypatch.setenv("PIP_INDEX_URL", "http://pypi.example/simple")
    monkeypatch.setenv("PIP_PROXY", index.url)

    assert run(setup, monkeypatch) == 0
    assert setup.log()[-1][1]["HTTPS_PROXY"] == index.url


def test_without_network_a_uv_of_the_pinned_version_on_the_path_is_used(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "uv {setup.script.UV}" || mkdir -p .venv\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:/usr/bin:/bin")

    assert run(setup, monkeypatch) == 0
    assert not setup.uv.exists()


# pip's settings


def test_pips_settings_are_read_in_pips_order(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")

    def settings() -> Any:
        return setup.script.PipSettings(os.environ)

    assert (settings().index, settings().extra, settings().certificates) == (None, [], None)

    for file, text in {
        "etc/pip/pip.conf": f"[global]\nindex-url = https://machine/simple\ncert = {bundle}\n",
        "home/.pip/pip.conf": "[global]\nextra-index-url =\n    https://one/simple\n    https://two/simple\n",
        "home/.config/pip/pip.conf": "[global]\nindex-url = https://user/simple\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    assert settings().index == "https://user/simple"
    assert settings().extra == ["https://one/simple", "https://two/simple"]
    assert settings().certificates == str(bundle)

    (tmp_path / "mine.conf").write_text("[install]\nindex-url = https://mine/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "mine.conf"))
    assert settings().index == "https://mine/simple"

    monkeypatch.setenv("PIP_INDEX_URL", setup.script.PYPI + "/")
    assert settings().index is None  # another spelling of PyPI

    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_INDEX_URL")
    assert settings().index is None


def test_with_another_index_the_hashes_of_the_lock_are_passed_as_requirements(
    setup: Setup, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_json(index, setup)
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    monkeypatch.setenv("PIP_INDEX_URL", index.url + "/simple")
    monkeypatch.setenv("PIP_CERT", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))

    assert run(setup, monkeypatch, "--group", "lint") == 0

    online = [call for call in setup.calls() if "--offline" not in call]
    assert [call[0:2] for call in online] == [
        ["export", "--frozen"],
        ["venv", "--allow-existing"],
        ["pip", "sync"],
        ["pip", "install"],
    ]
    assert "--group=lint" in online[0]
    assert {"--require-hashes", "--compile-bytecode"} <= set(online[2])
    env = setup.log()[-1][1]
    assert (env["UV_DEFAULT_INDEX"], env["SSL_CERT_FILE"]) == (index.url + "/simple", str(bundle))


# Second runs


def test_a_second_run_starts_no_process_and_needs_no_network(
    setup: Setup, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_json(index, setup)
    monkeypatch.setenv("PIP_INDEX_URL", index.url + "/simple")
    assert run(setup, monkeypatch) == 0
    calls, asked = len(setup.calls()), len(index.asked)

    assert run(setup, monkeypatch) == 0

    assert (len(setup.calls()), len(index.asked)) == (calls, asked)


def test_a_changed_lock_and_a_new_group_install_again_and_groups_stay(
    setup: Setup, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_json(index, setup)
    monkeypatch.setattr(setup.script, "PYPI", index.url + "/simple")
    assert run(setup, monkeypatch) == 0
    (setup.uv / "cached").touch()

    assert run(setup, monkeypatch, "--group", "lint") == 0
    assert setup.calls()[-1][-2:] == ["--group=lint", "--offline"]
    assert run(setup, monkeypatch) == 0  # fewer groups than are installed

    (setup.root / "uv.lock").write_text("# another\n")
    assert run(setup, monkeypatch) == 0
    assert setup.calls()[-1][-2:] == ["--group=lint", "--offline"]
    assert len(setup.calls()) == 4
    assert len(index.asked) == 2


# One sentence each


@pytest.mark.parametrize(
    ("uv_says", "sentence"),
    [
        ("error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.", "run uv lock"),
        ("cause: invalid peer certificate: UnknownIssuer", "certificate"),
        ("cause: Hash mismatch for `click`", "is not the one in uv.lock"),
        ("cause: dns error: failed to lookup", "cannot be reached (while installing packages): connect to the network"),
        ("cause: No space left on device (os error 28)", "the disk is full"),
        ("error: Permission denied (os error 13)", "cannot be written"),
        ("Resolved 3\nerror: odd\n  cause: very odd", "uv could not install: error: odd cause: very odd"),
    ],
)
def test_a_failure_of_uv_is_one_sentence(
    setup: Setup,
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    uv_says: str,
    sentence: str,
) -> None:
    serve_json(index, setup)
    monkeypatch.setattr(setup.script, "PYPI", index.url + "/simple")
    setup.uv.mkdir(parents=True)
    (setup.uv / "says.txt").write_text(uv_says)

    assert run(setup, monkeypatch) == 1
    assert sentence in error_line(capsys)
    assert not (setup.root / ".venv" / ".bootstrap.json").exists()


def test_no_network_is_one_sentence(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(setup, monkeypatch) == 1
    assert error_line(capsys) == (
        "http://127.0.0.1:9/pypi/uv/ cannot be reached (Connection refused): connect to the network, or set https_proxy "
        "or pip's index-url"
    )


def test_no_ca_certificates_is_one_sentence(setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = setup.script.ssl.get_default_verify_paths()
    monkeypatch.setattr(
        setup.script.ssl, "get_default_verify_paths", lambda: paths._replace(cafile=None, capath=str(tmp_path / "none"))
    )

    sentence = setup.script.untrusted("pypi.org", setup.script.PipSettings(os.environ))

    assert sentence == "this machine has no CA certificates: install them, as root: apt-get install ca-certificates"


def test_certificates_that_do_not_exist_are_one_sentence(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")

    assert run(setup, monkeypatch) == 1
    assert error_line(capsys) == (
        "the certificates /nowhere/ca.pem do not exist: as root, apt-get install ca-certificates, or correct SSL_CERT_FILE or "
        "pip's `cert`"
    )


def test_a_file_without_certificates_is_one_sentence(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("")
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:9/simple")

    assert run(setup, monkeypatch) == 1
    assert error_line(capsys) == f"the certificates {tmp_path}/ca.pem cannot be read: name a PEM file in SSL_CERT_FILE"


def test_an_old_python_is_one_sentence(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.script, "OLDEST", (99, 0))

    assert run(setup, monkeypatch) == 1
    assert "Remit needs 3.11 or newer: name one, as in make PYTHON=python3.11" in error_line(capsys)


def test_an_unsupported_machine_is_one_sentence(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.script.platform, "machine", lambda: "vax")

    assert run(setup, monkeypatch) == 1
    assert "vax with glibc is not supported: use x86_64 or aarch64" in error_line(capsys)


def test_a_checkout_that_cannot_be_written_is_one_sentence(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:  # root may write everywhere, so file modes cannot be used here
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(setup.script.Path, "mkdir", refuse)

    assert run(setup, monkeypatch) == 1
    assert error_line(capsys) == f"{setup.root / '.cache'} cannot be written: use a checkout of your own"
