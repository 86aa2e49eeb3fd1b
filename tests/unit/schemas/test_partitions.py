import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import MOST_PARTITIONS, partition_of
from tools.contract.places import PARTITIONS as VECTORS

VECTORS_OF = json.loads(VECTORS.read_text())["vectors"]
texts = st.text(st.characters(exclude_categories=["Cs"]))


def crc32_of_the_standard(data: bytes) -> int:
    """Compute CRC-32 bit by bit (ISO 3309): polynomial 0xEDB88320, reflected."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("vector", VECTORS_OF, ids=lambda it: it["utf8"])
def test_vectors_are_what_the_standard_gives(vector: dict[str, Any]) -> None:
    data = vector["chatId"].encode()

    assert data.hex() == vector["utf8"]
    assert crc32_of_the_standard(data) == vector["crc32"]
    assert vector["partitionOf"] == {
        count: vector["crc32"] % int(count) for count in vector["partitionOf"]
    }


@given(texts, st.integers(1, MOST_PARTITIONS))
def test_partition_is_one_of_those_there_are(chat_id: str, partitions: int) -> None:
    assert 0 <= partition_of(chat_id, partitions) < partitions


def test_chats_are_spread_evenly() -> None:
    chats = [f"chat-{number}" for number in range(4000)]

    counts = [sum(partition_of(chat, 4) == partition for chat in chats) for partition in range(4)]

    assert min(counts) > 900
