# SPDX-License-Identifier: Apache-2.0
"""
Where the store keeps what.

``<instance>/<pipeline>/<run>/<step>/<iteration>/<generation>[.<incarnation>]/`` holds ``manifest.json``, ``claim-<try>.json``,
``step-<try>.json`` of tries that failed, ``checkpoint/`` and one folder for each attempt, with ``step.json``, ``outputs/``
and ``outputs.json``. Names that come from elsewhere (run ids, hand-written DAG ids) are encoded by one function; the
original names are in the manifest.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from functools import cached_property

MAX_COMPONENT = 128
"""Bytes of an encoded path component: file systems take 255, and keys of object stores 1024 in all."""

MANIFEST = "manifest.json"
STEP = "step.json"
OUTPUTS = "outputs"
OUTPUTS_SEAL = "outputs.json"
CHECKPOINT = "checkpoint"

_SAFE = re.compile(r"[a-z0-9._-]")
_ENCODED = re.compile(r"\+([0-9a-f]{2})|!([a-z])|(.)", re.DOTALL)
_LEADING = "._-"
_HASH_CHARACTERS = 40
_CUT = "!-"
"""Marks a name that was cut: in a whole name, a letter follows every ``!``."""

_BELOW_OUTPUTS = 8
"""Parts of a key that stand before the path below an attempt's outputs."""


def encode_component(text: str) -> str:
    """
    Turn any text into one path component that is safe in file systems, object store keys and URLs.

    Lower-case letters, digits and ``. _ -`` stay. A capital becomes ``!`` and its small letter, so that names that
    differ in case alone stay apart on a file system that ignores case. Everything else becomes ``+`` and two
    hexadecimal digits for each of its UTF-8 bytes, as do ``. _ -`` in front (no ``..``, no hidden file, no command-line
    option, none of our own names such as ``_source``) and a dot at the end. There is no ``=`` in the result, since
    readers of Parquet take ``a=b/`` for a partition and add a column.

    The encoding can be undone, so different texts give different components; names whose encoding is longer than
    :data:`MAX_COMPONENT` are cut and end in 160 bits of their SHA-256 instead.
    """
    last = len(text) - 1
    encoded = "".join(_encode_character(character, index, last) for index, character in enumerate(text)) or "+"
    if len(encoded) <= MAX_COMPONENT:
        return encoded
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARACTERS]
    return f"{encoded[: MAX_COMPONENT - _HASH_CHARACTERS - len(_CUT)]}{_CUT}{digest}"


def _encode_character(character: str, index: int, last: int) -> str:
    if (
        _SAFE.fullmatch(character)
        and not (index == 0 and character in _LEADING)
        and not (index == last and character == ".")
    ):
        return character
    if "A" <= character <= "Z":
        return "!" + character.lower()
    return "".join(f"+{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def decode_component(component: str) -> str | None:
    """What :func:`encode_component` made a component of; ``None`` for one that it cut, or did not make."""
    if component == encode_component(""):
        return ""
    data = b"".join(
        bytes.fromhex(escaped) if escaped else (capital.upper() or plain).encode("utf-8", "surrogatepass")
        for escaped, capital, plain in _ENCODED.findall(component)
    )
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return text if encode_component(text) == component else None


def iteration_of(map_index: int) -> str:
    """The iteration of a mapped task's instance by its index; that of a plain task, whose index is -1."""
    return "-" if map_index < 0 else str(map_index)


def new_attempt_id() -> str:
    """A random id: attempts are told apart by it alone, whatever try, worker or generation started them."""
    return secrets.token_hex(6)


@dataclass(frozen=True)
class Place:
    """
    Where one generation of a step keeps its things. All keys are relative to the store's root.

    :param instance: id of the Airflow installation
    :param pipeline: DAG id
    :param run: run id, as Airflow has it
    :param step: Airflow's task id: the step's path, joined by dots
    :param iteration: path of the iteration within the ``foreach`` groups around the step, ``-`` outside of any
    :param generation: number of the first try since the task was scheduled or cleared
    :param incarnation: 0, or how many runs before this one had the same run id and were deleted
    """

    instance: str
    pipeline: str
    run: str
    step: str
    iteration: str = "-"
    generation: int = 1
    incarnation: int = 0

    @classmethod
    def of_task(
        cls,
        instance: str,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int = -1,
        *,
        generation: int = 1,
        incarnation: int = 0,
    ) -> Place:
        """The place of a task instance, by the names that Airflow has for it."""
        return cls(instance, dag_id, run_id, task_id, iteration_of(map_index), generation, incarnation)

    @cached_property
    def run_key(self) -> str:
        """Everything of one run."""
        return "/".join(encode_component(part) for part in (self.instance, self.pipeline, self.run))

    @cached_property
    def step_key(self) -> str:
        """Everything of one step (of one iteration), over all generations."""
        iteration = (
            "/".join(encode_component(part) for part in self.iteration.split("/")) if self.iteration != "-" else "-"
        )
        return f"{self.run_key}/{encode_component(self.step)}/{iteration}"

    @cached_property
    def generation_key(self) -> str:
        """Everything of one generation."""
        name = f"{int(self.generation)}.{int(self.incarnation)}" if self.incarnation else int(self.generation)
        return f"{self.step_key}/{name}"

    @property
    def manifest_key(self) -> str:
        """The commit: until it is there the step has no outputs."""
        return f"{self.generation_key}/{MANIFEST}"

    @property
    def checkpoint_key(self) -> str:
        """A folder that outlives the attempts of the generation."""
        return f"{self.generation_key}/{CHECKPOINT}"

    def failed_step_key(self, try_number: int) -> str:
        """What a try that failed had started: the seal of its attempt, which is not kept otherwise."""
        return f"{self.generation_key}/step-{int(try_number)}.json"

    @property
    def source_key(self) -> str:
        """Packed source code of the run."""
        return f"{self.run_key}/_source"

    def claim_key(self, try_number: int) -> str:
        """The claim that a try lays to the generation."""
        return f"{self.generation_key}/claim-{int(try_number)}.json"

    def attempt_key(self, attempt: str) -> str:
        """The folder of an attempt."""
        return f"{self.generation_key}/{encode_component(attempt)}"

    def step_json_key(self, attempt: str) -> str:
        """What was resolved before the attempt started."""
        return f"{self.attempt_key(attempt)}/{STEP}"

    def outputs_key(self, attempt: str) -> str:
        """The folder of what the attempt wrote."""
        return f"{self.attempt_key(attempt)}/{OUTPUTS}"

    def outputs_json_key(self, attempt: str) -> str:
        """The seal of what the attempt wrote."""
        return f"{self.attempt_key(attempt)}/{OUTPUTS_SEAL}"


def origin_of(key: str) -> tuple[Place, str] | None:
    """
    What made an output: its place, and the path below its outputs, as a key of the store tells it.

    :param key: of an artifact
    :return: ``None`` for a key of something else, or one in which a name was cut
    """
    parts = key.split("/")
    if len(parts) <= _BELOW_OUTPUTS or parts[_BELOW_OUTPUTS - 1] != OUTPUTS:
        return None
    names = [name for part in parts[:4] if (name := decode_component(part)) is not None]
    generation, _, incarnation = parts[5].partition(".")
    numbers = [generation, incarnation or "0", parts[4] if parts[4] != "-" else "0"]
    if len(names) < 4 or not all(number.isascii() and number.isdigit() for number in numbers):  # noqa: PLR2004
        return None
    instance, pipeline, run, step = names
    place = Place(instance, pipeline, run, step, parts[4], int(generation), int(incarnation or 0))
    return place, "/".join(parts[_BELOW_OUTPUTS:])
