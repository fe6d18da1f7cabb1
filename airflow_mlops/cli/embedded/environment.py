# SPDX-License-Identifier: Apache-2.0
"""
The configuration of an embedded Airflow: a file in the run's folder, and an environment without the caller's own
Airflow in it.

Must run before Airflow is imported, which reads its configuration at import and writes one of its own where there is
none.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from configparser import RawConfigParser
from typing import TYPE_CHECKING

from airflow_mlops.cli.embedded.home import home, instance, store_url
from airflow_mlops.cli.embedded.model import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_KEPT = re.compile(r"AIRFLOW__(MLOPS|SECRETS)__")
_FOREIGN = re.compile(r"_?AIRFLOW__|_AIRFLOW_|AIRFLOW_CONFIG$")

_NEVER = str(24 * 60 * 60)


def settings(run_dir: Path, jobs: int) -> dict[str, dict[str, str]]:
    """
    What an embedded Airflow is told, by section and option.

    :param run_dir: folder of the run, the home of its Airflow
    :param jobs: how many tasks run at a time
    """
    return {
        "core": {
            "executor": "airflow_mlops.cli.embedded.executor.RunExecutor",
            "dags_folder": str(run_dir / "dags"),
            "plugins_folder": str(run_dir / "plugins"),
            "load_examples": "False",
            "dags_are_paused_at_creation": "False",
            "parallelism": str(jobs),
            "max_active_tasks_per_dag": str(jobs),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "unit_test_mode": "False",
            # whoever runs a pipeline of their own may answer what it asks others in production
            "simple_auth_manager_all_admins": "True",
            # the default asks the network for a name, for seconds where there is none
            "hostname_callable": "socket.gethostname",
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{run_dir / 'airflow.db'}?timeout=60"},
        "logging": {"base_log_folder": str(run_dir / "logs")},
        "scheduler": {
            "use_job_schedule": "False",  # else a DAG with a schedule starts runs of its own
            "schedule_after_task_execution": "False",  # else supervisors schedule too, without row locks
            "scheduler_idle_sleep_time": "0",  # the executor waits, for something to happen
            # The executor sees a dead supervisor at once; silence alone proves nothing: a laptop may have slept.
            "task_instance_heartbeat_timeout": _NEVER,
        },
        "workers": {"min_heartbeat_interval": "1"},  # a supervisor may linger so long after its task
        "api_auth": {"jwt_secret": secrets.token_hex(32)},
        "usage_data_collection": {"enabled": "False"},
        "mlops": {"instance": instance(), "store": store_url()},
    }


def default_jobs() -> int:
    """
    How many tasks run at a time unless the caller knows better: steps wait for containers and disks more than they
    compute.
    """
    return max(4, os.cpu_count() or 1)


def prepare(run_dir: Path, jobs: int | None, environment: Mapping[str, str]) -> None:
    """
    Make this process one whose ``import airflow`` finds the embedded Airflow of a run.

    Of the caller's own Airflow only connections, variables, secrets backends and ``[mlops]`` are left: a stray
    executor, log handler or statsd host of a production configuration must neither break a local run nor hear of it.

    :param environment: set last, so that it wins
    :raises EmbeddedError: if Airflow was imported before
    """
    if "airflow.configuration" in sys.modules:
        raise EmbeddedError("Airflow is imported already, with another configuration; run one pipeline a process")
    _write_configuration(run_dir / "airflow.cfg", settings(run_dir, jobs or default_jobs()))
    for name in [name for name in os.environ if _FOREIGN.match(name) and not _KEPT.match(name)]:
        del os.environ[name]
    os.environ["AIRFLOW_HOME"] = str(run_dir)
    os.environ.update(environment)
    _keep_bytecode()


def _write_configuration(file: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    parser = RawConfigParser()
    parser.read_dict(
        {name: {key: value.replace("%", "%%") for key, value in options.items()} for name, options in sections.items()}
    )
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        parser.write(stream)


def _keep_bytecode() -> None:
    """
    Where Python is told to leave no bytecode beside its sources, keep it in our home: compiling Airflow anew doubles
    the start.
    """
    if sys.dont_write_bytecode and sys.pycache_prefix is None:
        sys.pycache_prefix = str(home() / "bytecode")
        sys.dont_write_bytecode = False
