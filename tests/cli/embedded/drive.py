# SPDX-License-Identifier: Apache-2.0
"""
A command that runs one DAG in an embedded Airflow and says what it sees, one JSON object a line.

Run as a program of its own, since a process can run one DAG, and be stopped, once.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from airflow_mlops.cli import embedded
from airflow_mlops.cli.embedded.terminal import terminal


def main(source: str, dag_id: str, options: dict[str, Any]) -> None:
    """Run the DAG; everything goes to the terminal that the run leaves to its caller."""
    out = terminal()
    ticks = 0

    def say(**fields: Any) -> None:
        print(json.dumps(fields, default=str), file=out)

    def on_event(event: embedded.TaskEvent) -> None:
        say(
            task=event.task_id,
            index=event.map_index,
            state=event.state,
            attempt=event.try_number,
            reason=event.reason,
        )
        if options.get("break_at") == event.state:
            raise RuntimeError("the display broke")

    def on_tick() -> None:
        nonlocal ticks
        ticks += 1

    run_dir = embedded.new_run_directory(dag_id, spec=source)
    say(run_dir=run_dir)
    request = embedded.RunRequest(
        dag_source=Path(source).read_text(encoding="utf-8"),
        dag_id=dag_id,
        run_id="test",
        conf=options.get("conf", {}),
        jobs=options.get("jobs"),
        timeout=options.get("timeout"),
    )
    try:
        result = embedded.run(request, run_dir, on_event, on_tick)
    except Exception as error:
        say(refused=type(error).__name__, text=str(error), trace=traceback.format_exc())
        return
    for task in result.tasks:
        say(
            result=task.task_id,
            index=task.map_index,
            state=task.state,
            attempt=task.try_number,
            log=task.log_path,
            returned=task.returned,
        )
    say(run=result.state, ticks=ticks, interrupted=result.interrupted)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
