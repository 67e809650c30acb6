"""Run a Prefect server of our own for as long as this process runs: a bare one for a pipeline, or one that serves.

One that serves has Prefect's pages, starts what is scheduled, and notes where it is, so that pipelines that are run
by hand in the same checkout show up there too.
"""

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows import PARENT
from flows.orchestration.database import prepare_database
from flows.orchestration.nesting import API_URL
from flows.orchestration.processes import die_with_parent
from weightspace.config import BadInput

HOST = "127.0.0.1"
LOG_NAME = "server.log"
SERVING_NAME = "serving-at"
"""File with the address of the server that serves the deployments of a checkout, while it does."""
START_LIMIT_S = 300.0
"""Only to end one that hangs; on a busy machine a first start takes minutes."""
STOP_LIMIT_S = 10.0
PAGES = "pages"
ANYWHERE = {"0.0.0.0": HOST, "::": "[::1]", "::1": "[::1]"}
"""How to reach from here a server that listens at such an address."""


def find_free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def start_server() -> "LocalServer | None":
    """Start a bare server and point Prefect at it; None where there is one (`PREFECT_API_URL`, or that serves here).

    It starts in the background: call `wait` before it is needed. It ends with this process, and not before Prefect has
    sent it the last logs, which happens as this process exits.
    """
    if API_URL in os.environ:
        return None
    home = Path(os.environ["PREFECT_HOME"])
    serving = find_serving(home)
    if serving:
        os.environ[API_URL] = serving
        return None
    return LocalServer.start(home, HOST, find_free_port(), [])


def find_serving(home: Path) -> str | None:
    """Find the address of the server that serves from a Prefect home; None if there is none or it does not answer."""
    note = home / SERVING_NAME
    url = note.read_text().strip() if note.is_file() else ""
    return url if url and answers(url) else None


@contextlib.contextmanager
def run_serving_server(host: str, port: int) -> Iterator["LocalServer"]:
    """Run the server that serves the deployments of a checkout, with Prefect's pages.

    Raises:
        BadInput: the port is taken.
        RuntimeError: it did not start.
    """
    home = Path(os.environ["PREFECT_HOME"])
    check_port(host, port)
    server = LocalServer.start(home, host, port, [PAGES])
    server.wait()
    note = home / SERVING_NAME
    note.write_text(server.url + "\n")
    try:
        yield server
    finally:
        note.unlink(missing_ok=True)


def check_port(host: str, port: int) -> None:
    """Check that we may listen at an address.

    Raises:
        BadInput: we may not, or something else does.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise BadInput(f"--host {host} --port {port}: {error.strerror}, wanted an address to listen at") from error


def answers(url: str) -> bool:
    """Say whether a server answers at the address of its API."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


class LocalServer:
    """A server process that may still be starting."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

    @classmethod
    def start(cls, home: Path, host: str, port: int, options: Sequence[str]) -> "LocalServer":
        """Start a server, which ends with this process, and point Prefect at it."""
        home.mkdir(parents=True, exist_ok=True)
        with (home / LOG_NAME).open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.orchestration.server", host, str(port), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        # Who asks for every address is here too.
        server = cls(process, f"http://{ANYWHERE.get(host, host)}:{port}/api", home / LOG_NAME)
        os.environ[API_URL] = server.url
        atexit.register(server.stop)
        return server

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            RuntimeError: it ended, or took too long.
        """
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(self.url):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prefect's local server did not start within {START_LIMIT_S:.0f} s; see {self.log}")
            time.sleep(0.1)


def serve(host: str, port: int, pages: bool) -> None:
    """Serve until told to end, or until the process that started this one is gone."""
    die_with_parent(PARENT)
    if pages:
        os.environ.update({"PREFECT_SERVER_API_HOST": host, "PREFECT_SERVER_API_PORT": str(port)})
        # Prefect copies its pages to where it may write, and fills in where the API is.
        os.environ.setdefault("PREFECT_SERVER_UI_STATIC_DIRECTORY", str(Path(os.environ["PREFECT_HOME"]) / "ui"))
        os.environ.pop(API_URL, None)
    import uvicorn
    from prefect.server.api.server import create_app

    prepare_database()
    if not pages:
        return_slots()
    uvicorn.run(create_app(ephemeral=not pages, final=True), host=host, port=port, log_level="error")


def return_slots() -> None:
    """Have a bare server, too, take back the GPUs of a run that was killed; Prefect leaves it to larger ones."""
    from prefect.server.services.perpetual_services import perpetual_service
    from prefect.server.services.repossessor import monitor_expired_leases

    perpetual_service(enabled_getter=lambda: True, run_in_ephemeral=True)(monitor_expired_leases)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), PAGES in sys.argv[3:])
