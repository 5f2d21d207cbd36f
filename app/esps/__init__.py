"""The e-mail service providers. One is one module here of the shape in `app.esps.esp`, and one line below."""

from __future__ import annotations

from typing import Final

from app.esps import (
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
from app.esps.esp import Busy, Esp

ESPS: Final[dict[str, Esp]] = {
    esp.name: esp
    for esp in (
        amazon_ses.ESP,
        brevo.ESP,
        generic.ESP,
        mailersend.ESP,
        mailgun.ESP,
        mailjet.ESP,
        mailtrap.ESP,
        mandrill.ESP,
        postal.ESP,
        postmark.ESP,
        resend.ESP,
        sendgrid.ESP,
        sparkpost.ESP,
        unisender_go.ESP,
    )
}
"""Name in `esp = "…"` → module."""

__all__ = ["ESPS", "Busy", "Esp"]
