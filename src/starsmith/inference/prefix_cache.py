"""Which blocks hold the keys and values of which tokens: a radix tree that requests share and that forgets the oldest.

A node is a block; the way to it from the root spells the tokens before. What a request computed stays in the tree when
it ends, whether it was finished or not, so the next keystroke finds all of it but what was typed. Where two sequences
part inside a block, the common part is copied. Blocks that a running request holds are never forgotten; of the others
the least recently used leaf is the first to go when a block is wanted.
"""

import heapq
import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Node:
    """A block in the tree. One with fewer ids than fit is a leaf that nobody holds: it is only copied from."""

    ids: tuple[int, ...]
    block: int
    parent: "_Node | None"  # None: the root, or no longer in the tree
    children: "_Children" = field(default_factory=lambda: _Children())
    holders: int = 0  # running requests; who holds a node holds all before it
    used: int = 0  # when it was last let go, in closings


class _Children:
    """Nodes in the order of their ids, none of which begins another."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, ...], _Node] = {}
        self._order: list[tuple[int, ...]] = []

    def __bool__(self) -> bool:
        return bool(self._order)

    def exact(self, ids: tuple[int, ...]) -> _Node | None:
        return self._nodes.get(ids)

    def nearest(self, ids: tuple[int, ...]) -> tuple[_Node | None, int]:
        """The child that shares the longest beginning with `ids`, and its length."""
        place = bisect_left(self._order, ids)
        best, longest = None, 0
        for key in self._order[max(place - 1, 0) : place + 1]:  # in an ordered list it is a neighbour
            shared = _common(key, ids)
            if shared > longest:
                best, longest = self._nodes[key], shared
        return best, longest

    def add(self, node: _Node) -> None:
        self._order.insert(bisect_left(self._order, node.ids), node.ids)
        self._nodes[node.ids] = node

    def remove(self, node: _Node) -> None:
        del self._order[bisect_left(self._order, node.ids)]
        del self._nodes[node.ids]


@dataclass(eq=False)
class Lease:
    """The blocks of a running request, in order: first those in the tree, then its own, which it may write to."""

    blocks: list[int] = field(default_factory=list)
    path: list[_Node] = field(default_factory=list)  # of the blocks in the tree


class PrefixCache:
    """All blocks of a pool: free, in the tree, or a request's own."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.blocks, self.block_tokens = blocks, block_tokens
        self.evictions = 0  # blocks that were forgotten for others
        self._free = list(range(blocks - 1, -1, -1))
        self._root = _Node((), -1, None)
        self._idle = 0  # nodes that nobody holds
        self._nodes = 0
        self._clock = 0
        self._oldest: list[tuple[int, int, _Node]] = []  # a heap of leaves; entries may be out of date
        self._serial = itertools.count()

    @property
    def available(self) -> int:
        """Blocks that a request could get: the free ones and those that can be forgotten."""
        return len(self._free) + self._idle

    @property
    def cached(self) -> int:
        """Blocks in the tree."""
        return self._nodes

    def match(self, ids: Sequence[int], limit: int) -> int:
        """How many of the first `limit` ids a request would find."""
        path = [self._root, *self._walk(self._root, ids, 0, limit)]
        node, length = path[-1], (len(path) - 1) * self.block_tokens
        return length + node.children.nearest(self._key(ids, length, limit))[1]

    def adopt(self, lease: Lease, ids: Sequence[int], limit: int) -> int:
        """Hold whole blocks of the first `limit` ids that are in the tree by now; how many positions are held."""
        length = len(lease.path) * self.block_tokens
        for node in self._walk(self._end(lease), ids, length, limit):
            self._hold(lease, node)
        return len(lease.path) * self.block_tokens

    def branch(self, lease: Lease, ids: Sequence[int], limit: int) -> tuple[int, tuple[int, int] | None]:
        """Give a request that has nothing of its own yet a block for the part of one that is in the tree.

        returns  how many positions it has then, and the block to copy and where to, before anything else is done
        """
        length = len(lease.path) * self.block_tokens
        near, shared = self._end(lease).children.nearest(self._key(ids, length, limit))
        if near is None or not self.extend(lease, length + 1):
            return length, None
        source, target = near.block, lease.blocks[-1]  # the same if it was itself forgotten for this
        return length + shared, (source, target) if source != target else None

    def extend(self, lease: Lease, positions: int) -> bool:
        """Give a request room for so many positions in all, or nothing if there is not enough."""
        missing = -(-positions // self.block_tokens) - len(lease.blocks)
        if missing > self.available:
            return False
        lease.blocks += [self._take() for _ in range(missing)]
        return True

    def commit(self, lease: Lease, ids: Sequence[int], length: int) -> None:
        """Put a request's own blocks into the tree that are full with the first `length` ids."""
        for index in range(len(lease.path), length // self.block_tokens):
            key = self._key(ids, index * self.block_tokens, length)
            parent = self._end(lease)
            self._hold(lease, parent.children.exact(key) or self._insert(parent, key, lease.blocks[index]))

    def close(self, lease: Lease, ids: Sequence[int], length: int) -> None:
        """Let go of a request's blocks; the keys and values of its first `length` ids stay in the tree."""
        self._clock += 1
        self.commit(lease, ids, length)
        index = len(lease.path)
        if tail := self._key(ids, index * self.block_tokens, length):
            near, shared = self._end(lease).children.nearest(tail)
            if near is not None and shared == len(tail):
                self._touch(near)
            else:
                self._touch(self._insert(self._end(lease), tail, lease.blocks[index]))
                index += 1
        self._free += lease.blocks[index:]
        self._release(lease)

    def discard(self, lease: Lease) -> None:
        """Let go of a request's blocks and forget those that no other needs: they may hold rubbish."""
        self._free += lease.blocks[len(lease.path) :]
        path = list(lease.path)
        self._release(lease)
        for node in reversed(path):
            if not _is_evictable(node):
                break
            self._free.append(self._remove(node))

    def _walk(self, node: _Node, ids: Sequence[int], start: int, limit: int) -> Iterator[_Node]:
        """Nodes of whole blocks of ids[start:limit] behind `node`."""
        for place in range(start, limit - self.block_tokens + 1, self.block_tokens):
            child = node.children.exact(self._key(ids, place, limit))
            if child is None:
                return
            node = child
            yield node

    def _key(self, ids: Sequence[int], start: int, limit: int) -> tuple[int, ...]:
        return tuple(ids[start : min(start + self.block_tokens, limit)])

    def _end(self, lease: Lease) -> _Node:
        return lease.path[-1] if lease.path else self._root

    def _hold(self, lease: Lease, node: _Node) -> None:
        """Make a node the next of a request's path, in the place of its own block there if that is another."""
        index = len(lease.path)
        self._idle -= node.holders == 0
        node.holders += 1
        lease.path.append(node)
        if index == len(lease.blocks):
            lease.blocks.append(node.block)
        elif lease.blocks[index] != node.block:
            self._free.append(lease.blocks[index])
            lease.blocks[index] = node.block

    def _release(self, lease: Lease) -> None:
        for node in lease.path:
            node.holders -= 1
            self._idle += node.holders == 0
        for node in lease.path:
            self._touch(node)
        lease.path, lease.blocks = [], []

    def _insert(self, parent: _Node, key: tuple[int, ...], block: int) -> _Node:
        """A new node that nobody holds, in the place of one that is its beginning."""
        near, shared = parent.children.nearest(key)
        if near is not None and shared == len(near.ids):
            self._free.append(self._remove(near))
        node = _Node(key, block, parent)
        parent.children.add(node)
        self._nodes += 1
        self._idle += 1
        return node

    def _remove(self, node: _Node) -> int:
        """Take a leaf that nobody holds out of the tree; its block."""
        parent, node.parent = node.parent, None
        assert parent is not None
        parent.children.remove(node)
        self._nodes -= 1
        self._idle -= 1
        self._note(parent)
        return node.block

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        while True:
            used, _, node = heapq.heappop(self._oldest)
            if node.used == used and _is_evictable(node):
                self.evictions += 1
                return self._remove(node)

    def _touch(self, node: _Node) -> None:
        node.used = self._clock
        self._note(node)

    def _note(self, node: _Node) -> None:
        """Every node that can be forgotten is in the heap with its time; old entries are dropped now and then."""
        if not _is_evictable(node):
            return
        if len(self._oldest) > 2 * self._nodes + 64:
            self._oldest = [entry for entry in self._oldest if entry[2].used == entry[0] and _is_evictable(entry[2])]
            heapq.heapify(self._oldest)
        heapq.heappush(self._oldest, (node.used, next(self._serial), node))


def _is_evictable(node: _Node) -> bool:
    return node.parent is not None and node.holders == 0 and not node.children


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))
