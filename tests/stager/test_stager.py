# SPDX-License-Identifier: Apache-2.0
"""The stager by itself: the built program, a real S3 server, files and folders that a step might leave."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.artifacts import OutputInvalid, OutputMissing, Store, digest_path
from airflow_mlops.artifacts.uploads import RECORD, collect_uploaded
from airflow_mlops.spec.parts import Output
from tests.parts.images import stager_program
from tests.parts.proxy import Proxy, proxied
from tests.parts.requirement import Unavailable, unavailable
from tests.parts.s3 import KEY, SECRET, S3Server, new_bucket

pytestmark = [pytest.mark.s3, pytest.mark.slow]

ATTEMPT = "run/step/-/1/abc"
RUN_SECONDS = 60


class Bench:
    """A store, a pod's folder, and the stager between them."""

    def __init__(self, program: Path, server: S3Server, folder: Path) -> None:
        self._program, self._server = program, server
        self.url, options = new_bucket(server)
        self.store = Store.open(self.url, options)
        self.root = folder / "mlops"
        self.root.mkdir()
        self.said = folder / "said.json"
        self.port = int(server.url.rpartition(":")[2])

    @property
    def bucket(self) -> str:
        name = self.url.removeprefix("s3://").partition("/")[0]
        return f"s3://{name}?region=us-east-1&endpoint=http://127.0.0.1:{self.port}&use_path_style=true"

    def key(self, key: str) -> str:
        """A key of the store as the bucket has it."""
        return f"prefix/{key}"

    def job(self, **changes: Any) -> dict[str, Any]:
        out = {
            "bucket": self.bucket,
            "key": self.key(ATTEMPT),
            "record": RECORD,
            "seal": "step.json",
            "stopped": "stopped.json",
        }
        job = {"version": 2, "root": str(self.root), "in": [], "files": [], "source": None, "checkpoint": None}
        return {**job, "out": {**out, "outputs": {}}, **changes}

    def input(self, key: str, path: str, **changes: Any) -> dict[str, Any]:
        return {
            "bucket": self.bucket,
            "key": self.key(key),
            "path": path,
            "uri": self.store.uri(key),
            "digest": "",
            "size": None,
            **changes,
        }

    def environment(self, job: dict[str, Any] | str) -> dict[str, str]:
        return {
            "MLOPS_STAGER_JOB": job if isinstance(job, str) else json.dumps(job),
            "MLOPS_TERMINATION_MESSAGE": str(self.said),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def bring(self, job: dict[str, Any] | str) -> int:
        """Stage in; the exit code."""
        done = subprocess.run([self._program, "in"], env=self.environment(job), timeout=RUN_SECONDS, check=False)
        return done.returncode

    def take(self, outputs: dict[str, str], sealed: bool = True, **changes: Any) -> int:
        """Stage out, as when the program has just ended; the exit code."""
        if sealed:
            self.store.put_if_absent(f"{ATTEMPT}/step.json", b"{}")
        job = self.job(**changes)
        job["out"]["outputs"] = outputs
        process = subprocess.Popen([self._program, "out"], env=self.environment(job))
        subprocess.run([self._program, "ready"], env=self.environment(job), timeout=RUN_SECONDS, check=True)
        process.send_signal(signal.SIGTERM)
        return process.wait(RUN_SECONDS)

    def message(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.said.read_text())
        return said


@pytest.fixture
def bench(s3_server: S3Server, tmp_path: Path) -> Bench:
    try:
        return Bench(stager_program(), s3_server, tmp_path)
    except (Unavailable, subprocess.SubprocessError) as reason:
        unavailable("kubernetes", reason)


def write_tree(folder: Path, seed: int) -> None:
    """Files of some sizes, with names that sort differently by bytes than by letters."""
    random.seed(seed)
    for name in ("a", "a-b", "a/b" if seed % 2 else "a.d/b", "Z", "ü", "z z/1", "z z/2"):
        path = folder / name if name != "a" or not seed % 2 else folder / "a0"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(random.choice((0, 1, 511, 70_000))))


def test_where_nothing_is_brought_the_sidecar_makes_the_programs_folders(bench: Bench) -> None:
    assert bench.take({"train": "csv/train.csv", "data": ""}) == 0
    made = [bench.root / name for name in ("outputs", "outputs/train", "outputs/train/csv", "tmp", "inputs")]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o777] * 4 + [0o755]


def test_a_file_in_the_place_of_an_outputs_folder_is_told_with_the_outputs(bench: Bench) -> None:
    (bench.root / "outputs").mkdir()
    (bench.root / "outputs" / "model").write_text("no folder")
    assert bench.take({"model": "m.bin"}) == 0
    with pytest.raises(OutputMissing, match="output 'model' was not written"):
        collect_uploaded(bench.store, ATTEMPT, {"model": Output.model_validate({"type": "model", "file": "m.bin"})})


@pytest.mark.parametrize("seed", range(4))
def test_what_it_takes_has_the_digest_that_the_package_gives_it(bench: Bench, seed: int, tmp_path: Path) -> None:
    tree = bench.root / "outputs" / "data"
    write_tree(tree, seed)
    (bench.root / "outputs" / "one").write_bytes(b"x" * seed)
    assert bench.take({"data": "", "one": ""}) == 0
    said = bench.message()
    assert said["files"] == 1 + sum(path.is_file() for path in tree.rglob("*"))
    assert said["bytes"] == seed + sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    declared = {name: Output.model_validate("dataset") for name in ("data", "one")}
    found = collect_uploaded(bench.store, ATTEMPT, declared)
    for name in declared:
        here = digest_path(bench.root / "outputs" / name)
        there = found.artifacts[name]
        assert (there.digest, there.size, there.is_tree) == (here.digest, here.size, here.is_tree)
    # And what it brings is that again.
    digest, size = found.artifacts["data"].digest, found.artifacts["data"].size
    job = bench.job(**{"in": [bench.input(f"{ATTEMPT}/outputs/data", "back", digest=digest, size=size)]})
    assert bench.bring(job) == 0
    assert digest_path(bench.root / "inputs" / "back").digest == digest


def test_a_large_file_goes_in_parts_both_ways(bench: Bench) -> None:
    (bench.root / "outputs").mkdir()
    content = random.Random(1).randbytes(75 << 20)
    (bench.root / "outputs" / "big").write_bytes(content)
    assert bench.take({"big": ""}) == 0
    artifact = collect_uploaded(bench.store, ATTEMPT, {"big": Output.model_validate("dataset")}).artifacts["big"]
    place = bench.input(f"{ATTEMPT}/outputs/big", "big/big.bin", digest=artifact.digest, size=artifact.size)
    assert bench.bring(bench.job(**{"in": [place]})) == 0
    assert (bench.root / "inputs" / "big" / "big.bin").read_bytes() == content


def put(bench: Bench, key: str, data: bytes) -> None:
    assert bench.store.put_if_absent(key, data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digest": "sha256:" + "0" * 64}, "was changed after its commit: it has digest"),
        ({"size": 7}, "was changed after its commit: it has 5 bytes, and 7 were committed"),
        ({"key": "prefix/none"}, "is gone from the store; clear the step that made it"),
    ],
)
def test_an_input_that_is_not_what_was_committed_is_told_from_a_store_that_fails(
    bench: Bench, change: dict[str, Any], said: str
) -> None:
    put(bench, "data", b"hello")
    assert bench.bring(bench.job(**{"in": [bench.input("data", "data") | change]})) == 3
    assert bench.message()["class"] == "artifact" and said in bench.message()["message"]


@pytest.mark.parametrize(
    "job",
    [
        "{",
        '{"version": 1}',
        json.dumps({"version": 2, "root": "/mlops", "surprise": 1}),
        json.dumps({"version": 2, "root": "mlops"}),
        json.dumps({"version": 2, "root": "/mlops", "in": [{"path": "../../etc/x"}]}),
        json.dumps({"version": 2, "root": "/mlops", "out": {"outputs": {"../x": ""}}}),
    ],
)
def test_a_job_of_another_form_is_refused(bench: Bench, job: str) -> None:
    assert bench.bring(job) == 1
    assert "MLOPS_STAGER_JOB" in bench.message()["message"]


def packed(*members: tuple[str, bytes, bytes]) -> bytes:
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content)
            if kind == tarfile.SYMTYPE:
                member.linkname, member.size = content.decode(), 0
            tar.addfile(member, BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("../out.sh", tarfile.REGTYPE, b"x"),
        ("/tmp/out.sh", tarfile.REGTYPE, b"x"),
        ("link", tarfile.SYMTYPE, b"/etc/passwd"),
        ("pipe", tarfile.FIFOTYPE, b""),
        ("a/../../out.sh", tarfile.REGTYPE, b"x"),
    ],
)
def test_step_code_that_is_more_than_files_is_refused(bench: Bench, name: str, kind: bytes, content: bytes) -> None:
    put(bench, "code.tar", packed((name, kind, content)))
    source = {"bucket": bench.bucket, "key": bench.key("code.tar"), "path": "source", "digest": ""}
    assert bench.bring(bench.job(source=source)) == 3
    assert not (bench.root.parent / "out.sh").exists() and not (bench.root / "out.sh").exists()
    assert [*(bench.root / "source").iterdir()] == []


def test_step_code_that_was_changed_is_refused(bench: Bench) -> None:
    put(bench, "code.tar", packed(("fit.sh", tarfile.REGTYPE, b"echo")))
    source = {"bucket": bench.bucket, "key": bench.key("code.tar"), "path": "source", "digest": "sha256:" + "0" * 64}
    assert bench.bring(bench.job(source=source)) == 3
    assert "was changed since it was packed" in bench.message()["message"]


def refused_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def refused_pipe(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "pipe")


def refused_hard_link(path: Path) -> None:
    path.mkdir()
    (path / "a").write_text("x")
    os.link(path / "a", path.parent / "other-name")


def refused_name(path: Path) -> None:
    path.mkdir()
    (path / "a\nb").write_text("x")


def refused_bytes(path: Path) -> None:
    path.mkdir()
    Path(os.fsdecode(os.fsencode(path) + b"/\xff")).write_text("x")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (refused_link, "is a symbolic link"),
        (refused_pipe, "is no regular file but a named pipe"),
        (refused_hard_link, "has 2 names (hard links)"),
        (refused_name, "control characters"),
        (refused_bytes, "not UTF-8"),
        (Path.mkdir, "is an empty folder"),
    ],
)
def test_what_no_artifact_may_hold_is_refused_and_the_others_are_taken(
    bench: Bench, make: Callable[[Path], None], said: str
) -> None:
    outputs = bench.root / "outputs"
    outputs.mkdir()
    (outputs / "good").write_text("x")
    make(outputs / "bad")
    assert bench.take({"good": "", "bad": "", "none": "none.csv"}) == 0
    declared = {name: Output.model_validate("dataset") for name in ("good", "bad")}
    with pytest.raises(OutputInvalid) as error:
        collect_uploaded(bench.store, ATTEMPT, {**declared, "none": Output(type="dataset", file="none.csv")})
    assert said in str(error.value) and "output 'none' was not written" in str(error.value)
    assert bench.store.exists(f"{ATTEMPT}/outputs/good") and not bench.store.exists(f"{ATTEMPT}/outputs/bad")


@pytest.mark.parametrize("how", ["removed", "stopped"])
def test_outputs_that_nobody_waits_for_stay_where_they_are_and_checkpoints_do_not(bench: Bench, how: str) -> None:
    (bench.root / "outputs").mkdir()
    (bench.root / "outputs" / "data").write_text("x")
    (bench.root / "checkpoint").mkdir()
    (bench.root / "checkpoint" / "epoch").write_text("3")
    if how == "stopped":
        put(bench, f"{ATTEMPT}/stopped.json", b"{}")
    checkpoint = {"bucket": bench.bucket, "key": bench.key("checkpoint")}
    assert bench.take({"data": ""}, sealed=how == "stopped", checkpoint=checkpoint) == 0
    assert bench.store.read("checkpoint/epoch", 10) == b"3"
    assert not bench.store.exists(f"{ATTEMPT}/{RECORD}") and not bench.store.exists(f"{ATTEMPT}/outputs")


@pytest.fixture
def proxy(bench: Bench) -> Iterator[Proxy]:
    with proxied(("127.0.0.1", 0), ("127.0.0.1", bench.port)) as made:
        bench.port = made.port
        yield made


@pytest.mark.parametrize("deed", ["fail", "cut"])
def test_a_store_that_fails_for_a_moment_costs_nothing(bench: Bench, proxy: Proxy, deed: Any) -> None:
    (bench.root / "outputs").mkdir()
    (bench.root / "outputs" / "data").write_text("x")
    rule = proxy.rule("(PUT|GET|HEAD) ", deed)

    def back() -> None:
        rule.reached.wait(RUN_SECONDS)
        rule.released.wait(0.3)
        rule.released.set()

    threading.Thread(target=back, daemon=True).start()
    bench.port = proxy.port
    assert bench.take({"data": ""}) == 0
    assert rule.reached.is_set()
    assert collect_uploaded(bench.store, ATTEMPT, {"data": Output.model_validate("dataset")}).artifacts


def test_a_store_that_refuses_is_an_infrastructure_failure(bench: Bench) -> None:
    put(bench, "data", b"x")
    job = bench.job(**{"in": [bench.input("data", "data")]})
    environment = bench.environment(job) | {"AWS_SECRET_ACCESS_KEY": "another"}
    done = subprocess.run([stager_program(), "in"], env=environment, timeout=RUN_SECONDS, check=False)
    assert done.returncode == 1
    assert bench.message()["class"] == "infrastructure" and "cannot be read" in bench.message()["message"]


def test_a_checkpoint_that_cannot_be_kept_costs_no_outputs(bench: Bench) -> None:
    (bench.root / "outputs").mkdir()
    (bench.root / "outputs" / "data").write_text("x")
    (bench.root / "checkpoint").mkdir()
    (bench.root / "checkpoint" / "latest").symlink_to("epoch-3")
    checkpoint = {"bucket": bench.bucket, "key": bench.key("checkpoint")}
    assert bench.take({"data": ""}, checkpoint=checkpoint) == 0
    assert collect_uploaded(bench.store, ATTEMPT, {"data": Output.model_validate("dataset")}).artifacts
