# SPDX-License-Identifier: Apache-2.0
"""
What we override of other people's classes is still what it was when we wrote it.

A method that stands in place of a parent's, or of what a parent may call, takes the parent's arguments: one more, or a changed body, would
go unnoticed. So every such method is found here, and its parent's arguments are written down, with the Airflow versions that they hold for.
Constructors are not among them: ours pass on what they do not know (``tests/spec/test_passthrough.py`` has the Docker provider's keywords).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import airflow_mlops
from airflow_mlops.operators.version_compat import airflow_version

pytestmark = [pytest.mark.packaging]

HERE = str(Path(airflow_mlops.__file__).parent)
NOT_OURS = ("airflow", "click", "docker", "jinja2", "yaml")

EVERY = ("3.1", "3.2", "3.3")

ARGUMENTS: dict[str, dict[tuple[str, ...], str]] = {
    "BaseExecutor._process_workloads": {EVERY[:2]: "self, workloads", EVERY[2:]: "self, workload_items"},
    "BaseExecutor.end": {EVERY: "self"},
    "BaseExecutor.start": {EVERY: "self"},
    "BaseExecutor.sync": {EVERY: "self"},
    "BaseExecutor.terminate": {EVERY: "self"},
    "BaseOperator.__setattr__": {EVERY: "self, key, value"},
    "BaseOperatorLink.get_link": {EVERY: "self, operator, ti_key"},
    "BaseOperator.execute": {EVERY: "self, context"},
    "BaseOperator.on_kill": {EVERY: "self"},
    "BaseOperator.resume_execution": {EVERY: "self, next_method, next_kwargs, context"},
    "BaseTrigger.cleanup": {EVERY: "self"},
    "BaseTrigger.on_kill": {EVERY[2:]: "self"},
    "BaseTrigger.run": {EVERY: "self"},
    "BaseTrigger.serialize": {EVERY: "self"},
    "DAGNode.log": {EVERY[:1]: "self"},
    "DockerOperator.execute": {EVERY: "self, context"},
    "DockerOperator.on_kill": {EVERY: "self"},
    "Environment.getattr": {EVERY: "self, obj, attribute"},
    "Environment.getitem": {EVERY: "self, obj, argument"},
    "GenericDAGNode.log": {EVERY[1:]: "self"},
    "Group.get_command": {EVERY: "self, ctx, cmd_name"},
    "Group.list_commands": {EVERY: "self, ctx"},
    "Group.resolve_command": {EVERY: "self, ctx, args"},
    "PlainXComArg.__getitem__": {EVERY: "self, item"},
    "PlainXComArg.__repr__": {EVERY: "self"},
    "PlainXComArg.__str__": {EVERY: "self"},
    "PlainXComArg.resolve": {EVERY: "self, context"},
    "ResolveMixin.resolve": {EVERY: "self, context"},
    "SandboxedEnvironment.call_binop": {EVERY: "self, context, operator, left, right"},
    "SandboxedEnvironment.getattr": {EVERY: "self, obj, attribute"},
    "SandboxedEnvironment.getitem": {EVERY: "self, obj, argument"},
    "TLSConfig.configure_client": {EVERY: "self, client"},
    "Templater.render_template": {EVERY: "self, content, context, jinja_env=, seen_oids="},
    "XComArg.resolve": {EVERY: "self, context"},
}
"""By method, and the minors of Airflow that have it so; a later one is held to be like the last. ``=`` marks what need not be given."""

BODIES: dict[str, dict[str, str]] = {
    "airflow.sdk.bases.operator:BaseOperator.__setattr__": {"4e41349eeab6": "task SDK 1.1.8 to 1.3.2"},
    "airflow.sdk.bases.operator:BaseOperator.resume_execution": {
        "4b418d6452b5": "task SDK 1.1.8",
        "4c0db3b83420": "task SDK 1.2.2 to 1.3.2",
    },
    "airflow.providers.docker.operators.docker:DockerOperator.execute": {
        "b3512db2a3ae": "provider 4.5.4 to 4.5.7",
        "0b7dbe937a90": "provider 4.6.0 to 4.6.1",
    },
    "airflow.providers.docker.operators.docker:DockerOperator._run_image_with_mounts": {
        "495b0d7b0ee2": "provider 4.5.4 to 4.6.1"
    },
    "airflow.providers.docker.operators.docker:DockerOperator.on_kill": {
        "6be54e6b463f": "provider 4.5.4",
        "aa300293aaa6": "provider 4.5.7 to 4.6.1",
    },
}
"""What we do in place of the parent and in its manner, by the digests of the texts that ours were compared with."""

LOOK_AT = {
    "BaseOperator.__setattr__": "airflow_mlops.operators.base:StepOperator.__setattr__",
    "BaseOperator.resume_execution": "airflow_mlops.operators.references:WrappedOperator.resume_execution",
    "DockerOperator.execute": "airflow_mlops.operators.docker:DockerStepOperator.run_program",
    "DockerOperator._run_image_with_mounts": "airflow_mlops.operators.docker_container:create",
    "DockerOperator.on_kill": "airflow_mlops.operators.docker:DockerStepOperator.stop_program",
}
"""Where ours is, in place of each."""


def expected(minor: str) -> dict[str, str]:
    """What is written down for a minor of Airflow."""
    minor = minor if minor in EVERY else EVERY[-1]
    return {name: text for name, texts in ARGUMENTS.items() for minors, text in texts.items() if minor in minors}


def test_methods_that_ours_stand_in_place_of_take_what_they_took() -> None:
    minor = ".".join(airflow_version.split(".")[:2])
    found, written = overridden(), expected(minor)
    changed = sorted(name for name in found.keys() | written.keys() if found.get(name) != written.get(name))
    told = [
        f"{name}({found.get(name, '- it is not overridden, or not there')}), written down: ({written.get(name, 'nothing')})"
        for name in changed
    ]
    assert not changed, (
        f"on Airflow {airflow_version}; look at our override of each, then write it down above:\n" + "\n".join(told)
    )


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_ours_stand_in_place_of_do_what_they_did(name: str) -> None:
    module, _, path = name.partition(":")
    owner, _, method = path.partition(".")
    text = inspect.getsource(vars(getattr(importlib.import_module(module), owner))[method])
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert digest in BODIES[name], (
        f"{path} is another text than those that {LOOK_AT[path]} was compared with ({BODIES[name]}); compare, then add its digest:\n{text}"
    )


def overridden() -> dict[str, str]:
    """The methods of others that ours stand in place of, with their arguments."""
    found: dict[str, str] = {}
    for cls in our_classes():
        for name in {name for base in cls.__mro__ if is_ours(base) for name in vars(base)}:
            definers = [base for base in cls.__mro__ if name in vars(base)]
            own = function_of(vars(definers[0])[name])
            if not is_ours(definers[0]) or own is None or name == "__init__":
                continue
            if not own.__code__.co_filename.startswith(HERE):  # made by attrs
                continue
            for base in definers[1:]:
                theirs = function_of(vars(base)[name])
                if base.__module__.partition(".")[0] in NOT_OURS and theirs is not None:
                    found[f"{base.__name__}.{name}"] = arguments(theirs)
    return found


def our_classes() -> Iterator[type]:
    """All classes of the package."""
    for module in pkgutil.walk_packages(airflow_mlops.__path__, "airflow_mlops."):
        if "templates" not in module.name and not module.name.endswith("__main__"):
            members = vars(importlib.import_module(module.name)).values()
            yield from (member for member in members if isinstance(member, type) and is_ours(member))


def is_ours(cls: type) -> bool:
    """Whether a class is defined here."""
    return cls.__module__.partition(".")[0] == "airflow_mlops"


def function_of(member: Any) -> FunctionType | None:
    """What runs when a member is used."""
    function = member.fget if isinstance(member, property) else inspect.unwrap(getattr(member, "__func__", member))
    return function if isinstance(function, FunctionType) else None


def arguments(function: FunctionType) -> str:
    """The arguments without their types, and which of them need not be given."""
    parameters = inspect.signature(function).parameters.values()
    bare = [parameter.replace(annotation=parameter.empty, default=parameter.empty) for parameter in parameters]
    return ", ".join(
        f"{shown}=" if parameter.default is not parameter.empty else str(shown)
        for parameter, shown in zip(parameters, bare, strict=True)
    )
