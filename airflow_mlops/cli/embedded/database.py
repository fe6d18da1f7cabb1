# SPDX-License-Identifier: Apache-2.0
"""
The database of a run: a copy of a migrated template that is made once for each version of Airflow.

A database a run needs no lock between runs: two schedulers on one SQLite file execute each other's tasks. Making the
tables takes a second, a copy nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from airflow_mlops.cli.embedded.home import home


def make_database(run_dir: Path) -> bool:
    """
    Put a migrated database into a run's folder; Airflow is imported, and no connection was made yet.

    :return: whether a template was there to copy
    """
    database = run_dir / "airflow.db"
    template = _template()
    if template.exists():
        shutil.copyfile(template, database)
        database.chmod(0o600)
        return True
    from airflow import settings
    from airflow.utils.db import initdb

    initdb()  # from the ORM's metadata, not one migration after the other
    if settings.engine is not None:
        settings.engine.dispose()
    _keep_as_template(database, template)
    return False


def _keep_as_template(database: Path, template: Path) -> None:
    """Two first runs at once both make it; the second replaces the first by its like."""
    temporary = template.with_name(f".{template.name}.{os.getpid()}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(temporary)) as target:
        source.backup(target)
    temporary.replace(template)


def _template() -> Path:
    """
    Named by all that decides what is in it: Airflow's version, and its migrations, which change under one version in
    a development checkout.

    Providers do not: their tables come with database managers and auth managers, and an embedded Airflow configures
    none.
    """
    import airflow

    migrations = Path(airflow.__file__).parent / "migrations" / "versions"
    names = "\n".join(sorted(file.name for file in migrations.glob("*.py")))
    digest = hashlib.sha256(names.encode()).hexdigest()[:8]
    folder = home() / "templates"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"airflow-{airflow.__version__}-{digest}.db"
