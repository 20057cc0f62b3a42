"""The health check of a container: is this container's process ready?

    python health.py [PATH]        # /readyz if none is named

Asks the port of ALIGNX_SERVER__PORT on this machine and exits 1 unless the answer is 200. It lives by
the standard library alone and imports little of it, because it runs every few seconds.
"""

import os
import socket
import sys

TIMEOUT_S = 4.0


def status(port: int, path: str) -> int:
    """The status code of `GET path`. Raises OSError, and ValueError for what is no HTTP."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        line = connection.makefile("rb").readline()
    protocol, _, rest = line.partition(b" ")
    if not protocol.startswith(b"HTTP/"):
        raise ValueError(f"no HTTP: {line[:40]!r}")
    return int(rest[:3])


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "/readyz"
    try:
        code = status(int(os.environ["ALIGNX_SERVER__PORT"]), path)
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    sys.exit(0 if code == 200 else f"{path} answers {code}")


if __name__ == "__main__":
    main()
