"""New databases of Prefect's server are copies of one that was made before."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows.orchestration import database as databases
from flows.orchestration.database import make_database

CHECKOUT = Path(__file__).parents[2]
PREPARE = "from flows.orchestration.database import prepare_database as prepare; prepare()"
MIGRATE = "from flows.orchestration.database import migrate_database as migrate; migrate()"


def run(code, home, **variables):
    home.mkdir(exist_ok=True)
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment = {**others, "PREFECT_HOME": str(home), "PYTHONPATH": str(CHECKOUT), **variables}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def read(database, query):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def read_tables(database):
    return read(database, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")


def write(database, *values):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(value,) for value in values])


def read_version(database):
    return read(database, "SELECT version_num FROM alembic_version")


@pytest.fixture
def migrated(monkeypatch, tmp_path):
    """Have databases made at once, in place of Prefect's migrations; gives the list of those that were."""
    made = []

    def migrate():
        made.append(tmp_path / "home/prefect.db")
        write(made[-1], "new")

    monkeypatch.setattr(databases, "migrate_database", migrate)
    (tmp_path / "home").mkdir()
    return made


def test_copied_database_is_what_prefect_makes_and_leaves_as_it_is(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for home in (first, second):
        run(PREPARE, home, XDG_CACHE_HOME=str(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache/weightspace").iterdir()
    database = second / "prefect.db"
    assert database.read_bytes() == kept.read_bytes()
    assert [file.name for file in second.iterdir()] == ["prefect.db"]
    assert read_tables(database) == read_tables(first / "prefect.db")
    assert read_version(database) == read_version(first / "prefect.db") != []
    tables = read_tables(database)
    run(MIGRATE, second)
    assert read_tables(database) == tables


@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///{}/other.db", "sqlite+aiosqlite:///:memory:"])
def test_database_elsewhere_is_left_to_prefect(tmp_path, url):
    url = url.format(tmp_path)
    run(PREPARE, tmp_path / "home", XDG_CACHE_HOME=str(tmp_path), PREFECT_SERVER_DATABASE_CONNECTION_URL=url)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert not (tmp_path / "home/prefect.db").exists()


def test_first_database_is_kept_and_the_next_one_copied(tmp_path, migrated):
    kept = tmp_path / "cache/new/kept.db"
    for _ in range(2):
        make_database(tmp_path / "home/prefect.db", kept)
        assert read_version(tmp_path / "home/prefect.db") == read_version(kept) == [("new",)]
        (tmp_path / "home/prefect.db").unlink()
    assert len(migrated) == 1
    assert [path.name for path in kept.parent.iterdir()] == ["kept.db"]


def test_database_that_is_there_stays(tmp_path, migrated):
    write(tmp_path / "home/prefect.db", "mine")
    write(tmp_path / "kept.db", "kept")
    make_database(tmp_path / "home/prefect.db", tmp_path / "kept.db")
    assert read_version(tmp_path / "home/prefect.db") == [("mine",)]


def test_database_that_another_server_made_meanwhile_stays(tmp_path, migrated, monkeypatch):
    write(tmp_path / "kept.db", "kept")
    monkeypatch.setattr(databases.shutil, "copyfile", lambda *_: write(tmp_path / "home/prefect.db", "other"))
    make_database(tmp_path / "home/prefect.db", tmp_path / "kept.db")
    assert read_version(tmp_path / "home/prefect.db") == [("other",)]
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["prefect.db"]


@pytest.mark.parametrize("content", [b"", b"not a database", "cut", "not migrated"])
def test_damaged_kept_database_is_made_anew(tmp_path, migrated, content):
    kept = tmp_path / "kept.db"
    if isinstance(content, bytes):
        kept.write_bytes(content)
    elif content == "cut":
        write(kept, *("kept" * 1000 for _ in range(10)))
        os.truncate(kept, kept.stat().st_size // 2)
    else:
        write(kept)
    make_database(tmp_path / "home/prefect.db", kept)
    assert len(migrated) == 1
    assert read_version(tmp_path / "home/prefect.db") == read_version(kept) == [("new",)]


def test_without_a_place_to_keep_it_the_database_is_made(tmp_path, migrated):
    (tmp_path / "file").write_text("")
    make_database(tmp_path / "home/prefect.db", tmp_path / "file/kept.db")
    assert read_version(tmp_path / "home/prefect.db") == [("new",)]
