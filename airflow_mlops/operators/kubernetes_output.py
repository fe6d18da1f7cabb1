# SPDX-License-Identifier: Apache-2.0
"""
The output of a pod's program, shown by the triggerer while others wait beside it.

It takes its turns: what floods the log is held back, and what is not shown when the program has ended is shown by the worker that judges it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_mlops.operators.kubernetes_logs import NoLogError
from airflow_mlops.operators.log_following import PAUSE, Output, Seen, Shown, next_pause
from airflow_mlops.operators.logs import LineLog, hidden

if TYPE_CHECKING:
    from airflow_mlops.operators.kubernetes_async import AsyncPod

BYTES_PER_SECOND = 256 * 1024
"""How much of one step's output is shown: each line costs the triggerer's one thread some work, and a hundred steps may share it."""

_DRAIN = 10.0
"""Seconds that a worker is kept waiting for what is still to be shown."""

_GONE = 404


class AsyncOutput:
    """
    A program's output on its way into the log of its task.

    :param secrets: references to what must not be shown
    """

    def __init__(self, pod: AsyncPod, secrets: Mapping[str, Mapping[str, Any]], log: Any) -> None:
        self._pod = pod
        self._secrets = secrets
        self._log = log
        self._output: Output | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    def begin(self) -> None:
        """Begin to show it, if nobody has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._show())

    async def finish(self) -> None:
        """Show what is left when the program has ended, for a while."""
        self._ended.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_DRAIN)

    def close(self) -> Shown | None:
        """
        Show no more.

        :return: up to where it was shown
        """
        if self._task is not None:
            self._task.cancel()
        if self._output is None:
            return None
        self._output.close()
        return self._output.shown

    async def _show(self) -> None:
        try:
            values = await sync_to_async(_values)(self._secrets) if self._secrets else []
        except Exception as error:  # noqa: BLE001 - whatever keeps the values away, nothing is shown without them
            self._log.warning(
                "The program's output is shown when it has ended, since its secrets cannot be hidden: %s", error
            )
            return
        self._output = Output(LineLog(lambda line: self._log.info("%s", line), values), Seen())
        told, pause = False, 0.0
        while True:
            before = self._output.shown
            # A stream that was opened after the end and shows nothing new: then everything was shown.
            ended, news = self._ended.is_set(), True
            try:
                news = await self._read(self._output)
            except Exception as error:  # noqa: BLE001 - whatever breaks the stream, the program is judged by its state
                if ended and (isinstance(error, NoLogError) or getattr(error, "status", None) == _GONE):
                    return
                if not told and not isinstance(error, (NoLogError, asyncio.TimeoutError)):
                    told = True
                    self._log.warning("The program's output is interrupted: %s", error)
            if ended and not news:
                return
            pause = next_pause(pause, news=self._output.shown != before)
            with suppress(TimeoutError):
                # With an end to come it is opened again at once, but not one that breaks each time.
                await (asyncio.sleep(PAUSE) if ended else asyncio.wait_for(self._ended.wait(), pause))

    async def _read(self, output: Output) -> bool:
        """Show what is new until the stream ends; whether anything was."""
        news, taken, began = False, 0, time.monotonic()
        async with aclosing(self._pod.log(output.rewind())) as lines:
            async for line in lines:
                news |= output.take(line)
                taken += len(line)
                # How far it is ahead of its share.
                ahead = taken / BYTES_PER_SECOND - (time.monotonic() - began)
                if ahead > 1:
                    await asyncio.sleep(ahead)
        return news


def _values(secrets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Values that must not be shown, the longest first."""
    from airflow_mlops.operators.secrets import read_secrets
    from airflow_mlops.spec.parts import Secret

    files, variables = read_secrets({name: Secret.model_validate(secret) for name, secret in secrets.items()})
    return hidden([*files.values(), *variables.values()])
