# SPDX-License-Identifier: Apache-2.0
"""
The Kubernetes runtime: a step's program as one pod, and nothing else in the cluster.

What the provider's KubernetesPodOperator knows of pods is used as it is: its connection, its keywords, its labels, its mutation hook. It is
made when the task runs, not subclassed: importing it costs more than all else in a DAG file (about three seconds), at each parse. What is
replaced is how the end is told (by a watch, never by the output), how results come back (files, by an object store or a shared volume), and
what becomes of a pod that nobody watched: a finalizer keeps it until its exit code was read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_mlops.operators import tracking
from airflow_mlops.operators.contract import Layout
from airflow_mlops.operators.durable import DurableStepOperator
from airflow_mlops.operators.failures import (
    BadStep,
    InfrastructureFailure,
    ServiceAway,
    StepDetached,
    StepFailure,
    StepTimeout,
)
from airflow_mlops.operators.kinds import operators_by_kind
from airflow_mlops.operators.ownership import ensure_owner
from airflow_mlops.spec.pod_keywords import KUBERNETES_KEYWORDS

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt, Ended
    from airflow_mlops.operators.kubernetes_api import Pods
    from airflow_mlops.operators.kubernetes_trigger import Report
    from airflow_mlops.operators.resolve import ResolvedInputs


class KubernetesStepOperator(DurableStepOperator):
    """
    Run a step's program in a pod.

    Besides the parameters of :class:`~airflow_mlops.operators.base.StepOperator`, the keywords of the provider's KubernetesPodOperator are
    passed on, but for those that a step decides itself (``airflow_mlops.spec.pod_keywords`` lists them and says what to use instead).

    :param pod: what the pod is to have besides, in Kubernetes' own camelCase names, merged as ``kubectl patch`` does; the program's container
        is called ``step``
    :param gpu_resource: the resource that ``gpu`` counts
    :param deferrable: whether the pod is waited for in the triggerer, where that holds no worker; default ``[mlops] deferrable``
    """

    runtime: ClassVar[str] = "kubernetes"

    pod: Mapping[str, Any] | None
    gpu_resource: str
    pod_keywords: Mapping[str, Any]
    deferrable: bool | None
    _report: Report | None = None
    _pods: Pods | None = None
    _name: str | None = None
    _worthless = False
    _seen: Any = None
    context_of_try: Any = None

    def _runtime_keywords(self, image: str | None, keywords: dict[str, Any]) -> dict[str, Any]:
        pod_keywords = {name: keywords.pop(name) for name in KUBERNETES_KEYWORDS & keywords.keys()}
        self.__dict__.update(
            pod=keywords.pop("pod", None),
            gpu_resource=keywords.pop("gpu_resource", None) or "nvidia.com/gpu",
            deferrable=keywords.pop("deferrable", None),
            pod_keywords={name: value for name, value in pod_keywords.items() if value is not None},
        )
        return keywords

    def _live(self, context: Any) -> dict[str, Any]:
        self.context_of_try = context
        try:
            return super()._live(context)
        finally:
            self.context_of_try = None

    def layout(self, attempt: Attempt) -> Layout:
        """The contract's paths in a container."""
        return Layout()

    def sealed_container(self, attempt: Attempt) -> dict[str, Any]:
        """What a spec's ``kubernetes:`` and ``pod:`` change of how the program runs."""
        from airflow_mlops.operators.kubernetes_making import sealed_pod

        return sealed_pod(self, attempt)

    def sealed_runtime(self, attempt: Attempt) -> dict[str, Any]:
        """The cluster and what the pod has besides, beside what every step has."""
        from airflow_mlops.operators.kubernetes_making import sealed_surroundings

        return {**super().sealed_runtime(attempt), "kubernetes": sealed_surroundings(self)}

    def image_id(self) -> str | None:
        """Id of the image that the program was started from, once its node has said it."""
        from airflow_mlops.operators.kubernetes_making import image_id_of

        return image_id_of(self._seen) if self._seen is not None else None

    # Files

    def stage_files(self, attempt: Attempt, inputs: ResolvedInputs) -> None:
        """With a shared volume as anywhere else; with an object store the pod fetches them, and only the code is put there."""
        from airflow_mlops.operators.kubernetes_volumes import shares_files
        from airflow_mlops.operators.staging import stage_source

        if shares_files(attempt):
            super().stage_files(attempt, inputs)
        else:
            stage_source(self, attempt)

    def recall_files(self, attempt: Attempt, inputs: ResolvedInputs) -> None:
        """What :meth:`stage_files` would have brought."""
        from airflow_mlops.operators.kubernetes_volumes import shares_files
        from airflow_mlops.operators.staging import recall_source

        if shares_files(attempt):
            super().recall_files(attempt, inputs)
        else:
            recall_source(self, attempt)

    def keep_checkpoint(self, attempt: Attempt) -> None:
        """The pod's own stager has put it into the store, or it lies there."""

    # Life

    def resume(self, context: Any, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Go on where the triggerer has waited: look at the pod, and take what it has left.

        :param event: what the trigger says; the pod's end is read from the API server, whatever it is
        :return: the reference to what was committed, for XCom
        :raises StepFailure: as :meth:`execute`
        """
        from airflow_mlops.operators.kubernetes_trigger import Report

        self._report = Report.of(event or {})
        self.began_at = self._report.began
        try:
            return self._live(context)
        except (StepFailure, AirflowFailException) as failure:
            raise self._told_to_airflow(failure)  # noqa: B904

    def run_program(self, attempt: Attempt) -> Ended:
        """
        Create the pod, log what its program prints, and wait for its end, here or in the triggerer.

        :raises TaskDeferred: if it is waited for there
        :raises CannotStart: if the pod, its image or its command cannot be
        :raises StepTimeout: if the program ran too long; it is stopped
        :raises InfrastructureFailure: if the pod was disrupted, does not start in time, or the API server is away for too long
        :raises StepDetached: if the worker shuts down and leaves the pod to the next try
        """
        from airflow_mlops.operators.kubernetes_making import create_pod, start_pod
        from airflow_mlops.operators.kubernetes_names import pod_name

        pods = self._connected(attempt)
        name = pod_name(attempt.id)
        if not attempt.adopted:
            create_pod(self, attempt, pods)
        self._name = name
        # It may have been stopped before there was something to stop.
        self.ensure_wanted()
        if not attempt.adopted:
            start_pod(self, attempt, pods)
        if self._report is None and self._defers(attempt):
            self._wait_elsewhere(attempt, pods, name)
        return self._await_end(pods, name, attempt)

    def _defers(self, attempt: Attempt) -> bool:
        return attempt.settings.deferrable if self.deferrable is None else self.deferrable

    def _wait_elsewhere(self, attempt: Attempt, pods: Pods, name: str) -> NoReturn:
        """
        Have the triggerer wait for the pod.

        :raises TaskDeferred: always; that is how Airflow is told
        """
        from airflow_mlops.operators.kubernetes_connection import CONNECTION_KEYWORDS
        from airflow_mlops.operators.kubernetes_trigger import PodTrigger
        from airflow_mlops.operators.kubernetes_volumes import shares_files

        if not shares_files(attempt):
            # Another worker may go on, which makes it anew.
            attempt.close()
        began, limit = self.began_at or time.time(), self.execution_timeout
        trigger = PodTrigger(
            attempt=attempt.id,
            began=began,
            step=self.task_id,
            name=name,
            namespace=pods.namespace,
            cluster={key: self.pod_keywords[key] for key in CONNECTION_KEYWORDS if key in self.pod_keywords},
            secrets={
                **{key: secret.model_dump(by_alias=True, exclude_none=True) for key, secret in self.secrets.items()},
                **tracking.secrets_of(attempt),
            },
            step_timeout=self.step_timeout.total_seconds() if self.step_timeout else None,
            execution_deadline=began + limit.total_seconds() if limit else None,
            checkpoint=self.checkpoint,
            grace=self.grace_seconds(),
            start_patience=attempt.settings.pod_start_patience,
            daemon_patience=attempt.settings.daemon_patience,
        )
        self.log.info("The triggerer waits for pod %s; no worker is held meanwhile", name)
        self.defer(trigger=trigger, method_name="resume")

    def about_to_create(self, attempt: Attempt) -> None:
        """
        Look once more whether there is to be a pod, after all that was prepared for it; from now on there may be one.

        :raises StepFailure: if not
        """
        from airflow_mlops.operators.kubernetes_names import pod_name

        self.ensure_wanted()
        self.check_in(attempt)
        ensure_owner(attempt)
        self._name = pod_name(attempt.id)

    def _connected(self, attempt: Attempt) -> Pods:
        if self._pods is None:
            try:
                from airflow_mlops.operators.kubernetes_making import connect
            except ModuleNotFoundError as error:
                raise BadStep(
                    f"step '{self.task_id}' runs on Kubernetes, and {error.name} is not installed on this worker; "
                    "expected: pip install 'airflow-provider-mlops[kubernetes]'"
                ) from error
            self._pods = connect(self, attempt)
        return self._pods

    def _await_end(self, pods: Pods, name: str, attempt: Attempt) -> Ended:
        from airflow_mlops.operators.attempt import Ended
        from airflow_mlops.operators.kubernetes_making import collected, facts_of
        from airflow_mlops.operators.kubernetes_volumes import shares_files
        from airflow_mlops.operators.kubernetes_wait import Wait

        if self._report is not None and self._report.overdue:
            raise StepTimeout.by_airflow(self.task_id, self.execution_timeout)
        try:
            pod, status = Wait(self, attempt, pods, name, self._report).await_end()
        except (StepDetached, ServiceAway):
            raise
        except StepFailure:
            self._worthless = True
            raise
        self._seen = pod
        found = None
        if status.exit_code == 0 and not shares_files(attempt):
            try:
                found = collected(self, attempt, pod)
            except InfrastructureFailure:
                # Not for a store that is away: what is in it and in the pod is there for the next try.
                self._worthless = True
                raise
        assert status.exit_code is not None  # noqa: S101 - it has ended
        return Ended(status.exit_code, status.out_of_memory, facts_of(pod), collected=found)

    def clear_earlier(self, attempt: Attempt) -> str | None:
        """
        Remove the pods of the task instance, so that never two of them live, all but one of this generation that still runs or has ended
        unseen.
        """
        from airflow_mlops.operators.kubernetes_earlier import (
            earlier_pods,
            goes_on,
            is_evidence,
            remove,
            remove_orphans,
        )
        from airflow_mlops.operators.kubernetes_names import annotation, pod_name
        from airflow_mlops.operators.kubernetes_wait import gone

        pods = self._connected(attempt)
        there = earlier_pods(pods, attempt)
        remove_orphans(pods, attempt, there, self.log)
        found = [pod for pod in there if not is_evidence(pod, attempt)]
        if self._report is not None:
            # It is this try's own, whatever has become of it.
            kept = next((pod for pod in found if annotation(pod, "attempt") == self._report.attempt), None)
            if kept is None:
                raise gone(self.task_id, pod_name(self._report.attempt))
        elif not found:
            return None
        else:
            kept = next((pod for pod in found if goes_on(pod, attempt, self.task_id)), None)
        ensure_owner(attempt)
        for pod in found:
            if pod is not kept:
                self.log.info("Removing pod %s of an earlier try", pod.metadata.name)
                remove(pods, pod.metadata.name, self.task_id, self.grace_seconds())
        if kept is None:
            return None
        self._name = kept.metadata.name
        return annotation(kept, "attempt")

    def lives_on(self) -> bool:
        """Whether there is a pod worth going on with: what failed around it did not end it."""
        return self._name is not None and not self._worthless

    def forget_program(self, attempt: Attempt) -> None:
        """Remove the pod of the attempt, and its secret with it; when this returns, nothing of it runs any more."""
        from airflow_mlops.operators.kubernetes_course import QUICK_END
        from airflow_mlops.operators.kubernetes_earlier import remove
        from airflow_mlops.operators.kubernetes_names import pod_name

        name = pod_name(attempt.id)
        if self._name == name:
            remove(self._connected(attempt), name, self.task_id, QUICK_END)
            self._name = None

    def evidence(self, attempt: Attempt) -> str:
        """What else a failed attempt leaves to look at."""
        if self._name is None or self._pods is None:
            return ""
        return f", and its pod: kubectl logs -n {self._pods.namespace} {self._name} -c step"

    def let_go(self) -> None:
        """Close the connections to the API server."""
        if self._pods is not None:
            self._pods.close()
        self._pods = self._name = self._seen = None

    def stop_program(self, attempt: Attempt) -> None:
        """
        Have Kubernetes end the pod. The grace is counted by its node, so that nobody has to stay: nothing is to be read from it any more.
        """
        from airflow_mlops.operators.kubernetes_making import connect
        from airflow_mlops.operators.stopping import leave_behind

        if self._name is not None:
            # A client of its own: the signal may have come while the other one was in the middle of a request.
            pods = connect(self, attempt, seconds=1)
            pods.release(self._name)
            pods.delete(self._name, self.grace_seconds())
            pods.close()
            # Its node does the rest, longer than this process may live.
            self._name = None
        leave_behind({"grace": self.grace_seconds()}, attempt)


(
    KubernetesPreprocessOperator,
    KubernetesTrainOperator,
    KubernetesEvaluateOperator,
    KubernetesPredictOperator,
    KubernetesContainerOperator,
) = operators_by_kind(KubernetesStepOperator, "Kubernetes", __name__)

__all__: Sequence[str] = (
    "KubernetesContainerOperator",
    "KubernetesEvaluateOperator",
    "KubernetesPredictOperator",
    "KubernetesPreprocessOperator",
    "KubernetesStepOperator",
    "KubernetesTrainOperator",
)
