#!/usr/bin/env bash
# redis-py sends a command again when its reply is lost, also one that is not safe to repeat, and takes seconds to say
# that nobody is there. So a step of SharedLimit finds itself in the value it has written, and the retries are turned off.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check redis==8.1.0

echo "A server takes INCR and closes the connection before it replies; redis-py sends the same INCR again, unasked."
"$folder/venv/bin/python" - <<'END'
import socket
import sys
import threading
import time

import redis

seen = []


def serve(server):
    while True:
        connection, _ = server.accept()
        while data := connection.recv(4096):
            seen.extend(["INCR"] * data.count(b"INCR"))
            if b"INCR" in data:
                if len(seen) == 1:
                    break  # it has counted, and says nothing
                connection.sendall(b":2\r\n")
            else:
                connection.sendall(b"+OK\r\n" * data.count(b"*"))
        connection.close()


print("redis-py", redis.__version__)
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(server,), daemon=True).start()
client = redis.Redis(port=server.getsockname()[1], protocol=2)
print("INCR once returns", client.incr("number"), "and the server was sent", seen)

closed = socket.create_server(("127.0.0.1", 0))
port = closed.getsockname()[1]
closed.close()
began = time.monotonic()
try:
    redis.Redis(port=port).ping()
except redis.ConnectionError:
    seconds = time.monotonic() - began
    print(f"nobody listens: it says so after {seconds:.1f} s")
sys.exit(not (seen == ["INCR", "INCR"] and seconds > 1))
END
