# SPDX-License-Identifier: Apache-2.0
"""Pydantic's errors in our words: what is wrong, what was expected, the nearest name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from airflow_mlops.spec import forms, models, parts, scheduling
from airflow_mlops.spec.documents import KEY
from airflow_mlops.spec.forms import cut, kind_of
from airflow_mlops.spec.later import (
    LATER_KINDS,
    LATER_STEP_KEYS,
    LATER_TOP_KEYS,
)
from airflow_mlops.spec.problems import did_you_mean, one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Finding = tuple[tuple[Any, ...], str]
"""Path of a value, and what is wrong with it."""

_ONE: dict[str, type[BaseModel]] = {
    "resources": parts.Resources,
    "backoff": parts.Backoff,
    "process": parts.Process,
    "operator": parts.OperatorCall,
    "by": parts.BestBy,
    "defaults": models.StepOptions,
    "schedule": scheduling.Schedule,
    "deadline": scheduling.Deadline,
    "callback": scheduling.Callback,
}
_MANY: dict[str, type[BaseModel]] = {
    "inputs": parts.InputSpec,
    "outputs": parts.Output,
    "secrets": parts.Secret,
    "volumes": parts.Volume,
    "assignees": parts.Assignee,
    "params": models.ParamSpec,
    "environments": models.Overlay,
    **{name: scheduling.Callback for name in scheduling.StepCallbacks.model_fields},
}
_PATTERNS = {
    forms.STEP_NAME: "a name of lower-case letters, digits and '-' that starts with a letter, at most 63 characters",
    forms.VALUE_NAME: "a name of lower-case letters, digits and '_' that starts with a letter, at most 63 characters",
    forms.PARAM_NAME: "a name of letters, digits and '_' that starts with a letter, at most 63 characters",
    forms.ENV_NAME: "a name of letters, digits and '_' that does not start with a digit",
    forms.SECRET_NAME: "a name of upper-case letters, digits and '_' that starts with a letter, such as HF_TOKEN",
    forms.PIPELINE_NAME: "a name of lower-case letters, digits, '-', '_' and '.' that starts with a letter",
}
_TYPES = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "list_type": "a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


_MEANT = {
    "depends_on": "needs",
    "dependencies": "needs",
    "after": "needs",
    "environment": "env",
    "memory": "resources: {memory: …}",
    "cpu": "resources: {cpu: …}",
    "gpu": "resources: {gpu: …}",
    "runtime": "defaults: {runtime: …}",
    "image": "defaults: {image: …}",
    "parameters": "params",
    "script": "command",
    "cmd": "command",
}
"""Keys as other systems call them, or as they are called elsewhere in a spec."""


def strip_tags(location: Sequence[Any]) -> tuple[Any, ...]:
    """Pydantic's location as a path of the document: without the names of union members. A key is marked by ``KEY``."""
    path: list[Any] = []
    previous_was_tag = False
    for part in location:
        if not previous_was_tag and _is_tag(path, part):
            previous_was_tag = True
            continue
        previous_was_tag = False
        path.append(KEY if part == "[key]" else part)
    return tuple(path)


def _is_tag(path: list[Any], part: Any) -> bool:
    if part in ("step", "group"):
        return len(path) > 1 and path[-2] == "steps" and isinstance(path[-1], int)
    in_schedule = path[:1] == ["schedule"] or (path[:1] == ["environments"] and path[2:3] == ["schedule"])
    if part in ("cron", "long"):
        return in_schedule and path[-1] == "schedule"
    return part in ("any", "all") and in_schedule and path[-2:] == ["schedule", "assets"]


def subject(path: Sequence[Any], data: Any) -> str:
    """What a path is called in a message: ``'retries' of step 'train'``."""
    path = [part for part in path if part is not KEY]
    owner, rest = "", list(path)
    value = data
    for index, part in enumerate(path):
        value = _descend(value, part)
        if index and path[index - 1] == "steps" and isinstance(part, int):
            owner, rest = _entry(value, part), list(path[index + 1 :])
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest).removeprefix(".")
    if not rest:
        return owner or "the spec"
    return f"{cut(text)} of {owner}" if owner else cut(text)


def _entry(value: Any, index: int) -> str:
    word = "group" if isinstance(value, dict) and "steps" in value else "step"
    name = value.get("name") if isinstance(value, dict) else None
    return f"{word} {cut(name)}" if isinstance(name, str) and name else f"{word} number {index + 1}"


def _descend(value: Any, part: Any) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def finding(error: Any, data: Any) -> Finding:
    """
    One pydantic error in our words.

    :param error: an item of ``ValidationError.errors()``
    :param data: the whole document, for the names of steps
    """
    path = strip_tags(error["loc"])
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "extra_forbidden":
        return (*path, KEY), _unknown_key(path, data)
    if kind == "missing":
        return path[:-1], f"{subject(path[:-1], data)} has no '{path[-1]}'{_expected_for(path)}"
    about = subject(path, data)
    if kind == "spec":
        message = str(context["message"])
        return path, f"{about} {message}" if message.startswith(("is ", "starts ", "holds ")) else f"{about}: {message}"
    if kind == "literal_error":
        return path, _not_listed(path, about, value, context)
    if kind == "string_pattern_mismatch":
        return (
            path,
            f"{about}: {cut(value)} is no valid name"
            f"; expected {_PATTERNS.get(context.get('pattern', ''), 'another form')}",
        )
    return path, _plain(kind, about, value, context)


def _plain(kind: str, about: str, value: Any, context: dict[str, Any]) -> str:
    if kind in _TYPES:
        shown = f" ({cut(value)})" if isinstance(value, (str, int, float)) else ""
        return f"{about} is {kind_of(value)}{shown}; expected {_TYPES[kind]}{_example(about)}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{about} is {cut(value)}; expected {words} {context[key]:g}"
    if kind in ("string_too_short", "too_short"):
        return f"{about} is empty; expected at least one {'character' if kind.startswith('string') else 'entry'}"
    if kind == "string_too_long":
        return f"{about} is longer than {context['max_length']} characters; expected a shorter one"
    return f"{about}: {cut(value)} is refused ({kind.replace('_', ' ')}); expected another value"


def _example(about: str) -> str:
    """What a mapping looks like, where people write a list."""
    examples = {
        "'inputs'": " such as {train: split.train}",
        "'outputs'": " such as {model: model}",
        "'schedule.assets'": " such as {any: ['s3://lake/sales']}",
    }
    return next((text for key, text in examples.items() if about.startswith(key)), "")


def _unknown_key(path: Sequence[Any], data: Any) -> str:
    key, parent = str(path[-1]), path[:-1]
    in_step = len(parent) > 1 and parent[-2] == "steps" and isinstance(parent[-1], int)
    where = f" in {subject(parent, data)}" if parent else ""
    if key in (
        LATER_STEP_KEYS if in_step or (parent and parent[-1] == "defaults") else LATER_TOP_KEYS if not parent else ()
    ):
        return f"key '{key}'{where} is not supported yet"
    value = data
    for part in parent:
        value = _descend(value, part)
    names = _names(parent, value, in_step)
    meant = _MEANT.get(key)
    near = f"; did you mean '{meant}'?" if meant and meant.partition(":")[0] in names else did_you_mean(key, names)
    return f"unknown key {cut(key)}{where}; expected {one_of(names)}{near}"


def _names(parent: Sequence[Any], value: Any, in_step: bool) -> list[str]:
    if not parent:
        model: type[BaseModel] = models.PipelineSpec
    elif in_step:
        model = (
            models.GroupSpec
            if isinstance(value, dict) and "steps" in value and "kind" not in value
            else models.StepSpec
        )
    elif len(parent) > 1 and parent[-2] in _MANY:
        model = _MANY[parent[-2]]
    elif parent[-1] == "callbacks":
        model = scheduling.RunCallbacks if len(parent) == 1 or parent[0] == "environments" else scheduling.StepCallbacks
    elif parent[-1] == "assets":
        return ["any", "all"]
    else:
        model = _ONE.get(str(parent[-1]), BaseModel)
    if model is models.StepSpec:
        return list(models.STEP_KEYS)
    return [str(field.validation_alias or name) for name, field in model.model_fields.items()]


def _expected_for(path: Sequence[Any]) -> str:
    expected = {
        "kind": f"expected {one_of(models.KINDS)}; a group has 'steps' instead",
        "apiVersion": f"expected 'apiVersion: {models.API_VERSION}'",
        "name": "expected a name such as 'split'",
        "steps": "expected a list of steps",
        "from": "expected a reference such as 'from: split.train'",
        "class": "expected the dotted path of an operator class",
    }.get(str(path[-1]))
    if len(path) == 1 and path[-1] == "name":
        expected = "expected a name of the pipeline such as 'churn'"
    return f"; {expected}" if expected else "; expected one"


def _not_listed(path: Sequence[Any], about: str, value: Any, context: dict[str, Any]) -> str:
    key = path[-1]
    if isinstance(value, str):
        if key == "kind" and value in LATER_KINDS:
            return f"{about}: kind '{value}' is not supported yet"
    listed = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
    near = did_you_mean(value, listed) if isinstance(value, str) else ""
    shown = cut(value) if isinstance(value, (str, int, float)) else kind_of(value)
    return f"{about} is {shown}; expected {one_of(listed)}{near}"
