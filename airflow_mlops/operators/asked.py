# SPDX-License-Identifier: Apache-2.0
"""
What a question has shown: the inputs of an approval as they were when it asked.

An answer may come days later, in another process, when an alias means another version and the registry may be away. It is an answer to what was
shown, so that is what the step goes on with: ``asked-<try>.json`` beside the claims of its generation.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_mlops.artifacts import Artifact, DocumentInvalid, NotFound, ReferenceRefused
from airflow_mlops.operators.failures import BadStep
from airflow_mlops.operators.resolve import ResolvedInputs

if TYPE_CHECKING:
    from airflow_mlops.operators.attempt import Attempt

_LIMIT = 8 << 20


def keep_shown(attempt: Attempt) -> None:
    """
    Keep the inputs of a try that is about to ask.

    :raises StoreFailed: if they cannot be written
    """
    inputs = attempt.resolved
    artifacts = {name: artifact.to_json() for name, artifact in inputs.artifacts.items()}
    document = {
        "version": 1,
        "artifacts": artifacts,
        "parameters": inputs.parameters,
        "unstaged": sorted(inputs.unstaged),
    }
    attempt.store.put_if_absent(_key(attempt), json.dumps(document, sort_keys=True).encode())


def shown_inputs(attempt: Attempt) -> ResolvedInputs | None:
    """
    The inputs that this try has shown; ``None`` if it has not asked.

    :raises BadStep: if what was kept of them is damaged
    """
    key = _key(attempt)
    try:
        document = json.loads(attempt.store.read(key, _LIMIT))
        artifacts = {str(name): Artifact.from_json(one) for name, one in document["artifacts"].items()}
        return ResolvedInputs(artifacts, dict(document["parameters"]), set(document["unstaged"]))
    except NotFound:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, ReferenceRefused, DocumentInvalid) as error:
        raise BadStep(f"{attempt.store.uri(key)} is damaged: {error}; clear the step to ask again") from error


def _key(attempt: Attempt) -> str:
    identity = attempt.identity
    return f"{identity.place.generation_key}/asked-{identity.try_number}.json"
