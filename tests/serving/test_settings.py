# SPDX-License-Identifier: Apache-2.0
"""What the environment says becomes settings, or one error that names every variable that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_mlops.serving.server.errors import SettingsInvalid
from airflow_mlops.serving.server.settings import _READERS, Settings
from tests.parts.images import ROOT

GOOD = {
    "MLOPS_SERVE_MODEL": "/model/model.onnx",
    "MLOPS_SERVE_NAME": "churn",
    "MLOPS_SERVE_VERSION": "3",
    "MLOPS_SERVE_DIGEST": f"sha256:{'a' * 64}",
}


def test_four_are_enough_and_the_rest_is_safe() -> None:
    settings = Settings.from_environment(GOOD | {"PATH": "/bin"})
    assert settings.model == Path("/model/model.onnx")
    assert (settings.host, settings.formats, settings.trusted) == ("127.0.0.1", ("onnx", "skops"), ())
    assert (settings.body_limit, settings.body_memory) == (8 << 20, 64 << 20)
    assert settings.concurrency >= 1


def test_all_of_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{'t' * 32}\n")
    given = {
        "FORMATS": "onnx, pickle", "TRUSTED": "a.B,c.D", "ID": "churn-0", "HOST": "0.0.0.0", "PORT": "9000", "CONCURRENCY": "3",
        "QUEUE": "0",
        "THREADS": "2", "BODY_LIMIT": "2048", "BODY_MEMORY": "4096", "CONNECTIONS": "9", "HEAD_SECONDS": "1.5", "BODY_SECONDS": "2",
        "REQUEST_SECONDS": "3",        "KEEP_ALIVE_SECONDS": "4", "DRAIN_SECONDS": "0", "ACCESS_LOG": "off", "TOKEN_FILE": str(tmp_path / "token"),
    }  # fmt: skip
    settings = Settings.from_environment(GOOD | {f"MLOPS_SERVE_{name}": value for name, value in given.items()})
    assert (settings.formats, settings.trusted, settings.id) == (("onnx", "pickle"), ("a.B", "c.D"), "churn-0")
    assert (settings.token, settings.queue, settings.head_seconds, settings.access_log) == ("t" * 32, 0, 1.5, False)
    assert "t" * 32 not in repr(settings)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_environment({"MLOPS_SERVE_PORT": "0", "MLOPS_SERVE_BODYLIMIT": "1"})
    text = str(caught.value)
    for part in (
        "MODEL is not set",
        "DIGEST is not set",
        "PORT is '0'; expected a port",
        "MLOPS_SERVE_BODYLIMIT is not known",
    ):
        assert part in text


@pytest.mark.parametrize("name, value", [
    ("MODEL", "model.onnx"), ("NAME", "../x"), ("NAME", "x'y"), ("VERSION", "3\r\nx: y"), ("DIGEST", "sha256:abc"), ("DIGEST", "md5:" + "a" * 32),
    ("FORMATS", ""), ("FORMATS", "onnx,exe"), ("TRUSTED", "os.system()"), ("ID", "a b"), ("PORT", "65536"), ("PORT", "9" * 10_000),
    ("CONCURRENCY", "0"),
    ("QUEUE", "-1"), ("BODY_LIMIT", "1e6"), ("HEAD_SECONDS", "nan"), ("REQUEST_SECONDS", "inf"), ("DRAIN_SECONDS", "-1"), ("ACCESS_LOG", "yes"),
    ("TOKEN_FILE", "/nowhere"), ("TOKEN_FILE", "/dev/null"), ("BODY_MEMORY", "2048"),
])  # fmt: skip
def test_a_value_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"MLOPS_SERVE_{name} is") as caught:
        Settings.from_environment(GOOD | {f"MLOPS_SERVE_{name}": value})
    assert "expected" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_page_lists_all_of_them() -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    table = text.split("| variable |")[1].split("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in re.findall("`([A-Z_]+)`", cell)} == set(_READERS)
