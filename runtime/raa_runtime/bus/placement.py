"""Which partition a key belongs to: murmur2, as Java clients and aiokafka place it."""

from functools import lru_cache

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """Hash bytes as Kafka's default partitioner does (32 bits)."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    for start in range(0, length - length % 4, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if tail := data[length - length % 4 :]:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


@lru_cache(8_192)  # an event's key is that of the event before it
def partition_of(key: bytes, partitions: int) -> int:
    """Place a key on one of `partitions` partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
