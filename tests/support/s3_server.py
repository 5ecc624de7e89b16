"""A real S3-compatible server for tests: OpenStack Swift with its `s3api`, in one process, on free ports of loopback.

Usage: python s3_server.py FOLDER. It prints the port of the service once it listens, and ends when its standard input does. Objects
are kept in memory, the lists of a bucket in SQLite. The account is `remit`, the key `remit:store`, its secret `secret`, the bucket `remit`.
"""

# ruff: noqa: E402 - eventlet replaces parts of the standard library first.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportMissingTypeStubs=false
from __future__ import annotations

import warnings

warnings.simplefilter("ignore")
import eventlet

eventlet.monkey_patch()

import array
import logging
import sys
from pathlib import Path

from eventlet import tpool, wsgi
from swift.common import storage_policy, utils
from swift.common.ring import RingData
from swift.common.swob import Request
from swift.common.wsgi import loadapp

KEPT = {"account": "account", "container": "container", "object": "mem_object"}
COMMON = "[DEFAULT]\nswift_dir = {folder}/conf\ndevices = {folder}/srv\nmount_check = false\n"
PROXY = """[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_remit_store = secret .admin
"""


def main(folder: Path) -> None:
    conf = folder / "conf"
    conf.mkdir(parents=True)
    (folder / "srv" / "d1").mkdir(parents=True)
    (conf / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    utils.set_swift_dir(str(conf))
    storage_policy.reload_storage_policies()
    sockets = {name: eventlet.listen(("127.0.0.1", 0)) for name in (*KEPT, "proxy")}
    for name in KEPT:
        port = sockets[name].getsockname()[1]
        device = {"id": 0, "region": 1, "zone": 0, "device": "d1", "weight": 1.0, "ip": "127.0.0.1", "port": port}
        device |= {"replication_ip": "127.0.0.1", "replication_port": port}
        RingData([array.array("H", [0])], [device], 32).save(str(conf / f"{name}.ring.gz"))
    common = COMMON.format(folder=folder)
    for name, egg in KEPT.items():
        (conf / f"{name}.conf").write_text(f"{common}[app:main]\nuse = egg:swift#{egg}\n")
    inner, outer = "catch_errors proxy-server", "catch_errors gatekeeper s3api tempauth proxy-server"
    (conf / "inner.conf").write_text(common + PROXY.format(pipeline=inner))
    (conf / "proxy.conf").write_text(common + PROXY.format(pipeline=outer))
    log = logging.getLogger("s3")
    for name in (*KEPT, "proxy"):
        app = loadapp(str(conf / f"{name}.conf"), global_conf={"log_name": name})
        eventlet.spawn(wsgi.server, sockets[name], app, log=log, log_output=False)
    made = loadapp(str(conf / "inner.conf"), global_conf={"log_name": "inner"})
    answer = Request.blank("/v1/AUTH_remit/remit", environ={"REQUEST_METHOD": "PUT"}).get_response(made)
    assert answer.status_int in (201, 202), answer.status
    print(sockets["proxy"].getsockname()[1], flush=True)
    tpool.execute(sys.stdin.read)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
