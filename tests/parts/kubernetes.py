# SPDX-License-Identifier: Apache-2.0
"""
A real Kubernetes of one node: API server, controllers, scheduler, kubelet, containerd, kube-proxy, for as long as a test session lasts.

Its address space, its bridge and its rules of the packet filter are the host's, so there is one at a time, which sessions share. There is no
name service, no metrics server and no dynamic storage in it. A pod reaches a server of the host at :attr:`Cluster.node_ip`.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from tests.parts.cache import cache_folder, locked
from tests.parts.cluster_build import cluster_programs, one_program_image
from tests.parts.images import run
from tests.parts.processes import mounts_below, start_server, stop_server
from tests.parts.requirement import Unavailable

API_PORT, ETCD_PORT, ETCD_PEER_PORT = 16443, 12379, 12380
PODS, SERVICES = "10.244.0.0/24", "10.96.0.0/16"
BRIDGE = "mlops0"
PAUSE_IMAGE = "localhost/pause:1"
NODE_SILENCE = 20
"""Seconds after which a node that says nothing is taken for lost. A node says something four times in it."""

CNI = {
    "cniVersion": "0.4.0",
    "name": "mlops",
    "plugins": [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
CONTAINERD = """
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
KUBELET: dict[str, Any] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "cgroupDriver": "cgroupfs",
    "failCgroupV1": False,
    "failSwapOn": False,
    "clusterDNS": ["10.96.0.10"],
    "clusterDomain": "cluster.local",
    "resolvConf": "",
    "authorization": {"mode": "Webhook"},
    "nodeLeaseDurationSeconds": NODE_SILENCE,
    "evictionHard": {"memory.available": "200Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
    "imageGCHighThresholdPercent": 100,
    "imageGCLowThresholdPercent": 99,
}


class Cluster:
    """
    A cluster in a folder.

    :param folder: for its data and its sockets; removed when it stops
    :param programs: where the programs lie
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        self.kubeconfig = folder / "admin.kubeconfig"
        self.url = f"https://127.0.0.1:{API_PORT}"
        self.ca = folder / "pki" / "apiserver.crt"
        self.node_ip = _node_ip()
        self._socket = folder / "containerd.sock"
        self._pids: dict[str, int] = {}

    # What tests ask of it

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Call kubectl as the administrator; what it says of an error is in the exception."""
        command = [str(self.programs / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def objects(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a namespace as the API server has them."""
        words = ["get", kind, "-n", namespace, "-o", "json", *(["-l", selector] if selector else [])]
        items: list[dict[str, Any]] = json.loads(self.kubectl(*words))["items"]
        return items

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Make objects, or change them."""
        self.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        )

    def load(self, image: str) -> None:
        """Copy an image of the Docker engine onto the node."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
            run([*self._ctr, "images", "import", "--no-unpack=false", "-"], stdin=save.stdout)
        if save.returncode:
            raise Unavailable(f"docker save {image} ended with {save.returncode}")

    def kubeconfig_of(self, file: Path, token: str) -> Path:
        """Write a kubeconfig for a token, as a person has it."""
        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self.ca.read_bytes()).decode(),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user"}}],
            "current-context": "tests",
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps(content))
        return file

    @contextlib.contextmanager
    def silent_node(self) -> Iterator[None]:
        """Within, the node says nothing and hears nothing, while what runs on it runs on."""
        os.kill(self._pids["kubelet"], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pids["kubelet"], signal.SIGCONT)

    # Its life

    def start(self) -> None:
        """
        Start everything, and wait until a pod can be started.

        :raises Unavailable: if something does not come up
        """
        for name in ("pki", "cni", "kubelet", "manifests", "etcd"):
            (self.folder / name).mkdir(parents=True)
        self._make_credentials()
        self._start_control_plane()
        self._start_node()
        self._wait("a ready node", self._node_is_ready)
        self._wait("the default service account", lambda: self._answers("get", "serviceaccount", "default"))

    def pick_up(self) -> None:
        """Know the processes of a session that was killed and left this folder."""
        for file in self.folder.glob("*.pid"):
            pid = int(file.read_text())
            with contextlib.suppress(psutil.Error):
                # A number may be another process's by now. Names may be cut after 15 characters.
                if psutil.Process(pid).name()[:15] == file.stem[:15]:
                    self._pids[file.stem] = pid

    def stop(self) -> None:
        """End all of it, and remove what it made on the host."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, OSError):
            self.kubectl("delete", "pods", "--all", "-A", "--grace-period=0", "--force", "--wait=false")
        for name in [*reversed(self._pids)]:
            if name != "containerd":
                stop_server(self._pids.pop(name))
        if "containerd" in self._pids:
            self._end_containers()
            stop_server(self._pids.pop("containerd"))
        # A shim outlives containerd; its command line names the socket, which is this cluster's alone.
        for process in psutil.process_iter(["cmdline"]):
            if str(self.folder / "containerd") in " ".join(process.info["cmdline"] or ()):
                process.kill()
        for mount in mounts_below(self.folder):
            subprocess.run(["umount", "-l", mount], check=False)
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)
        subprocess.run([self.programs / "kube-proxy", "--cleanup"], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_credentials(self) -> None:
        """Keys of the API server, and a token each for the administrator and the node."""
        pki = self.folder / "pki"
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        subject = [f"DNS:{name}" for name in names] + ["IP:127.0.0.1", "IP:10.96.0.1", f"IP:{self.node_ip}"]
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
        run(["openssl", "genrsa", "-out", str(pki / "sa.key"), "2048"])
        keys = ["-keyout", str(pki / "apiserver.key"), "-out", str(self.ca)]
        run([*request, "-subj", "/CN=kube-apiserver", *keys, "-addext", f"subjectAltName={','.join(subject)}"])
        keys = ["-keyout", str(pki / "client.key"), "-out", str(pki / "client.crt")]
        run([*request, "-subj", "/O=system:masters/CN=kube-apiserver", *keys])
        admin, node = secrets.token_hex(16), secrets.token_hex(16)
        (pki / "tokens.csv").write_text(
            f'{admin},admin,admin,"system:masters"\n{node},system:node:node,node,"system:masters"\n'
        )
        (pki / "tokens.csv").chmod(0o600)
        self.kubeconfig_of(self.kubeconfig, admin)
        self.kubeconfig_of(self.folder / "node.kubeconfig", node)

    def _start_control_plane(self) -> None:
        pki, etcd = self.folder / "pki", f"http://127.0.0.1:{ETCD_PORT}"
        peers = f"http://127.0.0.1:{ETCD_PEER_PORT}"
        self._start(
            "etcd",
            ["etcd", "--data-dir", self.folder / "etcd"]
            + ["--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", peers]
            + ["--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"],
            lambda: _listens(ETCD_PORT),
        )
        self._start(
            "kube-apiserver",
            [
                self.programs / "kube-apiserver",
                f"--etcd-servers={etcd}",
                f"--secure-port={API_PORT}",
                "--bind-address=0.0.0.0",
                f"--advertise-address={self.node_ip}",
                f"--tls-cert-file={self.ca}",
                f"--tls-private-key-file={pki}/apiserver.key",
                f"--token-auth-file={pki}/tokens.csv",
                "--authorization-mode=Node,RBAC",
                f"--service-cluster-ip-range={SERVICES}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki}/sa.key",
                f"--service-account-signing-key-file={pki}/sa.key",
                "--allow-privileged=true",
                f"--kubelet-client-certificate={pki}/client.crt",
                f"--kubelet-client-key={pki}/client.key",
                "--kubelet-preferred-address-types=InternalIP,Hostname",
            ],
            lambda: self._answers("get", "--raw", "/readyz"),
        )
        self._start(
            "kube-controller-manager",
            [
                self.programs / "kube-controller-manager",
                f"--kubeconfig={self.kubeconfig}",
                f"--service-account-private-key-file={pki}/sa.key",
                f"--root-ca-file={self.ca}",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--allocate-node-cidrs=false",
                f"--node-monitor-grace-period={NODE_SILENCE}s",
            ],
        )
        self._start(
            "kube-scheduler",
            [self.programs / "kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false"],
        )

    def _start_node(self) -> None:
        (self.folder / "cni" / "10-bridge.conflist").write_text(json.dumps(CNI))
        config = self.folder / "containerd.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, socket=self._socket, pause=PAUSE_IMAGE))
        self._start("containerd", ["containerd", "--config", config], self._socket.exists)
        archive = self.folder / "pause.tar"
        archive.write_bytes(one_program_image(self.programs / "pause", PAUSE_IMAGE))
        run([*self._ctr, "images", "import", str(archive)])
        run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        settings = KUBELET | {
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "staticPodPath": str(self.folder / "manifests"),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.folder / "pki" / "client.crt")},
            },
        }
        (self.folder / "kubelet.yaml").write_text(json.dumps(settings))
        kubeconfig = f"--kubeconfig={self.folder}/node.kubeconfig"
        self._start(
            "kubelet",
            [
                self.programs / "kubelet",
                f"--config={self.folder}/kubelet.yaml",
                kubeconfig,
                "--hostname-override=node",
                f"--node-ip={self.node_ip}",
                f"--root-dir={self.folder}/kubelet",
                f"--cert-dir={self.folder}/pki/kubelet",
            ],
        )
        proxy = ["--proxy-mode=iptables", "--hostname-override=node", "--conntrack-max-per-core=0"]
        self._start("kube-proxy", [self.programs / "kube-proxy", kubeconfig, *proxy])

    @property
    def _ctr(self) -> list[str]:
        return ["ctr", "-a", str(self._socket), "-n", "k8s.io"]

    def _start(self, name: str, command: list[Any], answers: Callable[[], bool] = lambda: True) -> None:
        words = [str(word) for word in command]
        self._pids[name] = start_server(words, self.folder / f"{name}.log", answers, seconds=90)
        (self.folder / f"{name}.pid").write_text(str(self._pids[name]))

    def _answers(self, *words: str) -> bool:
        try:
            self.kubectl(*words)
        except (AssertionError, subprocess.TimeoutExpired):
            return False
        return True

    def _node_is_ready(self) -> bool:
        path = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        try:
            return self.kubectl("get", "node", "node", path) == "True"
        except AssertionError:
            return False

    def _wait(self, what: str, holds: Callable[[], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                logs = {file.stem: file.read_text(errors="replace")[-1000:] for file in self.folder.glob("*.log")}
                raise Unavailable(f"the cluster has no {what} after {seconds:g} s: {json.dumps(logs, indent=1)}")
            time.sleep(0.2)

    def _end_containers(self) -> None:
        """Kill what runs on the node; its pods were deleted, and nobody is left to do that."""
        for task in _words([*self._ctr, "tasks", "ls", "-q"]):
            subprocess.run([*self._ctr, "tasks", "kill", "-s", "KILL", task], check=False, capture_output=True)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and any(
            line.split()[-1] == "RUNNING" for line in _lines([*self._ctr, "tasks", "ls"])
        ):
            time.sleep(0.1)
        for container in _words([*self._ctr, "containers", "ls", "-q"]):
            subprocess.run([*self._ctr, "containers", "rm", container], check=False, capture_output=True)


def _lines(command: list[str]) -> list[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()


def _words(command: list[str]) -> list[str]:
    return [line.strip() for line in _lines(command) if line.strip()]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _node_ip() -> str:
    """An address of this host that is not of a bridge, which pods reach it at."""
    found = subprocess.run(["ip", "-j", "-4", "addr"], check=True, capture_output=True, text=True).stdout
    for link in json.loads(found):
        if link["ifname"] not in ("lo", "docker0", BRIDGE) and not link["ifname"].startswith(("veth", "br-")):
            for address in link["addr_info"]:
                return str(address["local"])
    raise Unavailable("this host has no network address but its loopback one, and pods could not reach it")


@contextlib.contextmanager
def cluster_session() -> Iterator[Cluster]:
    """
    A running cluster. Sessions that want one at the same time share it: the first one starts it, and the last one stops it.

    :raises Unavailable: if there cannot be one
    """
    programs = cluster_programs()
    # A short path: sockets lie in it. The same one each time, so that what a killed session left is found.
    cluster = Cluster(cache_folder() / "k", programs)
    with (cache_folder() / "kubernetes-users.lock").open("w") as users:
        with locked("kubernetes"):
            if _is_alone(users):
                _started_anew(cluster)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield cluster
        finally:
            with locked("kubernetes"):
                if _is_alone(users):
                    cluster.pick_up()
                    cluster.stop()


def _is_alone(users: IO[str]) -> bool:
    """Whether no other session uses the cluster; the lock is this session's alone then."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _started_anew(cluster: Cluster) -> None:
    if cluster.folder.exists():
        cluster.pick_up()
        cluster.stop()
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
