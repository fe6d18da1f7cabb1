# SPDX-License-Identifier: Apache-2.0
"""
Which model is loaded and how: by its digest first, then by a format that the deployment allows. A model cannot vouch for itself: what may be loaded
is said by the settings, and a file that a model names lies within its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlops.artifacts.digests import digest_path
from airflow_mlops.artifacts.errors import ContentRefused
from airflow_mlops.serving.server.errors import ModelRefused, RequestInvalid
from airflow_mlops.serving.server.settings import PREFIX, Settings
from airflow_mlops.spec.model_names import shown

if TYPE_CHECKING:
    from airflow_mlops.serving.server.protocol import Array, InferRequest, TensorSpec

MLMODEL = "MLmodel"
_MLMODEL_LIMIT = 256 * 1024

_FORMAT_OF = {".onnx": "onnx", ".skops": "skops", ".pkl": "pickle", ".pickle": "pickle", ".joblib": "pickle"}
_SHOWN = 10


class Model(Protocol):
    """A model that is loaded. It is asked by several threads at a time."""

    platform: str
    """What it runs on, as the metadata say it."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def predict(self, request: InferRequest) -> Mapping[str, Array]:
        """
        Answer a request.

        :raises RequestInvalid: if the request does not fit the model
        """
        ...


@dataclass(frozen=True, slots=True)
class Located:
    """
    What was found at a path.

    :param format: how it is loaded
    :param path: what is loaded
    :param in_folder: the digest is that of a folder, so that files beside it are vouched for, too
    """

    format: str
    path: Path
    in_folder: bool


def load(settings: Settings) -> Model:
    """
    Load the model that the settings name.

    :raises ModelRefused: if it is another one than the digest says, of a format that is not allowed, or cannot be served
    :raises PackageMissing: if a library that it needs is not installed
    """
    verify(settings.model, settings.digest)
    found = locate(settings.model)
    if found.format not in settings.formats:
        raise ModelRefused(
            f"{found.path} is a model of the format {found.format}, which is not allowed here; allowed are {', '.join(settings.formats)}. "
            f"Convert it to ONNX or skops{_runs_code(found.format)}"
        )
    if found.format == "onnx":
        from airflow_mlops.serving.server.load_onnx import load_onnx

        return load_onnx(found.path, in_folder=found.in_folder, threads=settings.threads)
    if found.format == "pyfunc":
        from airflow_mlops.serving.server.load_pyfunc import load_pyfunc

        return load_pyfunc(found.path, allow_pickle="pickle" in settings.formats)
    from airflow_mlops.serving.server.load_sklearn import load_pickle, load_skops

    if found.format == "skops":
        return load_skops(found.path, settings.trusted, threads=settings.threads)
    return load_pickle(found.path, threads=settings.threads)


def _runs_code(kind: str) -> str:
    return (
        f", or allow {kind} in {PREFIX}FORMATS if you would run any code of whoever made the model"
        if kind in ("pickle", "pyfunc")
        else f", or allow {kind} in {PREFIX}FORMATS"
    )


def verify(path: Path, digest: str) -> None:
    """
    Compare what lies at a path with a digest.

    :raises ModelRefused: if it is something else
    """
    try:
        found = digest_path(path).digest
    except FileNotFoundError:
        raise ModelRefused(f"{path} does not exist; expected the model with the digest {digest}") from None
    except (ContentRefused, OSError) as error:
        raise ModelRefused(f"{path} cannot be read as a model: {error}") from error
    if found != digest:
        raise ModelRefused(
            f"{path} has the digest {found}; expected {digest}. It is another model, or was changed: fetch it again from the registry"
        )


def locate(path: Path) -> Located:
    """
    Tell the format of a model by its name, or by what its folder holds.

    :raises ModelRefused: if it is none
    """
    if not path.is_dir():
        kind = _FORMAT_OF.get(path.suffix)
        if kind is None:
            raise ModelRefused(f"{path} has no suffix of a model; expected one of {', '.join(_FORMAT_OF)}")
        return Located(kind, path, False)
    if (path / MLMODEL).is_file():
        return _locate_mlflow(path)
    models = sorted(file for file in path.iterdir() if file.suffix in _FORMAT_OF and file.is_file())
    if len(models) != 1:
        names = ", ".join(file.name for file in models[:_SHOWN]) or "none"
        raise ModelRefused(
            f"the folder {path} holds {len(models)} models ({names}); expected one file with a suffix of {', '.join(_FORMAT_OF)}, or {MLMODEL}"
        )
    return Located(_FORMAT_OF[models[0].suffix], models[0], True)


def _locate_mlflow(folder: Path) -> Located:
    """
    An MLflow model that is ONNX or skops inside is loaded as such: MLflow would take the list of trusted types from the model itself, and any format
    but these runs code of its own.
    """
    flavors = _document(folder).get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    onnx, sklearn = flavors.get("onnx"), flavors.get("sklearn")
    if isinstance(onnx, dict):
        return Located("onnx", _within(folder, onnx.get("data")), True)
    if isinstance(sklearn, dict) and sklearn.get("serialization_format") == "skops":
        return Located("skops", _within(folder, sklearn.get("pickled_model")), True)
    if "python_function" not in flavors:
        raise ModelRefused(
            f"{folder / MLMODEL} has no flavor python_function, onnx or sklearn with skops; expected one of them"
        )
    return Located("pyfunc", folder, True)


def _document(folder: Path) -> dict[str, Any]:
    """What an ``MLmodel`` file says: read as specs are, so that its size, depth and aliases are bounded and no tag makes an object."""
    from airflow_mlops.spec.documents import compose
    from airflow_mlops.spec.problems import SpecError
    from airflow_mlops.spec.values import Plain

    file = folder / MLMODEL
    try:
        with file.open("rb") as opened:
            data = opened.read(_MLMODEL_LIMIT + 1)
        if len(data) > _MLMODEL_LIMIT:
            raise ModelRefused(f"{file} is larger than {_MLMODEL_LIMIT} bytes; expected what MLflow writes")
        plain = Plain(MLMODEL)
        value = plain.convert(compose(MLMODEL, data.decode("utf-8")))
    except (UnicodeDecodeError, SpecError) as error:
        raise ModelRefused(f"{file} cannot be read: {error}") from None
    if plain.problems or not isinstance(value, dict):
        raise ModelRefused(
            f"{file} is not what MLflow writes: {min(plain.problems) if plain.problems else 'it is no mapping'}"
        )
    return value


def _within(folder: Path, name: Any) -> Path:
    """A file of a folder that the model names. Links cannot lead out: the digest is refused where there are any."""
    if not isinstance(name, str) or not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ModelRefused(f"{folder / MLMODEL} names the file {shown(name)}; expected a path within the folder")
    if not (folder / name).is_file():
        raise ModelRefused(f"{folder / MLMODEL} names the file {shown(name)}, which the folder does not hold")
    return folder / name


def check_inputs(specs: Sequence[TensorSpec], request: InferRequest) -> None:
    """
    Compare the inputs of a request with what a model takes.

    :raises RequestInvalid: if there is one too many or too few, or one that does not fit
    """
    by_name = {spec.name: spec for spec in specs}
    unknown = [name for name in request.inputs if name not in by_name]
    missing = [spec.name for spec in specs if spec.name not in request.inputs and not spec.optional]
    if unknown or missing:
        said = [
            f"{verb} {', '.join(shown(name) for name in names[:_SHOWN])}"
            for verb, names in (("has the unknown inputs", unknown), ("lacks the inputs", missing))
            if names
        ]
        raise RequestInvalid(f"the request {' and '.join(said)}; the model's metadata list what it takes")
    for name, array in request.inputs.items():
        by_name[name].check(array, request.datatypes[name])


def wanted(specs: Sequence[TensorSpec], request: InferRequest) -> list[str]:
    """
    The names of the outputs that a request asks for.

    :raises RequestInvalid: if there is no such output
    """
    names = [spec.name for spec in specs]
    if request.outputs is None:
        return names
    unknown = [name for name in request.outputs if name not in names]
    if unknown:
        listing = ", ".join(shown(name) for name in unknown[:_SHOWN])
        raise RequestInvalid(f"the request asks for the outputs {listing}; the model gives {', '.join(names[:_SHOWN])}")
    return list(request.outputs)


def first_line(error: BaseException) -> str:
    """What a library says about a request that it does not take: one line, and not endless."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
