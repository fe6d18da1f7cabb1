# SPDX-License-Identifier: Apache-2.0
"""A green run means that what was required was tested."""

from __future__ import annotations

import pytest

from tests.parts.requirement import required_parts, unavailable


def test_a_missing_part_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLOPS_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no docker: no daemon answers"):
        unavailable("docker", "no daemon answers")


def test_a_missing_part_that_is_required_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_REQUIRE", "s3, docker")
    with pytest.raises(pytest.fail.Exception, match="docker is required .*: no daemon answers"):
        unavailable("docker", "no daemon answers")


def test_another_part_than_the_required_one_still_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_REQUIRE", "s3")
    with pytest.raises(pytest.skip.Exception):
        unavailable("docker", "no daemon answers")


def test_a_misspelt_requirement_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_REQUIRE", "docker,dockre")
    with pytest.raises(
        ValueError, match="names dockre; expected some of airflow, browser, docker, kubernetes, mlflow, s3"
    ):
        required_parts()


def test_an_unreachable_daemon_skips_a_whole_test_run_or_fails_it(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.parts.docker import docker_daemon")
    pytester.makepyfile("def test_it(docker_daemon): pass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        patch.delenv("MLOPS_REQUIRE", raising=False)
        pytester.runpytest_inprocess().assert_outcomes(skipped=1)
        patch.setenv("MLOPS_REQUIRE", "docker")
        pytester.runpytest_inprocess().assert_outcomes(errors=1)
