"""Fixtures of shared storage: a folder, and a bucket of a real S3-compatible server."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from support.browser import lacking

SERVER: Final = Path(__file__).parent / "s3_server.py"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "remit:store", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the bucket `remit`: OpenStack Swift with its s3api. Without it the test is skipped; in CI it fails."""
    if find_spec("swift") is None:
        lacking("S3-compatible server", "uv pip install swift")
    folder = tmp_path_factory.mktemp("s3")
    line = [sys.executable, str(SERVER), str(folder / "data")]
    with (
        (folder / "errors").open("w") as errors,
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, (folder / "errors").read_text()
        yield f"http://127.0.0.1:{port}"
        process.stdin.close()  # it ends then


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lines of remit.toml that choose a part of the bucket that only this test uses. Its credentials are in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return f'\n[storage]\nurl = "s3://remit/{secrets.token_hex(4)}"\nendpoint = "{s3_endpoint}"\n'


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The lines of remit.toml that choose shared storage: once a folder, once a bucket."""
    if request.param == "bucket":
        lines: str = request.getfixturevalue("bucket")
        return lines
    (tmp_path / "shared").mkdir()
    return f'\n[storage]\nurl = "{tmp_path / "shared"}"\n'
