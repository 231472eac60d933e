"""Run by `.ci/run` in an environment that has only the wheel: does what is shipped work?

Creates a store, and brings an empty database through every shipped migration.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from importlib.metadata import entry_points, files
from pathlib import Path

from alembic import command
from alembic.config import Config

import flowstore
from flowstore.store import migrate


def main() -> None:
    """Check the installation; an assertion names what is wrong with it."""
    package = Path(flowstore.__file__).parent
    scripts = migrate.find_scripts()
    assert scripts == package.resolve() / "_migrations", f"{scripts} is not in {package}"
    assert (package / "py.typed").is_file(), "py.typed is missing"
    shipped = [str(file) for file in files("flowstore-engine") or ()]
    assert not [name for name in shipped if name.startswith("tests")], "tests are shipped"
    (program,) = entry_points(group="console_scripts", name="flowstore")
    assert callable(program.load()), "the program cannot be loaded"
    with tempfile.TemporaryDirectory() as folder:
        created = Path(folder, "created.db")
        upgraded = Path(folder, "upgraded.db")
        create(created)
        upgrade(upgraded, scripts)
        for path in (created, upgraded):
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                migrate.prepare(connection, path)
                assert migrate.check(connection) == [], migrate.check(connection)
    print("the wheel works:", package)  # noqa: T201 - this is a program


def create(path: Path) -> None:
    """Create a store as a new one is created."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate.prepare(connection, path)


def upgrade(path: Path, scripts: Path) -> None:
    """Bring an empty database through every script."""
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    command.upgrade(config, "head")


main()
