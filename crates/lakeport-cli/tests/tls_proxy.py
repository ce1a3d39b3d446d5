"""A TLS-terminating proxy on loopback, as it stands before a cluster: HTTP/2 by ALPN, a certificate of an authority of its own.

    tls_proxy.py UPSTREAM_PORT DIR      writes DIR/ca.pem and DIR/other-ca.pem, prints its port, ends with its input
"""

import socket
import ssl
import sys
import threading
from pathlib import Path

import trustme


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(connection, context, upstream):
    try:
        client = context.wrap_socket(connection, server_side=True)
        if client.selected_alpn_protocol() != "h2":
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", upstream))
    except OSError:
        # A client that does not trust the authority hangs up here.
        connection.close()
        return
    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)


def main():
    upstream, directory = int(sys.argv[1]), Path(sys.argv[2])
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    other.cert_pem.write_to_path(directory / "other-ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, context, upstream), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
