# SPDX-License-Identifier: Apache-2.0
"""
Collect what a program wrote: every declared output must be there and be what was declared. All that is wrong is told at once.

A ``metrics`` output is a JSON object. Its values are finite numbers (scalars), or objects of a documented shape:

- ``{"type": "curve", "x": [...], "y": [...]}``, with optional ``title``, ``x_label``, ``y_label``: a ROC, precision-recall or learning curve
- ``{"type": "matrix", "labels": [...], "values": [[...], ...]}``: a confusion matrix
- ``{"type": "table", "columns": [...], "rows": [[...], ...]}``
- ``{"type": "text", "text": "..."}``
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops.artifacts.digests import Digested, digest_path
from airflow_mlops.artifacts.errors import ArtifactError, OutputInvalid, OutputMissing, listed
from airflow_mlops.artifacts.strict_json import parse
from airflow_mlops.spec.models import Output

MAX_PARAMETER = 64 * 1024
"""Bytes of a parameter output."""

MAX_METRICS = 1 << 20
"""Bytes of a metrics output."""

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
_SHAPES: dict[str, tuple[str, ...]] = {
    "curve": ("x", "y"),
    "matrix": ("labels", "values"),
    "table": ("columns", "rows"),
    "text": ("text",),
}


@dataclass(slots=True)
class Collected:
    """
    The outputs of an attempt.

    :param artifacts: digests of the artifact outputs by name
    :param parameters: values of the parameter outputs by name
    :param metrics: scalars of the metrics outputs: by output, by key
    """

    artifacts: dict[str, Digested] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def hash_seconds(self) -> float:
        """Seconds spent on digests."""
        return sum(item.seconds for item in self.artifacts.values())


class _Missing(Exception):
    """An output was not written; kept apart from outputs that are wrong."""


def output_path(folder: Path, name: str, output: Output) -> Path:
    """Where an output lies: ``<folder>/<name>``, or ``<folder>/<name>/<file>``."""
    return folder / name / output.file if output.file else folder / name


def collect(folder: Path, declared: Mapping[str, Output]) -> Collected:
    """
    Read and check all declared outputs.

    :param folder: the folder the program wrote its outputs to
    :raises OutputMissing: if some were not written; it lists what was written beside them
    :raises OutputInvalid: if some are not what was declared
    """
    collected = Collected()
    problems: list[str] = []
    missing_only = True
    for name, output in declared.items():
        try:
            _collect_one(folder, name, output, collected)
        except _Missing as error:
            problems.append(str(error))
        except (ArtifactError, OSError, ValueError) as error:
            missing_only = False
            problems.append(f"output '{name}': {error}")
    if problems:
        raise (OutputMissing if missing_only else OutputInvalid)(problems)
    return collected


def _collect_one(folder: Path, name: str, output: Output, collected: Collected) -> None:
    path = output_path(folder, name, output)
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _Missing(
            f"output '{name}' was not written: expected {'a file or folder' if output.is_artifact else 'a file'} at "
            f"outputs/{path.relative_to(folder)}; the program wrote {_written(folder)}"
        ) from None
    if output.is_parameter:
        collected.parameters[name] = parse_parameter(output.type, _small_file(path, status, MAX_PARAMETER))
        return
    if output.type == "metrics":
        collected.metrics[name] = parse_metrics(_small_file(path, status, MAX_METRICS), output.keys or ())
    digested = digest_path(path)
    if not digested.files:
        raise ValueError("is an empty folder; expected at least one file in it")
    collected.artifacts[name] = digested


def _small_file(path: Path, status: os.stat_result, limit: int) -> bytes:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no regular file; expected one")
    if status.st_size > limit:
        raise ValueError(f"is {status.st_size} bytes; at most {limit} are allowed: hand bigger things on as an artifact")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read(limit + 1)


def parse_parameter(type_name: str, data: bytes) -> Any:
    """
    Read the file of a parameter output: text with one final newline dropped for a ``string``, JSON for everything else.

    :raises ValueError: if it is not of the type
    """
    if type_name == "string":
        try:
            return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ValueError(f"is not UTF-8 text (byte {error.start})") from None
    return check_parameter(type_name, parse(data, limit=MAX_PARAMETER))


def check_parameter(type_name: str, value: Any) -> Any:
    """
    Check the type of a parameter's value.

    :raises ValueError: if it is another one
    """
    allowed = _PYTHON_TYPES[type_name]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        text = repr(value)
        raise ValueError(f"is {text if len(text) <= 80 else text[:80] + '…'}; expected a JSON {type_name}")
    return value


def parse_metrics(data: bytes, keys: Any = ()) -> dict[str, float]:
    """
    Read a metrics output.

    :param keys: keys that must be there, as numbers
    :return: the scalars by key
    :raises ValueError: if it is no object of finite numbers and documented shapes, or a key is missing
    """
    document = parse(data, limit=MAX_METRICS)
    if not isinstance(document, dict):
        raise ValueError('is no JSON object; expected one such as {"accuracy": 0.93}')
    wrong = [key for key, value in document.items() if not _is_number(value) and not _is_shape(value)]
    if wrong:
        raise ValueError(
            f"has values that are neither finite numbers nor a curve, matrix, table or text: {listed([repr(key) for key in wrong], 'key')}"
        )
    scalars = {key: value for key, value in document.items() if _is_number(value)}
    missing = [key for key in keys if key not in scalars]
    if missing:
        raise ValueError(f"lacks the number {listed([repr(key) for key in missing], 'key')}; it has {listed(sorted(scalars), 'key') or 'none'}")
    return scalars


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_shape(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("type") not in _SHAPES:
        return False
    needed = _SHAPES[value["type"]]
    if value["type"] == "text":
        return isinstance(value.get("text"), str)
    if not all(isinstance(value.get(name), list) for name in needed):
        return False
    if value["type"] == "curve":
        return len(value["x"]) == len(value["y"]) and all(_is_number(number) for name in needed for number in value[name])
    return all(isinstance(row, list) for row in value[needed[1]])


def _written(folder: Path) -> str:
    try:
        names = sorted(
            entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in os.scandir(folder)
        )
    except OSError:
        return "nothing"
    return listed([name if name.isprintable() else repr(name) for name in names], "file") or "nothing"
