import gzip
import hashlib
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from weightspace.config import BadInput
from weightspace.images.download import download_set
from weightspace.images.published import PUBLISHED, KnownFile, KnownSet

CONTENT = b"what is published" * 5000
OTHER = b"something else" * 5000


@pytest.fixture
def server(monkeypatch):
    """Serve `pages`, address to (content, length to announce), on loopback; `asked` lists what was asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pages, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path not in pages:
                self.send_error(404)
                return
            content, length = pages[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.pages, server.asked = pages, asked
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def serve(server, path, content, length=None):
    server.pages[path] = (content, len(content) if length is None else length)


def know(server, *mirrors, of_content=False):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return KnownSet(
        tuple(f"{server.address}/{mirror}/" for mirror in mirrors), (KnownFile("file.gz", digest, of_content),)
    )


def test_a_file_is_kept_under_its_name(server, tmp_path):
    serve(server, "/a/file.gz", CONTENT)
    paths = download_set(know(server, "a"), tmp_path / "cache", ())
    assert paths["file.gz"].read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["file.gz"]


def test_what_is_there_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "file.gz").write_bytes(CONTENT)
    download_set(know(server, "a"), tmp_path, ())
    assert server.asked == []


@pytest.mark.parametrize("level", [1, 9])
def test_any_compression_of_the_published_content_will_do(server, tmp_path, level):
    serve(server, "/a/file.gz", gzip.compress(CONTENT, level))
    download_set(know(server, "a", of_content=True), tmp_path, ())
    assert gzip.decompress((tmp_path / "file.gz").read_bytes()) == CONTENT


def test_a_file_put_there_decompressed_is_taken(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert download_set(know(server, "a", of_content=True), tmp_path, ()) == {"file.gz": tmp_path / "file"}


def test_the_next_mirror_is_tried(server, tmp_path):
    serve(server, "/b/file.gz", OTHER)
    serve(server, "/c/file.gz", CONTENT)
    download_set(know(server, "a", "b", "c"), tmp_path, ())
    assert server.asked == ["/a/file.gz", "/b/file.gz", "/c/file.gz"]


def test_own_mirrors_come_first(server, tmp_path):
    serve(server, "/own/file.gz", CONTENT)
    download_set(know(server, "a"), tmp_path, (f"{server.address}/own",))
    assert server.asked == ["/own/file.gz"]


def test_another_content_is_refused(server, tmp_path):
    serve(server, "/a/file.gz", OTHER)
    digests = [hashlib.sha256(content).hexdigest() for content in (OTHER, CONTENT)]
    with pytest.raises(BadInput, match=f"sha256 is {digests[0]}, wanted {digests[1]}"):
        download_set(know(server, "a"), tmp_path, ())
    assert list(tmp_path.iterdir()) == []


def test_a_body_cut_off_is_refused(server, tmp_path):
    serve(server, "/a/file.gz", CONTENT[:1000], length=len(CONTENT))
    with pytest.raises(BadInput, match=r"file.gz: could not be downloaded"):
        download_set(know(server, "a"), tmp_path, ())
    assert list(tmp_path.iterdir()) == []


def test_the_failure_names_the_file_and_every_address(server, tmp_path):
    with pytest.raises(BadInput) as caught:
        download_set(know(server, "a", "b"), tmp_path, ("nonsense",))
    message = str(caught.value)
    assert f"{tmp_path / 'file.gz'}: could not be downloaded; put the published file there by hand" in message
    assert all(address in message for address in ("nonsense", f"{server.address}/a/", f"{server.address}/b/"))
    assert "\n" not in message


def test_an_unreachable_machine_is_told(tmp_path, server):
    known = know(server, "a")
    server.shutdown()
    server.server_close()
    with pytest.raises(BadInput, match=r"URLError: .*refused"):
        download_set(known, tmp_path, ())


def test_a_file_that_was_altered_is_downloaded_again(server, tmp_path, caplog):
    (tmp_path / "file.gz").write_bytes(OTHER)
    serve(server, "/a/file.gz", CONTENT)
    with caplog.at_level(logging.WARNING):
        download_set(know(server, "a"), tmp_path, ())
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert "downloading it again" in caplog.text


def test_every_published_file_has_a_whole_digest():
    files = [file for known in PUBLISHED.values() for file in known.files]
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in files)
    assert len({file.sha256 for file in files}) == len(files) == 21
