# SPDX-License-Identifier: Apache-2.0
"""
Estimators of scikit-learn, by skops: a format that names the types it is made of, which are looked at before anything is made. Those that skops does
not know to be harmless must be in the deployment's list.

Estimators do not say what they take and give. One prediction for a row of zeros, made when the model is loaded, does, and warms the model up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from airflow_mlops.serving.server.errors import ModelRefused, PackageMissing, RequestInvalid
from airflow_mlops.serving.server.frames import frame_of, pandas_module
from airflow_mlops.serving.server.models import check_inputs, first_line, wanted
from airflow_mlops.serving.server.protocol import DTYPES, NUMBERS, Array, InferRequest, TensorSpec, datatype_of
from airflow_mlops.serving.server.settings import PREFIX

INPUT = "input"
"""Name of the tensor that holds all features: rows of numbers."""

_ANY = ("FP64", *(name for name in DTYPES if name != "FP64"))
_NUMBER = ("FP64", *(name for name in NUMBERS if name != "FP64"))
_OUTPUTS = ("predict", "predict_proba")
_SHOWN = 10


class SklearnModel:
    """
    An estimator.

    :raises ModelRefused: if it predicts nothing
    """

    platform = "sklearn"

    def __init__(self, estimator: Any, where: Path) -> None:
        if not callable(getattr(estimator, "predict", None)):
            raise ModelRefused(
                f"{where} holds a {type(estimator).__name__}, which has no method predict; expected an estimator or a pipeline that ends in one"
            )
        self._estimator = estimator
        self._functions: dict[str, Callable[[Any], Any]] = {
            name: getattr(estimator, name) for name in _OUTPUTS if callable(getattr(estimator, name, None))
        }
        names = getattr(estimator, "feature_names_in_", None)
        columns = tuple(str(name) for name in names) if names is not None else ()
        count = getattr(estimator, "n_features_in_", None)
        self._tried, self._in_frame = self._try(count, columns)
        self._columns = tuple(TensorSpec(name, _ANY, None) for name in columns)
        self.inputs: tuple[TensorSpec, ...] = (self._input(count, columns),)
        self.outputs = tuple(self._output(name) for name in self._functions)

    def predict(self, request: InferRequest) -> Mapping[str, Array]:
        """See :class:`~airflow_mlops.serving.server.models.Model`."""
        names = wanted(self.outputs, request)
        if self._columns and INPUT not in request.inputs:
            given: Any = frame_of(self._columns, request)
        else:
            check_inputs(self.inputs, request)
            given = self._prepared(request.inputs[INPUT])
        try:
            return {name: np.asarray(self._functions[name](given)) for name in names}
        except (ValueError, TypeError) as error:
            # A model that has answered when it was loaded says so of values that it does not take, such as NaN. One that has never answered may
            # be broken, which must not look like a fault of the client.
            if not self._tried:
                raise
            raise RequestInvalid(f"the model does not take these values: {first_line(error)}") from error

    def _prepared(self, array: Array) -> Any:
        if not self._in_frame:
            return array
        return pandas_module().DataFrame(array, columns=[spec.name for spec in self._columns])

    def _try(self, count: int | None, columns: Sequence[str]) -> tuple[dict[str, Array], bool]:
        """What the estimator gives for zeros, or for a word if it does not count features; and whether it wants a table."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if count is None:
                return self._answers(lambda: np.array(["a"], dtype=object)), False
            if found := self._answers(lambda: np.zeros((1, count))):
                return found, False
            if columns:
                return self._answers(lambda: pandas_module().DataFrame(np.zeros((1, count)), columns=columns)), True
            return {}, False

    def _answers(self, make: Callable[[], Any]) -> dict[str, Array]:
        try:
            row = make()
            found = {name: np.asarray(function(row)) for name, function in self._functions.items()}
        except PackageMissing:
            raise
        except Exception:  # whatever an estimator raises about a row of another kind than it was trained on
            return {}
        return found

    def _input(self, count: int | None, columns: tuple[str, ...]) -> TensorSpec:
        if count is None:
            return TensorSpec(INPUT, ("BYTES",), (-1,)) if self._tried else TensorSpec(INPUT, _ANY, None)
        takes_text = not self._tried or _takes_text(self._estimator)
        return TensorSpec(INPUT, _ANY if takes_text else _NUMBER, (-1, count), columns)

    def _output(self, name: str) -> TensorSpec:
        classes = getattr(self._estimator, "classes_", None)
        labels = tuple(str(label) for label in classes) if isinstance(classes, np.ndarray) else ()
        answer = self._tried.get(name)
        if answer is not None:
            columns = labels if name == "predict_proba" and len(labels) == answer.shape[-1] else ()
            return TensorSpec(name, (datatype_of(answer.dtype) or "FP64",), (-1, *answer.shape[1:]), columns)
        if name == "predict_proba":
            return TensorSpec(name, ("FP64",), (-1, len(labels) or -1), labels)
        datatype = datatype_of(classes.dtype) if isinstance(classes, np.ndarray) else "FP64"
        return TensorSpec(name, (datatype or "FP64",), (-1,))


def _takes_text(estimator: Any) -> bool:
    """Whether an estimator says that categories or words are what it takes; a pipeline says what its first step does."""
    from sklearn.utils import get_tags

    try:
        tags = get_tags(estimator).input_tags
    except Exception:  # estimators of other libraries need not have tags
        return True
    return bool(tags.categorical or tags.string)


def load_skops(path: Path, trusted: Sequence[str], *, threads: int) -> SklearnModel:
    """
    Load a file that skops has written.

    :param trusted: types that may be made besides those that skops knows to be harmless
    :param threads: for one prediction
    :raises ModelRefused: if it holds other types, or cannot be read
    """
    try:
        import skops.io
    except ImportError as error:
        raise PackageMissing(
            f"{path} is a model of skops; install skops and scikit-learn to serve it: {error}"
        ) from error
    try:
        refused = sorted(set(skops.io.get_untrusted_types(file=path)) - set(trusted))
    except Exception as error:  # of zip, JSON and skops
        raise ModelRefused(f"{path} cannot be read by skops: {first_line(error)}") from error
    if refused:
        more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        raise ModelRefused(
            f"{path} holds types that are not trusted: {', '.join(refused[:_SHOWN])}{more}; expected only those that skops knows to be harmless. "
            f"List them in {PREFIX}TRUSTED if you know where the model comes from"
        )
    try:
        estimator = skops.io.load(path, trusted=list(trusted))
    except Exception as error:  # of whatever is made: another version of scikit-learn, for instance
        raise ModelRefused(f"{path} cannot be loaded by skops: {type(error).__name__}: {first_line(error)}") from error
    return _served(estimator, path, threads)


def load_pickle(path: Path, *, threads: int) -> SklearnModel:
    """
    Load a pickle, which runs whatever code it holds: only where the deployment allows it.

    :param threads: for one prediction
    :raises ModelRefused: if it cannot be read
    """
    try:
        import joblib
        import sklearn  # noqa: F401 - an error that names it
    except ImportError as error:
        raise PackageMissing(f"{path} is a pickle; install scikit-learn to serve it: {error}") from error
    try:
        estimator = joblib.load(path)
    except Exception as error:  # whatever its code raises
        raise ModelRefused(f"{path} cannot be unpickled: {type(error).__name__}: {first_line(error)}") from error
    return _served(estimator, path, threads)


def _served(estimator: Any, path: Path, threads: int) -> SklearnModel:
    # NumPy is loaded by now, so that no environment variable reaches its linear algebra; OpenMP's threads are set by one.
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads, user_api="blas")
    # Features are given by their order where the estimator takes that; it would warn of it at each request.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    return SklearnModel(estimator, path)
