"""What is asked of Kafka before a worker counts: is this the log that its database was made from?

Kafka's clients answer a seek beyond the log's ends by starting somewhere else, silently. These checks come first, and
each says in one line what is wrong and which ways lead out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from aiokafka import codec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from app.errors import ConfigError, LogGap, StateError, TryLater
from app.settings import Settings
from app.topics import FACTS
from tables.completeness import Lost
from tables.kafka_clients import asked_offsets, client_settings, kafka_words
from tables.missing_topics import BESIDE, missing, needed, partitions_there

TIMEOUT_S: Final = 10.0


class LogEnds(NamedTuple):
    """A partition's first offset, and the one behind its last record."""

    start: int
    end: int


class LogInspector:
    """Asks Kafka about a topic. Calls block, and raise TryLater where Kafka doesn't answer."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._admin = AdminClient(client_settings(kafka, "reports-worker"))

    def topic_id(self, topic: str) -> str:
        """Kafka's id of a topic: one made anew under the same name has another. Raises StateError where it is gone."""
        futures = self._admin.describe_topics(TopicCollection([topic]), request_timeout=TIMEOUT_S)
        return str(self._result(futures[topic], topic).topic_id)

    def missing(self) -> str:
        """Which topics of the installation are not there, or not with all partitions; empty where none."""
        try:
            return missing(partitions_there(self._admin, TIMEOUT_S), needed() | BESIDE)
        except KafkaException as error:
            raise TryLater(1, kafka_words(error, self._kafka)) from error

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, LogEnds]:
        """Raises StateError where the topic is gone."""
        asked = asked_offsets(self._admin, topic, partitions, TIMEOUT_S)
        return {
            partition: LogEnds(self._result(start, topic).offset, self._result(end, topic).offset)
            for partition, (start, end) in asked.items()
        }

    def check_session_timeout(self, settings: Settings) -> None:
        """Faust doesn't exit when the broker refuses its session timeout, so it is compared before."""
        try:
            broker = next(iter(self._admin.list_topics(timeout=TIMEOUT_S).brokers))
        except KafkaException as error:
            raise TryLater(1, kafka_words(error, self._kafka)) from error
        resource = ConfigResource(ResourceType.BROKER, str(broker))
        found = self._result(self._admin.describe_configs([resource], request_timeout=TIMEOUT_S)[resource])
        least = int(found["group.min.session.timeout.ms"].value) / 1000
        most = int(found["group.max.session.timeout.ms"].value) / 1000
        if not least <= settings.session_timeout_s <= most:
            raise ConfigError(
                "REPORTS_SESSION_TIMEOUT_S",
                f"is {settings.session_timeout_s:g}, the broker accepts {least:g} to {most:g} seconds",
            )

    def _result(self, future: Any, topic: str = FACTS) -> Any:
        try:
            return future.result(TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            cause = error.args[0] if error.args else None
            if isinstance(cause, KafkaError) and cause.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise StateError(
                    f"topic {topic} is not there in Kafka at {self._kafka}: it was deleted. Every role makes it again "
                    "when it starts; what was not counted by then is lost, and the worker says how to go on"
                ) from error
            raise TryLater(1, kafka_words(error, self._kafka)) from error


def check_codecs() -> None:
    """Without a codec's library aiokafka's fetcher dies and the worker stays up, consuming nothing."""
    missing = [
        name
        for name, there in (
            ("zstd", codec.has_zstd()),
            ("lz4", codec.has_lz4()),
            ("snappy", codec.has_snappy()),
        )
        if not there
    ]
    if missing:
        raise StateError(
            f"the library for {', '.join(missing)} compression is missing: install aiokafka with its extras "
            "(package cramjam)"
        )


def check_counted(partition: int, path: str, position: int, lost: Lost) -> None:
    """Raises LogGap: another database has counted what the log has lost, and the one at `path` has not."""
    raise LogGap(
        f"topic facts, partition {partition}: the log lost its end, which another database had counted up to offset "
        f"{lost.position}; {path}, which has counted up to offset {position} of what is there now, lacks it",
        position=lost.position,
        to=lost.to,
        counted=True,
    )


def check_position(partition: int, path: str, position: int, ends: LogEnds, back: int | None = None) -> None:
    """Raises LogGap where a database's next offset isn't within the log that it was counted from.

    `back`: where the log goes another way than when it was counted; None: nowhere, as far as can be told."""
    if position < ends.start:
        raise LogGap(
            f"gap in topic facts, partition {partition}: offset {position} is to be counted next but the log starts "
            f"at {ends.start}",
            position=position,
            to=ends.start,
        )
    if position > ends.end:
        raise LogGap(
            f"topic facts, partition {partition}: {path} has counted up to offset {position} but the log ends at "
            f"{ends.end}: records are missing",
            position=position,
            to=ends.end if back is None else back,
        )
    if back is not None:
        raise LogGap(
            f"topic facts, partition {partition}: {path} has counted up to offset {position}, but the log lost its end "
            f"since then, and has other records there now, from offset {back} on or later: records are missing",
            position=position,
            to=back,
        )
