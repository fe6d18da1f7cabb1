# SPDX-License-Identifier: Apache-2.0
"""The forms that keywords of an operator underneath may have in a spec: in words, and as a check."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_mlops.spec.forms import cut
from airflow_mlops.spec.problems import did_you_mean, one_of

Form = tuple[str, Callable[[Any], bool]]

LIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)
"""Resource limits of Linux (getrlimit(2))."""

TEXT: Form = ("a string", lambda value: isinstance(value, str) and value != "")
FLAG: Form = ("true or false", lambda value: isinstance(value, bool))
SECONDS: Form = ("a number of seconds", lambda value: _is_integer(value) and value > 0)
COUNT: Form = (
    "an integer above zero, or one as a string",
    lambda value: re.fullmatch("0*[1-9][0-9]{0,8}", str(value)) is not None,
)
TEXTS: Form = ("a list of strings", lambda value: isinstance(value, list) and all(map(TEXT[1], value)))
WORDS: Form = ("a list of strings, or one string", lambda value: TEXT[1](value) or TEXTS[1](value))
USER: Form = (
    "a user such as 1000 or '1000:1000'",
    lambda value: TEXT[1](value) or (_is_integer(value) and value >= 0),
)
BY_NAME: Form = ("a mapping of strings", lambda value: isinstance(value, dict) and all(map(TEXT[1], value.values())))
MAPPING: Form = ("a mapping", lambda value: isinstance(value, dict))
MAPPINGS: Form = (
    "a list of mappings",
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
)
ULIMITS: Form = (
    "a list such as [{name: nofile, soft: 1024, hard: 4096}]",
    lambda value: isinstance(value, list) and all(map(_is_ulimit, value)),
)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ulimit(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    fields = {str(key).lower(): item for key, item in value.items()}  # the client takes 'name' and 'Name'
    limits = {key: fields[key] for key in ("soft", "hard") if key in fields}
    if len(fields) < len(value) or not all(map(_is_integer, limits.values())):
        return False
    unlimited = limits.get("hard", -1) < 0
    return (
        fields.keys() <= {"name", "soft", "hard"}
        and fields.get("name") in LIMITS
        and (unlimited or limits.get("soft", 0) <= limits["hard"])
    )


def check_keywords(
    arguments: Mapping[str, Any], allowed: Mapping[str, Form], reserved: Mapping[str, str], operator: str
) -> Iterator[tuple[str, str]]:
    """
    What is wrong with keywords that a spec passes on.

    :param allowed: the form of each keyword that may be passed on
    :param reserved: why a keyword may not be, and what to use instead
    :param operator: the class they are passed on to
    :return: name and problem
    """
    for name, value in arguments.items():
        if name in allowed:
            words, holds = allowed[name]
            if value is not None and not holds(value):
                yield name, f"'{name}' is {cut(value)}; expected {words}"
        elif name in reserved:
            yield name, f"'{name}' is reserved: {reserved[name]}"
        else:
            known = sorted(allowed)
            yield (
                name,
                f"unknown argument '{name}' of {operator}; expected {one_of(known)}{did_you_mean(name, known)}",
            )
