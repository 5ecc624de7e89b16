"""One of the three services of a small shop: `service.py gateway|checkout|payments`, settings in the environment."""

import json
import os
import random
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG_LOCK = threading.Lock()


def log(level: str, text: str) -> None:
    now = datetime.now(UTC)
    with LOG_LOCK, open(os.environ["LOG"], "a", encoding="utf-8") as file:
        file.write(f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z {level:<5} {text}\n")


def post(url: str, body: object, timeout: float, request_id: str) -> tuple[int, dict[str, object]]:
    """Send JSON, receive JSON; 0 is a timeout, -1 a refused connection."""
    headers = {"content-type": "application/json", "x-request-id": request_id}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except TimeoutError:
        return 0, {}
    except (urllib.error.URLError, ConnectionError) as error:
        return (0 if isinstance(getattr(error, "reason", None), TimeoutError) else -1), {}


def database() -> sqlite3.Connection:
    return sqlite3.connect(os.environ["DATABASE"], timeout=5)


def note_for_log(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing: the services write their own log lines."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, answer = self.serve(self.headers.get("x-request-id", ""), body)
        data = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the caller gave up waiting

    def serve(self, request_id: str, body: dict) -> tuple[int, dict]:
        raise NotImplementedError


class Gateway(Service):
    def serve(self, request_id: str, body: dict) -> tuple[int, dict]:
        started = time.monotonic()
        status, answer = post(os.environ["CHECKOUT"], body, 2.5, request_id)
        status = {0: 504, -1: 502}.get(status, status)
        took = round((time.monotonic() - started) * 1000)
        log("INFO" if status < 500 else "ERROR", f"gateway req={request_id} POST /checkout {status} {took}ms")
        return status, answer


class Checkout(Service):
    def serve(self, request_id: str, body: dict) -> tuple[int, dict]:
        started = time.monotonic()
        order = body["order"]
        with database() as shop:
            customer = body["customer"]
            known = (customer["id"], customer["name"], customer["email"])
            shop.execute("INSERT INTO customers VALUES (?, ?, ?) ON CONFLICT DO NOTHING", known)
            row = (order["id"], customer["id"], order["amount_cents"], "pending", stamp(), order.get("note"))
            shop.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", row)
        if order.get("note"):
            log("INFO", f"checkout req={request_id} order={order['id']} note={note_for_log(order['note'])}")
        status, reply, tries = 0, {}, 0
        for tries in (1, 2):
            charge = {"order": order["id"], "amount_cents": order["amount_cents"]}
            status, reply = post(os.environ["PAYMENTS"], charge, 1.2, request_id)
            if status == 200:
                break
            why = {0: "timeout after 1200ms", -1: "connection refused"}.get(status, f"{status} {reply.get('error')}")
            log("WARN", f"checkout req={request_id} order={order['id']} payments call failed: {why} (try {tries} of 2)")
        with database() as shop:
            paid = "paid" if status == 200 else "failed"
            shop.execute("UPDATE orders SET status = ? WHERE id = ?", (paid, order["id"]))
        took = round((time.monotonic() - started) * 1000)
        log("INFO" if status == 200 else "ERROR", f"checkout req={request_id} order={order['id']} {paid} {took}ms")
        return (200, {"order": order["id"]}) if status == 200 else (503, {"error": "payment failed"})


class Payments(Service):
    size = int(os.environ.get("POOL_SIZE", "8"))
    pool = threading.BoundedSemaphore(size)
    waiting = 0
    count = threading.Lock()

    def serve(self, request_id: str, body: dict) -> tuple[int, dict]:
        started = time.monotonic()
        with self.count:
            Payments.waiting += 1
        got = self.pool.acquire(timeout=1.0)
        with self.count:
            Payments.waiting -= 1
            queued = Payments.waiting
        waited = round((time.monotonic() - started) * 1000)
        if not got:
            held = f"pool exhausted size={self.size} waiting={queued + 1} waited={waited}ms"
            log("ERROR", f"payments req={request_id} {held}")
            self.keep(body, "pool_exhausted", waited)
            return 503, {"error": "pool exhausted"}
        try:
            time.sleep(random.uniform(0.3, 0.5))  # the bank
        finally:
            self.pool.release()
        took = round((time.monotonic() - started) * 1000)
        log("INFO", f"payments req={request_id} charged order={body['order']} waited={waited}ms total={took}ms")
        self.keep(body, "charged", took)
        return 200, {"charged": body["amount_cents"]}

    @staticmethod
    def keep(body: dict, outcome: str, took: int) -> None:
        with database() as shop:
            row = (body["order"], outcome, took, os.environ["VERSION"], stamp())
            shop.execute("INSERT INTO payments (order_id, outcome, took_ms, version, at) VALUES (?, ?, ?, ?, ?)", row)


def stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(name: str) -> None:
    server = ThreadingHTTPServer(
        ("127.0.0.1", int(os.environ["PORT"])), {"gateway": Gateway, "checkout": Checkout, "payments": Payments}[name]
    )
    if name == "payments":
        why = os.environ.get("REASON", "")
        log("INFO", f"payments starting version={os.environ['VERSION']} pool_size={Payments.size}{why and f' {why}'}")
    else:
        log("INFO", f"{name} starting version={os.environ['VERSION']}")
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
