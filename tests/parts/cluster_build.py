# SPDX-License-Identifier: Apache-2.0
"""
The programs of a Kubernetes node and its control plane, compiled once from their Go modules.

A machine that can pull no image has them all the same: etcd, containerd and runc are Debian's packages, the rest is one ``go build`` of some
minutes, kept in the cache folder by version. ``cluster/go.mod`` pins every module, ``cluster/go.sum`` its content.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path

from tests.parts.cache import built, recipe_hash
from tests.parts.images import run
from tests.parts.requirement import Unavailable
from tests.parts.s3 import go_command

VERSION = "1.34.4"
MODULE = Path(__file__).with_name("cluster")
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl", "kubelet")
PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "etcd": "etcd-server",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""Which of Debian's packages a program comes from."""

PAUSE = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}
"""
"""What holds a pod's network while its containers come and go."""


def cluster_programs() -> Path:
    """
    Return the folder with the programs, compiled first if need be; some minutes, once.

    :raises Unavailable: if a program of another package is missing, or the build fails
    """
    if os.geteuid() != 0:
        raise Unavailable("only root can run a Kubernetes node")
    if lacking := sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None}):
        raise Unavailable(f"a Kubernetes node needs more; run: apt-get install -y {' '.join(lacking)}")
    texts = [(MODULE / name).read_text() for name in ("go.mod", "go.sum", "tools.go")]
    return built(f"kubernetes-{VERSION}-{recipe_hash([VERSION, PAUSE, *texts])}", _build)


def _build(scratch: Path) -> Path:
    module, programs = scratch / "module", scratch / "programs"
    programs.mkdir()
    shutil.copytree(MODULE, module)
    _, minor, _ = VERSION.split(".")
    flags = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        flags += [f"-X {package}.gitVersion=v{VERSION}", f"-X {package}.gitMajor=1", f"-X {package}.gitMinor={minor}"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    packages = [f"k8s.io/kubernetes/cmd/{program}" for program in PROGRAMS]
    build = [*go_command(), "build", "-trimpath", "-ldflags", " ".join(flags), "-o", f"{programs}/"]
    run([*build, *packages], cwd=module, env=environment)
    (scratch / "pause.go").write_text(PAUSE)
    build = [*go_command(), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(programs / "pause"), "pause.go"]
    run(build, cwd=scratch, env=environment)
    return programs


def one_program_image(program: Path, name: str) -> bytes:
    """An archive as ``docker save`` writes it, of an image that holds one static program."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
    architecture = run(["dpkg", "--print-architecture"]).strip()
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.getvalue(),
    }
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as tar:
        for path, content_of in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content_of)
            tar.addfile(entry, io.BytesIO(content_of))
    return image.getvalue()
