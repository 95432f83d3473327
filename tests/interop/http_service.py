"""Somebody's web server, on http.server: the settings of each call at /bots, and opening hours at /hours.

    python http_service.py SECRET

Prints `listening PORT`, then each request as one line of JSON. /hours answers only what is signed with the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INSTRUCTIONS = "You speak with Alice."
HOURS = "From nine to five."


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secret = b""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(json.dumps({"path": self.path, "headers": dict(self.headers), "body": json.loads(body)}), flush=True)
        if self.path == "/bots":
            self.answer(200, json.dumps({"flavor": "openai", "openai": {"instructions": INSTRUCTIONS}}))
        elif self.is_signed(body):
            self.answer(200, HOURS)
        else:
            self.answer(401, "The signature is wrong.")

    def is_signed(self, body: bytes) -> bool:
        signed = self.headers["X-Aivc-Timestamp"].encode() + b"." + body
        expected = hmac.new(self.secret, signed, hashlib.sha256).hexdigest()
        return hmac.compare_digest(self.headers["X-Aivc-Signature"], f"sha256={expected}")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def main(secret: str) -> None:
    Handler.secret = secret.encode()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print("listening", server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
