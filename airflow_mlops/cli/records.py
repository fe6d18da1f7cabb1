# SPDX-License-Identifier: Apache-2.0
"""
What a run leaves in its folder for later commands, beside what the embedded Airflow does: where its artifacts lie, and
with what it was started.

One JSON file, ``pipeline.json``, written before the run starts and never changed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.cli.errors import CommandError

if TYPE_CHECKING:
    from airflow_mlops.cli.embedded import RunRecord

FILE = "pipeline.json"
VERSION = 1
_LIMIT = 16 << 20


@dataclass(frozen=True)
class Order:
    """
    What was asked for.

    :param run_id: Airflow's id of the run, and the name of its folder
    :param pipeline: name of the pipeline, and id of its DAG
    :param spec: absolute path of the spec
    :param store: URL of the store
    :param instance: id under which the store keeps what the run made
    :param step: the one step that was run; ``None`` for the pipeline
    :param params: values of all parameters
    :param work: folder of the scratch folders of its attempts
    """

    run_id: str
    pipeline: str
    spec: str
    store: str
    instance: str
    environment: str | None = None
    runtime: str | None = None
    step: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    work: str = ""

    @property
    def scratch(self) -> Path | None:
        """Where the run's attempts had their scratch folders; ``None`` if it was not written down."""
        return Path(self.work) if self.work else None


def write_order(folder: Path, order: Order) -> None:
    """Write what was asked for into the folder of a run."""
    text = json.dumps({"version": VERSION, **asdict(order)}, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_order(folder: Path) -> Order:
    """
    Read what was asked for.

    :raises CommandError: if that is not in the folder
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_LIMIT))
        version = document.pop("version")
        if version != VERSION:
            raise CommandError(f"{path}: has version {version}; expected {VERSION}: another airflow-mlops wrote it")
        return Order(**document)
    except FileNotFoundError:
        raise CommandError(f"{path}: is not there; the run was stopped before it began") from None
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise CommandError(f"{path}: cannot be read: {error}") from None


def find_run(text: str) -> RunRecord:
    """
    The run that somebody means: ``last``, its name, the start or end of its name, or the newest of a pipeline.

    :raises CommandError: if there is none, or several fit
    """
    from airflow_mlops.cli.embedded.home import home
    from airflow_mlops.cli.embedded.runs import list_runs

    runs = list_runs()
    if not runs:
        raise CommandError(f"{home() / 'runs'}: no runs; start one with airflow-mlops run SPEC")
    if text == "last":
        return runs[0]
    exact = [run for run in runs if text in (run.path.name, run.name)]
    if exact:
        return exact[0]
    near = [run for run in runs if run.path.name.startswith(text) or run.path.name.endswith(text)]
    if len(near) == 1:
        return near[0]
    names = ", ".join(run.path.name for run in (near or runs)[:5])
    if near:
        raise CommandError(f"'{text}' fits {len(near)} runs; expected more of a name, such as {names}")
    raise CommandError(
        f"no run '{text}'; expected last, a pipeline, or the start or end of a run's name; the newest: {names}"
    )
