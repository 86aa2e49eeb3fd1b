import pytest

from aimicromind_schemas import Names
from aimicromind_worker.core.chats.return_address import may_be_answered
from tests.support.hostile import HOSTILE

NAMES = Names("aimicromind")


@pytest.mark.parametrize(
    "queue", ["amq.gen-LhQz1gv3GhDOv8PIDabOXA", "follower.7", "aimicromind", "ämq.ü"]
)
def test_queues_of_followers_are_answered(queue: str) -> None:
    assert may_be_answered(queue, NAMES)


@pytest.mark.parametrize(
    "queue",
    [
        "",
        "amq.rabbitmq.reply-to",
        "amq.gen-",
        "amq.gen-LhQz1gv3GhDOv8PIDabOXA.more",
        "amq.gen-LhQz1gv3GhDOv8PIDabO A",
        "amq.topic",
        "aimicromind.jobs",
        NAMES.chat_lease("chat"),
        *HOSTILE.values(),
    ],
)
def test_queues_that_could_do_harm_are_not(queue: str) -> None:
    assert not may_be_answered(queue, NAMES)
