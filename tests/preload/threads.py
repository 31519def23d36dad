# SPDX-License-Identifier: MIT
# Eight producers make lists, dictionaries and compressed blocks of pseudo-random content; four consumers take
# them from a queue, check and free them. Prints one digest that depends on the content only.
import hashlib
import json
import queue
import random
import sys
import threading
import zlib

ROUNDS = int(sys.argv[1])
PRODUCERS, CONSUMERS = 8, 4
q = queue.Queue(maxsize=64)
digests = []
lock = threading.Lock()


def produce(seed):
    rnd = random.Random(seed)
    for n in range(ROUNDS):
        record = {
            "id": [seed, n],
            "words": ["%x" % rnd.getrandbits(rnd.randrange(8, 400)) for _ in range(rnd.randrange(1, 300))],
            "table": {str(rnd.randrange(10000)): rnd.random() for _ in range(rnd.randrange(1, 200))},
            "blob": rnd.randbytes(rnd.randrange(1, 60000)).hex(),
        }
        text = json.dumps(record, sort_keys=True).encode()
        q.put((record, zlib.compress(text, 1)))


def consume():
    while True:
        item = q.get()
        if item is None:
            return
        record, packed = item
        text = zlib.decompress(packed)
        if json.loads(text) != record:
            raise SystemExit("a record changed between two threads")
        with lock:
            digests.append(hashlib.sha256(text).hexdigest())


def main():
    consumers = [threading.Thread(target=consume) for _ in range(CONSUMERS)]
    producers = [threading.Thread(target=produce, args=(seed,)) for seed in range(PRODUCERS)]
    for t in consumers + producers:
        t.start()
    for t in producers:
        t.join()
    for _ in consumers:
        q.put(None)
    for t in consumers:
        t.join()
    print(len(digests), hashlib.sha256("".join(sorted(digests)).encode()).hexdigest())


main()
