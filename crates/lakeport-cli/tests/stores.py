"""An emulated object store, a proxy with faults before it, and a client that Lakeport did not write.

`python stores.py s3` starts moto, `python stores.py azure AZURITE` starts Azurite; both stop when stdin closes, however
the test ends. The first line of the answer holds the addresses; then each line of stdin is a JSON string of Python, run
beside the client, and answered by one line of JSON: {"ok": value of `answer`} or {"error": text}.
"""

import hashlib
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What a request does, told from method and target; the first that fits.
OPERATIONS = [
    ("begin", r"^POST .*[?&]uploads"),
    ("part", r"^PUT .*[?&]partNumber="),
    ("complete", r"^POST .*[?&]uploadId="),
    ("abort", r"^DELETE .*[?&]uploadId="),
    ("part", r"^PUT .*[?&]comp=block(&|$)"),
    ("complete", r"^PUT .*[?&]comp=blocklist"),
    ("put", r"^PUT "),
    ("read", r"^(GET|HEAD) "),
]


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on, unless a fault says otherwise."""

    protocol_version = "HTTP/1.1"
    upstream = None
    lock = threading.Lock()
    fault = None
    seen = {}

    def log_message(self, *_):
        pass

    def reset(self):
        # Lingering for no time makes the close a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RD)
        self.rfile.close()
        self.wfile.close = lambda: None
        self.connection.close()

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for key, value in headers:
            if key.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(key, value)
        length = dict((k.lower(), v) for k, v in headers).get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {self.path}"
        operation = next((name for name, pattern in OPERATIONS if re.search(pattern, line)), "other")
        with Proxy.lock:
            nth = Proxy.seen[operation] = Proxy.seen.get(operation, 0) + 1
            fault = Proxy.fault
        kind = None
        if fault and fault["on"] == operation and fault["from"] <= nth < fault["from"] + fault["times"]:
            kind = fault["kind"]
        if kind == "reset":
            return self.reset()
        if kind == "wait":
            time.sleep(5)
            return self.reset()
        if kind in ("500", "503", "403"):
            code = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}[kind]
            text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            return self.answer(int(kind), [("Content-Type", "application/xml")], text)
        if kind == "error in 200":
            text = b"<Error><Code>InternalError</Code><Message>injected</Message></Error>"
            return self.answer(200, [("Content-Type", "application/xml")], text)
        connection = http.client.HTTPConnection(*Proxy.upstream)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for key, value in self.headers.items():
            connection.putheader(key, value)
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if kind == "reset after":
            return self.reset()
        self.answer(response.status, response.getheaders(), content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any


def fault(kind, on, start=1, times=10**9):
    """From now on the `start`-th operation and `times` in all fail in this way."""
    with Proxy.lock:
        Proxy.seen = {}
        Proxy.fault = {"kind": kind, "on": on, "from": start, "times": times}


def no_fault():
    """All goes well again; tells what was asked since the fault began."""
    with Proxy.lock:
        Proxy.fault = None
        return Proxy.seen


def parquet(**columns):
    """The bytes of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def sha_file(path):
    with open(path, "rb") as f:
        return sha(f.read())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def moto(scope):
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    scope["s3"] = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret"
    )
    return host, port


def azurite(scope, program):
    from azure.storage.blob import BlobServiceClient

    port = free_port()
    place = tempfile.TemporaryDirectory()
    scope["place"] = place
    arguments = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", place.name, "--silent", "--skipApiVersionCheck"]
    scope["process"] = subprocess.Popen([program, *arguments, "--disableTelemetry"], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    # The account and key that every Azurite has; they are public.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    url = f"http://127.0.0.1:{port}/devstoreaccount1"
    scope["key"] = key
    scope["blobs"] = BlobServiceClient(url, credential={"account_name": "devstoreaccount1", "account_key": key})
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return "127.0.0.1", port
        except OSError:
            if time.monotonic() > deadline or scope["process"].poll() is not None:
                raise
            time.sleep(0.05)


def main():
    scope = dict(globals())
    host, port = moto(scope) if sys.argv[1] == "s3" else azurite(scope, sys.argv[2])
    try:
        Proxy.upstream = (host, port)
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        proxy.daemon_threads = True
        # A client that leaves early is what some faults are for.
        proxy.handle_error = lambda *_: None
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        addresses = {"direct": f"http://{host}:{port}", "proxy": f"http://127.0.0.1:{proxy.server_port}"}
        print(json.dumps({**addresses, "nobody": f"http://127.0.0.1:{free_port()}"}), flush=True)
        for line in sys.stdin:
            scope["answer"] = None
            try:
                exec(json.loads(line), scope)
                print(json.dumps({"ok": scope["answer"]}, default=str), flush=True)
            except Exception:
                print(json.dumps({"error": traceback.format_exc()}), flush=True)
    finally:
        if "process" in scope:
            scope["process"].send_signal(signal.SIGTERM)
            scope["process"].wait(20)
            scope["place"].cleanup()
    os._exit(0)


if __name__ == "__main__":
    main()
