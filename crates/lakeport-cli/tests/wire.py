"""What goes over the wire between Lakeport and a server, beside the official client.

wire.py assets                        prints where the recorded answers of the official client's own tests lie (fetched once)
wire.py replay SCENARIO LOG           answers with recordings: SCENARIO is JSON, a list of routes
wire.py record URL LOG                hands every call on to URL, and its answer back
wire.py tls URL LOG DIRECTORY         the same behind TLS, for clients with a certificate; writes the certificates to DIRECTORY
wire.py forward LOG                   a forward proxy (plain requests, and CONNECT)

A server prints its address on its first line; a log has one JSON object per call.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RELEASE = "tableauserverclient-0.42"
SHA256 = "3474de006b4b7a5df539e800bb512e79b1bc382ba63309222b8388821664a1c3"


def assets() -> Path:
    """The recordings, out of the source distribution; kept in the cache, never in the repository."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakeport"
    home = cache / RELEASE
    if not home.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            name, version = RELEASE.rsplit("-", 1)
            command = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", name, f"{name}=={version}"]
            subprocess.run([sys.executable, "-m", "pip", *command, "--dest", folder], check=True, stdout=sys.stderr)
            archive = Path(folder) / f"{RELEASE}.tar.gz"
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            assert digest == SHA256, f"{archive.name} is {digest}, expected {SHA256}"
            with tarfile.open(archive) as tar:
                # Its content is known by its hash; Debian 12's Python has no filters yet.
                tar.extractall(folder)
            # Another test may have been quicker.
            with contextlib.suppress(OSError):
                (Path(folder) / RELEASE).rename(home)
    return home / "test/assets"


class Log:
    """One JSON object per line."""

    def __init__(self, path: str):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()

    def add(self, **entry) -> None:
        with self.lock:
            print(json.dumps(entry), file=self.file, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def say(self, status: int, headers: dict, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def entry(handler: Handler, body: bytes, status: int, answer: bytes, **more) -> dict:
    return {
        "method": handler.command, "path": handler.path, "headers": dict(handler.headers.items()),
        "body": base64.b64encode(body).decode(), "status": status, "answer": base64.b64encode(answer).decode(), **more,
    }


def every(handler: type) -> type:
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"]:
        setattr(handler, f"do_{method}", handler.handle_call)
    return handler


def serve(handler: type, context: ssl.SSLContext | None = None) -> None:
    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass

        def finish_request(self, request, client):
            # The handshake in the connection's own thread: one that fails must not hold up the next.
            if context:
                plain = request.dup()
                try:
                    request = context.wrap_socket(request, server_side=True)
                except ssl.SSLError:
                    # Read before it is closed, so that a reset does not overtake the alert.
                    plain.settimeout(1)
                    with contextlib.suppress(OSError):
                        while plain.recv(65536):
                            pass
                    raise
            super().finish_request(request, client)

    server = Server(("127.0.0.1", 0), every(handler))
    scheme = "https" if context else "http"
    print(f"{scheme}://localhost:{server.server_address[1]}" if context else f"{scheme}://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def replay(scenario: str, log: str) -> None:
    """Each route: method, path (a pattern over path and query), and answers, the last of which stays."""
    folder, written = assets(), Log(log)
    routes = [{**route, "seen": 0} for route in json.loads(Path(scenario).read_text())]
    lock = threading.Lock()

    class Replay(Handler):
        def handle_call(self):
            body = self.body()
            with lock:
                route = next((r for r in routes if r["method"] == self.command and re.search(r["path"], self.path)), None)
                if route:
                    said = route["answers"][min(route["seen"], len(route["answers"]) - 1)]
                    route["seen"] += 1
            if not route:
                written.add(**entry(self, body, 501, b"", unexpected=True))
                return self.say(501, {"Content-Type": "text/plain"}, b"no recording")
            answer = (folder / said["asset"]).read_bytes() if said.get("asset") else said.get("body", "").encode()
            for old, new in said.get("replace", []):
                assert old.encode() in answer, f"{said['asset']} has no {old}"
                answer = answer.replace(old.encode(), new.encode())
            status = said.get("status", 200)
            written.add(**entry(self, body, status, answer))
            self.say(status, {"Content-Type": "application/xml;charset=utf-8", **said.get("headers", {})}, answer)

    serve(Replay)


def record(url: str, log: str, context: ssl.SSLContext | None = None) -> None:
    upstream, written = urllib.parse.urlsplit(url), Log(log)

    class Record(Handler):
        def handle_call(self):
            body = self.body()
            connection = http.client.HTTPConnection(upstream.hostname, upstream.port)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            certificate = self.connection.getpeercert() if context else None
            subject = str(certificate["subjectAltName"]) if certificate else None
            written.add(**entry(self, body, answer.status, text, subject=subject))
            kept = {k: v for k, v in answer.getheaders() if k.lower() in ("content-type", "retry-after", "location", "date")}
            self.say(answer.status, kept, text)

    serve(Record, context)


def tls(url: str, log: str, directory: str) -> None:
    """Certificates: `ca.pem`, `other-ca.pem`, `client.pem` (certificate, then key), `client-cert.pem`, `client-key.pem`, `stranger.pem`."""
    import trustme

    folder = Path(directory)
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    client = authority.issue_cert("lakeport@acme.com")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    client.private_key_pem.write_to_path(folder / "client-key.pem")
    client.cert_chain_pems[0].write_to_path(folder / "client-cert.pem")
    other.issue_cert("stranger@acme.com").private_key_and_cert_chain_pem.write_to_path(folder / "stranger.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    record(url, log, context)


def forward(log: str) -> None:
    written = Log(log)

    class Forward(Handler):
        def handle_call(self):
            body, to = self.body(), urllib.parse.urlsplit(self.path)
            wanted = os.environ.get("PROXY_WANTS")
            if wanted and self.headers.get("Proxy-Authorization") != f"Basic {base64.b64encode(wanted.encode()).decode()}":
                written.add(**entry(self, body, 407, b""))
                return self.say(407, {"Proxy-Authenticate": "Basic", "Content-Type": "text/html"}, b"<title>Proxy</title>")
            connection = http.client.HTTPConnection(to.hostname, to.port)
            headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-") and k.lower() != "connection"}
            connection.request(self.command, urllib.parse.urlunsplit(("", "", to.path, to.query, "")), body, headers)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            written.add(**entry(self, body, answer.status, text))
            self.say(answer.status, {"Content-Type": answer.getheader("Content-Type") or ""}, text)

        def do_CONNECT(self):
            host, port = self.path.rsplit(":", 1)
            written.add(**entry(self, b"", 200, b""))
            with socket.create_connection((host, int(port))) as far:
                self.send_response_only(200)
                self.end_headers()
                near = self.connection

                def pump(source, sink):
                    with contextlib.suppress(OSError):
                        while data := source.recv(65536):
                            sink.sendall(data)
                        sink.shutdown(socket.SHUT_WR)

                back = threading.Thread(target=pump, args=(far, near))
                back.start()
                pump(near, far)
                back.join()
            self.close_connection = True

    serve(Forward)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["assets"]:
            print(assets())
        case ["replay", scenario, log]:
            replay(scenario, log)
        case ["record", url, log]:
            record(url, log)
        case ["tls", url, log, directory]:
            tls(url, log, directory)
        case ["forward", log]:
            forward(log)
        case other:
            sys.exit(__doc__)
