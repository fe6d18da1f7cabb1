# SPDX-License-Identifier: Apache-2.0
"""
What models, their aliases and their versions may be called, and how a reference to one is spelt.

Names end up in paths, URLs, command lines and the filters of tracking servers: the rules are narrower than those of any
of these, so that a name is safe in all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MAX_NUMBER = 999_999_999

SCHEME = "models:"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_RESERVED_ALIAS = re.compile(r"latest|v[0-9]+")
"""Words that MLflow keeps for itself; and nobody should have to ask what ``@v3`` is when there is ``/3``."""

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_EXPECTED = f"expected {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION, such as {SCHEME}churn@champion or {SCHEME}churn/3"


class NameRefused(ValueError):
    """What was given as the name of a model, an alias, a version or a reference to one is none."""


def check_name(name: Any) -> str:
    """
    Check the name of a model.

    :raises NameRefused: if it is not one
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NameRefused(
            f"{shown(name)} is no name of a model; expected up to 128 letters, digits, dots, dashes and underscores, the "
            "first one a letter or digit, such as 'churn-eu'"
        )
    return name


def check_alias(alias: Any) -> str:
    """
    Check an alias.

    :raises NameRefused: if it is not one
    """
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
        raise NameRefused(
            f"{shown(alias)} is no alias; expected up to 64 small letters, digits, dashes and underscores, the first one "
            "a letter, such as 'champion'"
        )
    if _RESERVED_ALIAS.fullmatch(alias):
        raise NameRefused(
            f"the alias {alias!r} is reserved; expected a word for what a version is to you, such as 'champion' (a "
            f"version itself is {SCHEME}NAME/VERSION)"
        )
    return alias


def check_number(number: Any) -> int:
    """
    Check the number of a version.

    :raises NameRefused: if it is not one
    """
    if type(number) is not int or not 1 <= number <= MAX_NUMBER:
        raise NameRefused(
            f"{shown(number)} is no version of a model; expected a whole number from 1 to {MAX_NUMBER}, such as 3"
        )
    return number


@dataclass(frozen=True, slots=True)
class ModelReference:
    """
    Names one version of a model: by its number, or by an alias that points to it. Exactly one of the two is set.

    :raises NameRefused: if a part is not what it must be
    """

    name: str
    alias: str | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if (self.alias is None) == (self.version is None):
            raise NameRefused(f"a reference to the model {self.name!r} has an alias or a version, and not both")
        if self.alias is not None:
            check_alias(self.alias)
        else:
            check_number(self.version)

    @classmethod
    def parse(cls, text: Any) -> ModelReference:
        """
        Read ``models:name@alias`` or ``models:name/3``.

        :raises NameRefused: if it is neither, or a part is not what it must be
        """
        if not isinstance(text, str) or not text.startswith(SCHEME):
            raise NameRefused(f"{shown(text)} is no reference to a model; {_EXPECTED}")
        rest = text.removeprefix(SCHEME)
        if rest.startswith("/"):
            raise NameRefused(
                f"{shown(text)} is no reference to a model: no slash follows {SCHEME!r} here; {_EXPECTED}"
            )
        name, at, alias = rest.partition("@")
        if at:
            return cls(name, alias=alias)
        name, slash, number = rest.partition("/")
        if not slash:
            raise NameRefused(f"{shown(text)} does not say which version; {_EXPECTED}")
        if not _NUMBER.fullmatch(number):
            raise NameRefused(f"{shown(text)} names no version: {shown(number)} is no number; {_EXPECTED}")
        return cls(name, version=int(number))

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}/{self.version}" if self.alias is None else f"{SCHEME}{self.name}@{self.alias}"


def shown(value: Any) -> str:
    """A value that somebody gave as a message shows it: on one line, and not endless."""
    try:
        text = ascii(value[:200]) if isinstance(value, str) else ascii(value)
    except ValueError:
        return f"a value of type {type(value).__name__}"  # an integer of more digits than Python prints
    return text if len(text) <= 80 else f"{text[:80]}…"
