# SPDX-License-Identifier: Apache-2.0
"""What is loaded is what the digest says, in a format that is allowed; and it answers as the model itself does."""

from __future__ import annotations

import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io

from airflow_mlops.artifacts import digest_path
from airflow_mlops.serving.server.errors import ModelRefused, PackageMissing, RequestInvalid
from airflow_mlops.serving.server.models import load
from airflow_mlops.serving.server.protocol import InferRequest
from airflow_mlops.serving.server.settings import Settings
from tests.parts.model_server import iris, iris_onnx

pytestmark = pytest.mark.slow

FLOWER = [6.0, 3.0, 5.0, 2.0]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], FLOWER])


def settings_of(path: Path, **more: Any) -> Settings:
    return Settings(model=path, name="iris", version="3", digest=digest_path(path).digest, **more)


def request_of(datatype: str = "FP64", outputs: tuple[str, ...] | None = None, **inputs: Any) -> InferRequest:
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    return InferRequest(None, arrays, dict.fromkeys(inputs, datatype), outputs)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxruntime", "skl2onnx"):
        pytest.importorskip(package, reason="makes or loads models in ONNX; run: pip install onnxruntime skl2onnx")
    return iris_onnx(tmp_path_factory.mktemp("onnx") / "model.onnx", options={"zipmap": False})


class TestWhichModel:
    def test_another_digest_is_refused(self, skops_file: Path, tmp_path: Path) -> None:
        settings = settings_of(skops_file)
        changed = tmp_path / "model.skops"
        changed.write_bytes(skops_file.read_bytes() + b"\n")
        with pytest.raises(ModelRefused, match=r"has the digest sha256:\w+; expected sha256:\w+"):
            load(replace(settings, model=changed))

    def test_a_file_that_was_added_to_a_folder_is_refused(self, skops_file: Path, tmp_path: Path) -> None:
        shutil.copy(skops_file, tmp_path / "model.skops")
        settings = settings_of(tmp_path)
        assert load(settings).platform == "sklearn"
        (tmp_path / "evil.bin").touch()
        with pytest.raises(ModelRefused, match="has the digest"):
            load(settings)

    def test_a_model_that_is_not_there_is_refused(self, skops_file: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelRefused, match="does not exist"):
            load(replace(settings_of(skops_file), model=tmp_path / "gone.skops"))

    def test_links_are_refused(self, skops_file: Path, tmp_path: Path) -> None:
        (tmp_path / "model.skops").symlink_to(skops_file)
        with pytest.raises(ModelRefused, match="link"):
            load(replace(settings_of(skops_file), model=tmp_path / "model.skops"))

    @pytest.mark.parametrize("names", [["notes.txt"], ["a.skops", "b.onnx"], []])
    def test_a_folder_holds_exactly_one_model(self, names: list[str], tmp_path: Path) -> None:
        (tmp_path / "README").touch()
        for name in names:
            (tmp_path / name).touch()
        with pytest.raises(ModelRefused, match="expected one file"):
            load(settings_of(tmp_path))

    def test_a_file_of_an_unknown_suffix_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.bin").touch()
        with pytest.raises(ModelRefused, match="no suffix of a model"):
            load(settings_of(tmp_path / "model.bin"))


class Touches:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


class TestPickle:
    def test_it_is_refused_before_any_of_its_code_runs(self, tmp_path: Path) -> None:
        (tmp_path / "model.pkl").write_bytes(pickle.dumps(Touches(tmp_path / "ran")))
        with pytest.raises(ModelRefused, match="format pickle, which is not allowed here"):
            load(settings_of(tmp_path / "model.pkl"))
        assert not (tmp_path / "ran").exists()
        with pytest.raises(ModelRefused, match="no method predict"):
            load(settings_of(tmp_path / "model.pkl", formats=("pickle",)))
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize("suffix", ["pkl", "pickle", "joblib"])
    def test_it_is_served_where_it_is_allowed(self, suffix: str, tmp_path: Path) -> None:
        (tmp_path / f"model.{suffix}").write_bytes(pickle.dumps(iris()))
        model = load(settings_of(tmp_path / f"model.{suffix}", formats=("onnx", "pickle")))
        assert model.predict(request_of(input=ROWS))["predict"].tolist() == [0, 2]

    def test_one_that_is_called_skops_is_not_unpickled(self, tmp_path: Path) -> None:
        (tmp_path / "model.skops").write_bytes(pickle.dumps(Touches(tmp_path / "ran")))
        with pytest.raises(ModelRefused, match="cannot be read by skops"):
            load(settings_of(tmp_path / "model.skops"))
        assert not (tmp_path / "ran").exists()


class TestSkops:
    def test_it_answers_as_the_estimator_does(self, skops_file: Path) -> None:
        found = load(settings_of(skops_file)).predict(request_of(input=ROWS))
        assert found["predict"].tolist() == [0, 2]
        assert np.allclose(found["predict_proba"], iris().predict_proba(ROWS))

    def test_it_says_what_it_takes_and_gives(self, skops_file: Path) -> None:
        model = load(settings_of(skops_file))
        assert [one.to_json() for one in model.inputs] == [{"name": "input", "datatype": "FP64", "shape": [-1, 4]}]
        assert [one.to_json() for one in model.outputs] == [
            {"name": "predict", "datatype": "INT64", "shape": [-1]},
            {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3], "parameters": {"columns": ["0", "1", "2"]}},
        ]

    def test_only_what_is_asked_for_is_answered(self, skops_file: Path) -> None:
        model = load(settings_of(skops_file))
        assert list(model.predict(request_of(input=ROWS, outputs=("predict",)))) == ["predict"]
        with pytest.raises(RequestInvalid, match=r"asks for the outputs 'x'; the model gives predict, predict_proba"):
            model.predict(request_of(input=ROWS, outputs=("x",)))

    @pytest.mark.parametrize("request_", [
        request_of(input=[FLOWER[:3]]), request_of(input=FLOWER), request_of(input=[[FLOWER]]),
        request_of(x=[FLOWER]), request_of(input=[FLOWER], x=[1.0]),
        request_of("BYTES", input=np.array([list("abcd")], dtype=object)), request_of(input=[[*FLOWER[:3], np.nan]]),
    ])  # fmt: skip
    def test_what_it_does_not_take_is_the_clients_fault(self, request_: InferRequest, skops_file: Path) -> None:
        with pytest.raises(RequestInvalid):
            load(settings_of(skops_file)).predict(request_)

    def test_types_that_are_not_trusted_are_refused_and_named(self, tmp_path: Path) -> None:
        from sklearn.tree import DecisionTreeClassifier

        skops.io.dump(DecisionTreeClassifier().fit(ROWS, ["a", "b"]), tmp_path / "tree.skops")
        with pytest.raises(ModelRefused, match=r"not trusted: sklearn\.tree\._tree\.Tree; .* MLOPS_SERVE_TRUSTED"):
            load(settings_of(tmp_path / "tree.skops"))
        model = load(settings_of(tmp_path / "tree.skops", trusted=("sklearn.tree._tree.Tree",)))
        assert model.predict(request_of(input=ROWS))["predict"].tolist() == ["a", "b"]
        assert model.outputs[0].datatypes == ("BYTES",)

    def test_a_table_of_words_and_numbers_is_given_by_columns(self, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        from sklearn.compose import make_column_transformer
        from sklearn.linear_model import LinearRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        table = pandas.DataFrame({"town": ["Ulm", "Bonn", "Ulm"], "age": [1.0, 2.0, 3.0]})
        columns = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
        skops.io.dump(make_pipeline(columns, LinearRegression()).fit(table, [1.0, 5.0, 3.0]), tmp_path / "model.skops")
        trusted = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
        model = load(settings_of(tmp_path / "model.skops", trusted=tuple(trusted)))
        assert model.inputs[0].to_json()["parameters"] == {"columns": ["town", "age"]}
        town = np.array(["Bonn", "Ulm"], dtype=object)
        for age in (np.array([2.0, 3.0]), np.array([[2.0], [3.0]])):
            assert model.predict(request_of(town=town, age=age))["predict"] == pytest.approx([5.0, 3.0])
        for wrong in ({"town": town}, {"town": town, "age": np.zeros(3)}, {"town": town, "age": np.zeros((2, 2))}):
            with pytest.raises(RequestInvalid):
                model.predict(request_of(**wrong))

    def test_a_model_of_words_takes_words(self, tmp_path: Path) -> None:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline

        words = ["good film", "bad film"]
        skops.io.dump(make_pipeline(CountVectorizer(), MultinomialNB()).fit(words, [True, False]), tmp_path / "m.skops")
        model = load(settings_of(tmp_path / "m.skops"))
        assert (model.inputs[0].datatypes, model.inputs[0].shape) == (("BYTES",), (-1,))
        answer = model.predict(request_of("BYTES", input=np.array(words, dtype=object)))
        assert answer["predict"].tolist() == [True, False]
        assert model.outputs[0].datatypes == ("BOOL",)

    def test_what_predicts_nothing_is_refused(self, tmp_path: Path) -> None:
        from sklearn.preprocessing import StandardScaler

        skops.io.dump(StandardScaler().fit(ROWS), tmp_path / "model.skops")
        with pytest.raises(ModelRefused, match="a StandardScaler, which has no method predict"):
            load(settings_of(tmp_path / "model.skops"))

    def test_without_skops_the_error_says_what_to_install(
        self, skops_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "skops", None)
        monkeypatch.setitem(sys.modules, "skops.io", None)
        with pytest.raises(PackageMissing, match="install skops and scikit-learn"):
            load(settings_of(skops_file))


class TestOnnx:
    def test_it_answers_as_the_estimator_does(self, onnx_file: Path) -> None:
        model = load(settings_of(onnx_file))
        assert [one.to_json() for one in model.inputs] == [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
        label, probability = (one.name for one in model.outputs)
        found = model.predict(request_of("FP32", X=ROWS.astype(np.float32)))
        assert found[label].tolist() == [0, 2]
        assert np.allclose(found[probability], iris().predict_proba(ROWS), atol=1e-5)

    def test_probabilities_by_label_become_a_matrix(self, onnx_file: Path, tmp_path: Path) -> None:
        model = load(settings_of(iris_onnx(tmp_path / "model.onnx")))
        found = model.predict(request_of("FP32", X=ROWS.astype(np.float32)))
        assert np.allclose(found[model.outputs[1].name], iris().predict_proba(ROWS), atol=1e-5)

    @pytest.mark.parametrize(
        "datatype, rows", [("FP64", ROWS), ("FP32", ROWS[:, :3]), ("FP32", ROWS[0]), ("INT64", ROWS)]
    )
    def test_another_type_or_shape_is_refused(self, datatype: str, rows: Any, onnx_file: Path) -> None:
        with pytest.raises(RequestInvalid, match="expected"):
            load(settings_of(onnx_file)).predict(request_of(datatype, X=rows))

    def test_what_is_no_onnx_is_refused(self, onnx_file: Path, tmp_path: Path) -> None:
        for data in (b"", b"x" * 100, onnx_file.read_bytes()[:200]):
            (tmp_path / "model.onnx").write_bytes(data)
            with pytest.raises(ModelRefused, match="cannot be loaded by ONNX Runtime"):
                load(settings_of(tmp_path / "model.onnx"))

    def test_weights_in_another_file_count_only_where_the_digest_covers_them(
        self, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        shape = [None, 3]
        graph = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(np.ones(3, np.float32), "w")],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        (tmp_path / "m").mkdir()
        onnx.save(made, tmp_path / "m" / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        answer = load(settings_of(tmp_path / "m")).predict(request_of("FP32", x=np.zeros((1, 3), np.float32)))
        assert answer["y"].tolist() == [[1.0, 1.0, 1.0]]
        monkeypatch.chdir(tmp_path / "m")
        with pytest.raises(ModelRefused, match="External data"):
            load(settings_of(tmp_path / "m" / "model.onnx"))

    def test_lengths_that_are_tied_to_each_other_are_the_clients_fault(self, onnx_file: Path, tmp_path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "abc"]
        graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", values[:2], values[2:])
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx"
        )
        model = load(settings_of(tmp_path / "m.onnx"))
        with pytest.raises(RequestInvalid, match="together"):
            model.predict(request_of("FP32", a=np.zeros(2, np.float32), b=np.zeros(3, np.float32)))

    def test_without_onnxruntime_the_error_says_what_to_install(
        self, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(PackageMissing, match="install onnxruntime"):
            load(settings_of(onnx_file))


ONNX_IN_MLFLOW = (
    "flavors:\n  onnx: {data: model.onnx, onnx_version: 1.23.2}\n  python_function: {loader_module: mlflow.onnx}\n"
)
SKOPS_IN_MLFLOW = (
    "flavors:\n  sklearn: {pickled_model: model.skops, serialization_format: skops, skops_trusted_types: [os.system]}\n"
)


class TestMlflowFolder:
    def test_one_that_is_skops_inside_is_loaded_without_mlflow(
        self, skops_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "mlflow", None)
        shutil.copy(skops_file, tmp_path / "model.skops")
        (tmp_path / "MLmodel").write_text(SKOPS_IN_MLFLOW)
        assert load(settings_of(tmp_path)).predict(request_of(input=ROWS))["predict"].tolist() == [0, 2]

    def test_the_types_that_it_trusts_itself_do_not_count(self, tmp_path: Path) -> None:
        from sklearn.tree import DecisionTreeClassifier

        skops.io.dump(DecisionTreeClassifier().fit(ROWS, [0, 1]), tmp_path / "model.skops")
        (tmp_path / "MLmodel").write_text(SKOPS_IN_MLFLOW.replace("os.system", "sklearn.tree._tree.Tree"))
        with pytest.raises(ModelRefused, match="not trusted"):
            load(settings_of(tmp_path))

    def test_one_that_is_onnx_inside_is_loaded_without_mlflow(
        self, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "mlflow", None)
        shutil.copy(onnx_file, tmp_path / "model.onnx")
        (tmp_path / "MLmodel").write_text(ONNX_IN_MLFLOW)
        assert load(settings_of(tmp_path)).platform == "onnxruntime_onnx"

    @pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "gone.onnx", "", "[1]", "{a: b}"])
    def test_a_file_that_it_names_lies_within_it(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").touch()
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "MLmodel").write_text(ONNX_IN_MLFLOW.replace("model.onnx", name))
        with pytest.raises(ModelRefused, match="names the file"):
            load(settings_of(tmp_path / "m"))

    def test_any_other_one_runs_code_and_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}\n")
        with pytest.raises(ModelRefused, match="format pyfunc, which is not allowed here"):
            load(settings_of(tmp_path))

    @pytest.mark.parametrize(
        "text", ["", "[", "a: *b", "!!python/object/apply:os.system [id]", "flavors: 1", "x" * 300_000, "[" * 100_000]
    )
    def test_what_is_no_mlmodel_file_is_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "MLmodel").write_text(text)
        with pytest.raises(ModelRefused, match="MLmodel"):
            load(settings_of(tmp_path))


FROM_CODE = """
import mlflow

class Doubles(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"] * 2

mlflow.models.set_model(Doubles())
"""


@pytest.fixture
def mlflow_pyfunc(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``mlflow.pyfunc``; what loading a model sets in the environment is set back."""
    for name in ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "true")
    return pytest.importorskip(
        "mlflow.pyfunc", reason="makes and loads MLflow's models; run: pip install mlflow-skinny"
    )


class TestPyfunc:
    def test_a_model_that_is_code_is_given_columns(self, mlflow_pyfunc: Any, tmp_path: Path) -> None:
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, Schema

        (tmp_path / "code.py").write_text(FROM_CODE)
        takes = Schema([ColSpec("double", "a"), ColSpec("string", "b", required=False)])
        signature = ModelSignature(inputs=takes, outputs=Schema([ColSpec("double")]))
        folder = tmp_path / "model"
        mlflow_pyfunc.save_model(
            folder, python_model=str(tmp_path / "code.py"), signature=signature, pip_requirements=[]
        )
        model = load(settings_of(folder, formats=("pyfunc",)))
        assert [(one.name, one.datatypes, one.optional) for one in model.inputs] == [
            ("a", ("FP64",), False),
            ("b", ("BYTES",), True),
        ]
        for rows in (np.array([1.0, 2.0]), np.array([[1.0], [2.0]])):
            assert model.predict(request_of(a=rows))["predict"].tolist() == [2.0, 4.0]
        for wrong in (request_of(b=[1.0]), request_of("FP32", a=[1.0]), request_of(a=[1.0], c=[1.0])):
            with pytest.raises(RequestInvalid):
                model.predict(wrong)

    def test_pickles_in_it_are_refused_unless_they_are_allowed_too(self, mlflow_pyfunc: Any, tmp_path: Path) -> None:
        from mlflow.models import ModelSignature
        from mlflow.types.schema import Schema, TensorSpec

        class Sums(mlflow_pyfunc.PythonModel):  # type: ignore[misc]
            def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
                return model_input.sum(axis=1)

        takes = Schema([TensorSpec(np.dtype("float32"), (-1, 2))])
        signature = ModelSignature(inputs=takes, outputs=Schema([TensorSpec(np.dtype("float32"), (-1,))]))
        folder = tmp_path / "model"
        mlflow_pyfunc.save_model(folder, python_model=Sums(), signature=signature, pip_requirements=[])
        with pytest.raises(ModelRefused, match="pickle is disallowed"):
            load(settings_of(folder, formats=("pyfunc",)))
        model = load(settings_of(folder, formats=("pyfunc", "pickle")))
        assert model.predict(request_of("FP32", input=np.ones((3, 2), np.float32)))["predict"].tolist() == [2.0] * 3
        with pytest.raises(RequestInvalid, match="has the shape"):
            model.predict(request_of("FP32", input=np.ones((3, 3), np.float32)))

    def test_without_mlflow_the_error_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_pyfunc: Any
    ) -> None:
        (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: os}}\n")
        for name in ("mlflow", "mlflow.pyfunc"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(PackageMissing, match="install mlflow"):
            load(settings_of(tmp_path, formats=("pyfunc",)))
