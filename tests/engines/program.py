"""A small program for the supervisor to keep: it is ready at once, and tells its settings to who asks for `/settings`."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(dict(os.environ)).encode() if self.path == "/settings" else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if "broken" in sys.argv:
    sys.exit("this program cannot start")
host, _, port = os.environ["GROUNDSWELL_OPS_ADDRESS"].rpartition(":")
print("modules:", *sys.argv[1:], flush=True)
HTTPServer((host, int(port)), Answers).serve_forever()
