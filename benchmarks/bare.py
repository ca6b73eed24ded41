"""Bare counterparts to compare with: an empty FastAPI route, a paho echo, a paho subscriber.

Run as ``python -m benchmarks.bare http|echo|subscriber PORT`` in a process of its own.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as paho
import uvicorn
from fastapi import FastAPI
from paho.mqtt.enums import CallbackAPIVersion

ECHO_IN = "bench/echo/in"
ECHO_OUT = "bench/echo/out"
QUICKACK = getattr(socket, "TCP_QUICKACK", None)


def client(port: int, name: str) -> paho.Client:
    """A paho client without Nagle's delay, and without delayed acknowledgements either."""
    made = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)

    def opened(_client: paho.Client, _userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    made.on_socket_open = opened
    made.max_inflight_messages_set(1000)
    made.connect("127.0.0.1", port)
    return made


def acknowledge_quickly(made: paho.Client) -> None:
    sock: Any = made.socket()
    if QUICKACK is not None and sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)


@contextmanager
def running(kind: str, port: int) -> Iterator["subprocess.Popen[str]"]:
    """One of the bare counterparts, up and running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare", kind, str(port)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.terminate()
        process.wait()


def _http(port: int) -> None:
    app = FastAPI()

    @app.post("/empty")
    async def empty() -> dict[str, str]:
        return {}

    listener = socket.create_server(("127.0.0.1", port))
    print("ready", flush=True)
    config = uvicorn.Config(app, http="httptools", access_log=False, log_config=None)
    uvicorn.Server(config).run(sockets=[listener])


def _echo(port: int) -> None:
    made = client(port, "bench-echo")

    def arrived(_client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        acknowledge_quickly(made)
        made.publish(ECHO_OUT, message.payload, qos=1)

    made.on_message = arrived
    made.on_publish = lambda *_: acknowledge_quickly(made)
    made.on_subscribe = lambda *_: print("ready", flush=True)
    made.subscribe(ECHO_IN, qos=1)
    made.loop_forever()


def _subscriber(port: int) -> None:
    """Counts messages on the meter topics; a line on stdin asks for the count."""
    made = client(port, "bench-subscriber")
    count = 0

    def arrived(_client: paho.Client, _userdata: Any, _message: paho.MQTTMessage) -> None:
        nonlocal count
        count += 1

    made.on_message = arrived
    made.on_subscribe = lambda *_: print("ready", flush=True)
    made.subscribe("flexfeeder/+/meter/#", qos=0)
    thread = threading.Thread(target=made.loop_forever, daemon=True)
    thread.start()
    for _ in sys.stdin:
        print(count, time.monotonic(), flush=True)


if __name__ == "__main__":
    {"http": _http, "echo": _echo, "subscriber": _subscriber}[sys.argv[1]](int(sys.argv[2]))
