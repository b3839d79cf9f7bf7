"""Serves a built page with the headers that let a browser use threads; any other static server does, with one thread.

python -m export.web.serve --site_dir=site
"""

import functools
import http.server
import os

from absl import flags

from simgan_tf.system import commands


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder: GET and HEAD, no listings."""

    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",  # whatever the system's own table says: browsers refuse modules of another type
        ".json": "application/json",
        ".tflite": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # asked again each time, so that a new build is seen
        super().end_headers()

    def send_head(self):
        try:
            return super().send_head()
        except ValueError:  # a name that no file can have, such as one with %00
            self.send_error(404, "File not found")
            return None

    def list_directory(self, path: str) -> None:
        self.send_error(404, "File not found")

    def log_message(self, *arguments: object) -> None:
        """Nothing: what matters stands in the browser."""


def server(site_dir: str, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """A server of a built page, bound and not yet running; port 0 takes a free one.

    Raises: ValueError where site_dir holds no page; OSError where the port is taken.
    """
    if not os.path.isfile(os.path.join(site_dir, "site.json")):
        raise ValueError(f"site_dir={site_dir!r} holds no page; build one: python -m export.web --run_dir=RUN "
                         f"--out_dir={site_dir}")  # fmt: skip
    try:
        return http.server.ThreadingHTTPServer((host, port), functools.partial(Handler, directory=site_dir))
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
