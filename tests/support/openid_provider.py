"""A real OpenID provider, `oidc-provider` for Node, on this machine. Its packages are locked, and installed into a cache once."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Final

import httpx

from support.browser import lacking

SOURCE: Final = Path(__file__).parent / "openid"
CACHE: Final = Path.home() / ".cache" / "remit-tests"
FILES: Final = ("package.json", "package-lock.json", "provider.mjs")
AUDIENCE: Final = "https://remit.example.com/api"
INSTALL_S: Final = 180
RULES: Final = """
g, user:ann, role:operator
g, user:dana, role:operator
g, user:ann, role:oncall-lead
"""
SETTINGS: Final = """
[issuers.corp]
kind = "oidc"
issuer = "{issuer}"
audience = "{audience}"
roles.groups = {{ leads = "role:oncall-lead" }}

[issuers.corp.login]
client_id = "remit-browser"
redirect = "{redirect}"
"""


@dataclass(frozen=True, kw_only=True)
class OpenIdProvider:
    """The running provider. `redirect` is where it sends browsers back to."""

    issuer: str
    redirect: str

    def log_in(self, address: str, person: str) -> str:
        """What a person does in a browser from the address on, until the provider sends them back. Returns the last address."""
        with httpx.Client(cookies={"person": person}, trust_env=False) as browser:
            while not address.startswith(self.redirect):
                answer = browser.get(address)
                assert answer.is_redirect, (answer.status_code, answer.text[:300])
                address = unescape(str(answer.next_request.url)) if answer.next_request else ""
            return address

    def access_token(self, person: str) -> str:
        """An access token for the API, as a program of that person gets it."""
        verifier = "v" * 43
        challenge = _challenge(verifier)
        asked = {
            "client_id": "api",
            "response_type": "code",
            "redirect_uri": self.redirect,
            "scope": "openid",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": "s",
        }
        back = self.log_in(f"{self.issuer}/auth?{httpx.QueryParams(asked)}", person)
        form = {
            "grant_type": "authorization_code",
            "code": httpx.URL(back).params["code"],
            "redirect_uri": self.redirect,
            "client_id": "api",
            "code_verifier": verifier,
        }
        answer = httpx.post(f"{self.issuer}/token", data=form, trust_env=False)
        token: str = answer.json()["access_token"]
        return token


def let_in(folder: Path, provider: OpenIdProvider) -> None:
    """Let the people of the provider use the workspace: ann and dana start runs, ann is an on-call lead, and so is the group `leads`."""
    rules, settings = folder / "policies" / "remit.csv", folder / "remit.toml"
    rules.write_text(rules.read_text() + RULES)
    made = SETTINGS.format(issuer=provider.issuer, audience=AUDIENCE, redirect=provider.redirect)
    settings.write_text(settings.read_text().replace("users = [", 'users = ["user:ann", ') + made)


@contextmanager
def openid_provider(redirect: str) -> Iterator[OpenIdProvider]:
    """Start the provider, and end it afterwards. Its people are ann, dana (in the group `leads`) and eve."""
    folder = _installed()
    process = subprocess.Popen(
        ["node", "provider.mjs", AUDIENCE, redirect],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert re.fullmatch("[0-9]+", port), "the provider did not start"
        yield OpenIdProvider(issuer=f"http://127.0.0.1:{port}", redirect=redirect)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def _installed() -> Path:
    """The folder with the provider and its packages. Skips the test where they cannot be installed; in CI it fails."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        lacking("Node", "apt-get install nodejs npm")
    texts = b"".join((SOURCE / name).read_bytes() for name in FILES)
    folder = CACHE / f"openid-{hashlib.sha256(texts).hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "openid.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            folder.mkdir(exist_ok=True)
            for name in FILES:
                shutil.copy(SOURCE / name, folder / name)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=INSTALL_S, check=False)
            if done.returncode != 0:
                lacking("npm package oidc-provider", "give this machine the npm registry once")
            (folder / "installed").touch()
    return folder


def _challenge(verifier: str) -> str:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
