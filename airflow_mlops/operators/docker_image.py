# SPDX-License-Identifier: Apache-2.0
"""The image of a step: pulled unless the daemon has it, and known by what cannot change under its name."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound

from airflow_mlops.operators.docker_errors import cannot_pull, refusals
from airflow_mlops.operators.failures import BadStep

if TYPE_CHECKING:
    from docker import APIClient


@dataclass(frozen=True, slots=True)
class Image:
    """
    An image that the daemon has.

    :param name: as the step says it
    :param id: the digest of its configuration, which is the same on every host
    :param digest: ``repository@sha256:…`` as its registry knows it; ``None`` for one that was built or loaded on the host
    """

    name: str
    id: str
    digest: str | None = None

    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        known = {"image": self.name, "image_id": self.id}
        return known if self.digest is None else {**known, "image_digest": self.digest}


def find_image(cli: APIClient, name: str) -> Image:
    """
    Look an image up.

    :raises ImageNotFound: if the daemon has none of that name
    """
    details = cli.inspect_image(name)
    digests: list[str] = details.get("RepoDigests") or []
    # A colon before the last slash is a registry's port.
    repository = re.sub(r":[^/:]*$", "", name.partition("@")[0])
    own = [digest for digest in digests if digest.startswith(f"{repository}@")]
    return Image(name, details["Id"], next(iter([*own, *digests]), None))


def need_image(cli: APIClient, name: str | None, *, task_id: str, pull: bool, log: Any) -> Image:
    """
    Look an image up, and pull it if the daemon does not have it.

    :param pull: even if it has
    :raises BadStep: if there is no name, or none that an image can have
    :raises CannotStart: if there is no such image
    """
    if not name:
        raise BadStep(f"step '{task_id}' has no image; the docker runtime needs one")
    if not pull:
        with contextlib.suppress(ImageNotFound), refusals(task_id):
            return find_image(cli, name)
    log.info("Pulling image %s", name)
    try:
        cli.pull(name)
        return find_image(cli, name)
    except APIError as error:
        if failure := cannot_pull(task_id, name, error):
            raise failure from error
        raise
