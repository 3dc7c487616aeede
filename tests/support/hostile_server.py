"""Web server on loopback whose replies are arbitrary bytes, sent as slowly as a test wants."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeAlias

from tests.support.object_store import HOST

# Replies to a request on a socket, by method and path.
Responder: TypeAlias = Callable[[socket.socket, str, str], None]
MEGABYTE = bytes(1024**2)
# Memory of a client and its event loop besides the body.
SLACK = 8 * len(MEGABYTE)


@contextmanager
def serve_http(answer: Responder) -> Iterator[str]:
    """Serve HTTP on loopback, one reply per connection; yield the URL."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(65536)
            method, path, _ = asked.decode("latin-1").split(" ", 2)
            answer(connection, method, path)

    def listen() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(None)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def build_head(*headers: str, status: str = "200 OK") -> bytes:
    """Build the head of a reply that closes the connection."""
    lines = (f"HTTP/1.1 {status}", "Connection: close", *headers)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def send_reply(connection: socket.socket, body: bytes, *headers: str) -> None:
    """Send a complete reply."""
    connection.sendall(build_head(f"Content-Length: {len(body)}", *headers) + body)


def wait_for_close(connection: socket.socket) -> None:
    """Send nothing until the client closes the connection."""
    while connection.recv(65536):
        pass


@contextmanager
def limit_memory(most: int) -> Iterator[None]:
    """Assert that Python allocates at most about ``most`` bytes in the block."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most + SLACK
