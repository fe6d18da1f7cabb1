# SPDX-License-Identifier: Apache-2.0
"""An Airflow home of the experiment's own, and what a user, a DAG author and an API can do to the runs in it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
RUN = "run-1"


def prepare(home: Path) -> None:
    """Set the environment that Airflow reads when it is imported."""
    dags = home / "dags"
    dags.mkdir(parents=True)
    shutil.copy(HERE / "probe.py", dags / "probe.py")
    os.environ.update(
        STATE_MODEL_HOME=str(home),
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(dags),
        AIRFLOW__CORE__EXECUTOR="fork_executor.ForkExecutor",
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__UNIT_TEST_MODE="False",
        AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
        AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL="0",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db?timeout=60",
        AIRFLOW__API_AUTH__JWT_SECRET=secrets.token_hex(),
        AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME="0",
        AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE="False",
        AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION="False",
        AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK="False",
        AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="1",
        AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC="1",
    )
    sys.path[:0] = [str(HERE), str(dags)]


def until(what: str, condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Await a condition and return its value; TimeoutError names what never came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {seconds} s")


class Airflow:
    """What a user and a DAG author can do to a run. One DAG a scenario; its task is called ``step``."""

    def __init__(self, home: Path) -> None:
        self.home = home

    # --- the DAG's author

    def write(self, dag_id: str, retries: int, body: str = "", *, store: bool = True) -> None:
        """(Re)write a DAG file and, as the DAG processor does some time later, store its serialised form."""
        body = body or f"Probe(task_id='step', retries={retries})"
        text = (
            "from datetime import timedelta\nfrom airflow.sdk import DAG\nfrom probe import Probe\n"
            f"with DAG('{dag_id}', schedule=None, default_args={{'retry_delay': timedelta(0)}}) as dag:\n    {body}\n"
        )
        path = self.home / "dags" / f"{dag_id}.py"
        path.write_text(text)
        if not store:
            return
        try:
            from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

            bag = BundleDagBag(dag_folder=path, bundle_path=path.parent, bundle_name="dags-folder")
        except ImportError:  # 3.1
            from airflow.models.dagbag import BundleDagBag, sync_bag_to_db  # type: ignore[no-redef]

            bag = BundleDagBag(dag_folder=path, bundle_path=path.parent)
        if bag.import_errors:
            raise RuntimeError(bag.import_errors)
        sync_bag_to_db(bag, "dags-folder", None)

    def noticed(self, dag_id: str) -> None:
        """Wait until the scheduler has moved the task instances to the DAG's newest version; see ``settled``."""
        from airflow.models.dag_version import DagVersion
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        def moved() -> bool:
            with create_session() as session:
                newest = DagVersion.get_latest_version(dag_id, session=session)
                instances = session.query(TaskInstance).filter_by(dag_id=dag_id)
                return newest is not None and {t.dag_version_id for t in instances} == {newest.id}

        until(f"new version of {dag_id}", moved)

    def order(self, dag_id: str, *orders: str, task: str = "step", **others: list[str]) -> None:
        """What the invocations of each task do, one after the other; after the last one they succeed."""
        (self.home / f"orders-{dag_id}.json").write_text(json.dumps({task: list(orders), **others}))

    def go(self, dag_id: str) -> None:
        """Let a task that waits go on."""
        (self.home / f"go-{dag_id}").touch()

    # --- the network between a supervisor and the execution API

    def hold(self, dag_id: str, request: str) -> None:
        """Keep back the requests of the DAG's supervisors whose path ends so."""
        (self.home / f"held-{dag_id}").unlink(missing_ok=True)
        (self.home / f"hold-{dag_id}").write_text(request)

    def held(self, dag_id: str) -> int:
        """Wait until a request is kept back; its supervisor, whose pid is returned, waits with it and holds no lock on the database."""
        path = self.home / f"held-{dag_id}"
        return int(until(f"held request of {dag_id}", lambda: path.exists() and path.read_text()))

    def release(self, dag_id: str) -> None:
        """Let the requests pass."""
        (self.home / f"hold-{dag_id}").unlink()

    # --- the user

    def trigger(self, dag_id: str, run_id: str = RUN) -> None:
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunTriggeredByType

        with create_session() as session:
            session.get_one(DagModel, dag_id).is_paused = False
        trigger_dag(dag_id, run_id=run_id, triggered_by=DagRunTriggeredByType.TEST)

    def clear(
        self, dag_id: str, *, latest: bool = False, tasks: list[str] | None = None, running: bool = False
    ) -> None:
        """As ``POST /dags/{dag}/clearTaskInstances`` does for one run."""
        from airflow.models.dagbag import DBDagBag
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import clear_task_instances
        from airflow.utils.session import create_session

        if not running:
            self.settled(dag_id, tasks)
        with create_session() as session:
            run = session.query(DagRun).filter_by(dag_id=dag_id, run_id=RUN).one()
            dag: Any = DBDagBag().get_dag_for_run(dag_run=run, session=session)
            instances = dag.clear(
                dry_run=True, run_id=RUN, task_ids=tasks, session=session, run_on_latest_version=latest
            )
            clear_task_instances(list(instances), session, run_on_latest_version=latest)

    def mark_failed(self, dag_id: str) -> None:
        """As the UI's button does for a running task: its state is set, and its supervisor hears of it with its next heartbeat."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            session.query(TaskInstance).filter_by(dag_id=dag_id).one().state = "failed"

    def delete(self, dag_id: str) -> None:
        """As ``DELETE /dags/{dag}/dagRuns/{run}`` does."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session

        self.settled(dag_id)
        with create_session() as session:
            session.delete(session.query(DagRun).filter_by(dag_id=dag_id, run_id=RUN).one())

    # --- what can be seen

    def tries(self, dag_id: str) -> list[dict[str, Any]]:
        from probe import records

        return [r for r in records() if r["what"] == "try" and r["dag_id"] == dag_id]

    def settled(self, dag_id: str, tasks: list[str] | None = None) -> None:
        """
        Wait until the scheduler has dealt with the end of all tries.

        SQLite has no row locks: a clear or a delete at that very moment would end the scheduler with a StaleDataError.
        """
        expected = {
            f"{t['dag_id']} {t['task_id']} {t['map_index']} {t['try_number']}"
            for t in self.tries(dag_id)
            if not tasks or t["task_id"] in tasks
        }
        path = self.home / "settled"
        until(f"executor events of {dag_id}", lambda: expected <= set(path.read_text().splitlines()))

    def ended(self, dag_id: str, run_id: str = RUN) -> str:
        """Wait for the run's end."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session

        def state() -> str | None:
            with create_session() as session:
                run = session.query(DagRun).filter_by(dag_id=dag_id, run_id=run_id).one()
                return str(run.state) if run.state in ("success", "failed") else None

        return str(until(f"end of {dag_id}", state))

    def started(self, dag_id: str, count: int = 1) -> dict[str, Any]:
        """Wait until ``step`` was invoked so many times."""
        return dict(
            until(
                f"try {count} of {dag_id}",
                lambda: (t := [t for t in self.tries(dag_id) if t["task_id"] == "step"])[count - 1 :] and t[count - 1],
            )
        )

    def rows(self, dag_id: str) -> list[dict[str, Any]]:
        """The task instances and their history, as the database has them."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.taskinstancehistory import TaskInstanceHistory
        from airflow.utils.session import create_session

        with create_session() as session:
            found = [(str(h.task_instance_id), h) for h in session.query(TaskInstanceHistory).filter_by(dag_id=dag_id)]
            found += [(str(t.id), t) for t in session.query(TaskInstance).filter_by(dag_id=dag_id)]
            return [
                {
                    "id": id_,
                    "task_id": row.task_id,
                    "run_id": row.run_id,
                    "map_index": row.map_index,
                    "try_number": row.try_number,
                    "max_tries": row.max_tries,
                    "state": row.state and str(row.state),
                }
                for id_, row in found
            ]
