# SPDX-License-Identifier: Apache-2.0
"""
What a model in MLflow's format says about itself, in the file ``MLmodel`` of its folder: its signature, and where an
example of its input lies.

The file comes out of a container. It is read as specs are: size, depth and aliases are bounded, and no tag makes an
object. Nothing of it is needed to register a model, so what is wrong in it is left out, with a remark that says why.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from airflow_mlops.artifacts.strict_json import parse

FILE = "MLmodel"

LIMIT = 256 * 1024
"""Bytes. MLflow's own hold a few thousand, and a signature of a thousand columns sixty thousand."""

_MAX_SIGNATURE = 128 * 1024
_PARTS = ("inputs", "outputs", "params")
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class MlflowFacts:
    """
    What was found.

    :param signature: ``inputs``, ``outputs`` and ``params``, those that there are: lists of MLflow's own objects
    :param input_example: path within the model's folder
    :param remarks: what was left out, and why
    """

    signature: dict[str, Any] | None = None
    input_example: str | None = None
    remarks: tuple[str, ...] = ()


class _Ignored(ValueError):
    """A part of the file is not what it should be."""


def read_mlmodel(data: bytes, files: Collection[str]) -> MlflowFacts:
    """
    Read an ``MLmodel`` file, whatever it holds.

    :param files: paths of all files of the model's folder
    """
    try:
        document = _document(data)
    except _Ignored as error:
        return MlflowFacts(remarks=(_remark(FILE, error),))
    remarks: list[str] = []
    signature: dict[str, Any] | None = None
    example: str | None = None
    try:
        signature = _signature(document.get("signature"))
    except _Ignored as error:
        remarks.append(_remark(f"the signature in {FILE}", error))
    try:
        example = _example(document.get("saved_input_example_info"), files)
    except _Ignored as error:
        remarks.append(_remark(f"the input example in {FILE}", error))
    return MlflowFacts(signature, example, tuple(remarks))


def _remark(what: str, error: _Ignored) -> str:
    return f"{what} was left out: {error}"[:_SHOWN]


def _document(data: bytes) -> dict[str, Any]:
    # The package that reads specs takes a while to import, and few models need it.
    from airflow_mlops.spec.documents import compose
    from airflow_mlops.spec.problems import SpecError
    from airflow_mlops.spec.values import Plain

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Ignored(f"it is not UTF-8 (byte {error.start})") from None
    if not text.strip():
        raise _Ignored("it is empty")
    plain = Plain(FILE)
    try:
        value = plain.convert(compose(FILE, text))
    except SpecError as error:
        raise _Ignored(str(error)) from None
    if plain.problems:
        raise _Ignored(str(min(plain.problems)))
    if not isinstance(value, dict):
        raise _Ignored("it is no mapping")
    return value


def _signature(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _Ignored("it is no mapping of inputs, outputs and params")
    parts = {name: _columns(name, found[name]) for name in _PARTS if found.get(name) is not None}
    return parts or None


def _columns(name: str, text: Any) -> list[Any]:
    """A part of a signature, which MLflow writes as JSON into a string."""
    if not isinstance(text, str):
        raise _Ignored(f"its {name} are no text that holds JSON")
    try:
        columns = parse(text.encode("utf-8", "surrogatepass"), limit=_MAX_SIGNATURE)
    except ValueError as error:
        raise _Ignored(f"the JSON of its {name} {error}") from None
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        raise _Ignored(f"its {name} are no list of columns")
    return columns


def _example(found: Any, files: Collection[str]) -> str | None:
    if found is None:
        return None
    path = found.get("artifact_path") if isinstance(found, dict) else None
    if not isinstance(path, str):
        raise _Ignored("it has no artifact_path")
    # A path that leads elsewhere is no file of the folder, either.
    if path not in files:
        raise _Ignored(f"its artifact_path {ascii(path[:100])} is no file of the model's folder")
    return path
