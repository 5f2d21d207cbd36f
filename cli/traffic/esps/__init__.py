"""One module for each ESP: what happened, in that ESP's own words and under its own signature."""

from __future__ import annotations

from typing import Final

from cli.traffic.esps import (
    amazon_ses,
    brevo,
    generic,
    mailersend,
    mailgun,
    mailjet,
    mailtrap,
    mandrill,
    postal,
    postmark,
    resend,
    sendgrid,
    sparkpost,
    unisender_go,
)
from cli.traffic.esps.writer import Writer

_ALL: Final = (
    amazon_ses.WRITER,
    brevo.WRITER,
    generic.WRITER,
    mailersend.WRITER,
    mailgun.WRITER,
    mailjet.WRITER,
    mailtrap.WRITER,
    mandrill.WRITER,
    postal.WRITER,
    postmark.WRITER,
    resend.WRITER,
    sendgrid.WRITER,
    sparkpost.WRITER,
    unisender_go.WRITER,
)

WRITERS: Final[dict[str, Writer]] = {writer.name: writer for writer in _ALL}
