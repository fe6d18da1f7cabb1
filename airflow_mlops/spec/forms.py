# SPDX-License-Identifier: Apache-2.0
"""
The forms of single values in a spec: names, words, references, schedules.

Each function takes a value as YAML gave it and returns what the models keep, or raises ``PydanticCustomError`` whose
message is already in our words: what is wrong, what was expected.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from airflow_mlops.spec.cron import check_cron
from airflow_mlops.spec.model_names import SCHEME, ModelReference, NameRefused, check_alias, check_name
from airflow_mlops.spec.quantities import (
    format_duration,
    parse_bytes,
    parse_cpu,
    parse_duration,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_NAME = r"^[a-z][a-z0-9-]{0,62}$"
VALUE_NAME = r"^[a-z][a-z0-9_]{0,62}$"
PARAM_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,62}$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
SECRET_NAME = r"^[A-Z][A-Z0-9_]{0,62}$"  # noqa: S105
PIPELINE_NAME = r"^[a-z][a-z0-9_.-]{0,199}$"
MADE_BY_CANDIDATE = r"^[a-z][a-z0-9/-]*(\.[a-z][a-z0-9_]*)?$|^[a-z][a-z0-9_]*$"
CONNECTION_FIELDS = ("password", "login", "host", "port", "schema", "uri")
PARAM_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")

_REFERENCE = re.compile(r"(?:[a-z][a-z0-9-]{0,62}/)*[a-z][a-z0-9-]{0,62}\.[a-z][a-z0-9_]{0,62}\Z")
_BEST_BY = re.compile(r"\s*(max|min)\(\s*(.*\S)\s*\)\s*\Z")
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_ZONE = re.compile(r"(?!localtime|posixrules|Factory|right/|posix/)[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*\Z")
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\Z", re.ASCII)

ParamType = Literal["string", "integer", "number", "boolean", "array", "object", "null"]


def refuse(message: str) -> NoReturn:
    """Raise ``PydanticCustomError`` with a message in our words."""
    # Braces would be taken for placeholders of the message template.
    raise PydanticCustomError("spec", "{message}", {"message": message})


def kind_of(value: Any) -> str:
    """What YAML calls a value, for messages."""
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a mapping",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def cut(value: Any, limit: int = 60) -> str:
    """A value as it may stand in a message: on one line, not longer than a reader bears; a string in quotes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[:limit])
    shown += "…" if len(text) > limit else ""
    return f"'{shown}'" if isinstance(value, str) else shown


def fits_64_bits(value: int) -> bool:
    """Whether databases, XCom and most programs can hold an integer."""
    return -(2**63) <= value < 2**63


def word(value: Any) -> str:
    """A string of a command line or an environment; numbers and booleans become their JSON text."""
    if isinstance(value, str):
        if "\0" in value:
            refuse("holds a NUL character, which no program can be given")
        return value
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    refuse(f"is {kind_of(value)}; expected a string, a number or a boolean")


def command(value: Any) -> Any:
    """A command line, which is a list: no shell is involved."""
    if isinstance(value, str):
        if not value.strip():
            refuse("is an empty string; expected a list such as [python, train.py]")
        shown = ", ".join(_flow(part) for part in value.split()[:8])
        if re.search(r"[|&;<>$`*?~]", value):
            shown = f"sh, -c, {json.dumps(value[:60] + '…' * (len(value) > 60), ensure_ascii=False)}"  # noqa: PLR2004
        refuse(f"is a string; expected a list, since no shell is involved; did you mean [{shown}]?")
    if isinstance(value, list) and value and value[0] == "":
        refuse("starts with an empty string; expected a program")
    return value


def _flow(part: str) -> str:
    return json.dumps(part, ensure_ascii=False) if re.search(r"[^\w./-]|^-$", part) else part


def _quantity(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            refuse(f"{cut(value)} is refused: {error}")

    return check


memory = _quantity(parse_bytes)
cpu = _quantity(parse_cpu)
duration = _quantity(parse_duration)


def duration_text(value: timedelta) -> str:
    """A duration as a spec writes it."""
    return format_duration(value)


def moment(value: Any) -> datetime:
    """A date or a date and time, in UTC unless it says otherwise."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    try:
        parsed = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        refuse(f"{cut(value)} is no date; expected ISO 8601 such as 2026-01-31 or 2026-01-31T06:00:00+02:00")
    if not 1900 <= parsed.year < 2200:  # noqa: PLR2004 - what schedules are computed with ends somewhere beyond
        refuse(f"{cut(value)} lies far from here; expected a year from 1900 to 2199")
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def schedule(value: Any) -> str:
    """A preset or a cron expression."""
    if not isinstance(value, str):
        refuse(f"is {kind_of(value)}; expected cron ('0 6 * * 1'), a preset ('@weekly') or {{assets: {{any: [...]}}}}")
    if problem := check_cron(value):
        refuse(f"{cut(value)} is no schedule: {problem}")
    return value


def check_schedule(has_assets: bool, cron: str | None, zone: str | None) -> None:
    """A schedule in its long form says something, and nothing that means nothing."""
    if not has_assets and cron is None:
        refuse("a schedule has neither assets nor times; expected {assets: …}, {cron: …} or both")
    if zone is not None and cron is None:
        refuse("'timezone' is that of 'cron', which is not there; expected both, or none")
    if cron in ("@once", "@continuous"):
        refuse(
            f"'{cron}' is not for the long form; expected 'schedule: \"{cron}\"' alone, or times such as '0 6 * * 1'"
        )


def time_zone(value: Any) -> str:
    """The name of a time zone in the tz database, which means the same on every machine."""
    from zoneinfo import ZoneInfo

    try:
        if isinstance(value, str) and _ZONE.match(value):
            ZoneInfo(value)
            return value
    except (KeyError, OSError, ValueError):
        pass
    refuse(f"{cut(value)} is no time zone; expected a name such as Europe/Berlin or UTC")


def import_path(value: Any) -> str:
    """The dotted path of a function or class."""
    if not isinstance(value, str) or not _CLASS_PATH.match(value) or len(value) > 512:  # noqa: PLR2004
        refuse(f"{cut(value)} is no import path; expected a dotted one such as acme_alerts.page")
    return value


def argument_name(value: Any) -> str:
    """The name of a keyword argument of a callback."""
    if not isinstance(value, str) or not value.isidentifier() or value.startswith("__"):
        refuse(f"{cut(value)} is no name of an argument; expected one such as channel")
    if value == "context":
        refuse("'context' is what Airflow gives; expected another name")
    return value


def asset_name(value: Any) -> str:
    """The URI or name of an Airflow asset: the same in every run, and a URI in the form that Airflow keeps it in."""
    if not isinstance(value, str) or not value.strip() or len(value) > 1500:  # noqa: PLR2004 - Airflow's own limit
        refuse(f"{cut(value)} is no asset; expected a URI such as s3://lake/customers, or a name")
    if "{{" in value:
        refuse(
            f"{cut(value)} looks like a template, and an asset is none; expected a URI or name that every run shares"
        )
    if not value.isascii() or not value.isprintable() or value != value.strip() or value in ("self", "context"):
        refuse(
            f"{cut(value)} is refused by Airflow; expected a URI such as s3://lake/customers, or a name, of printable ASCII characters"
        )
    kept = _kept_uri(value)
    if kept is None:
        refuse(f"{cut(value)} is no URI that an asset can have; expected one such as s3://lake/customers")
    if kept != value:
        refuse(f"{cut(value)} is kept by Airflow as {cut(kept)}, which would be another asset; expected that")
    return value


def _kept_uri(text: str) -> str | None:
    """
    What Airflow makes of an asset's URI (``_sanitize_uri`` in ``airflow.sdk.definitions.asset``); ``None`` for one that it refuses. A name without a
    scheme stays as it is.
    """
    try:
        parts = urlsplit(text)
        user, password = parts.username, parts.password
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if not scheme or scheme.startswith("x-"):
        return text
    if scheme == "airflow" or ("://" in text and not parts.netloc and scheme != "file"):
        return None
    host = parts.netloc.rpartition("@")[2] if user is not None or password is not None else parts.netloc
    query = urlencode(sorted(parse_qsl(parts.query))) if parts.query else ""
    return urlunsplit((scheme, host, parts.path.rstrip("/") or "/", query, ""))


def line(limit: int) -> Callable[[Any], str]:
    """
    A check for text that Airflow keeps in a column of its database, and shows in one line.

    :param limit: length of the column
    """

    def check(value: Any) -> str:
        if not isinstance(value, str):
            refuse(f"is {kind_of(value)}; expected a string")
        if not value.strip() or not value.isprintable():
            refuse(f"is {cut(value)}; expected printable characters on one line")
        if len(value) > limit:
            refuse(f"is longer than {limit} characters; expected a shorter one")
        return value

    return check


def prose(value: Any) -> Any:
    """Text of any length, without what no database takes."""
    if isinstance(value, str) and "\0" in value:
        refuse("holds a NUL character, which no database takes")
    return value


def asset_mark(value: Any) -> bool | str:
    """Whether an output is an asset, or which."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        refuse(f"is {kind_of(value)}; expected true, or the URI or name of an asset")
    return asset_name(value)


def owner_link(value: Any) -> str:
    """A link that Airflow accepts for an owner."""
    if isinstance(value, str) and value.isprintable() and len(value) <= 500:  # noqa: PLR2004 - Airflow's column
        if re.match(r"mailto:[^\s@]+@[^\s@]+\Z", value):
            return value
        try:
            parts = urlsplit(value)
            if parts.scheme in ("http", "https") and parts.hostname and " " not in value:
                return value
        except ValueError:
            pass
    refuse(f"{cut(value)} is no link; expected https://… or mailto:…, of at most 500 characters")


def reference(value: Any) -> str:
    """``step.output``, ``group/step.output``, or ``models:name@alias``."""
    if not isinstance(value, str):
        refuse(f"is {kind_of(value)}; expected a reference such as 'split.train'")
    if value.startswith(SCHEME):
        try:
            ModelReference.parse(value)
        except NameRefused as error:
            refuse(str(error))
        return value
    if not _REFERENCE.match(value):
        refuse(f"{cut(value)} is no reference; expected 'step.output', or 'group/step.output' from outside the group")
    return value


def model_name(value: Any) -> str:
    """The name of a registered model."""
    try:
        return check_name(value)
    except NameRefused as error:
        refuse(str(error))


def model_alias(value: Any) -> str:
    """An alias of a registered model."""
    try:
        return check_alias(value)
    except NameRefused as error:
        refuse(str(error))


def number(value: Any) -> Any:
    """An integer or a number, as it is written."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    refuse(f"is {kind_of(value)}; expected a number")


def file_name(value: Any) -> str:
    """The name of a file: no folders, no way out of one."""
    if not isinstance(value, str):
        refuse(f"is {kind_of(value)}; expected a file name such as 'model.skops'")
    if not value or len(value.encode()) > 255 or value in (".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", value):  # noqa: PLR2004
        refuse(f"{cut(value)} is no plain file name; expected one without folders, such as 'model.skops'")
    if "{{" in value:
        refuse(f"{cut(value)} looks like a template, and a file name is none; expected a name that every run shares")
    return value


def connection_field(value: Any) -> str:
    """A field of an Airflow connection."""
    if isinstance(value, str) and (value in CONNECTION_FIELDS or re.match(r"extra\.[A-Za-z0-9_.-]+\Z", value)):
        return value
    refuse(f"{cut(value)} is no field of a connection; expected one of {', '.join(CONNECTION_FIELDS)}, extra.<key>")


def check_secret(variable: str | None, connection: str | None, field: str | None) -> None:
    """A secret has exactly one source."""
    if (variable is None) == (connection is None):
        refuse("a secret has exactly one source; expected {variable: …} or {connection: …, field: …}")
    if connection is not None and field is None:
        refuse(f"a secret of a connection names a field; expected one of {', '.join(CONNECTION_FIELDS)}, extra.<key>")
    if variable is not None and field is not None:
        refuse("a variable has no fields; expected {variable: …} or {connection: …, field: …}")


def best_by(value: Any) -> Any:
    """What is compared and which end of it is better: ``max(score.metrics.auc)``, or its long form."""
    if not isinstance(value, str):
        return value
    match = _BEST_BY.match(value)
    if match is None:
        refuse(f"{cut(value)} is no measure; expected one such as max(score.metrics.auc) or min(score.metrics.loss)")
    return {match[1]: match[2]}


def check_best_by(largest: str | None, smallest: str | None) -> None:
    """A measure has one end that is better."""
    if (largest is None) == (smallest is None):
        refuse(
            "a measure is to be large or small; expected one such as max(score.metrics.auc) or min(score.metrics.loss)"
        )


def volume_source(value: Any) -> str:
    """An absolute host path or the name of a volume."""
    if isinstance(value, str) and _VOLUME_NAME.match(value):
        return value
    if isinstance(value, str) and value.startswith("/") and "\0" not in value and ".." not in value.split("/"):
        return value
    refuse(f"{cut(value)} is no volume; expected an absolute host path without '..', or the name of a volume")


def volume_target(value: Any) -> str:
    """An absolute path inside the container, outside the contract's own folder."""
    parts = value.split("/") if isinstance(value, str) else []
    if len(parts) < 2 or parts[0] or not any(parts) or ".." in parts or "." in parts or "\0" in value or ":" in value:  # noqa: PLR2004
        refuse(f"{cut(value)} is no mount point; expected an absolute path inside the container such as /data")
    if next(filter(None, parts)) == "mlops":
        refuse(
            f"{cut(value)} lies in /mlops, which belongs to the contract with the step"
            f"; expected another folder such as /data"
        )
    return str(value)


def class_path(value: Any) -> str:
    """The dotted path of a class."""
    if not isinstance(value, str) or not _CLASS_PATH.match(value) or len(value) > 512:  # noqa: PLR2004
        refuse(
            f"{cut(value)} is no class"
            f"; expected a dotted path such as airflow.providers.standard.operators.bash.BashOperator"
        )
    return value


def param_type(value: Any) -> Any:
    """JSON types; ``list``, as outputs call it, is taken for ``array``."""
    types = value if isinstance(value, list) else [value]
    if not types:
        refuse(f"is an empty list; expected one of {', '.join(PARAM_TYPES)}")
    checked = ["array" if item == "list" else item for item in types]
    for item in checked:
        if not isinstance(item, str) or item not in PARAM_TYPES:
            refuse(f"{cut(item)} is no type; expected one of {', '.join(PARAM_TYPES)}")
    return checked if isinstance(value, list) else checked[0]


ParamTypes = Annotated[
    ParamType | list[ParamType],
    BeforeValidator(param_type, json_schema_input_type=ParamType | Literal["list"] | list[ParamType | Literal["list"]]),
]
