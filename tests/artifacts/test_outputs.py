# SPDX-License-Identifier: Apache-2.0
"""Every declared output is collected; all that is wrong comes in one error, with where and what was there instead."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest

from airflow_mlops.artifacts import OutputInvalid, OutputMissing, collect, digest_path
from airflow_mlops.artifacts.parameters import MAX_PARAMETER
from airflow_mlops.spec.parts import Output


def declared(**outputs: object) -> dict[str, Output]:
    return {name: Output.model_validate(output) for name, output in outputs.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "outputs"
    made.mkdir()
    return made


def test_files_folders_parameters_and_metrics_are_collected(folder: Path) -> None:
    (folder / "train").write_text("1,2\n")
    (folder / "model").mkdir()
    (folder / "model" / "model.skops").write_bytes(b"m")
    (folder / "shards").mkdir()
    (folder / "shards" / "0").write_bytes(b"s")
    (folder / "rows").write_text("42\n")
    (folder / "metrics").write_text('{"auc": 0.9, "note": {"type": "text", "text": "ok"}}')
    outputs = declared(
        train="dataset",
        model={"type": "model", "file": "model.skops"},
        shards="artifact",
        rows="integer",
        metrics={"type": "metrics", "keys": ["auc"]},
    )
    found = collect(folder, outputs)
    assert found.parameters == {"rows": 42}
    assert found.metrics == {"metrics": {"auc": 0.9}}
    assert set(found.artifacts) == {"train", "model", "shards", "metrics"}
    assert found.artifacts["model"].digest == digest_path(folder / "model" / "model.skops").digest
    assert found.artifacts["shards"].is_tree
    assert not found.artifacts["train"].is_tree
    assert found.hash_seconds > 0


def test_a_file_that_has_another_name_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("original")
    os.link(tmp_path / "mine", folder / "train")
    (folder / "shards").mkdir()
    os.link(tmp_path / "mine", folder / "shards" / "0")
    with pytest.raises(OutputInvalid, match="has 3 names") as caught:
        collect(folder, declared(train="dataset", shards="artifact"))
    assert "write a copy of it" in str(caught.value)


def test_what_is_not_declared_does_not_count(folder: Path) -> None:
    (folder / "train").write_text("1")
    (folder / "extra").write_text("1")
    assert set(collect(folder, declared(train="dataset")).artifacts) == {"train"}


def test_a_missing_output_is_named_with_its_path_and_what_is_beside_it(folder: Path) -> None:
    (folder / "trian").write_text("1")
    (folder / "logs").mkdir()
    with pytest.raises(OutputMissing) as failure:
        collect(folder, declared(train="dataset"))
    assert str(failure.value) == (
        "output 'train' was not written: expected a file or folder at outputs/train "
        "(its path is in MLOPS_OUTPUT_TRAIN); the program wrote logs/, trian"
    )


def test_a_missing_file_is_looked_for_in_its_own_folder(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "model.pkl").write_text("1")
    with pytest.raises(OutputMissing, match=r"outputs/model/model\.skops .*the program wrote model/model\.pkl"):
        collect(folder, declared(model={"type": "model", "file": "model.skops"}))


@pytest.mark.parametrize("exists", [True, False])
def test_a_program_that_wrote_nothing_is_told_so(folder: Path, exists: bool) -> None:
    if not exists:
        folder.rmdir()
    with pytest.raises(OutputMissing, match="the program wrote nothing"):
        collect(folder, declared(train="dataset", rows="integer"))


def test_all_problems_come_in_one_error(folder: Path) -> None:
    (folder / "rows").write_text("many")
    (folder / "flag").write_text("1")
    (folder / "metrics").write_text('{"auc": NaN}')
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "empty").mkdir()
    outputs = declared(
        train="dataset", rows="integer", flag="boolean", metrics="metrics", link="dataset", empty="dataset"
    )
    with pytest.raises(OutputInvalid) as failure:
        collect(folder, outputs)
    assert not isinstance(failure.value, OutputMissing)
    assert len(failure.value.problems) == 6
    for name in outputs:
        assert f"output '{name}'" in str(failure.value)


def test_a_listing_of_what_was_written_is_bounded_and_printable(folder: Path) -> None:
    for number in range(500):
        (folder / f"file-{number:03}").touch()
    (folder / "\x1b[31mred").touch()
    with pytest.raises(OutputMissing) as failure:
        collect(folder, declared(train="dataset"))
    assert "and 481 more files" in str(failure.value)
    assert "\x1b" not in str(failure.value)
    assert len(str(failure.value)) < 1000


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    (path.parent / "target").write_text("1")
    path.symlink_to("target")


def make_big(path: Path) -> None:
    path.write_bytes(b" " * (MAX_PARAMETER + 1))


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [make_folder, make_link, make_big, make_pipe])
def test_a_parameter_must_be_a_small_regular_file(folder: Path, make: object) -> None:
    make(folder / "rows")  # type: ignore[operator]
    with pytest.raises(OutputInvalid, match="output 'rows'") as failure:
        collect(folder, declared(rows="integer"))
    assert not isinstance(failure.value, OutputMissing)


def test_a_linked_folder_on_the_way_to_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "id_rsa").write_text("private")
    (folder / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputInvalid, match="symbolic link"):
        collect(folder, declared(model={"type": "model", "file": "id_rsa"}))


def test_outputs_that_are_a_link_themselves_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "train").write_text("1")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OutputInvalid, match="symbolic link"):
        collect(tmp_path / "link", declared(train="dataset"))


def test_a_folder_where_a_file_was_declared_is_refused(folder: Path) -> None:
    (folder / "model" / "model.skops").mkdir(parents=True)
    (folder / "model" / "model.skops" / "part").write_text("1")
    with pytest.raises(OutputInvalid, match="is a folder; expected a file"):
        collect(folder, declared(model={"type": "model", "file": "model.skops"}))


def test_an_output_at_a_uri_is_not_looked_for(folder: Path) -> None:
    found = collect(folder, declared(rows={"type": "dataset", "uri": "s3://lake/rows", "digest": "none"}))
    assert not found.artifacts


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of another user, which only root can make")
@pytest.mark.parametrize("what", ["file", "folder", "parameter"])
def test_what_belongs_to_another_user_is_refused_with_the_uid(what: str) -> None:
    # Not below pytest's own folder, which is root's alone.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "outputs"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "rows").write_text("1")
        (folder / "n").write_text("1")
        target = {"file": folder / "data" / "rows", "folder": folder / "data", "parameter": folder / "n"}[what]
        target.chmod(0o600 if target.is_file() else 0o700)
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.setuid(4711)
                collect(folder, {"data": Output(type="dataset"), "n": Output(type="integer")})
            except BaseException as error:
                os.write(write, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        said = os.read(read, 4096).decode()
        os.close(read)
    assert said.startswith("OutputInvalid")
    assert re.search(
        rf"{target} belongs to uid 0 and has mode 0[67]00, so that the worker \(uid 4711\) may not read it", said
    )
