# SPDX-License-Identifier: MIT
"""A Redis server as a cache that changes its values' sizes, as in the Mesh paper (PLDI 2019, section 6.2.2).

Inserts KEYS random keys with values of 240 bytes into the server at SOCKET, then a quarter as many (17 of 70) with values of
492, and leaves it alone. The server is meant to run with maxmemory and allkeys-lru, so that the second kind evicts the first.
Prints what compare reads: the server's CPU seconds for the inserts, what is resident after IDLE seconds (Pss and page
tables, KiB), and both it and the server's own count of live bytes over the seconds, in MiB. Keys come from a fixed seed.

usage: inserts.py SOCKET [KEYS [IDLE]]
"""
import os
import random
import re
import socket
import struct
import sys
import time

BATCH = 1000


class Server:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.replies = self.socket.makefile("rb")
        self.pid = struct.unpack("3i", self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self.start = time.monotonic()

    def info(self):
        self.socket.sendall(b"INFO\r\n")
        length = int(self.replies.readline()[1:])
        text = self.replies.read(length + 2).decode()
        return {key: float(value) for key, value in re.findall(r"^(used_memory|used_cpu_sys|used_cpu_user):([0-9.]+)", text, re.MULTILINE)}

    def cpu(self):
        info = self.info()
        return info["used_cpu_sys"] + info["used_cpu_user"]

    def resident_kib(self):
        total = 0
        for file, key in (("smaps_rollup", "Pss"), ("status", "VmPTE")):
            with open(f"/proc/{self.pid}/{file}") as lines:
                total += int(re.search(rf"^{key}:\s+([0-9]+) kB", lines.read(), re.MULTILINE).group(1))
        return total

    def trace(self):
        print(f"at {time.monotonic() - self.start:.2f} {self.resident_kib() / 1024:.2f} {self.info()['used_memory'] / 2**20:.2f}")

    def insert(self, rnd, count, size):
        value = b"v" * size
        for done in range(0, count, BATCH):
            n = min(BATCH, count - done)
            if done % (10 * BATCH) == 0:
                self.trace()
            self.socket.sendall(b"".join(b"SET key:%016x %b\r\n" % (rnd.getrandbits(64), value) for _ in range(n)))
            for _ in range(n):
                if self.replies.readline() != b"+OK\r\n":
                    sys.exit("inserts.py: a SET was refused")


def main():
    keys, idle = (int(sys.argv[n]) if n < len(sys.argv) else default for n, default in ((2, 700000), (3, 10)))
    server, rnd = Server(sys.argv[1]), random.Random(1)
    before = server.cpu()
    server.insert(rnd, keys, 240)
    server.insert(rnd, keys * 17 // 70, 492)
    print(f"inserts {server.cpu() - before:.6f} s")
    for _ in range(2 * idle):
        server.trace()
        time.sleep(0.5)
    server.trace()
    print(f"resident {server.resident_kib()} KiB")


if not os.path.exists(sys.argv[1]):
    sys.exit(f"inserts.py: there is no socket {sys.argv[1]}")
main()
