"""Asks the service in this container how it is, for the engine that runs it.

``python -m services.health [PATH]``: ``/healthz`` at the port of the service's figures, or another
path at the gateway's own port. Exits with 0 or 1, and says why.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

PREFIX = "FLEXFEEDER_"
HTTP_PORT = "5000"
TIMEOUT_S = 2.5
# Settings are not read by way of pydantic: this runs every few seconds, and is to take little.


def main(arguments: list[str]) -> int:
    path = arguments[0] if arguments else "/healthz"
    setting = "METRICS_PORT" if path == "/healthz" else "HTTP_PORT"
    port = int(os.environ.get(PREFIX + setting, HTTP_PORT))
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        print(answer.status, answer.read(1000).decode(errors="replace"))
    except (OSError, HTTPException) as error:
        print(f"no answer: {error}")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
