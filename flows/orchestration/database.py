"""New databases for Prefect's server, copied from one that was made before.

Prefect makes a new database by replaying every migration that it ever had, which is most of what a first start takes.
The result is the same each time, so it is kept in the user's cache, one for each version of Prefect.
"""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

DATABASE_NAME = "prefect.db"


def prepare_database() -> None:
    """Make the database of a Prefect home where there is none yet; one that is not a file there is left to Prefect.

    Call it in the server's process, before the server starts. Prefect looks at the database then, as ever, and makes or
    migrates what is missing.
    """
    import prefect
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    database = settings.home / DATABASE_NAME
    url = settings.server.database.connection_url
    if url is not None and url.get_secret_value() == f"sqlite+aiosqlite:///{database}":
        make_database(database, platformdirs.user_cache_path("weightspace") / f"prefect-{prefect.__version__}.db")


def make_database(database: Path, kept: Path) -> None:
    """Make a database unless it is there: a copy of the one that is kept, or a new one, which is kept then."""
    if database.exists():
        return
    # Where there is no place to write, the server says so, or does without what would be kept.
    with contextlib.suppress(OSError, sqlite3.Error):
        if is_whole(kept):
            copy_database(kept, database)
        else:
            migrate_database()
            keep_database(database, kept)


def is_whole(database: Path) -> bool:
    """Say whether a file is an undamaged database that was migrated."""
    if not database.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (checked,) = connection.execute("PRAGMA quick_check").fetchone()
            return checked == "ok" and bool(connection.execute("SELECT version_num FROM alembic_version").fetchone())
    except sqlite3.Error:
        return False


def copy_database(kept: Path, database: Path) -> None:
    """Copy a kept database to where there is none; one that another server made there meanwhile stays."""
    with unfinished(database) as part:
        shutil.copyfile(kept, part)
        with contextlib.suppress(FileExistsError):
            os.link(part, database)


def migrate_database() -> None:
    """Have Prefect make its database, as its server does."""
    from prefect.server.database import provide_database_interface

    async def migrate() -> None:
        database = provide_database_interface()
        await database.create_db()
        await (await database.engine()).dispose()

    asyncio.run(migrate())


def keep_database(database: Path, kept: Path) -> None:
    """Keep a copy of a new database for other homes."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(kept) as part:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        part.replace(kept)


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Give an empty file beside a target, which is gone when the block ends."""
    handle, name = tempfile.mkstemp(prefix=f"{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
