# SPDX-License-Identifier: Apache-2.0
"""
All that differs between the minors of Airflow, and all that is reached for although it has no promise to stay.

What is taken here and nowhere else: the function behind the REST route that answers a question, the in-process
execution API (which Airflow's triggerer and DAG processor use for themselves), the supervisor's entry point, where the
DAG bag lives, and, as an optimisation that may fail, three names inside the execution API.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

BUNDLE = "dags-folder"
"""The bundle that Airflow makes of ``[core] dags_folder``."""

_DAGBAG_OF_31 = "airflow.models.dagbag"

log = logging.getLogger(__name__)


def preload() -> None:
    """Import what every forked process needs, so that they find it in memory."""
    import airflow.jobs.scheduler_job_runner
    import airflow.sdk.execution_time.supervisor
    import airflow.sdk.execution_time.task_runner  # noqa: F401


def supervise(**arguments: Any) -> int:
    """Run one task to its end, as a worker does; raises if its state could not be reported."""
    from airflow.sdk.execution_time import supervisor

    entry: Callable[..., int] = getattr(supervisor, "supervise_task", None) or supervisor.supervise
    return entry(**arguments)


def load_dags(file: Path) -> Any:
    """Import a DAG file: a DagBag with ``dags`` and ``import_errors``."""
    module = _dagbag()
    named = {"bundle_name": BUNDLE} if module.__name__ != _DAGBAG_OF_31 else {}
    return module.BundleDagBag(dag_folder=str(file), bundle_path=file.parent, safe_mode=False, **named)


def store_dags(bag: Any) -> None:
    """Write the DAGs of a bag into the database, serialised, for the scheduler."""
    from airflow.dag_processing.bundles import manager

    bundles: Any = manager.DagBundlesManager
    bundles().sync_bundles_to_db()
    _dagbag().sync_bag_to_db(bag, BUNDLE, None)


def make_job() -> Any:
    """The database row of a scheduler or triggerer."""
    from airflow.jobs import job

    untyped: Any = job.Job
    return untyped()


def _dagbag() -> Any:
    try:
        return import_module("airflow.dag_processing.dagbag")
    except ImportError:
        return import_module(_DAGBAG_OF_31)


def execution_api() -> tuple[Any, bool]:
    """
    The execution API for calls in this process, warmed up: the first request builds the routes of every version of
    the API, for seconds, and would do so again in each forked child.

    Client and server are of one installation here, so the newest version alone will do. That is an optimisation with
    private names: on any surprise the API is built whole.

    :return: the API, and whether it is the trimmed one
    """
    try:
        with _newest_version_alone():
            return asyncio.run(_warm()), True
    except Exception:
        log.exception("the execution API could not be trimmed to its newest version; building all of them")
    return asyncio.run(_warm()), False


@contextmanager
def _newest_version_alone() -> Iterator[None]:
    import cadwyn
    from airflow.api_fastapi.execution_api import routes, versions

    bundle, all_routes = versions.bundle, routes.execution_api_router.routes
    versions.bundle = cadwyn.VersionBundle(cadwyn.HeadVersion(), cadwyn.Version(bundle.versions[0].value))
    # routes that only older versions have, which Cadwyn refuses to see in a bundle without these versions
    routes.execution_api_router.routes = [
        route for route in all_routes if "_CADWYN_DELETED_ROUTE" not in (getattr(route, "tags", None) or ())
    ]
    try:
        yield
    finally:
        versions.bundle, routes.execution_api_router.routes = bundle, all_routes


async def _warm() -> Any:
    import httpx
    from airflow.api_fastapi.execution_api import versions
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI

    api = InProcessExecutionAPI()
    transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://in-process.invalid") as client:
        # Any request builds the routes; one that has none needs nothing of the lifespan, which is not running.
        await client.get("/warm-up", headers={"Airflow-API-Version": str(versions.bundle.versions[0].value)})
    if not getattr(api.app, "_cadwyn_initialized", True):
        raise RuntimeError("a request did not build the routes of the execution API")
    return api


def answer(
    dag_id: str, run_id: str, task_id: str, map_index: int, option: str, by: str, fields: Mapping[str, Any]
) -> None:
    """
    Answer a question of a task, as a user does by the REST API.

    :raises fastapi.HTTPException: as that API would
    """
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
    from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
    from airflow.utils.session import create_session

    create_auth_manager()  # which is asked whether that user may
    untyped: Any = update_hitl_detail
    with create_session() as session:
        untyped(
            dag_id=dag_id,
            dag_run_id=run_id,
            task_id=task_id,
            map_index=map_index,
            update_hitl_detail_payload=UpdateHITLDetailPayload(chosen_options=[option], params_input=dict(fields)),
            user=SimpleAuthManagerUser(username=by, role="admin"),
            session=session,
        )


def run_triggerer(api: Any) -> None:
    """Serve deferred tasks until this process is told to end; the triggerer uses the API that was warmed up."""
    from airflow.jobs import triggerer_job_runner
    from airflow.jobs.job import run_job

    triggerer_job_runner.in_process_api_server = lambda: api
    job = make_job()
    runner = triggerer_job_runner.TriggererJobRunner(job, capacity=1000)
    run_job(job=job, execute_callable=runner._execute)
