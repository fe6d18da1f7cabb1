# SPDX-License-Identifier: Apache-2.0
"""
The task whose identity is measured.

It writes down what Airflow tells it, then does what the experiment ordered for this invocation. It imports nothing of
ours: what is measured is Airflow alone.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import BaseOperator


def home() -> Path:
    """Where orders are read and records are written."""
    return Path(os.environ["STATE_MODEL_HOME"])


def records() -> list[dict[str, Any]]:
    """All invocations so far, oldest first."""
    path = home() / "records.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def note(record: dict[str, Any]) -> None:
    """Append one record; O_APPEND keeps lines of processes that write at the same time whole."""
    with (home() / "records.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


class Probe(BaseOperator):
    """
    Record the identity of this try and then obey the orders of the run.

    :param item: the element of a mapped task; recorded, nothing else
    """

    def __init__(self, *, item: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item = item
        self._killed = False

    def execute(self, context: Any) -> Any:
        ti, run = context["ti"], context["dag_run"]
        server = getattr(ti, "_ti_context_from_server", None)
        key = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
        earlier = sum(all(r.get(k) == v for k, v in key.items()) and r["what"] == "try" for r in records())
        note(
            {
                "what": "try",
                **key,
                "id": str(ti.id),
                "try_number": ti.try_number,
                "max_tries": ti.max_tries,
                "max_tries_from_server": getattr(server, "max_tries", None),
                "max_tries_in_context": context.get("max_tries"),
                "retries": self.retries,
                "task_of_ti_retries": ti.task.retries,
                "task_of_context_retries": context["task"].retries,
                "clear_number": run.clear_number,
                "run_started": str(run.start_date),
                "item": self.item,
                "pid": os.getpid(),
                "supervisor": os.getppid(),
            }
        )
        orders = json.loads((home() / f"orders-{ti.dag_id}.json").read_text()).get(ti.task_id, [])
        return self._obey(orders[earlier] if earlier < len(orders) else "succeed", key)

    def _obey(self, order: str, key: dict[str, Any]) -> Any:
        if order.startswith("wait"):
            while not (home() / f"go-{key['dag_id']}").exists():
                if self._killed:
                    raise AirflowException("killed")
                time.sleep(0.02)
        if order == "reschedule":
            raise AirflowRescheduleException(datetime.now(UTC))  # type: ignore[no-untyped-call]
        if order == "defer":
            from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

            self.defer(trigger=TimeDeltaTrigger(timedelta(0)), method_name="resume")
        if order in ("fail", "wait, fail") or order == f"fail at {key['map_index']}":
            raise AirflowException("as ordered")
        return json.loads(order[5:]) if order.startswith("list:") else None

    def resume(self, context: Any, event: Any = None) -> Any:
        """Come back from a deferral: record again, as a step's operator would."""
        return self.execute(context)

    def on_kill(self) -> None:
        self._killed = True
        note({"what": "on_kill", "dag_id": self.dag_id, "pid": os.getpid()})
