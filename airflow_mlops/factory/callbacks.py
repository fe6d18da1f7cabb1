# SPDX-License-Identifier: Apache-2.0
"""
Callbacks and deadlines of a spec: import paths become what Airflow calls.

A path is looked at when the DAG file is parsed (is it allowed, is there such a module), and imported when it is called: a client of some chat
service is nothing that every parse and every task should load.
"""

from __future__ import annotations

import fnmatch
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.settings import allowed_callbacks, calls_back

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlops.spec.graph import Pipeline, Step
    from airflow_mlops.spec.problems import Problem
    from airflow_mlops.spec.scheduling import Callback, Deadline, RunCallbacks, StepCallbacks

Keys = tuple[str | int, ...]


class ImportedCallback:
    """
    A function or notifier that is imported when Airflow calls it.

    :param path: dotted path of a function ``f(context, **arguments)``, or of a notifier's class
    :param arguments: keyword arguments of the function, or of the class
    """

    def __init__(self, path: str, arguments: Mapping[str, Any]) -> None:
        self.path = path
        self.arguments = dict(arguments)

    def __call__(self, context: Any) -> Any:
        """
        Call it with the context of a run or a task.

        :raises ImportError: if the module has no such name any more
        """
        try:
            target = _load(self.path)
            if isinstance(target, type):
                return target(**self.arguments)(context)
            return target(context, **self.arguments)
        except SystemExit as error:
            # Airflow bears every exception of a callback, but would end a task with this one.
            raise RuntimeError(f"callback {self.path} asked to exit: {error}") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path})"


class CallbackFactory:
    """
    Makes the callbacks of one pipeline. What is wrong with them is in ``problems``, all of it.

    :param pipeline: the pipeline, which knows where in its file a path was written
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._active = calls_back()
        self.problems: list[Problem] = []

    def of(
        self, callbacks: RunCallbacks | StepCallbacks, step: Step | None = None
    ) -> dict[str, list[ImportedCallback]]:
        """
        What Airflow's operators and DAGs take: ``on_failure_callback`` and the like, those that there are.

        :param step: the step whose callbacks they are; ``None`` for those of runs
        """
        found: dict[str, list[ImportedCallback]] = {}
        if self._active:
            for name in callbacks.model_fields_set:
                items: Sequence[Callback] = getattr(callbacks, name)
                for index, item in enumerate(items):
                    self._check(item.path, step, ("callbacks", name, index))
                if items:
                    found[f"{name}_callback"] = [ImportedCallback(item.path, item.arguments) for item in items]
        return dict(sorted(found.items()))

    def deadline(self, deadline: Deadline | None) -> Any:
        """Airflow's alert for a late run, if there is one."""
        if deadline is None or not self._active:
            return None
        keys = ("deadline", "callback")
        path, arguments = deadline.callback.path, deadline.callback.arguments
        if not self._check(path, None, keys):
            return None
        from airflow_mlops.operators import version_compat

        try:
            return version_compat.deadline_alert(
                deadline.reference, deadline.interval, path, _load(path), dict(arguments)
            )
        except (Exception, SystemExit) as error:  # Airflow imports what a deadline calls, and that is anybody's code
            return self._refuse(None, keys, f"callback '{path}': {error or type(error).__name__}")

    def _check(self, path: str, step: Step | None, keys: Keys) -> bool:
        """Whether a path is allowed here, and its module exists."""
        allowed = allowed_callbacks()
        if not any(fnmatch.fnmatchcase(path, pattern) for pattern in allowed):
            self._refuse(
                step,
                keys,
                f"callback '{path}' is not allowed here; expected one that allowed_callbacks in section mlops of Airflow's configuration names "
                f"(now: {' '.join(allowed) or 'none'})",
            )
            return False
        module = path.rpartition(".")[0]
        if why := _why_missing(module):
            self._refuse(
                step,
                keys,
                f"callback '{path}': {why}; expected one that the DAG processor and the workers can import",
            )
            return False
        return True

    def _refuse(self, step: Step | None, keys: Keys, message: str) -> None:
        self.problems.append(self._pipeline.problem(step, keys, message))


def _why_missing(module: str) -> str:
    """Why a module cannot be imported, as far as that is seen without doing so; empty if it can."""
    try:
        return "" if find_spec(module) is not None else f"there is no module '{module}' here"
    except ModuleNotFoundError:
        return f"there is no module '{module}' here"
    except (Exception, SystemExit) as error:  # the packages around it are imported, and are anybody's code
        return f"module '{module}' cannot be imported: {type(error).__name__}: {error}"


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except AttributeError:
        raise ImportError(f"module '{module}' has no '{name}'") from None
