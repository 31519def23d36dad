# SPDX-License-Identifier: MIT
# Objects of all kinds from one thread: graphs, parsed source, text, decimals. With PYTHONMALLOC=malloc every one
# of them is a malloc. usage: objects.py ROUNDS
import ast
import decimal
import random
import re
import sys


class Node:
    def __init__(self, key):
        self.key, self.children, self.text = key, [], None


def graph(rnd):
    root = Node(0)
    nodes = [root]
    for key in range(1, 20000):
        node = Node(key)
        node.text = "n" * rnd.randrange(80)
        rnd.choice(nodes).children.append(node)
        nodes.append(node)
    return sum(len(n.text or "") * len(n.children) for n in nodes)


def source(rnd):
    lines = [f"def f{i}(a, b={rnd.random()}):\n    return [a * x + {i} for x in range(b) if x % {i + 1}]" for i in range(400)]
    return len(ast.dump(ast.parse("\n".join(lines))))


def text(rnd):
    words = [format(rnd.getrandbits(rnd.randrange(4, 90)), "x") for _ in range(40000)]
    joined = " ".join(words)
    return len(re.sub(r"([a-f]+)([0-9]+)", r"\2\1", joined)) + len(set(joined.split())) + len(sorted(words))


def decimals(rnd):
    total = decimal.Decimal(0)
    for _ in range(30000):
        total += decimal.Decimal(rnd.randrange(1, 10**9)) / 7
    return int(total)


seeded = random.Random(1)
for _ in range(int(sys.argv[1])):
    print(graph(seeded), source(seeded), text(seeded), decimals(seeded))
