# SPDX-License-Identifier: Apache-2.0
"""
Waiting for a step's pod in the triggerer, where hundreds wait in one process and hold no worker.

The triggerer watches, shows the program's output, and does what cannot wait for a worker: it stops a program whose time is over. It judges
nothing and commits nothing: when there is something to judge, a worker looks at the pod itself. So it needs neither the store nor the
pipeline's files, and a triggerer that dies is replaced by one that looks at the same pod.

This module is what Airflow knows of it, and loads next to nothing: the wait itself is in
:mod:`~airflow_mlops.operators.kubernetes_async_wait`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops.operators.failures import ServiceAway
from airflow_mlops.operators.log_following import Shown
from airflow_mlops.operators.version_compat import AIRFLOW_V_3_3_PLUS

if TYPE_CHECKING:
    from airflow_mlops.operators.kubernetes_async_wait import AsyncWait

_KEYWORDS = (
    *("step", "name", "namespace", "cluster", "secrets", "step_timeout", "execution_deadline", "checkpoint"),
    *("grace", "start_patience", "daemon_patience"),
)

_STATE_WITHIN = 10.0
"""Seconds that Airflow may take to say what has become of the task."""


@dataclass
class Report:
    """
    What the triggerer tells the worker that looks at a pod: nothing that is to be believed of the pod's end, which the worker reads itself.

    :param attempt: id of the attempt whose pod it is
    :param began: when the try began, seconds since the epoch
    :param shown: up to where the program's output was shown
    :param stopped_late: whether the program was stopped because its time was over
    :param overdue: whether Airflow's own ``execution_timeout`` was over while it ran
    """

    attempt: str
    began: float
    shown: Shown | None = None
    stopped_late: bool = False
    overdue: bool = False

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Report:
        """Read :meth:`event` again."""
        shown = event.get("shown")
        return cls(**{**event, "shown": Shown(*shown) if shown else None})

    def event(self) -> dict[str, Any]:
        """What a trigger sends, of which Airflow makes JSON."""
        return {**asdict(self), "shown": list(self.shown) if self.shown else None}


class PodTrigger(BaseTrigger):
    """
    Wait until there is something for a worker to look at.

    Everything here is stored in Airflow's database: no value of a secret is among it.

    :param attempt: id of the attempt whose pod it is
    :param began: when the step's try began, seconds since the epoch
    :param step: id of the task, for messages
    :param name: name of the pod
    :param namespace: where it is
    :param cluster: which cluster that is, as keywords of the provider's operator say it
    :param secrets: references to what must not be shown, as the step has them
    :param step_timeout: seconds that the program may run; ``None`` for no limit
    :param execution_deadline: when Airflow's own ``execution_timeout`` is over, seconds since the epoch; ``None`` for never
    :param checkpoint: whether files are kept of a program that has failed
    :param grace: seconds between asking a program to end and killing it
    :param start_patience: seconds that the program may take to start
    :param daemon_patience: seconds that the API server, or a registry, may be away
    """

    def __init__(
        self,
        *,
        attempt: str,
        began: float,
        step: str,
        name: str,
        namespace: str,
        cluster: dict[str, Any],
        secrets: dict[str, dict[str, Any]],
        step_timeout: float | None,
        execution_deadline: float | None,
        checkpoint: bool,
        grace: int,
        start_patience: float,
        daemon_patience: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name, self.namespace, self.step = name, namespace, step
        self.cluster, self.secrets = cluster, secrets
        self.step_timeout, self.execution_deadline, self.checkpoint = step_timeout, execution_deadline, checkpoint
        self.grace, self.start_patience, self.daemon_patience = grace, start_patience, daemon_patience
        self.report = Report(attempt, began)
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What another triggerer makes it of again."""
        own = {name: getattr(self, name) for name in _KEYWORDS}
        told = {"attempt": self.report.attempt, "began": self.report.began}
        return f"{type(self).__module__}.{type(self).__qualname__}", told | own

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Wait, and say once that there is something to look at.

        Whatever goes wrong here is no failure of the step: a worker looks, and judges what it finds.
        """
        try:
            # What it imports takes seconds, and others wait in this thread.
            wait = await asyncio.to_thread(self._wait)
            try:
                await wait.until_worth_a_look()
            finally:
                await wait.close()
        except (ServiceAway, ModuleNotFoundError) as error:
            self.log.warning("%s. A worker looks at the pod", error)
        except Exception:
            self.log.exception("The wait for pod %s met an error that nobody foresaw. A worker looks at it", self.name)
        self._fired = True
        yield TriggerEvent(self.report.event())  # type: ignore[no-untyped-call]

    def _wait(self) -> AsyncWait:
        from airflow_mlops.operators.kubernetes_async_wait import AsyncWait

        return AsyncWait(self)

    async def on_kill(self) -> None:
        """Stop the pod: somebody has marked or cleared the task while it waited. Airflow calls this since 3.3."""
        if self._fired:
            return
        wait = await asyncio.to_thread(self._wait)
        try:
            await wait.stop()
        finally:
            await wait.close()

    async def cleanup(self) -> None:
        """Before Airflow 3.3 this is called whyever the wait ended; what has become of the task says whether anybody wanted that."""
        if not AIRFLOW_V_3_3_PLUS and not self._fired and await self._is_given_up():
            await self.on_kill()

    async def _is_given_up(self) -> bool:
        """Whether the task does not wait any more. No answer means that this triggerer ends, and another one goes on."""
        from asgiref.sync import sync_to_async

        from airflow_mlops.operators.stopping import task_state

        ti: Any = self.task_instance
        try:
            async with asyncio.timeout(_STATE_WITHIN):
                state = await sync_to_async(task_state)(ti.dag_id, ti.task_id, ti.run_id, ti.map_index)
        except Exception:  # noqa: BLE001 - whatever keeps the answer away, there is none
            return False
        return state != "deferred"
