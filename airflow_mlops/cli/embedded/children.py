# SPDX-License-Identifier: Apache-2.0
"""
What runs in the processes that the executor forks: the supervisor of one task, or the triggerer.

A child never returns into the code that forked it, is not reached by the terminal's Ctrl-C, and does not outlive the
parent: Linux sends it SIGHUP when the parent is gone, however that came, and it then ends its task as a Ctrl-C would
have, with a bound on the time this takes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

GRACE = 30.0
"""Seconds that a task has to end by itself after it was told to."""

_PR_SET_PDEATHSIG = 1
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervisor(workload: Any, api: Any, wake: int) -> NoReturn:
    """
    Supervise one task, talking to the execution API in this process.

    The exit code is 0 when the task's state was reported, whatever it is: what became of the task is for Airflow to
    say, not for us.

    :param workload: Airflow's ``ExecuteTask``
    :param api: the warmed execution API
    :param wake: a pipe that gets a byte when the task's state has changed
    """

    def body() -> None:
        from airflow_mlops.cli.embedded import compat

        compat.supervise(
            ti=workload.ti,
            bundle_info=workload.bundle_info,
            dag_rel_path=workload.dag_rel_path,
            token="",
            log_path=workload.log_path,
            client=_client(api, wake),
        )

    _be_a_child(body)


def triggerer(api: Any) -> NoReturn:
    """Run Airflow's triggerer until SIGTERM."""

    def body() -> None:
        from airflow_mlops.cli.embedded import compat

        compat.run_triggerer(api)

    _be_a_child(body)


def signal_tasks(pid: int, number: int) -> None:
    """
    Signal the task process of a supervisor, not the supervisor: below 3.3 that one neither forwards SIGTERM nor acts
    on it.

    A task of its own process group is signalled alone: what it started is for its ``on_kill`` to end.
    """
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            child.send_signal(number)


def task_is_over(pid: int) -> bool:
    """Whether the task process of a supervisor is gone; the supervisor may look for it no more than once a second."""
    import psutil

    try:
        return all(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process(pid).children())
    except psutil.Error:
        return True


def _be_a_child(body: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _end_with_parent()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        body()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # the parent's exit handlers and buffers are the parent's


def _end_with_parent() -> None:
    me, parent = os.getpid(), os.getppid()

    def kill_hard(*_: Any) -> None:
        if os.getpid() == me:
            signal_tasks(me, signal.SIGKILL)
            os._exit(1)

    def on_hangup(*_: Any) -> None:
        # the task process inherits this handler; for it the signal has no meaning
        if os.getpid() != me:
            return
        signal.signal(signal.SIGALRM, kill_hard)
        signal.setitimer(signal.ITIMER_REAL, GRACE)
        signal_tasks(me, signal.SIGTERM)

    signal.signal(signal.SIGHUP, on_hangup)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGHUP), 0, 0, 0)
        if os.getppid() != parent:  # it went before the kernel was asked
            os._exit(1)


def _client(api: Any, wake: int) -> Any:
    import httpx
    from airflow.sdk.api.client import Client

    class InProcess(httpx.BaseTransport):
        """
        The in-process transport, made at the first request: it starts a thread, and the supervisor forks its task
        before that.

        A PATCH is what changes a task's state, so it is followed by a byte on the pipe: the scheduler goes on at once.
        """

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response: httpx.Response = api.transport.handle_request(request)
            if request.method == "PATCH" and not request.url.path.endswith("/heartbeat"):
                with suppress(OSError):
                    response.read()
                    os.write(wake, b".")
            return response

    client = Client(base_url=None, token="", dry_run=True, transport=InProcess())
    client.base_url = "http://in-process.invalid./"
    return client
