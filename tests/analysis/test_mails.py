"""The text of a mail is that which the library's own, slower reader finds."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest

from p2l_sdk.analysis.history import _bodies, _text_of


def plain() -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "café"
    mail.set_content("Prove that 2 € is more than 1 €.")
    return mail


def alternative() -> EmailMessage:
    mail = plain()
    mail.add_alternative("<p>Prove it</p>", subtype="html")
    return mail


def related() -> EmailMessage:
    mail = EmailMessage()
    mail.set_content("<p>See the picture</p>", subtype="html")
    mail.add_related(b"\x89PNG", "image", "png")
    return mail


def attached() -> EmailMessage:
    mail = alternative()
    mail.add_attachment("a text that was not asked", filename="notes.txt")
    mail.add_attachment(b"\x00", "application", "octet-stream", filename="x.bin")
    return mail


def forwarded() -> EmailMessage:
    mail = plain()
    mail.add_attachment(plain())
    return mail


def latin() -> EmailMessage:
    mail = EmailMessage()
    mail.set_content("größer", charset="iso-8859-1")
    return mail


@pytest.mark.parametrize("make", [plain, alternative, related, attached, forwarded, latin])
def test_its_body_is_that_of_the_standard_library(make):
    content = make().as_bytes()
    theirs = email.message_from_bytes(content, policy=email.policy.default).get_body(("plain", "html"))
    _, ours = min(_bodies(email.message_from_bytes(content)), key=lambda found: found[0])
    assert _text_of(ours) == theirs.get_content()


def test_a_picture_has_no_body():
    mail = EmailMessage()
    mail.set_content(b"\x89PNG", "image", "png")
    assert list(_bodies(email.message_from_bytes(mail.as_bytes()))) == []
