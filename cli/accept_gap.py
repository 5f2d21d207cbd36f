"""`reports accept-gap`: the explicit way on where records of topic `facts` are lost, or can't be read.

A worker that finds its log trimmed, recreated or cut short sets the partition aside and says where its database stands
(`agents.set_aside`). Here it is said what is lost; once that is confirmed it is written into topic `installation`, and
whichever worker has the partition crosses the gap, this time and whenever the partition is counted again from the log.

A new database may come upon a gap of records that another one has counted, and readers see them: the other one is the
better way on, so that is refused, unless --lose-counted says that there is none any more.

Webhooks that were lost before they were read keep nobody waiting, nor does a topic `installation` that was made again:
`--webhooks` ends the conditions that say so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import click
import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis import RedisError

from agents.log_checks import LogEnds, LogInspector
from app.errors import StateError
from app.installation import Gap, History, LostSeen, Topics
from app.settings import Settings
from app.times import utc_text
from app.topics import FACTS, INSTALLATION, WEBHOOKS, WEBHOOKS_PARTITIONS
from app.words import number_of
from cli.addresses import wait_for_addresses
from cli.config import load_settings
from cli.identity import known_identity
from cli.progress import Progress
from tables.conditions import GapSeen
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings, kafka_words
from tables.log_reader import LogReader
from tables.presence import WORKERS, conditions_of
from tables.redis_client import redis_words
from tables.redis_clock import time_ms
from tables.redis_names import sync_client
from tables.views import NUMBERS, Fence, fences_of

READ_S: Final = 5.0
WAIT_S: Final = 60.0
POLL_S: Final = 0.25


@click.command()
@click.argument("partitions", nargs=-1, type=click.IntRange(0))
@click.option("--all", "every", is_flag=True, help="Every partition that waits for it.")
@click.option("--webhooks", is_flag=True, help="Webhooks that were lost before they were read.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option(
    "--lose-counted",
    is_flag=True,
    help="Also what another database has counted: it leaves the reports for good.",
)
@click.option(
    "--wait", default=WAIT_S, show_default=True, help="Seconds to wait until it is counted on; 0: don't."
)
def command(
    partitions: tuple[int, ...], *, every: bool, webhooks: bool, yes: bool, lose_counted: bool, wait: float
) -> int:
    """Go on counting PARTITIONS of topic facts behind records that are lost or can't be read; says which first.

    With --webhooks: end the conditions lost_webhooks, which says that webhooks were lost before they were read, and
    installation_lost, which says that what was noted of such losses is gone.
    """
    if [bool(partitions), every, webhooks].count(True) != 1:
        raise click.UsageError("name the partitions, or --all, or --webhooks")
    if webhooks:
        return _acknowledge(wait_for_addresses(load_settings(), 10.0, ("kafka",)), yes=yes)
    settings = wait_for_addresses(load_settings(), timeout_s=10.0)
    settings = msgspec.structs.replace(settings, installation=known_identity(settings).id)
    seen = waiting(settings)
    wanted = sorted(seen) if every else sorted(set(partitions))
    for partition in wanted:
        if partition not in seen:
            raise StateError(
                f"no worker waits at a gap of partition {partition}: nothing to accept. The worker that has the "
                "partition must run (`reports aggregate`), and says what is wrong with it under GET /ops/workers"
            )
    if not wanted:
        raise StateError("no worker waits at a gap of any partition: nothing to accept")
    gaps = gaps_of(settings, {partition: seen[partition] for partition in wanted})
    if not gaps:
        raise StateError("nothing to accept")
    for gap in gaps:
        click.echo(loss_of(gap))
    counted = [gap for gap in gaps if gap.counted]
    refused = [] if lose_counted else counted
    gaps = [gap for gap in gaps if gap not in refused]
    if not gaps:
        raise _refusal(refused)
    click.echo(_afterwards(settings, gaps))
    if counted and lose_counted:
        click.echo(
            "Erasures and names of campaigns are in topic facts only, and webhooks bring erased people back: erase "
            "them again (`reports erase`), and name the campaigns again."
        )
    click.echo(
        "All campaigns, and those that appear within a day, say so in their reports from then on, for good."
    )
    if not yes:
        question = "Go on without these records?"
        if refused:
            question = (
                f"Go on in partition {', '.join(str(gap.partition) for gap in gaps)} without these records?"
            )
        click.confirm(question, abort=True)
    accept(settings, gaps)
    try:
        if wait:
            _wait(settings, [gap.partition for gap in gaps], wait)
    except StateError as error:
        raise StateError(f"{error}. And {_refusal(refused)}" if refused else str(error)) from None
    if refused:
        raise _refusal(refused)
    return 0


def _refusal(counted: Sequence[Gap]) -> StateError:
    """Of gaps behind which another database has counted on."""
    named = ", ".join(str(gap.partition) for gap in counted)
    return StateError(
        f"another database has counted what is missing in partition {named}, and reports show it. Stop the worker "
        "that waits here, put a copy of that database's folder (of the host that had the partition) in the place of "
        "its own, and start it again; or stop it, and let the host that has the database go on alone. If the database "
        f"is gone for good: `reports accept-gap {' '.join(str(gap.partition) for gap in counted)} --lose-counted`"
    )


def _acknowledge(settings: Settings, *, yes: bool) -> int:
    """That webhooks were lost is known. What reports say of it stays."""
    known_identity(settings)
    log = InstallationLog(settings.kafka)
    installation = log.read()
    unseen = installation.unseen if installation is not None else []
    again_ms = installation.again_ms if installation is not None else None
    if not unseen and again_ms is None:
        raise StateError("no webhooks are known to be lost, or all of it was acknowledged: nothing to accept")
    for lost in unseen:
        click.echo(lost.words())
    if unseen:
        click.echo("Reports that may lack something say so for good. Only the condition lost_webhooks ends.")
    if again_ms is not None:
        click.echo(
            f"Topic {INSTALLATION} was made again at {utc_text(again_ms)}: what it said of gaps and of lost webhooks "
            "before is gone. Only the condition installation_lost ends."
        )
    if not yes:
        click.confirm("End it?", abort=True)
    installation = log.read()
    if installation is not None and len(installation.unseen) > len(unseen):
        raise StateError("more webhooks were found to be lost meanwhile: run it again, and see what")
    log.append(LostSeen(at_ms=time.time_ns() // 1_000_000))
    return 0


def waiting(settings: Settings) -> dict[int, GapSeen]:
    """Partition → where its database stands, of those that a worker has set aside at a gap. Raises StateError."""
    stored, now_ms = _hash(settings, WORKERS)
    return {
        said.partition: said.gap
        for said in conditions_of(stored, now_ms)
        if said.partition is not None and said.gap is not None
    }


def _hash(settings: Settings, name: str) -> tuple[dict[bytes, bytes], int]:
    """One of Redis's hashes, and the time by its clock, ms. Raises StateError."""
    try:
        with sync_client(settings.redis, settings.installation, timeout_s=READ_S) as client:
            found: dict[bytes, bytes] = client.hgetall(name)
            return found, time_ms(client.time())
    except (RedisError, OSError) as error:
        raise StateError(
            f"what the workers say can't be read: {redis_words(error, settings.redis)}"
        ) from None


def was_counted(stood: GapSeen, published: Fence | None, history: History) -> bool:
    """Whether another database than the one that waits has counted what is missing."""
    if stood.counted:
        return True
    if published is not None and published.topic == stood.topic_id:
        return published.offset > stood.position
    if published is not None:
        return published.topic in {one.topic for one in history.gaps if one.recreated}
    # Redis knows nothing: an empty database that isn't the partition's first one.
    return not stood.position and history.generations > 1


def gaps_of(settings: Settings, seen: dict[int, GapSeen]) -> list[Gap]:
    """What there is to accept; says where there is nothing. Raises TryLater where Kafka doesn't answer."""
    inspector = LogInspector(settings.kafka)
    topic = inspector.topic_id(FACTS)
    ends = inspector.ends(FACTS, seen)
    histories = InstallationLog(settings.kafka).histories(seen)
    stored, now_ms = _hash(settings, NUMBERS.positions)
    published = fences_of(stored)
    gaps = []
    for partition, stood in seen.items():
        to = continues_at(stood, topic, ends[partition])
        if to is None:
            click.echo(
                f"the log of partition {partition} is whole again behind offset {stood.position}: the worker goes on "
                "by itself within a minute"
            )
            continue
        gaps.append(
            Gap(
                partition=partition,
                topic_before=stood.topic_id,
                position=stood.position,
                topic=topic,
                to=to,
                end=ends[partition].end,
                # What stood behind a lost end may be of any time before now.
                before_ms=None
                if stood.topic_id == topic and to < stood.position
                else _stored_at(settings.kafka, partition, to, ends[partition]),
                above=stood.generation,
                counted=was_counted(stood, published.get(partition), histories[partition]),
                at_ms=now_ms,
            )
        )
    return gaps


def continues_at(stood: GapSeen, topic: str, ends: LogEnds) -> int | None:
    """The offset behind the gap; None where there is none."""
    if stood.topic_id != topic or stood.position < ends.start:
        return ends.start
    if stood.to is not None and stood.to < stood.position:
        # The log lost its end, however far it has grown since.
        return max(stood.to, ends.start)
    if stood.position > ends.end:
        return ends.end
    return stood.to if stood.to is not None and stood.to > stood.position else None


def loss_of(gap: Gap) -> str:
    """What is lost by accepting, in one line for the operator."""
    where = f"partition {gap.partition}"
    first = utc_text(gap.before_ms) if gap.before_ms is not None else None
    older = f", stored before {first}" if first else ""
    if gap.counted:
        if gap.recreated:
            what = f"in topic {FACTS} before it was recreated"
        elif gap.lost_end:
            what = f"at offsets {gap.to} to {gap.position - 1}, the end that the log has lost"
        else:
            what = f"before offset {gap.to}"
        return (
            f"{where}: this worker's database lacks what stood {what}{older}. Another database has counted it, and "
            "reports show it: going on here takes it out of them"
        )
    if gap.recreated:
        return (
            f"{where}: topic {FACTS} was recreated, or the cluster is another one. Of the old topic everything below "
            f"offset {gap.position} is counted; what stood behind that is lost, and nobody can say how much. Counting "
            f"goes on with the new topic at offset {gap.to}{f', of {first}' if first else ''}"
        )
    if gap.to < gap.position:
        return (
            f"{where}: the log lost its end, at most the {number_of(gap.position - gap.to, 'record')} at offsets "
            f"{gap.to} to {gap.position - 1} that are counted, and what stood behind them. What is counted stays so, "
            f"and counting goes on at offset {gap.to}; what it comes upon twice counts once. Counted again from the "
            "log the numbers would lack what is lost"
        )
    return (
        f"{where}: offsets {gap.position} to {gap.to - 1} ({number_of(gap.to - gap.position, 'record')}{older}) are "
        f"missing or can't be read, and were never counted. Counting goes on at offset {gap.to}"
    )


def accept(settings: Settings, gaps: Sequence[Gap]) -> None:
    """Writes it down for whoever has the partitions, now or later."""
    log = InstallationLog(settings.kafka)
    installation = log.read()
    known = installation.topics.ids if installation is not None and installation.topics is not None else {}
    topic = gaps[0].topic
    if installation is not None and known.get(FACTS) != topic:
        log.append(Topics(ids={**known, FACTS: topic}, why="accept-gap", at_ms=gaps[0].at_ms))
    for gap in gaps:
        log.append(gap)


def _afterwards(settings: Settings, gaps: Sequence[Gap]) -> str:
    """Whether webhooks are stored from which what is lost can be counted again, for the operator."""
    try:
        with LogReader(settings.kafka) as reader:
            firsts = reader.first_ms(WEBHOOKS, reader.whole(WEBHOOKS, WEBHOOKS_PARTITIONS))
    except StateError as error:
        return (
            f"Whether topic {WEBHOOKS} still has something of that time can't be told now ({error}): where it has, "
            "`reports renormalize --from TIME` counts it afterwards."
        )
    if not firsts:
        return f"Nothing is left from which it could be counted again: topic {WEBHOOKS} is empty."
    oldest_ms = min(firsts.values())
    begins = f"it begins at {utc_text(oldest_ms)}"
    if oldest_ms > max(gap.at_ms if gap.before_ms is None else gap.before_ms for gap in gaps):
        return (
            f"Topic {WEBHOOKS} has nothing of that time: {begins}. So it can't be counted again from there."
        )
    return (
        f"What topic {WEBHOOKS} still has of that time ({begins}) can be counted afterwards: "
        "`reports renormalize --from TIME` reads the stored webhooks again, TIME being when the first lost record was "
        "accepted, or earlier: in doubt, when the oldest campaign that lacks something began."
    )


def _stored_at(kafka: str, partition: int, offset: int, ends: LogEnds) -> int | None:
    """When the first record from an offset on was stored; None where there is none, or it can't be read in time."""
    if offset >= ends.end:
        return None
    consumer = Consumer(
        {
            **client_settings(kafka, "reports-accept-gap"),
            # Only named, never joined: records are read by assignment.
            "group.id": "campaign-reports-accept-gap",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.assign([TopicPartition(FACTS, partition, offset)])
        message = consumer.poll(READ_S)
        return message.timestamp()[1] if message is not None and message.error() is None else None
    except KafkaException as error:
        raise StateError(kafka_words(error, kafka)) from None
    finally:
        consumer.close()


def _wait(settings: Settings, wanted: Sequence[int], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    with Progress("partitions", len(wanted)) as progress:
        while left := [partition for partition in wanted if partition in waiting(settings)]:
            progress.at(len(wanted) - len(left))
            if time.monotonic() > deadline:
                raise StateError(
                    f"it is written down, but partition {', '.join(map(str, left))} is not counted on after "
                    f"{wait_s:.0f} s: GET /ops/workers says what is wrong with it now"
                )
            time.sleep(POLL_S)
    click.echo(f"partition {', '.join(map(str, wanted))}: counted on")
