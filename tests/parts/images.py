# SPDX-License-Identifier: Apache-2.0
"""
The images of the tests and examples, made without a registry of images: Debian's packages and wheels, imported as one
layer.

``mlops-busybox:1`` is a few megabytes with a shell and awk. ``python-sklearn:1`` holds what
``dags/breast-cancer/Dockerfile`` holds; the versions are read from there. Their archives are cached by recipe, so that
only the first run builds. Where debootstrap cannot run (no root, no Debian), the Dockerfile is built instead, which
needs a registry.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.cache import built, recipe_hash
from tests.parts.requirement import Unavailable, unavailable

if TYPE_CHECKING:
    import docker

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "dags" / "breast-cancer" / "Dockerfile"
SUITE, PYTHON = "bookworm", "3.11"
"""Debian's release and the Python in it: wheels are chosen for that one, whatever runs the tests."""
FORMAT = 1
"""Counted up when the way an image is made changes."""
PACKAGES = "usr/local/lib/python3.11/dist-packages"
LEFT_OUT = (
    "var/cache",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
)
DEBIAN_PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(command: Sequence[str | Path], **options: Any) -> str:
    """Run a program to its end and return what it printed; Unavailable shows the end of its output if it fails."""
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
        )
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} not found") from None
    if done.returncode:
        raise Unavailable(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def wheels_of_dockerfile() -> list[str]:
    """Return the pinned requirements of the example's Dockerfile, so that both ways of building hold the same."""
    found = re.findall(r"[\w.-]+==[\w.]+", DOCKERFILE.read_text())
    if not found:
        raise ValueError(f"{DOCKERFILE}: no requirement of the form name==version; the test image is made of them")
    return found


def uv_command() -> str:
    """Return the uv beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise Unavailable("uv not found; run: pip install uv")
    return found


def packed(tree: Path, archive: Path) -> Path:
    """Pack a file tree as ``docker import`` wants it, without the parts that no step reads."""

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        inside_left_out = any(member.name.startswith(f"./{folder}/") for folder in LEFT_OUT)
        return None if inside_left_out else member

    with tarfile.open(archive, "w") as tar:
        tar.add(tree, arcname=".", filter=keep)
    return archive


def build_sklearn(scratch: Path) -> Path:
    """Make the archive of a small Debian with Python and the example's packages; about 90 s the first time."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise Unavailable("needs root and debootstrap; run: apt-get install -y debootstrap")
    tree = scratch / "tree"
    run(["debootstrap", "--variant=minbase", "--include=python3", SUITE, tree])
    (tree / "usr/bin/python").symlink_to("python3")
    options = ["--quiet", "--link-mode=copy", "--only-binary=:all:", f"--target={tree / PACKAGES}"]
    platform = [f"--python-version={PYTHON}", "--python-platform=x86_64-manylinux_2_28"]
    run([uv_command(), "pip", "install", *options, *platform, *wheels_of_dockerfile()])
    run(["chroot", tree, "python3", "-m", "compileall", "-q", f"/{PACKAGES}"])
    return packed(tree, scratch / "image.tar")


def build_busybox(scratch: Path) -> Path:
    """Make the archive of Debian's static busybox with a link for each of its programs."""
    run(["apt-get", "download", "busybox-static"], cwd=scratch)
    package = next(scratch.glob("busybox-static_*.deb"))
    run(["dpkg-deb", "--extract", package, scratch / "package"])
    tree = scratch / "tree"
    for folder in ("bin", "etc", "tmp", "usr/bin"):
        (tree / folder).mkdir(parents=True)
    (tree / "tmp").chmod(0o1777)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    busybox = tree / "bin/busybox"
    shutil.copy(scratch / "package/bin/busybox", busybox)
    for name in run([busybox, "--list"]).split():
        if name != "busybox":
            (tree / "bin" / name).symlink_to("busybox")
    (tree / "usr/bin/env").symlink_to("/bin/busybox")  # what #! lines name
    return packed(tree, scratch / "image.tar")


STAGER = ROOT / "stager"


def _stager_recipe() -> str:
    kinds = (".go", ".mod", ".sum")
    return recipe_hash(
        [
            FORMAT,
            {
                path.name: path.read_text()
                for path in STAGER.iterdir()
                if path.suffix in kinds or path.name == "Dockerfile"
            },
        ]
    )


def stager_program() -> Path:
    """Return the stager, a static program, built as its Dockerfile does."""
    from tests.parts.s3 import go_command

    command = re.search(
        r"^RUN CGO_ENABLED=0 go (build .*) -o /stager \.$", (STAGER / "Dockerfile").read_text(), re.MULTILINE
    )
    if command is None:
        raise ValueError(
            f"{STAGER}/Dockerfile: no line that builds the stager was found; the tests build it by the same command"
        )
    words = shlex.split(command[1])

    def build(scratch: Path) -> Path:
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
        run([*go_command(), *words, "-o", str(scratch / "stager"), "."], cwd=STAGER, env=environment)
        return scratch / "stager"

    return built(f"stager-{_stager_recipe()}", build)


def build_stager(scratch: Path) -> Path:
    """Make the archive of the stager's image: the program, and certificates."""
    tree = scratch / "tree"
    (tree / "etc/ssl/certs").mkdir(parents=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", tree / "etc/ssl/certs")
    shutil.copy(stager_program(), tree / "stager")
    return packed(tree, scratch / "image.tar")


def stager(url: str) -> str:
    """Load ``mlops-stager:1`` into the daemon at ``url`` and return its name."""
    name, change = f"mlops-stager:{_stager_recipe()}", 'ENTRYPOINT ["/stager"]'
    return _with_client(url, lambda client: loaded(client, name, "mlops-stager:1", build_stager, change))


def loaded(client: docker.DockerClient, name: str, alias: str, build: Callable[[Path], Path], change: str) -> str:
    """
    Return an image of this daemon, imported from its cached archive if the daemon lacks it.

    :param name: name with the hash of its recipe, ``repository:hash``
    :param alias: the short name that pipelines use; moved to this image
    :param change: a Dockerfile line about the image's configuration
    """
    from docker.errors import ImageNotFound

    try:
        image = client.images.get(name)
    except ImageNotFound:
        repository, tag = name.split(":")
        archive = built(f"{repository}-{tag}.tar", build)
        answer = client.api.import_image_from_file(str(archive), repository=repository, tag=tag, changes=[change])
        try:
            image = client.images.get(name)
        except ImageNotFound:
            raise Unavailable(f"the daemon did not import {archive}: {answer[-500:]}") from None
    image.tag(*alias.split(":"))
    return alias


def busybox(url: str) -> str:
    """Load ``mlops-busybox:1`` into the daemon at ``url`` and return its name."""
    name = f"mlops-busybox:{recipe_hash([FORMAT, SUITE])}"
    return _with_client(url, lambda client: loaded(client, name, "mlops-busybox:1", build_busybox, "ENV PATH=/bin"))


def python_sklearn(url: str) -> str:
    """Load ``python-sklearn:1`` into the daemon at ``url`` and return its name."""
    name = f"mlops-python-sklearn:{recipe_hash([FORMAT, SUITE, PYTHON, wheels_of_dockerfile()])}"

    def load(client: docker.DockerClient) -> str:
        try:
            return loaded(client, name, "python-sklearn:1", build_sklearn, DEBIAN_PATH)
        except Unavailable as no_tree:
            from docker.errors import DockerException

            try:
                client.images.build(path=str(DOCKERFILE.parent), tag="python-sklearn:1")[0].tag(*name.split(":"))
            except DockerException as no_build:
                raise Unavailable(
                    f"python-sklearn:1 can be made neither from Debian ({no_tree}) nor from {DOCKERFILE} ({no_build})"
                ) from None
            return "python-sklearn:1"

    return _with_client(url, load)


def _with_client(url: str, use: Callable[[docker.DockerClient], str]) -> str:
    import docker

    client = docker.DockerClient(base_url=url, version="auto", timeout=600)
    try:
        return use(client)
    finally:
        client.close()


@pytest.fixture(scope="session")
def busybox_image(docker_daemon: str) -> str:
    """``mlops-busybox:1``: sh, awk and the other programs of busybox; the quick one."""
    try:
        return busybox(docker_daemon)
    except Unavailable as reason:
        unavailable("docker", reason)


@pytest.fixture(scope="session")
def python_image(docker_daemon: str) -> str:
    """``python-sklearn:1``: Python 3.11 with scikit-learn, pandas and skops."""
    try:
        return python_sklearn(docker_daemon)
    except Unavailable as reason:
        unavailable("docker", reason)
