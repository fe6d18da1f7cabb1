# SPDX-License-Identifier: Apache-2.0
"""The questions that tasks of a run ask people: read from Airflow's database, and answered as Airflow's REST API would."""

from __future__ import annotations

from typing import Any

from airflow_mlops.cli.embedded.model import EmbeddedError, Question, Reply

_ANSWERED_ALREADY = 409
_GONE = 404


def open_questions(dag_id: str, run_id: str) -> list[Question]:
    """What waits for an answer in a run, the oldest first."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance as TI
    from airflow.utils.session import create_session
    from sqlalchemy import select

    # Columns alone: a task that is resumed must not be written back as it was.
    columns: tuple[Any, ...] = (TI.task_id, TI.map_index, TI.try_number)
    columns += (HITLDetail.subject, HITLDetail.body, HITLDetail.options, HITLDetail.params)
    waiting = (
        select(*columns)
        .join(HITLDetail, HITLDetail.ti_id == TI.id)
        .where(TI.dag_id == dag_id, TI.run_id == run_id, TI.state.in_(("deferred", "awaiting_input")))
        .where(HITLDetail.responded_at.is_(None))
        .order_by(HITLDetail.created_at)
    )
    with create_session() as session:
        return [
            Question(task, index, tries, subject, body or "", tuple(options), tuple(params or ()))
            for task, index, tries, subject, body, options, params in session.execute(waiting)
        ]


def give(dag_id: str, run_id: str, question: Question, reply: Reply) -> None:
    """
    Answer a question. Nothing happens if there is none any more: its time may have run out meanwhile.

    :raises EmbeddedError: if the answer is refused
    """
    from airflow_mlops.cli.embedded import compat

    fields = {name: value for name, value in reply.fields.items() if name in question.fields}
    try:
        compat.answer(dag_id, run_id, question.task_id, question.map_index, reply.option, reply.by, fields)
    except Exception as error:
        if getattr(error, "status_code", None) in (_ANSWERED_ALREADY, _GONE):
            return
        why = getattr(error, "detail", error)
        raise EmbeddedError(f"the answer to '{question.task_id}' was refused: {why}") from error
