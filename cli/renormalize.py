"""`reports renormalize`: reads stored webhooks again, the ordinary way; it brings back what was lost to a wrong secret.

Rules:
- Each webhook that topic `webhooks` took in the time is appended to it once more, with the time at which it came first
  and marked as a copy (copies are never copied). Normalize makes the facts that it would have made: those that were
  counted are not counted again, and of copies that differ the newest reading counts (`app.fold`).
- Without `--from` it begins where the earliest of all workers does (`cli.foreign_told`).
- When a webhook was accepted stands in its record, as it does in the records of its facts: by the clocks of whoever
  accepted it, not by Kafka's. So Kafka's times find no more than where to begin reading, `CLOCKS_MS` earlier; and where
  a condition may end, everything that is stored is read.
- What was accepted before the oldest stored webhook, or before topic `webhooks` was recreated, is read from topic
  `facts`, but only what another secret has keyed. It is keyed anew where the log proves what it must be
  (`app.foreign`), and the rest is counted and named as lost.
- When normalize is done with all of it, a record in each partition of `facts` says so, and the condition
  `foreign_facts` ends; what stays set aside is said. Not where something may be missing: with `--until` or `--source`,
  and not with losses that nobody has accepted.
- What a host with another secret reads meanwhile stays set aside, and that is said: the record carries where the
  partition ended when this began, which is looked up before the webhooks are.
- Run again it changes no number, and it may be cut off at any time. A fact's identity includes its campaign, though: by
  a changed template it is another fact, and both count.
Exit status: 0; 1 something is lost, or a host with another secret read webhooks meanwhile; 2 used wrongly; 3 it can't
be done now, and why.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import click
import msgspec

from app.errors import StateError
from app.facts import FACTS_VERSION, FactsRecord, encode
from app.keys import secret_fingerprint
from app.settings import Settings
from app.times import utc_text
from app.topics import FACTS, WEBHOOKS, WEBHOOKS_PARTITIONS, Webhook, webhook_headers, webhook_of
from app.words import number_of
from cli import foreign_told
from cli.config import load_configuration
from cli.foreign_log import Lost, foreign_facts, key_anew, still_lost
from cli.identity import identify
from cli.import_ import source_of
from cli.log_writer import LogWriter
from cli.moments import Moment
from cli.progress import Progress
from tables.installation import InstallationLog
from tables.log_reader import LogReader, Stretch, headers_of
from tables.origin import topic_ids

POLL_S: Final = 0.1
CLOCKS_MS: Final = 24 * 60 * 60 * 1000
"""How far the clock that said when a webhook was accepted may have been from Kafka's."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which webhooks are meant: accepted from `from_ms` to before `until_ms`, of one organisation and source or all."""

    from_ms: int
    until_ms: int | None = None
    org: str | None = None
    source: str | None = None

    def takes(self, webhook: Webhook) -> bool:
        return (
            not webhook.renormalized
            and self.from_ms <= webhook.accepted_at_ms
            and (self.until_ms is None or webhook.accepted_at_ms < self.until_ms)
            and self.org in (None, webhook.org)
            and self.source in (None, webhook.source)
        )


@click.command()
@click.option(
    "--from",
    "from_ms",
    type=Moment(),
    help="Webhooks accepted at this time or later: 2026-11-24T10:00:00Z, 2026-11-24, 12h or 7d (ago). Without it, from "
    "the earliest that any worker has set aside (condition foreign_facts).",
)
@click.option("--until", "until_ms", type=Moment(), help="Only those accepted before this time.")
@click.option("--source", help="Only those of SOURCE or ORG/SOURCE.")
@click.option("--org", help="Only those of this organisation.")
@click.option("--accept-lost", is_flag=True, help="What can't be brought back is known: stop showing it.")
@click.option("--wait", "wait_s", default=3600.0, show_default=True, help="Seconds to wait for normalize.")
def command(
    from_ms: int | None,
    until_ms: int | None,
    source: str | None,
    org: str | None,
    *,
    accept_lost: bool,
    wait_s: float,
) -> int:
    """Read stored webhooks again: after a parser was mended, or after a start with a wrong secret.

    Nothing counts twice while the settings are those of then, so it may be done as often as you like. After a changed
    `campaign` template the same events count under the new campaign too, beside the old one.
    """
    settings, organisations = load_configuration()
    if source is not None:
        named = source_of(organisations, source if org is None or "/" in source else f"{org}/{source}")
        if org not in (None, named.org):
            raise click.UsageError(f"{source} is not a source of {org}")
        org, source = named.org, named.name
    elif org is not None and org not in organisations.by_id:
        raise click.UsageError(f"there is no organisation {org}")
    if until_ms is not None and from_ms is not None and until_ms <= from_ms:
        raise click.UsageError("--until must be later than --from")
    # With another secret the facts would be keyed by a foreign one once more.
    settings = identify(settings, servers=("kafka",)).settings
    if from_ms is None:
        from_ms = foreign_told.earliest(settings)
    is_told = foreign_told.warn(settings, from_ms)
    asked = Asked(from_ms=from_ms, until_ms=until_ms, org=org, source=source)
    with LogReader(settings.kafka) as reader:
        return _renormalize(settings, reader, asked, whole=is_told, accept_lost=accept_lost, wait_s=wait_s)


def _renormalize(
    settings: Settings, reader: LogReader, asked: Asked, *, whole: bool, accept_lost: bool, wait_s: float
) -> int:
    began_ms = time.time_ns() // 1_000_000
    writer = LogWriter(settings.kafka, settings.max_body)
    # Before the webhooks are looked up: so all that is set aside below these ends has its webhook among them.
    facts = reader.whole(FACTS, settings.partitions)
    stored = reader.whole(WEBHOOKS, WEBHOOKS_PARTITIONS)
    whole_from_ms = max(
        _whole_from(stored, reader.first_ms(WEBHOOKS, stored), began_ms),
        _recreated_ms(settings.kafka, began_ms),
    )
    if whole_from_ms:
        # Too late a time does no harm: what is looked for in topic `facts` as well is counted once.
        whole_from_ms += CLOCKS_MS
    sent = _send_again(reader, writer, stored, asked, whole=whole)
    _wait_for_normalize(reader, wait_s)
    lost: Lost = {}
    if asked.from_ms < whole_from_ms:
        lost = _from_facts(settings, reader, writer, asked, whole_from_ms, whole=whole)
    click.echo(f"{number_of(sent, 'webhook')} read again: counted when `reports lag` shows no lag", err=True)
    for (org, campaign), count in sorted(lost.items()):
        click.echo(f"lost: {number_of(count, 'fact')} of {org}, campaign {campaign}")
    if lost and not accept_lost:
        click.echo(
            f"{number_of(sum(lost.values()), 'fact')} can't be brought back: the webhooks are gone and the log "
            "doesn't prove what was in them. --accept-lost ends the condition all the same",
            err=True,
        )
    elif asked.until_ms is None and asked.source is None:
        _say_done(settings, writer, asked, facts)
        foreign_told.say_what_remains(settings)
    else:
        click.echo(
            "a condition foreign_facts ends with a run without --until and --source: only that has everything",
            err=True,
        )
    came = _came_meanwhile(settings, reader, asked, facts)
    return 1 if came or (lost and not accept_lost) else 0


def _recreated_ms(kafka: str, now_ms: int) -> int:
    """Before when what was accepted may have gone with an earlier topic `webhooks`; 0 where there was none."""
    installation = InstallationLog(kafka).read()
    if installation is None:
        return 0
    # Normalize writes down another topic once it has found it, and which one it is where `installation` was made again.
    is_noted = (
        installation.topics is None
        or installation.topics.ids.get(WEBHOOKS) == topic_ids(kafka, (WEBHOOKS,))[WEBHOOKS]
    )
    return installation.webhooks_from_ms if is_noted else now_ms


def _whole_from(stored: Mapping[int, Stretch], firsts: Mapping[int, int], now_ms: int) -> int:
    """From when on every accepted webhook is stored, by Kafka's clock; 0 where none was ever removed."""
    return max(
        (firsts.get(number, now_ms) for number, stretch in stored.items() if stretch.begin > 0), default=0
    )


def _send_again(
    reader: LogReader, writer: LogWriter, stored: Mapping[int, Stretch], asked: Asked, *, whole: bool
) -> int:
    stretches = stored if whole else reader.since(WEBHOOKS, stored, asked.from_ms - CLOCKS_MS)
    total = sum(stretch.end - stretch.begin for stretch in stretches.values())
    sent = 0
    with Progress("webhooks", total) as progress:
        for done, message in enumerate(reader.read(WEBHOOKS, stretches), 1):
            try:
                webhook = webhook_of(message.value(), headers_of(message))
            except ValueError:
                continue  # a dead letter from the start
            if asked.takes(webhook):
                copy = msgspec.structs.replace(
                    webhook, renormalized=True, again_at_ms=time.time_ns() // 1_000_000
                )
                writer.send(WEBHOOKS, copy.body, webhook_headers(copy))
                sent += 1
            progress.at(done, f"{sent} sent again")
        writer.flush()
    return sent


def _wait_for_normalize(reader: LogReader, wait_s: float) -> None:
    """Until the facts of all webhooks that are there now are in the log."""
    ends = {number: stretch.end for number, stretch in reader.whole(WEBHOOKS, WEBHOOKS_PARTITIONS).items()}
    deadline = time.monotonic() + wait_s
    first: int | None = None
    with Progress("webhooks read", None) as progress:
        while True:
            done = reader.normalized(WEBHOOKS, WEBHOOKS_PARTITIONS)
            left = sum(max(0, end - done.get(number, 0)) for number, end in ends.items())
            if not left:
                return
            first = left if first is None else first
            progress.at(first - left, f"{left} to go")
            if time.monotonic() > deadline:
                raise StateError(
                    f"the webhooks were sent again, but normalize has not read {left} of them after {wait_s:.0f} s: "
                    "see that it runs, then run this again (nothing counts twice)"
                )
            time.sleep(POLL_S)


def _from_facts(
    settings: Settings,
    reader: LogReader,
    writer: LogWriter,
    asked: Asked,
    whole_from_ms: int,
    *,
    whole: bool,
) -> Lost:
    """Keys anew what can be, and gives the rest."""
    until_ms = whole_from_ms if asked.until_ms is None else min(asked.until_ms, whole_from_ms)
    click.echo(
        f"what was accepted before {utc_text(whole_from_ms)} may be gone from topic {WEBHOOKS}", err=True
    )
    if asked.source is not None:
        click.echo(f"topic {FACTS} doesn't tell sources: run this without --source to look there", err=True)
        return {}
    stretches = reader.whole(FACTS, settings.partitions)
    if not whole:
        # Facts are stored after their webhooks.
        stretches = reader.since(FACTS, stretches, asked.from_ms - CLOCKS_MS)
    with Progress("records of facts", sum(s.end - s.begin for s in stretches.values())) as progress:
        found = key_anew(
            reader.read(FACTS, stretches), settings, asked.org, asked.from_ms, until_ms, writer, progress
        )
        writer.flush()
    click.echo(f"{number_of(found.keyed, 'fact')} of another secret keyed anew from the log", err=True)
    if not found.candidates:
        return {}
    with Progress("records of facts", sum(s.end - s.begin for s in stretches.values())) as progress:
        return still_lost(reader.read(FACTS, stretches), settings, found.candidates, progress)


def _say_done(settings: Settings, writer: LogWriter, asked: Asked, facts: Mapping[int, Stretch]) -> None:
    """`facts`: what was stored when this began."""
    now_ms = time.time_ns() // 1_000_000
    secret = secret_fingerprint(settings.secret)
    for partition, stretch in facts.items():
        record = FactsRecord(
            FACTS_VERSION, asked.org or "", "", now_ms, [], secret, asked.from_ms, stretch.end
        )
        writer.send(FACTS, encode(record), [], partition)
    writer.flush()


def _came_meanwhile(
    settings: Settings, reader: LogReader, asked: Asked, facts: Mapping[int, Stretch]
) -> bool:
    """Whether another secret keyed any facts since, which is said. `facts`: what was stored when this began."""
    now = reader.whole(FACTS, settings.partitions)
    new = {number: Stretch(max(facts[number].end, one.begin), one.end) for number, one in now.items()}
    with Progress("records of facts", sum(max(0, s.end - s.begin) for s in new.values())) as progress:
        came = foreign_facts(reader.read(FACTS, new), settings, asked.org, progress)
    if came:
        click.echo(
            f"{number_of(came, 'fact')} of another secret came while this ran, and what they belong to stays set "
            "aside: stop the host with that secret, then run this again",
            err=True,
        )
    return bool(came)
