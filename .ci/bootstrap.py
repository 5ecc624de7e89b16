"""Sets `.venv` up from nothing but python3: no pip, no venv, no curl.

    python3 .ci/bootstrap.py [--group lint]

Fetches the uv wheel that is pinned below by version and hash, through pip's own settings (index, proxy, certificates),
and lets it install what uv.lock says. A second run compares one stamp and starts no process. Standard library only, and
written so that an old python3 can still read it, to say that it is too old.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import hashlib
import html.parser
import io
import json
import os
import platform
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
PYPI = "https://pypi.org/simple"
UV = "0.13.9"
# (machine, C library) -> (wheel, SHA-256), from the index's JSON page.
_BOTH = (
    "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
    "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
)
WHEELS = {
    ("x86_64", "glibc"): (
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    ("x86_64", "musl"): (
        "musllinux_1_1_x86_64",
        "2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25",
    ),
    ("aarch64", "glibc"): _BOTH,
    ("aarch64", "musl"): _BOTH,
}
BYTECODE = "--compile-bytecode"  # no wheel has any; without it, each start of a command compiles what it imports
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
SILENCE_S = 60  # seconds without a byte from the index


class Stop(Exception):
    """One sentence for the person at the terminal: what is wrong, and what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Set up .venv from uv.lock.")
    parser.add_argument(
        "--group", action="append", default=[], metavar="NAME", help="a dependency group in addition to `dev`"
    )
    try:
        prepare(set(parser.parse_args().group))
    except Stop as stop:
        print("error: " + str(stop), file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno == 30:  # EROFS
            where = error.filename or ROOT
            print(f"error: {where} cannot be written: use a checkout of your own", file=sys.stderr)
        else:
            print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(groups: set[str]) -> None:
    """Bring `.venv` to the state of uv.lock, with the dependency groups requested now or earlier."""
    if sys.version_info < OLDEST:
        found = "{}.{}".format(*sys.version_info[:2])
        raise Stop(f"python3 is {found}, and Remit needs 3.11 or newer: name one, as in make PYTHON=python3.11")
    stamp = ROOT / ".venv" / ".bootstrap.json"
    try:
        before = json.loads(stamp.read_text())
    except (OSError, ValueError):
        before = {}
    now = inputs()
    if before.get("inputs") == now and groups <= set(before["groups"]):
        return
    groups |= set(before.get("groups", []))
    (ROOT / ".cache").mkdir(exist_ok=True)
    pip = PipSettings(os.environ)
    sync(find_uv(pip), pip, sorted(groups))
    partial = stamp.with_name(stamp.name + ".part")
    partial.write_text(json.dumps({"inputs": now, "groups": sorted(groups)}))
    partial.replace(stamp)


def inputs() -> str:
    """A digest of everything that determines `.venv`."""
    digest = hashlib.sha256(repr((UV, BYTECODE, os.path.realpath(sys.executable), sys.version, str(ROOT))).encode())
    for name in ("pyproject.toml", "uv.lock"):
        digest.update((ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()


class PipSettings:
    """The settings of pip: from environment variables first, then from its files, the user's before the machine's.

    `index` is None for PyPI. `certificates` is a file, or None for the certificates of the system.
    """

    def __init__(self, env: os._Environ[str]) -> None:
        settings: dict[str, str] = {}
        for file in self.files(env):
            parser = configparser.RawConfigParser()
            try:
                parser.read(file, encoding="utf-8")
            except (configparser.Error, UnicodeDecodeError) as error:
                raise Stop(f"pip's settings {file} cannot be read: {str(error).splitlines()[0]}") from error
            for section in ("global", "install", "download"):
                if parser.has_section(section):
                    settings.update(parser.items(section))
        for name in ("index-url", "extra-index-url", "cert", "proxy"):
            chosen = env.get("PIP_" + name.upper().replace("-", "_"))
            if chosen is not None:
                settings[name] = chosen
        index = env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or settings.get("index-url") or ""
        self.index = None if index.rstrip("/") in ("", PYPI) else index
        self.extra = settings.get("extra-index-url", "").split()
        self.proxy = settings.get("proxy", "")
        bundles = (settings.get("cert"), env.get("REQUESTS_CA_BUNDLE"), env.get("CURL_CA_BUNDLE"))
        self.certificates = env.get("SSL_CERT_FILE") or next((bundle for bundle in bundles if bundle), None)
        if self.certificates and not os.path.exists(self.certificates):
            raise Stop(
                f"the certificates {self.certificates} do not exist: as root, apt-get install ca-certificates, "
                "or correct SSL_CERT_FILE or pip's `cert`"
            )

    @staticmethod
    def files(env: os._Environ[str]) -> list[str]:
        """The configuration files of pip, in order; later files override earlier ones."""
        chosen = env.get("PIP_CONFIG_FILE")
        if chosen == os.devnull:
            return []
        shared = (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        home = os.path.expanduser("~")
        mine = env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        files = [os.path.join(folder, "pip", "pip.conf") for folder in reversed(shared) if folder]
        files += ["/etc/pip.conf", os.path.join(home, ".pip", "pip.conf"), os.path.join(mine, "pip", "pip.conf")]
        return files + [os.path.join(sys.prefix, "pip.conf")] + ([chosen] if chosen else [])


def find_uv(pip: PipSettings) -> Path:
    """The pinned uv, from `.cache` or the index. Without network: a uv of the same version on PATH."""
    uv = ROOT / ".cache" / ("uv-" + UV) / "uv"
    if uv.exists():
        return uv
    wheel, sha256 = pinned()
    print(f"setting up: uv {UV} …", file=sys.stderr, flush=True)
    try:
        data = fetch_wheel(pip, wheel, sha256)
    except Stop:
        other = shutil.which("uv")
        if other and subprocess.run([other, "--version"], capture_output=True, text=True).stdout.split()[1:2] == [UV]:
            return Path(other)
        raise
    uv.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        binary = archive.read(f"uv-{UV}.data/scripts/uv")
    partial = uv.with_name(f"uv.{os.getpid()}")
    partial.write_bytes(binary)
    partial.chmod(0o755)
    partial.replace(uv)
    return uv


def pinned() -> tuple[str, str]:
    """The wheel for this machine and its hash."""
    if sys.platform != "linux":
        raise Stop("Remit confines tools with the Linux kernel: use Linux, a virtual machine or a container")
    libc = "glibc" if platform.libc_ver()[0] == "glibc" else "musl"
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
    if (machine, libc) not in WHEELS:
        raise Stop(f"{machine} with {libc} is not supported: use x86_64 or aarch64")
    platforms, sha256 = WHEELS[machine, libc]
    return f"uv-{UV}-py3-none-{platforms}.whl", sha256


def fetch_wheel(pip: PipSettings, wheel: str, sha256: str) -> bytes:
    """The wheel's bytes from the first index that has it."""
    missing = ""
    for index in [pip.index or PYPI, *pip.extra]:
        page = index.rstrip("/") + "/uv/"
        try:
            body, kind, page = fetch(page, pip)
        except NotThere as error:
            missing = missing or str(error)
            continue
        link = links(body.decode("utf-8", "replace"), kind).get(wheel)
        if link is None:
            missing = f"{plain(index)} has no {wheel}"
            continue
        data = fetch(urllib.parse.urljoin(page, link), pip)[0]
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise Stop(
                f"{wheel} from {plain(index)} has the wrong hash {found[:12]}…: do not use that index, or fetch again"
            )
        return data
    raise Stop(f"{missing}: set index-url in pip's settings to an index that mirrors PyPI")


class NotThere(Stop):
    """The index has no such page."""


def fetch(url: str, pip: PipSettings) -> tuple[bytes, str, str]:
    """Body, content type and final address."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        path = urllib.request.url2pathname(parts.path)
        path = os.path.join(path, "index.html") if os.path.isdir(path) else path
        try:
            return Path(path).read_bytes(), "text/html", url
        except OSError as error:
            raise NotThere(f"{path} is not there") from error
    request = urllib.request.Request(url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1))
    request.add_header("Accept", ACCEPT)
    if parts.username:
        account = urllib.parse.unquote(parts.username) + ":" + urllib.parse.unquote(parts.password or "")
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
    proxies = {"http": pip.proxy, "https": pip.proxy} if pip.proxy else None
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler(proxies)]
    if parts.scheme == "https":
        try:
            context = ssl.create_default_context(cafile=pip.certificates)
        except OSError as error:
            raise Stop(
                f"the certificates {pip.certificates} cannot be read: name a PEM file in SSL_CERT_FILE"
            ) from error
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=SILENCE_S) as answer:
            return answer.read(), answer.headers.get("content-type", ""), answer.url
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise NotThere(f"{plain(url)} is not there") from error
        raise Stop(f"{plain(url)} answered {error.code}: check pip's index-url") from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise Stop(untrusted(parts.hostname or url, pip)) from error
        raise Stop(no_network(plain(url), str(getattr(reason, "strerror", "") or reason))) from error


def links(page: str, kind: str) -> dict[str, str]:
    """File name -> link, of a simple index page (PEP 503 or PEP 691)."""
    if "json" in kind:
        return {file["filename"]: file["url"] for file in json.loads(page)["files"]}
    found: dict[str, str] = {}

    class Anchors(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            link = dict(attrs).get("href") if tag == "a" else None
            if link:
                found[urllib.parse.unquote(urllib.parse.urlsplit(link).path.rpartition("/")[2])] = link

    Anchors().feed(page)
    return found


def plain(url: str) -> str:
    """The address without user name and password."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def no_network(where: str, why: str) -> str:
    return f"{where} cannot be reached ({why}): connect to the network, or set https_proxy or pip's index-url"


def untrusted(host: str, pip: PipSettings) -> str:
    paths = ssl.get_default_verify_paths()
    folder = paths.capath
    if not pip.certificates and not paths.cafile and not (folder and os.path.isdir(folder) and os.listdir(folder)):
        return "this machine has no CA certificates: install them, as root: apt-get install ca-certificates"
    return f"the certificate of {host} is not trusted: name your network's CA file in SSL_CERT_FILE"


def sync(uv: Path, pip: PipSettings, groups: list[str]) -> None:
    """Install into `.venv` with this Python: from uv's cache if it has every package, else from the index."""
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    env.update(UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1", UV_NO_CONFIG="1")
    if pip.certificates:
        env["SSL_CERT_FILE"] = pip.certificates
    else:
        env["UV_SYSTEM_CERTS"] = (
            "1"  # the system's store may have a CA of the local network, uv's built-in list does not
        )
    if pip.proxy:
        env.update(HTTP_PROXY=pip.proxy, HTTPS_PROXY=pip.proxy)
    if not writable_home(env):
        env.setdefault("UV_CACHE_DIR", str(ROOT / ".cache" / "uv"))
    # sys.executable of an activated environment would be removed together with `.venv`.
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    chosen = ["--group=" + group for group in groups]
    if pip.index is None:
        commands = [[str(uv), "sync", "--locked", BYTECODE, "--python=" + python, *chosen]]
    else:
        # uv.lock names PyPI, and uv rejects the lock with another index: pass the same hashes as requirements.
        env["UV_DEFAULT_INDEX"] = pip.index
        if pip.extra:
            env["UV_INDEX"] = " ".join(pip.extra)
        requirements = str(ROOT / ".cache" / "requirements.txt")
        commands = [
            [str(uv), "export", "--frozen", "--quiet", "--no-emit-project", "--output-file=" + requirements, *chosen],
            [str(uv), "venv", "--allow-existing", "--quiet", "--python=" + python, ".venv"],
            [str(uv), "pip", "sync", "--require-hashes", BYTECODE, "--python=.venv", requirements],
            [str(uv), "pip", "install", "--no-deps", "--python=.venv", "--editable=."],
        ]
    if not all(run([*command, "--offline"], env)[0] for command in commands):
        print("setting up: packages into .venv (the first time takes a minute) …", file=sys.stderr, flush=True)
        for command in commands:
            done, output = run(command, env)
            if not done:
                raise Stop(explain(output, pip))


def writable_home(env: dict[str, str]) -> bool:
    """uv keeps its cache below the home folder, which a service account may not have."""
    folder = Path(env.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(str(folder), os.W_OK)


def run(command: list[str], env: dict[str, str]) -> tuple[bool, str]:
    """True if the command succeeded, and its error output."""
    try:
        done = subprocess.run(command, cwd=str(ROOT), env=env, capture_output=True, text=True)
    except OSError as error:
        raise Stop(f"{command[0]} does not start ({error.strerror}): remove .cache and try again") from error
    return done.returncode == 0, done.stderr


def explain(output: str, pip: PipSettings) -> str:
    """A failure of uv as one sentence, with a fix."""
    text = output.lower()
    where = plain(pip.index or PYPI)
    if "needs to be updated" in text:
        return "uv.lock does not fit pyproject.toml: run uv lock and commit both"
    if "invalid peer certificate" in text or "unknownissuer" in text or "no ca certificates" in text:
        return untrusted(urllib.parse.urlsplit(where).hostname or where, pip)
    if "hash mismatch" in text:
        return f"a package from {where} is not the one in uv.lock (hash mismatch): use another index"
    if "no space left" in text:
        return "the disk is full: free one gigabyte and try again"
    if "dns error" in text or "error sending request" in text or "timed out" in text:
        return no_network(where, "while installing packages")
    if "permission denied" in text or "read-only file system" in text:
        return f"{ROOT} or uv's cache cannot be written: use a checkout and a home folder of your own"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    faults = [line for line in lines if line.startswith(("error:", "×", "cause:", "╰", "├"))] or lines or ["no reason"]
    return "uv could not install: " + " ".join(faults[:3])


if __name__ == "__main__":
    sys.exit(main())
