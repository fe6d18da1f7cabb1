# SPDX-License-Identifier: Apache-2.0
"""
What the server is told, by environment variables ``MLOPS_SERVE_*``: whoever deploys it decides what may be loaded and how much is taken on, never the
model. A name that nobody knows is an error, since a limit with a typing error would be no limit.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from airflow_mlops.serving.server.errors import SettingsInvalid
from airflow_mlops.spec.model_names import NameRefused, check_name, shown

PREFIX = "MLOPS_SERVE_"
FORMATS = ("onnx", "skops", "pickle", "pyfunc")
_SAFE_FORMATS = ("onnx", "skops")
_BODY_LIMIT = 8 << 20

_DIGEST = re.compile(r"sha256(-tree)?:[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,255}")
_TOKEN = re.compile(r"[\x21-\x7e]{16,4096}")


def _cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    All that the server is told. Each field is the environment variable ``MLOPS_SERVE_<FIELD>``; ``token`` is read from the file that
    ``MLOPS_SERVE_TOKEN_FILE`` names.

    :param model: file or folder of the model
    :param name: of the model, as requests say it
    :param version: of the model, as requests and answers say it
    :param digest: what the model must be, ``sha256:…`` of a file or ``sha256-tree:…`` of a folder
    :param formats: what may be loaded; ``pickle`` and ``pyfunc`` run whatever code their model brings
    :param trusted: types that skops may load besides those that it knows to be harmless
    :param id: name of this server; readiness checks that expect another one are refused
    :param host: address to listen on
    :param port: to listen on
    :param token: what clients have to send as ``Authorization: Bearer …``; health checks need none
    :param concurrency: predictions at a time; default as many as there are cores
    :param queue: requests that may wait for their turn; further ones are answered 429
    :param threads: threads that the libraries use for one prediction
    :param body_limit: bytes of a request's body
    :param body_memory: bytes that the bodies of all requests may hold together; default eight times ``body_limit``
    :param connections: open connections
    :param head_seconds: in which the head of a request has to arrive
    :param body_seconds: in which its body has to arrive
    :param request_seconds: in which it is answered, counted from when it has arrived
    :param keep_alive_seconds: that a connection may idle; longer than that of the router, which would else use one that is just closed
    :param drain_seconds: after SIGTERM in which requests are still taken, for routers to notice that the server is no longer ready
    :param access_log: whether requests are logged
    """

    model: Path
    name: str
    version: str
    digest: str
    formats: tuple[str, ...] = _SAFE_FORMATS
    trusted: tuple[str, ...] = ()
    id: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    concurrency: int = field(default_factory=_cores)
    queue: int = 64
    threads: int = 1
    body_limit: int = _BODY_LIMIT
    body_memory: int = 8 * _BODY_LIMIT
    connections: int = 1024
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    request_seconds: float = 30.0
    keep_alive_seconds: int = 75
    drain_seconds: float = 5.0
    access_log: bool = True

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """
        Read the variables.

        :raises SettingsInvalid: naming every variable that is wrong
        """
        given = {name.removeprefix(PREFIX): text for name, text in environment.items() if name.startswith(PREFIX)}
        problems = [f"{PREFIX}{name} is not known; expected {_KNOWN}" for name in sorted(given) if name not in _READERS]
        for name in ("MODEL", "NAME", "VERSION", "DIGEST"):
            if name not in given:
                problems.append(f"{PREFIX}{name} is not set; expected {_READERS[name][1]}")
        values: dict[str, Any] = {}
        for name, (read, expected) in _READERS.items():
            if name in given:
                try:
                    values[name.lower()] = read(given[name])
                except (ValueError, OSError) as error:
                    why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
                    problems.append(f"{PREFIX}{name} is {shown(given[name])}{why}; expected {expected}")
        if problems:
            raise SettingsInvalid("the settings of the model server are wrong:\n" + "\n".join(problems))
        if "token_file" in values:
            values["token"] = values.pop("token_file")
        values.setdefault("body_memory", 8 * values.get("body_limit", _BODY_LIMIT))
        if values["body_memory"] < values.get("body_limit", _BODY_LIMIT):
            raise SettingsInvalid(
                f"{PREFIX}BODY_MEMORY is {values['body_memory']}, less than one body of {PREFIX}BODY_LIMIT; expected as much at least"
            )
        return cls(**values)


def _path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError
    return path


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return read


def _name(text: str) -> str:
    try:
        return check_name(text)
    except NameRefused as error:
        raise ValueError from error


def _words(pattern: re.Pattern[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        if not all(pattern.fullmatch(word) for word in words):
            raise ValueError
        return words

    return read


def _formats(text: str) -> tuple[str, ...]:
    words = _words(_TYPE)(text)
    if not words or not set(words) <= set(FORMATS):
        raise ValueError
    return words


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        # The length first: a million digits take quadratic time.
        if not re.fullmatch("[0-9]{1,15}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return read


def _seconds(low: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or not low <= value <= 86_400:
            raise ValueError
        return value

    return read


def _token(text: str) -> str:
    with open(text, encoding="ascii") as file:
        token = file.read(8192).strip()
    if not _TOKEN.fullmatch(token):
        raise ValueError
    return token


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


_BYTES = "a number of bytes from 1024 to 10^12"
_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "MODEL": (_path, "the absolute path of a model's file or folder"),
    "NAME": (_name, "the model's name: letters, digits, dots, dashes and underscores, such as churn"),
    "VERSION": (_matching(_WORD), "the model's version, such as 3"),
    "DIGEST": (_matching(_DIGEST), "sha256:… or sha256-tree:… with 64 hexadecimal digits, as the registry tells it"),
    "FORMATS": (_formats, f"some of {', '.join(FORMATS)}, separated by commas"),
    "TRUSTED": (_words(_TYPE), "names of types separated by commas, such as sklearn.tree._tree.Tree"),
    "ID": (_matching(_WORD), "letters, digits, dots, dashes and underscores, such as churn-0"),
    "HOST": (_matching(re.compile(r"[0-9A-Za-z.:-]{1,255}")), "an address to listen on, such as 127.0.0.1"),
    "PORT": (_whole(1, 65_535), "a port from 1 to 65535"),
    "TOKEN_FILE": (_token, "a file that can be read and holds 16 to 4096 visible ASCII characters, the token"),
    "CONCURRENCY": (_whole(1, 1024), "a number from 1 to 1024"),
    "QUEUE": (_whole(0, 100_000), "a number from 0 to 100000"),
    "THREADS": (_whole(1, 1024), "a number from 1 to 1024"),
    "BODY_LIMIT": (_whole(1024, 10**12), _BYTES),
    "BODY_MEMORY": (_whole(1024, 10**12), _BYTES),
    "CONNECTIONS": (_whole(1, 1_000_000), "a number from 1 to 1000000"),
    "HEAD_SECONDS": (_seconds(0.1), "seconds from 0.1 to 86400"),
    "BODY_SECONDS": (_seconds(0.1), "seconds from 0.1 to 86400"),
    "REQUEST_SECONDS": (_seconds(0.1), "seconds from 0.1 to 86400"),
    "KEEP_ALIVE_SECONDS": (_whole(1, 86_400), "whole seconds from 1 to 86400"),
    "DRAIN_SECONDS": (_seconds(0.0), "seconds from 0 to 86400"),
    "ACCESS_LOG": (_switch, "on or off"),
}
_KNOWN = "one of " + ", ".join(_READERS)

# A field without a variable would be one that nobody can set.
assert {one.name for one in fields(Settings)} == {name.lower().removesuffix("_file") for name in _READERS}  # noqa: S101
