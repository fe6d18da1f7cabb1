# SPDX-License-Identifier: Apache-2.0
"""
What is asked of an MLflow server's model registry, by MLflow's own client, and what its failures are here.

The client takes two seconds to import and is imported when it is used. Whatever a server answers is checked before it is believed: others write
to it as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from airflow_mlops.artifacts.errors import ArtifactError, StoreFailed
from airflow_mlops.registry.errors import RegistryDenied
from airflow_mlops.spec.model_names import NameRefused, check_alias, check_name, check_number

_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""MLflow's own words for how long a server may be away. Its defaults make a step wait for minutes at each request."""

_GONE, _TAKEN, _INVALID = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"
_DENIED = ("PERMISSION_DENIED", "UNAUTHENTICATED")
_REFUSED_BY_DATABASE = "BAD_REQUEST"
"""What MLflow calls a constraint that does not hold."""

_COLLISIONS = 3
"""Times that a request is sent again for that."""

_PAGE = 200
_SHOWN = 300
_OTHER = "try again, and check the address of its connection"


class Missing(Exception):  # noqa: N818 - an answer, which every caller gives its own name
    """There is no such model, or no such version."""


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """
    A version as MLflow has it.

    :param tags: whatever anybody wrote there
    """

    number: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServerModel:
    """
    A model as MLflow has it.

    :param aliases: those that are some for us, too
    :param tags: whatever anybody wrote there
    """

    aliases: Mapping[str, int]
    tags: Mapping[str, str]


class MlflowServer:
    """
    The model registry of an MLflow server.

    :param uri: of the server, as ``MLFLOW_TRACKING_URI`` has it; credentials come from the environment, as MLflow reads them
    :raises ArtifactError: if MLflow's client is not installed
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ArtifactError(
                f"the model registry is MLflow's at {uri}, and its client is not installed; expected: pip install "
                "'airflow-provider-mlops[mlflow]' where tasks run"
            ) from error
        self._failure: type[Exception] = MlflowException
        self._client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def model(self, name: str) -> ServerModel:
        """
        A model.

        :raises Missing: if there is none of that name
        """
        with self._told():
            found = self._client.get_registered_model(name)
            _check_answer(found.name, name)
            return ServerModel(_aliases(found.aliases), dict(found.tags or {}))

    def models(self) -> list[str]:
        """Names of all models that are names for us, too."""
        found = self._all(lambda token: self._client.search_registered_models(max_results=_PAGE, page_token=token))
        return sorted(model.name for model in found if _is_name(model.name))

    def create_model(self, name: str) -> None:
        """Make a model, unless there is one."""
        with suppress(_TakenError):
            self._write(lambda: self._client.create_registered_model(name))

    def version(self, name: str, number: int) -> ServerVersion:
        """
        A version.

        :raises Missing: if there is none of that number
        """
        with self._told():
            found = self._client.get_model_version(name, str(number))
            _check_answer((found.name, int(found.version)), (name, number))
            return _version(found)

    def versions(self, name: str, tag: str | None = None, value: str = "") -> list[ServerVersion]:
        """
        The versions of a model, the oldest first.

        :param tag: only those with this tag
        :param value: of it; without quotes
        """
        filter_ = f"name='{check_name(name)}'" + (f" and tags.`{tag}`='{value}'" if tag is not None else "")
        found = self._all(
            lambda token: self._client.search_model_versions(filter_, max_results=_PAGE, page_token=token)
        )
        # Some databases hold names that differ in their case alone for the same.
        return sorted((_version(one) for one in found if one.name == name), key=lambda version: version.number)

    def create_version(self, name: str, source: str, tags: Mapping[str, str], description: str) -> int:
        """
        Make a version, and say its number: MLflow counts, and counts on after a deletion.

        :raises Missing: if there is no such model
        """
        with self._told():
            made = self._client.create_model_version(
                name, source, tags=dict(tags), description=description or None, await_creation_for=None
            )
            _check_answer(made.name, name)
            return int(made.version)

    def delete_version(self, name: str, number: int) -> None:
        """Delete a version, if there is one."""
        try:
            with self._told():
                self._client.delete_model_version(name, str(number))
        except Missing:
            pass

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """
        Have an alias point to a version.

        :raises Missing: if there is no such version
        """
        self._write(lambda: self._client.set_registered_model_alias(name, alias, str(number)))

    def delete_alias(self, name: str, alias: str) -> None:
        """
        Remove an alias, if there is one.

        :raises Missing: if there is no such model
        """
        with self._told():
            self._client.delete_registered_model_alias(name, alias)

    def set_model_tag(self, name: str, tag: str, value: str) -> None:
        """
        Write a tag of a model.

        :raises Missing: if there is no such model
        """
        self._write(lambda: self._client.set_registered_model_tag(name, tag, value))

    def delete_model_tag(self, name: str, tag: str) -> None:
        """
        Remove a tag of a model, if there is one.

        :raises Missing: if there is no such model
        """
        with self._told():
            self._client.delete_registered_model_tag(name, tag)

    def _write(self, ask: Callable[[], Any]) -> None:
        """
        Ask for what may be asked for by two at once. A server looks whether there is a row, and makes one: the second of two that do so is refused by
        the database, and finds the row at the next try.
        """
        for _ in range(_COLLISIONS):
            try:
                with self._told():
                    ask()
                return
            except _CollidedError:
                continue
        with self._told():
            ask()

    def _all(self, ask: Callable[[str | None], Any]) -> list[Any]:
        """All pages of a search; one finds nothing, or something, and is never answered with what a search is not."""
        found: list[Any] = []
        token: str | None = None
        try:
            while True:
                with self._told():
                    page = ask(token)
                    found += page
                    token = page.token
                if not token:
                    return found
        except Missing as error:
            raise StoreFailed(f"the MLflow server at {self.uri}: has no model registry; {_OTHER}") from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._failure as error:
            code = getattr(error, "error_code", "")
            if code == _GONE:
                raise Missing from error
            if code == _TAKEN:
                raise _TakenError from error
            message = f"the MLflow server at {self.uri}: {_shortened(str(error))}"
            if code in _DENIED:
                raise RegistryDenied(f"{message}; check the credentials of its connection") from error
            if code == _INVALID:
                raise ArtifactError(message) from error
            failure = _CollidedError if code == _REFUSED_BY_DATABASE else StoreFailed
            raise failure(f"{message}; try again") from error
        except Exception as error:
            # What MLflow's client makes of an answer that is none of MLflow's, such as the page of a proxy.
            raise StoreFailed(
                f"the MLflow server at {self.uri}: its answer is none of MLflow's ({type(error).__name__}: {str(error)[:_SHOWN]}); {_OTHER}"
            ) from error


class _CollidedError(StoreFailed):
    """The server's database has refused a row."""


class _TakenError(Exception):
    """There is one of that name already."""


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _check_answer(found: object, asked: object) -> None:
    if found != asked:
        raise ValueError(f"asked for {asked}, it told of {found}")


def _version(found: Any) -> ServerVersion:
    return ServerVersion(int(found.version), dict(found.tags or {}))


def _aliases(found: Mapping[str, Any]) -> dict[str, int]:
    aliases = {}
    for alias, number in sorted((found or {}).items()):
        try:
            aliases[check_alias(alias)] = check_number(int(number))
        except (NameRefused, ValueError):
            continue  # a word of somebody else's, which no reference of ours can name
    return aliases


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except NameRefused:
        return False
    return True
