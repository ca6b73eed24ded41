"""Asks the service in this container how it is, for the engine that runs it.

``python -m services.health [PATH]``: ``/healthz`` at the port of the service's figures, or another
path at the gateway's own port. Exits with 0 or 1, and says why.
"""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

PREFIX = "FLEXFEEDER_"
HTTP_PORT = "5000"
TIMEOUT_S = 2.5
# Settings are not read by way of pydantic: this runs every few seconds, and is to take little.


def main(arguments: list[str]) -> int:
    path = arguments[0] if arguments else "/healthz"
    connection = _own_port() if path == "/healthz" else _gateway()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        print(answer.status, answer.read(1000).decode(errors="replace"))
    except (OSError, HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    return 0 if answer.status == 200 else 1


def _own_port() -> HTTPConnection:
    port = int(os.environ[f"{PREFIX}METRICS_PORT"])
    return HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)


def _gateway() -> HTTPConnection:
    port = int(os.environ.get(f"{PREFIX}HTTP_PORT", HTTP_PORT))
    if not os.environ.get(f"{PREFIX}HTTP_CERT"):
        return HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    context = ssl.create_default_context()
    # It asks itself, on loopback; its certificate may be for other names.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_S, context=context)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
