from pamqp import commands
from pamqp.header import ContentHeader

from aimicromind_schemas.client.live.answers import ASKED_BY, Answers
from aimicromind_schemas.client.transport.labels import labels_of
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.messages.catch_up import SNAPSHOT

_TOKEN = f"{ASKED_BY}1"


def _is_answer(answers: Answers, kind: str, correlation_id: str | None) -> bool:
    properties = commands.Basic.Properties(message_type=kind, correlation_id=correlation_id)
    message = StreamMessage(ContentHeader(0, 4, properties).marshal(), b"body")
    return answers.is_answer(labels_of(message.header), message)


def test_answer_goes_to_its_asker_and_nobody_else() -> None:
    answers = Answers()
    mine: list[bytes] = []
    others: list[bytes] = []
    with answers.to(_TOKEN, mine.append), answers.to(f"{ASKED_BY}2", others.append):
        assert _is_answer(answers, SNAPSHOT, _TOKEN)

    assert (mine, others) == ([b"body"], [])


def test_answer_whose_asker_has_gone_is_dropped() -> None:
    assert _is_answer(Answers(), SNAPSHOT, _TOKEN)


def test_events_of_the_same_name_or_the_same_correlation_id_stay_events() -> None:
    answers = Answers()
    took: list[bytes] = []
    with answers.to(_TOKEN, took.append):
        assert not _is_answer(answers, SNAPSHOT, None)
        assert not _is_answer(answers, SNAPSHOT, "job-1")
        assert not _is_answer(answers, "token", _TOKEN)

    assert took == []
