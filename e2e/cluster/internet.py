"""The internet of the tests: an HTTP server on 80, echo servers on TCP 7 and UDP 7.

Runs in a network namespace of its own, on every address that namespace has. HTTP
answers any request with what it saw, so that a test can tell who was asked and how.
"""

import http.server
import json
import socketserver
import threading


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class EchoDatagram(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        socket.sendto(data, self.client_address)


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def answer(self):
        length = min(int(self.headers.get("Content-Length") or 0), 1 << 20)
        body = self.rfile.read(length)
        seen = {
            "method": self.command,
            "path": self.path,
            "host": self.headers.get("Host"),
            "address": self.connection.getsockname()[0],
            "peer": self.client_address[0],
            "body": body.decode(errors="replace"),
        }
        answer = json.dumps(seen).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024  # more at once than five, which is the default, are dropped in silence


servers = [Tcp(("", 80), Http), Tcp(("", 7), Echo), socketserver.UDPServer(("", 7), EchoDatagram)]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
