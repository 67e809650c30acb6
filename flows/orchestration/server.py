"""Run a Prefect server of our own for as long as a pipeline runs."""

import atexit
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from flows.orchestration.nesting import API_URL
from flows.orchestration.processes import die_with_parent

HOST = "127.0.0.1"
LOG_NAME = "server.log"
START_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0


def find_free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def start_server() -> "LocalServer | None":
    """Start a server and point Prefect at it; None where the user has one (`PREFECT_API_URL`).

    It starts in the background: call `wait` before it is needed. It ends with this process, and not before Prefect has
    sent it the last logs, which happens as this process exits.
    """
    if API_URL in os.environ:
        return None
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    port = find_free_port()
    with (home / LOG_NAME).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.orchestration.server", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = LocalServer(process, f"http://{HOST}:{port}/api", home / LOG_NAME)
    os.environ[API_URL] = server.url
    atexit.register(server.stop)
    return server


class LocalServer:
    """A server process that may still be starting."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

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
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prefect's local server did not start within {START_LIMIT_S:.0f} s; see {self.log}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Say whether the server answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False


def serve(port: int) -> None:
    """Serve until told to end, or until the process that started this one is gone."""
    die_with_parent()
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(ephemeral=True, final=True), host=HOST, port=port, log_level="error")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
