# systemd's descriptor store keeps the mount: a stand-in for systemd that speaks the documented protocol (sd_notify(3),
# FDSTORE; sd_listen_fds(3)) takes the descriptors, and hands them to the next start after a kill.
import array
import os
import socket
import subprocess
import threading
import time

from cluster import Cluster
from system import is_mounted, wait_until


class ServiceManager:
    """Listens on a NOTIFY_SOCKET; keeps what is stored."""

    def __init__(self, path):
        self.path = path
        self.messages = []
        self.stored = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while True:
            try:
                message, extra, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(64 * 4))
            except OSError:
                return
            if message == b"END":
                return
            descriptors = array.array("i")
            for level, kind, data in extra:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(data[:len(data) // 4 * 4])
            fields = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
            self.messages.append(fields)
            name = fields.get("FDNAME", "stored")
            if fields.get("FDSTORE") == "1":
                for descriptor in descriptors:
                    self.stored[name] = descriptor
            elif fields.get("FDSTOREREMOVE") == "1":
                if name in self.stored:
                    os.close(self.stored.pop(name))

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"END", str(self.path))
        self._thread.join(5)
        self._socket.close()
        for descriptor in self.stored.values():
            os.close(descriptor)


def test_the_mount_survives_kills_in_systemds_keeping(directory):
    manager = ServiceManager(directory / "notify")
    environment = {"NOTIFY_SOCKET": str(directory / "notify"), "FDSTORE": "8"}
    cluster = Cluster(directory / "cluster", environment=environment, start=False)
    bench = None
    try:
        with cluster:
            cluster.start()
            wait_until(lambda: any(m.get("READY") == "1" for m in manager.messages), 10, "READY=1")
            assert any("mount" in name for name in manager.stored), manager.messages
            assert not [p for p in cluster._own_processes() if p != cluster.process.pid], "a holder runs beside systemd"
            volume = cluster.create("vol.img", 32 << 20)
            bench = subprocess.Popen(
                ["qemu-img", "bench", "-f", "raw", "-t", "none", "-w", "-c", "30000", "-d", "8", volume],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(3):
                time.sleep(0.3)
                cluster.kill()
                assert is_mounted(cluster.mount)
                cluster.inherited = dict(manager.stored)
                cluster.start(wait=False)
            output, _ = bench.communicate(timeout=60)
            assert bench.returncode == 0, output
            cluster.wait_ready()
            # A clean end takes the mount away, and out of systemd's store.
            assert cluster.stop() == 0
            assert not is_mounted(cluster.mount)
            wait_until(lambda: not manager.stored, 5, "the store being emptied")
    finally:
        if bench and bench.poll() is None:
            bench.kill()
            bench.wait()
        manager.close()
