# SPDX-License-Identifier: Apache-2.0
"""
Steps that start no program of ours and hand on artifacts by reference: ``import``, and any Airflow operator.

They claim, resolve, commit and publish as every step does; there is no attempt folder with outputs, since the data stays where it is.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_mlops.operators.base import StepOperator
from airflow_mlops.operators.contract import Layout
from airflow_mlops.operators.failures import BadStep, OutputsRefused, PolicyViolation, ProgramFailed, StepFailure
from airflow_mlops.operators.version_compat import CONTROL_FLOW

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.attempt import Attempt, Ended
    from airflow_mlops.spec.parts import Output


class ReferenceOperator(StepOperator):
    """A step whose outputs are data that lies elsewhere already, or that another operator puts there."""

    runtime: ClassVar[str] = "none"

    def layout(self, attempt: Attempt) -> Layout:
        """No program looks at paths here, but templates may say them."""
        return Layout()

    def run_program(self, attempt: Attempt) -> Ended:
        """There is none; :meth:`produce` stands in its place."""
        raise BadStep(f"step '{self.task_id}' runs no program")

    def stop_program(self, attempt: Attempt) -> None:
        """There is none."""

    def produce(
        self, context: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        """
        Do what the step does.

        :param names: what templates may say
        :return: artifacts and parameters by name
        """
        raise NotImplementedError

    def conclude(self, reference: Mapping[str, Any]) -> None:
        """
        Say to Airflow what follows from what was committed, by this try or by one whose worker was lost. Most steps just end well.

        :param reference: what is handed on in XCom
        """

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """
        Go on where an operator within this one deferred itself: :meth:`produce` is called again and finds what Airflow would call on that one
        under ``mlops_resume`` in the context.
        """
        try:
            return self._live({**context, "mlops_resume": (next_method, next_kwargs)})
        except (StepFailure, AirflowFailException) as failure:
            raise self._told_to_airflow(failure)  # noqa: B904

    def _live(self, context: Any) -> dict[str, Any]:
        """The life of a step without a program; see :func:`airflow_mlops.operators.life.live_by_reference`."""
        from airflow_mlops.operators.life import live_by_reference

        return live_by_reference(self, context)


class ImportOperator(ReferenceOperator):
    """
    Bring existing data in by reference.

    :param uri: where it lies, an fsspec URL or an absolute path (a template of a spec; not rendered by Airflow)
    :param asset: in place of ``uri``, the asset whose newest update is brought in: an output of a step that is marked as this asset
    :param type: artifact type
    :param digest: how a change of it is noticed: ``content`` reads it all, ``etag`` asks the store, ``none`` not at all
    """

    kind: ClassVar[str] = "import"

    def __init__(
        self,
        *,
        uri: str | None = None,
        asset: str | None = None,
        type: str = "dataset",
        digest: str = "content",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("outputs", {type: type})
        super().__init__(**kwargs)
        if (uri is None) == (asset is None):
            raise BadStep(f"step '{self.task_id}' imports from one place; expected 'uri' or 'asset'")
        if asset is not None:
            from airflow.providers.common.compat.sdk import Asset

            self.inlets = [*self.inlets, Asset(asset)]
        self.uri = uri
        self.asset = asset
        self.artifact_type = type
        self.digest = digest

    def produce(
        self, context: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        """Look at the data and note where it is."""
        if self.asset is not None:
            return self._from_asset(self.asset, context, attempt), {}
        uri = _rendered(self, self.uri, names)
        artifacts = {name: _external(name, output, uri, self.digest, attempt) for name, output in self.outputs.items()}
        self.log.info("Imported %s", uri)
        return artifacts, {}

    def _from_asset(self, asset: str, context: Any, attempt: Attempt) -> dict[str, Artifact]:
        from dataclasses import replace

        from airflow_mlops.operators.assets import newest

        found = newest(asset, context, attempt.store)
        for name, output in self.outputs.items():
            if output.type not in (found.type, "artifact"):
                raise BadStep(
                    f"step '{self.task_id}': asset '{asset}' is a {found.type}; expected a {output.type}, which '{name}' is to be"
                )
        self.log.info("Imported %s of asset %s", found.uri, asset)
        return {name: replace(found, name=name, type=output.type) for name, output in self.outputs.items()}


class WrappedOperator(ReferenceOperator):
    """
    Run any Airflow operator as a step.

    The operator is made when the task runs, from arguments that are rendered by then; Airflow's own templates are not applied to them.

    :param class_path: dotted path of the class; ``[mlops] allowed_operators`` must allow it
    :param arguments: keyword arguments of the class; strings in them are templates of a spec
    """

    kind: ClassVar[str] = "operator"

    def __init__(self, *, class_path: str, arguments: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.class_path = class_path
        self.arguments = dict(arguments or {})
        self._inner: Any = None

    def produce(
        self, context: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        """Run the operator and read its result."""
        inner = self._make(names, attempt)
        resumed = context.get("mlops_resume")
        started = time.monotonic()
        try:
            result = run_inner(inner, context) if resumed is None else inner.resume_execution(*resumed, context)
        except CONTROL_FLOW:
            raise
        except Exception as error:
            raise ProgramFailed(
                f"step '{self.task_id}': {self.class_path} failed: {type(error).__name__}: {error}"
            ) from error
        self.log.info("%s ended after %.1f s", self.class_path, time.monotonic() - started)
        return self._results(result, names, attempt)

    def on_kill(self) -> None:
        """Pass it on."""
        super().on_kill()
        if self._inner is not None:
            self._inner.on_kill()

    def _make(self, names: Mapping[str, Any], attempt: Attempt) -> Any:
        allowed = attempt.settings.allowed_operators
        if not any(fnmatch.fnmatchcase(self.class_path, pattern) for pattern in allowed):
            raise PolicyViolation(
                f"step '{self.task_id}': operator {self.class_path} is not allowed here; "
                f"add it, or a pattern, to [mlops] allowed_operators (now: {' '.join(allowed) or 'none'})"
            )
        arguments = _rendered(self, self.arguments, names)
        try:
            self._inner = _load_class(self.class_path)(task_id=self.task_id, **arguments)
        except (ImportError, AttributeError, TypeError) as error:
            raise BadStep(f"step '{self.task_id}': cannot make {self.class_path}: {error}") from error
        return self._inner

    def _results(
        self, result: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        from airflow_mlops.artifacts import returned_parameter

        artifacts: dict[str, Artifact] = {}
        parameters: dict[str, Any] = {}
        wanted = [name for name, output in self.outputs.items() if output.is_parameter]
        for name, output in self.outputs.items():
            if output.is_artifact:
                uri = _rendered(self, output.uri or "", names)
                artifacts[name] = _external(name, output, uri, output.digest or "none", attempt)
                continue
            by_name = isinstance(result, Mapping) and name in result
            if not by_name and len(wanted) > 1:
                raise OutputsRefused(
                    f"step '{self.task_id}': its operator returned {_shown(result)}; "
                    f"expected an object with {', '.join(wanted)}"
                )
            try:
                parameters[name] = returned_parameter(output.type, result[name] if by_name else result)
            except ValueError as error:
                raise OutputsRefused(
                    f"step '{self.task_id}': output '{name}', which its operator returned, {error}"
                ) from error
        return artifacts, parameters


def run_inner(inner: Any, context: Any) -> Any:
    """Execute an operator from within another one. It may defer itself; Airflow then comes back to :meth:`ReferenceOperator.resume_execution`."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    token = ExecutorSafeguard.tracker.set(inner)
    try:
        inner.pre_execute(context)
        return inner.execute(context)
    finally:
        ExecutorSafeguard.tracker.reset(token)


def _load_class(path: str) -> Any:
    from importlib import import_module

    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _rendered(operator: StepOperator, value: Any, names: Mapping[str, Any]) -> Any:
    """Render the strings in an argument, however deep."""
    from airflow_mlops.operators.preparation import rendered_text

    if isinstance(value, str):
        return rendered_text(operator, value, names)
    if isinstance(value, Mapping):
        return {key: _rendered(operator, item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(operator, item, names) for item in value]
    return value


def _external(name: str, output: Output, uri: str, digest: str, attempt: Attempt) -> Artifact:
    from pathlib import Path

    from airflow_mlops.artifacts import external_artifact
    from airflow_mlops.operators.staging import check_host_path, imported_file

    if uri.startswith("/"):
        uri = Path(uri).as_uri()
    path = imported_file(uri)
    if path is not None:
        check_host_path(path, attempt.settings)
    settings = attempt.settings
    options, make = dict(settings.storage_options), settings.file_system(uri)
    return external_artifact(name, output.type, uri, digest=digest, storage_options=options, file_system=make)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
