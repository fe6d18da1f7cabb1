# SPDX-License-Identifier: Apache-2.0
"""A planned step as one shell command: ``docker run …``, or ``env … program`` for a process."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.contract import INHERITED

if TYPE_CHECKING:
    from airflow_mlops.operators.contract import Layout
    from airflow_mlops.spec import Resources, Secret, Step

STORE = "<store>/<run>"
"""Stands for the folder of the run in the store."""

SCRATCH = "<scratch>"
"""Stands for the folder of the attempt on the worker."""

_FLAGS = {
    "cap_add": "--cap-add",
    "dns": "--dns",
    "dns_search": "--dns-search",
    "hostname": "--hostname",
    "ipc_mode": "--ipc",
    "network_mode": "--network",
}
"""Arguments of DockerOperator that are flags of ``docker run``, one for each value."""

_SAID_ELSEWHERE = frozenset(
    (
        "docker_url",
        "entrypoint",
        "extra_hosts",
        "force_pull",
        "log_opts_max_file",
        "log_opts_max_size",
        "port_bindings",
        "tty",
        "user",
        "working_dir",
    )
)


@dataclass(frozen=True, slots=True)
class Planned:
    """
    A step as it would be started.

    :param argv: what replaces the image's entry point; empty for the image's own
    :param inputs: where each artifact comes from, by its path within the contract's ``inputs`` folder
    :param venv: folder of the virtual environment of a process step, if it names one
    """

    step: Step
    layout: Layout
    argv: Sequence[str]
    args: Sequence[str]
    image: str | None
    environment: Mapping[str, str]
    inputs: Mapping[str, str]
    has_source: bool
    venv: str | None = None

    @property
    def folder(self) -> str:
        """Where the program starts."""
        return self.layout.source if self.has_source else self.layout.tmp


def process_line(planned: Planned) -> str:
    """The command of a process step: the program with the environment that it gets, and no other."""
    venv = planned.venv
    binaries = str(Path(venv, "bin") if venv else Path(sys.executable).parent)
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    variables.update(PATH=os.pathsep.join([binaries, variables.get("PATH", os.defpath)]), PYTHONUNBUFFERED="1")
    if venv:
        variables["VIRTUAL_ENV"] = venv
    variables.update(planned.environment)
    variables.update(_secret_variables(planned.step.spec.secrets))
    groups = [["env", "-i", "-C", planned.folder], *([f"{name}={value}"] for name, value in variables.items())]
    return _joined([*groups, [*planned.argv, *planned.args]])


def docker_line(planned: Planned) -> tuple[str, list[str]]:
    """
    The command of a Docker step.

    :return: the command, and the names of ``docker:`` arguments that have no place on a command line
    """
    spec, options = planned.step.spec, planned.step.spec.docker
    client = [
        "docker",
        *(["--host", str(options["docker_url"])] if "docker_url" in options else []),
        "run",
        "--rm",
    ]
    groups = [client, ["--user", str(options.get("user") or f"{os.getuid()}:{os.getgid()}")]]
    folder = planned.layout.source if planned.has_source else options.get("working_dir")
    if folder:
        groups.append(["--workdir", str(folder)])
    groups += _limits(spec.resources)
    groups += _mounts(planned)
    groups += [["--env", f"{name}={value}"] for name, value in planned.environment.items()]
    groups += [["--env", f"{name}={value}"] for name, value in _secret_variables(spec.secrets).items()]
    more, unsaid = _options(options)
    groups += more
    words = [*planned.argv, *planned.args]
    entrypoint = options.get("entrypoint")
    if entrypoint is not None:
        first = shlex.split(entrypoint) if isinstance(entrypoint, str) else [str(word) for word in entrypoint]
        groups.append(["--entrypoint", *first[:1]])
        words = [*first[1:], *words]
    elif planned.argv:
        groups.append(["--entrypoint", words.pop(0)])
    groups.append([planned.image or "<image>", *words])
    return _joined(groups), unsaid


def _limits(resources: Resources) -> list[list[str]]:
    groups = []
    if resources.cpu:
        groups.append(["--cpus", f"{resources.cpu:g}"])
    if resources.memory:
        # The same for both: no swap beyond the limit.
        groups.append(["--memory", str(resources.memory), "--memory-swap", str(resources.memory)])
    if resources.shm:
        groups.append(["--shm-size", str(resources.shm)])
    if resources.gpu:
        groups.append(["--gpus", str(resources.gpu)])
    return groups


def _mounts(planned: Planned) -> list[list[str]]:
    spec, layout = planned.step.spec, planned.layout
    mounts = [
        _mount("bind", f"{STORE}/{'/'.join(planned.step.path)}/outputs", layout.outputs),
        _mount("bind", f"{SCRATCH}/tmp", layout.tmp),  # noqa: S108 - a name in a printed line
    ]
    if planned.has_source:
        mounts.append(_mount("bind", f"{SCRATCH}/source", layout.source))
    if spec.checkpoint:
        mounts.append(_mount("bind", f"{STORE}/{'/'.join(planned.step.path)}/checkpoint", layout.checkpoint))
    mounts += [
        _mount("bind", source, f"{layout.inputs}/{relative}", read_only=True)
        for relative, source in planned.inputs.items()
    ]
    mounts.append(_mount("bind", f"{SCRATCH}/step.json", layout.step_json, read_only=True))
    if any(secret.as_ == "file" for secret in spec.secrets.values()):
        mounts.append(_mount("bind", f"{SCRATCH}/secrets", layout.secrets, read_only=True))
    for volume in spec.volumes:
        kind = "bind" if volume.source.startswith("/") else "volume"
        mounts.append(_mount(kind, volume.source, volume.target, read_only=volume.read_only))
    return mounts


def _mount(kind: str, source: str, target: str, *, read_only: bool = False) -> list[str]:
    return ["--mount", f"type={kind},source={source},target={target}{',readonly' if read_only else ''}"]


def _options(options: Mapping[str, Any]) -> tuple[list[list[str]], list[str]]:
    groups: list[list[str]] = []
    for name, flag in _FLAGS.items():
        values = options.get(name)
        groups += [
            [flag, str(value)] for value in (values if isinstance(values, list) else [values]) if value is not None
        ]
    groups += [["--add-host", f"{host}:{address}"] for host, address in dict(options.get("extra_hosts") or {}).items()]
    groups += [_published(inner, outer) for inner, outer in dict(options.get("port_bindings") or {}).items()]
    if options.get("tty"):
        groups.append(["--tty"])
    if options.get("force_pull"):
        groups.append(["--pull", "always"])
    for name, key in (("log_opts_max_size", "max-size"), ("log_opts_max_file", "max-file")):
        if options.get(name) is not None:
            groups.append(["--log-opt", f"{key}={options[name]}"])
    return groups, sorted(set(options) - set(_FLAGS) - _SAID_ELSEWHERE)


def _published(inner: Any, outer: Any) -> list[str]:
    where = ":".join(str(part) for part in outer) if isinstance(outer, list) else str(outer or "")
    return ["--publish", f"{where}:{inner}" if where else str(inner)]


def _secret_variables(secrets: Mapping[str, Secret]) -> dict[str, str]:
    """Stand-ins for the secrets that are given as variables: their values are nobody's to print."""
    return {
        name: f"<variable {secret.variable}>" if secret.variable else f"<connection {secret.connection} {secret.field}>"
        for name, secret in secrets.items()
        if secret.as_ == "env"
    }


def _joined(groups: Sequence[Sequence[str]]) -> str:
    """One command, one group a line, each word quoted where a shell needs it."""
    return " \\\n  ".join(shlex.join(group) for group in groups if group)
