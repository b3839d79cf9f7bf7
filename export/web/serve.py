"""Serves a built page with the headers that let a browser use threads; any other static server does, with one thread.

python -m export.web.serve --site_dir=site
"""

import functools
import http.server
import os
import re
import socket
import sys
import threading

from absl import flags

from simgan_tf.system import commands

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
REQUEST_SECONDS = 10  # that a request may take to arrive
SEND_SECONDS = 30  # that a browser may take before it accepts more of an answer
CONNECTIONS = 64  # at a time
NGINX, HOSTED = "nginx.conf", "_headers"  # what `write_headers` writes


def headers() -> dict[str, str]:
    """What every answer says beside its content: isolation for threads, and what a browser may do with the page.

    The policy is that of the page's own <meta>, and that no other page may show it in a frame, which a header alone
    can say.
    """
    with open(os.path.join(PAGE, "index.html"), encoding="utf-8") as file:
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', file.read())[1]
    return {
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Content-Security-Policy": " ".join(policy.split()) + "; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }


def write_headers(site_dir: str) -> None:
    """Writes the headers for real servers: a snippet for nginx, and a _headers file for hosts of static pages."""
    own = headers().items()
    with open(os.path.join(site_dir, NGINX), "w", encoding="utf-8") as file:
        file.write("# inside the server or location block of the page\n")
        file.writelines(f'add_header {name} "{value}" always;\n' for name, value in own)
        file.write("client_max_body_size 1k;\ndisable_symlinks on;\n")
    with open(os.path.join(site_dir, HOSTED), "w", encoding="utf-8") as file:
        file.write("/*\n")
        file.writelines(f"  {name}: {value}\n" for name, value in own)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder: GET and HEAD, no listings, no hidden files, no links out of it."""

    timeout = SEND_SECONDS  # of each time that the connection is waited for
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",  # whatever the system's own table says: browsers refuse modules of another type
        ".json": "application/json",
        ".tflite": "application/octet-stream",
    }

    def handle(self) -> None:
        self._arrival = threading.Timer(REQUEST_SECONDS, self._hang_up)
        self._arrival.daemon = True
        self._arrival.start()
        try:
            super().handle()
        finally:
            self._arrival.cancel()

    def _hang_up(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has gone by itself
            pass

    def end_headers(self) -> None:
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")  # asked again each time, so that a new build is seen
        super().end_headers()

    def send_head(self):
        self._arrival.cancel()
        site = os.path.realpath(self.directory)
        try:
            path = os.path.realpath(self.translate_path(self.path))
            inside, name = os.path.commonpath([site, path]) == site, os.path.relpath(path, site)
            hidden = any(part.startswith(".") for part in name.split(os.sep)) and name != "."
            page = path == site and self.path.partition("?")[0] == "/"  # else it would be sent elsewhere
            if inside and not hidden and (page or os.path.isfile(path)):  # and no pipe, which has no end
                return super().send_head()
        except (ValueError, OSError):  # a name that no file can have, such as one with %00
            pass
        self.send_error(404, "File not found")
        return None

    def list_directory(self, path: str) -> None:
        self.send_error(404, "File not found")

    def log_message(self, *arguments: object) -> None:
        """Nothing: what matters stands in the browser."""


class Server(http.server.ThreadingHTTPServer):
    """A thread a connection, CONNECTIONS of them; more are told to come again."""

    def __init__(self, address: tuple[str, int], handler: type) -> None:
        self.headers, self._free = headers(), threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: socket.socket, client_address: tuple) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.settimeout(1)
        try:
            request.sendall(b"HTTP/1.0 503 Too many connections\r\nRetry-After: 5\r\n\r\n")
        except OSError:  # it has gone
            pass
        self.shutdown_request(request)

    def process_request_thread(self, request: socket.socket, client_address: tuple) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a visitor who leaves is no error
            super().handle_error(request, client_address)


def server(site_dir: str, host: str, port: int) -> Server:
    """A server of a built page, bound and not yet running; port 0 takes a free one.

    Raises: ValueError where site_dir holds no page; OSError where the port is taken.
    """
    if not os.path.isfile(os.path.join(site_dir, "site.json")):
        raise ValueError(f"site_dir={site_dir!r} holds no page; build one: python -m export.web --run_dir=RUN "
                         f"--out_dir={site_dir}")  # fmt: skip
    try:
        return Server((host, port), functools.partial(Handler, directory=site_dir))
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port or --host.") from error


def define_flags() -> None:
    flags.DEFINE_string("site_dir", None, "Folder that python -m export.web wrote.", required=True)
    flags.DEFINE_integer("port", 8000, "Port to listen on; 0 = a free one.", lower_bound=0, upper_bound=65535)
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets other devices in (with one thread: "
                                             "browsers give more to https and to this machine alone).")  # fmt: skip


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    with server(values.site_dir, values.host, values.port) as running:
        print(f"http://{values.host}:{running.server_port}/ until Ctrl-C", flush=True)
        running.serve_forever()


if __name__ == "__main__":
    commands.run(main, define_flags)
