"""Client of an installation: submit jobs, follow chats, wait for results, cancel.

It needs the extra `client`, which installs aio-pika.
"""

from aimicromind_schemas.client.client import Client
from aimicromind_schemas.client.consuming.failures import ConsumerFailureKind
from aimicromind_schemas.client.consuming.options import (
    ConsumerCounts,
    ConsumerOptions,
    Handler,
    Unprocessable,
)
from aimicromind_schemas.client.errors import (
    BrokerGone,
    BrokerRefused,
    BrokerTlsRefused,
    BrokerUnreachable,
    CannotAnswer,
    ClientError,
    EndNotReadable,
    JobNotTaken,
    NobodyReceives,
    NoEndYet,
    NoEventLog,
    NoSuchQueue,
    NotConfirmed,
    NothingToListenTo,
    QueueFull,
)
from aimicromind_schemas.client.jobs.job_id import new_job_id
from aimicromind_schemas.reading import Gap, Position

__all__ = [
    "BrokerGone",
    "BrokerRefused",
    "BrokerTlsRefused",
    "BrokerUnreachable",
    "CannotAnswer",
    "Client",
    "ClientError",
    "ConsumerCounts",
    "ConsumerFailureKind",
    "ConsumerOptions",
    "EndNotReadable",
    "Gap",
    "Handler",
    "JobNotTaken",
    "NoEndYet",
    "NoEventLog",
    "NoSuchQueue",
    "NobodyReceives",
    "NotConfirmed",
    "NothingToListenTo",
    "Position",
    "QueueFull",
    "Unprocessable",
    "new_job_id",
]
