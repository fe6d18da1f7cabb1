# SPDX-License-Identifier: Apache-2.0
"""
What is asked of a Kubernetes API server, with patience: pods and the secrets that belong to them, in one namespace.

Whatever is asked may be asked twice, since an answer may be lost. So everything here is such that the second time does no harm.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kubernetes.client import ApiException, CoreV1Api
from kubernetes.config import ConfigException
from kubernetes.watch import Watch
from urllib3.exceptions import HTTPError

from airflow_mlops.operators import patience
from airflow_mlops.operators.failures import CannotStart, InfrastructureFailure, PolicyViolation, ServiceAway
from airflow_mlops.operators.kubernetes_names import selector_of

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

T = TypeVar("T")

FINALIZER = "mlops.airflow/harvest"
"""Keeps a pod's object, and so the exit code of its program, until that was read, whoever deletes the pod."""

GATE = "mlops.airflow/start"
"""Keeps a pod from its node until whoever created it has seen that it is still the one to do so."""

WATCH_SECONDS = 30
"""How long one watch lasts. It tells what happens at once; in between, the caller looks after other things."""

_AWAY = frozenset((0, 401, 429, 500, 502, 503, 504))
"""Statuses of a server that is restarting, overloaded, behind a gateway that cannot reach it, or was shown a token that has just expired."""

_TIMES: dict[str, Any] = {"_request_timeout": (10, 60)}
"""Seconds to connect, and for an answer. Without them, a server that falls silent would never be asked again."""

_AT_ONCE = (5, 15)
"""Seconds for a connection, and for an answer, where a person waits for it."""

_TRIES = 10
_NOT_FOUND, _FORBIDDEN, _CONFLICT, _GONE, _INVALID, _BAD_REQUEST = 404, 403, 409, 410, 422, 400


def listed(found: Any, name: str) -> tuple[list[Any], str]:
    """
    The pod of a name in the answer to a question for it, and the version of the cluster then.

    :raises ValueError: if that is no list of pods, as where somebody between answers in the server's place
    """
    try:
        return [pod for pod in found.items if pod.metadata.name == name], str(found.metadata.resource_version)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"the answer is no list of pods: {error}") from error


class Patience(patience.Patience):
    """
    Patience with an API server.

    :param renew: makes the client anew, with a token that is valid now
    """

    who = "the Kubernetes API server"
    what = "pod"
    errors = (ApiException, HTTPError, OSError, ConfigException)

    def __init__(self, seconds: float, *, renew: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(seconds, **kwargs)
        self._renew = renew

    def is_away(self, error: BaseException) -> bool:
        """A server that is there and refuses must be heard."""
        if isinstance(error, ApiException):
            if error.status == 401:  # noqa: PLR2004 - as HTTP has it
                self._renew()
            return (error.status or 0) in _AWAY
        return isinstance(error, HTTPError | OSError)


class Pods:
    """
    The pods of a namespace.

    :param connect: makes a client
    :param namespace: where the pods are
    :param seconds: how long the server may be away
    :param check: called while it is away; ends the wait by raising
    """

    def __init__(
        self,
        connect: Callable[[], CoreV1Api],
        namespace: str,
        *,
        seconds: float,
        task_id: str,
        log: Any,
        check: Callable[[], None],
    ) -> None:
        self.namespace = namespace
        self._connect = connect
        self._core: CoreV1Api | None = None
        self._task_id = task_id
        self.patience = Patience(seconds, renew=self.close, task_id=task_id, log=log, check=check)

    @property
    def core(self) -> CoreV1Api:
        """The client, made when it is needed first."""
        if self._core is None:
            self._core = self._connect()
        return self._core

    def close(self) -> None:
        """Close the client's connections."""
        if self._core is not None:
            with contextlib.suppress(Exception):  # nothing of what was done depends on it
                self._core.api_client.close()
            self._core = None

    def create(self, pod: Any) -> V1Pod:
        """
        Create a pod; one that is there under that name already is the one that was asked for a moment ago.

        :raises CannotStart: if it is not a pod that the server takes
        :raises PolicyViolation: if an admission rule or the worker's role refuses it
        """
        name = pod.metadata.name
        made = self._created(f"pod {name}", lambda: self.core.create_namespaced_pod(self.namespace, pod, **_TIMES))
        made = made or self.read(name)
        if made is None:
            raise InfrastructureFailure(
                f"step '{self._task_id}': pod {name} was there, and is gone although it was just created"
            )
        return made

    def objection(self, pod: Any) -> str | None:
        """
        What the server has against a pod, without creating it: admission rules, quotas and roles are asked, and so is whether it knows each
        field. It is asked once.

        :return: its own words; ``None`` if it would take the pod
        :raises ServiceAway: if it does not answer
        """
        try:
            self.core.create_namespaced_pod(
                self.namespace, pod, dry_run="All", field_validation="Strict", _request_timeout=_AT_ONCE
            )
        except (ApiException, HTTPError, OSError) as error:
            if isinstance(error, ApiException) and not self.patience.is_away(error):
                return message_of(error)
            raise ServiceAway(message_of(error) if isinstance(error, ApiException) else str(error)) from error
        return None

    def _created(self, what: str, create: Callable[[], T]) -> T | None:
        """Create something; ``None`` if it is there already."""
        for _ in range(_TRIES):
            try:
                return self.patience.ask(create)
            except ApiException as error:
                if reason_of(error) == "AlreadyExists":
                    return None
                if error.status != _CONFLICT:  # a quota that others change at the same moment
                    raise self._refused(what, error) from error
            self.patience.pause()
        raise InfrastructureFailure(
            f"step '{self._task_id}': {what} could not be created in {_TRIES} tries, for conflicts with others"
        )

    def _unless_gone(self, what: str, question: Callable[[], T]) -> T | None:
        """Ask about something that may be gone by now; ``None`` if it is."""
        try:
            return self.patience.ask(question)
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise self._refused(what, error) from error

    def read(self, name: str) -> V1Pod | None:
        """A pod as the server has it; ``None`` if there is none."""
        return self._unless_gone(f"pod {name}", lambda: self.core.read_namespaced_pod(name, self.namespace, **_TIMES))

    def list(self, selector: Mapping[str, str]) -> list[V1Pod]:
        """Pods with some labels, the newest first."""
        text = selector_of(selector)
        try:
            found = self.patience.ask(
                lambda: self.core.list_namespaced_pod(self.namespace, label_selector=text, **_TIMES).items
            )
        except ApiException as error:
            raise self._refused(f"pods with {text}", error) from error
        return sorted(found, key=lambda pod: pod.metadata.creation_timestamp, reverse=True)

    def follow(self, name: str, seconds: Callable[[], float]) -> Iterator[V1Pod | None]:
        """
        A pod, each time it has changed, and now and then although it has not. What the server refuses meanwhile is asked again as if it were
        away: the pod is there all the same.

        :param seconds: for how long nothing needs to be looked at but the pod; asked again after each change
        :return: never ends by itself; ``None`` once there is no such pod
        """
        while True:
            began = time.monotonic()
            pod, version = self._seen(name)
            yield pod
            if pod is None:
                return
            try:
                yield from self._watch(name, version, seconds)
            except ApiException as error:
                if error.status != _GONE:  # what was last seen is too long ago: it is read anew
                    self.patience.is_away(error)  # which renews the client if that is why
                    self.patience.missed(error)
            except HTTPError:
                pass  # a connection that broke, or was silent for too long
            except OSError as error:
                self.patience.missed(error)
            except (KeyError, ValueError, TypeError, AttributeError):
                pass  # no watch: somebody between answers in the server's place
            # An answer that comes at once must not make this a loop without a pause.
            time.sleep(max(0.0, min(1.0, seconds()) - (time.monotonic() - began)))

    def _seen(self, name: str) -> tuple[V1Pod | None, str]:
        """
        A pod that is known to have been there, with patience for a refusal as well: a role that is just being applied anew.

        :return: also the version of the cluster that this is from, where a watch can begin. That of the pod itself may be too old for one:
            a server keeps the last changes of all pods, and this one may not have changed for hours
        """
        only = f"metadata.name={name}"
        while True:
            try:
                found = self.patience.ask(
                    lambda: self.core.list_namespaced_pod(self.namespace, field_selector=only, **_TIMES)
                )
                pods, version = listed(found, name)
                # A list without it is no proof that it is gone.
                pod = (
                    pods[0]
                    if pods
                    else self.patience.ask(lambda: self.core.read_namespaced_pod(name, self.namespace, **_TIMES))
                )
                return pod, version
            except ApiException as error:
                if error.status == _NOT_FOUND:
                    return None, ""
                self.patience.missed(error)
            except ValueError as error:
                self.patience.missed(error)
            self.patience.pause()

    def _watch(self, name: str, version: str, seconds: Callable[[], float]) -> Iterator[V1Pod]:
        """Changes of a pod, until there is something else to look at."""
        left = max(1.0, min(WATCH_SECONDS, seconds()))
        end = time.monotonic() + left
        watch = Watch()
        try:
            for event in watch.stream(
                self.core.list_namespaced_pod,
                self.namespace,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=round(left),
                # A connection that is broken without a word is noticed by its silence.
                _request_timeout=(10, left + 10),
            ):
                if event is None or event["type"] == "DELETED":
                    return  # half an event, from a gateway that ended the answer in its middle; or none will follow
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]
                if time.monotonic() + seconds() < end:
                    return
        finally:
            watch.stop()

    def open_gate(self, name: str) -> None:
        """Let a pod go to its node. Nothing happens if it was let, or is gone."""
        change = {"spec": {"schedulingGates": [{"$patch": "delete", "name": GATE}]}}
        self._patch(name, change)

    def release(self, name: str) -> None:
        """Take the finalizer off a pod, so that it can go. Nothing happens if there is none."""
        self._patch(name, {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})

    def _patch(self, name: str, change: Mapping[str, Any]) -> None:
        """
        Change a pod if it is there.

        :param change: as a strategic merge takes it: what somebody else has put into the same list stays
        """
        for attempt in range(_TRIES):
            try:
                self.patience.ask(lambda: self.core.patch_namespaced_pod(name, self.namespace, change, **_TIMES))
                return
            except ApiException as error:
                if error.status == _NOT_FOUND:
                    return
                # Others may change the pod again and again.
                if error.status != _CONFLICT or attempt == _TRIES - 1:
                    raise self._refused(f"pod {name}", error) from error

    def delete(self, name: str, grace: int) -> None:
        """
        Ask for a pod's end. Its object stays until it was released.

        :param grace: seconds that its programs are given, whatever its spec says
        """
        self._unless_gone(
            f"pod {name}",
            lambda: self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=grace, **_TIMES),
        )

    def create_secret(self, name: str, values: Mapping[str, str], metadata: Mapping[str, Mapping[str, str]]) -> None:
        """
        Create a secret; one that is there already is the one that was asked for a moment ago.

        :param metadata: its labels and annotations
        """
        body = {"metadata": {"name": name, **metadata}, "type": "Opaque", "stringData": dict(values)}
        self._created(f"secret {name}", lambda: self.core.create_namespaced_secret(self.namespace, body, **_TIMES))

    def give_secret(self, name: str, pod: V1Pod) -> None:
        """Make a secret a pod's own, so that it goes when the pod goes."""
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
        change = {"metadata": {"ownerReferences": [owner]}}
        self._unless_gone(
            f"secret {name}", lambda: self.core.patch_namespaced_secret(name, self.namespace, change, **_TIMES)
        )

    def delete_secret(self, name: str) -> bool:
        """Delete a secret; whether there was one."""
        answer = self._unless_gone(
            f"secret {name}", lambda: self.core.delete_namespaced_secret(name, self.namespace, **_TIMES)
        )
        return answer is not None

    def _refused(self, what: str, error: ApiException) -> Exception:
        """What a refusal of the server means for a step."""
        said = message_of(error)
        where = (
            f"step '{self._task_id}': the Kubernetes API server refused {what} in namespace '{self.namespace}': {said}"
        )
        if error.status in (_INVALID, _BAD_REQUEST, _NOT_FOUND):
            return CannotStart(where)
        if error.status == _FORBIDDEN:
            if "exceeded quota" in said:
                return InfrastructureFailure(where)
            return PolicyViolation(f"{where}; what the worker's role must allow is in the platform guide")
        return InfrastructureFailure(where)


def message_of(error: ApiException) -> str:
    """What the server said, without the headers that the client's own text holds."""
    return str(_answer(error).get("message") or f"{error.status} {error.reason}")


def reason_of(error: ApiException) -> str:
    """The server's word for why it refused, such as ``AlreadyExists``."""
    return str(_answer(error).get("reason") or "")


def _answer(error: ApiException) -> dict[str, Any]:
    try:
        found = json.loads(error.body)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
