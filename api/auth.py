"""Who asks: an API key in `Authorization: Bearer`, or the pages' session cookie.

Rules:
- Keys are compared as bytes in constant time, all of them (`Organisations.find_key`).
- A credential in the query is refused even beside a good header: addresses end up in logs and histories.
- The cookie names organisation and key, carries a fingerprint of the key's secret and an expiry, and is signed: a key
  that is removed, rotated or loses a scope ends or narrows the sessions made with it, at the next request.
- What a cookie authenticates must come from our own pages: any request that names another origin is refused, and one
  that changes something must prove its origin (browsers send `Sec-Fetch-Site` or `Origin` with all of these).
- Where a key's file is not on this host nobody can say whose an unknown key is: 503 rather than 401, which clients take
  for an end.
- 401 who are you, 403 not with this key. Another organisation's campaign is not found here: `api.reports` looks up
  names in the principal's organisation only.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.context import Context, context_of
from api.errors import json_response
from api.operations import FORM, NOBODY, TOO_LARGE, ApiRoute, Operation
from app.errors import UNDECODABLE, RejectRequest, TryLater
from app.organisations import ApiKey
from app.shapes_operations import Session, SignIn

COOKIE: Final = "reports_session"
SESSION_S: Final = 7 * 86_400
"""A week: a dashboard on a wall survives the weekend, a forgotten browser doesn't survive the month."""
MAX_KEY_BYTES: Final = 512
ABSENT_S: Final = 30
"""A person has to bring the file."""
_ABSENT: Final = "a key's file is missing on this host, and this may be that key: try again"
MAX_FORM_BYTES: Final = 4_096

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_QUERY_CREDENTIALS: Final = frozenset(
    {"token", "access_token", "key", "api_key", "apikey", "authorization", "ticket"}
)


class Principal(msgspec.Struct, frozen=True):
    org: str
    key_name: str
    scopes: frozenset[str]


class _Session(msgspec.Struct, frozen=True, array_like=True):
    org: str
    key_name: str
    fingerprint: bytes
    expires_at_s: int


_encode_session = msgspec.msgpack.Encoder().encode
_decode_session = msgspec.msgpack.Decoder(_Session).decode


def authenticate(connection: HTTPConnection, context: Context, needed_scope: str) -> Principal:
    """The caller. Raises RejectRequest 401 (nobody we know), 403 (without the scope, or from a foreign page), and
    TryLater where a key is not on this host."""
    key = authenticated_key(connection, context, needed_scope)
    return Principal(key.org, key.name, key.scopes)


def authenticated_key(connection: HTTPConnection, context: Context, needed_scope: str) -> ApiKey:
    """The caller's key; raises like `authenticate`."""
    refuse_credentials_in_query(connection)
    key = _key_of(connection, context)
    if needed_scope not in key.scopes:
        raise RejectRequest(403, "missing_scope", f"this key has not the scope {needed_scope}")
    return key


def refuse_credentials_in_query(connection: HTTPConnection) -> None:
    if not _QUERY_CREDENTIALS.isdisjoint(name.lower() for name in connection.query_params):
        raise RejectRequest(
            401, "credential_in_query", "send the key in the header Authorization, not in the address"
        )


def _key_of(connection: HTTPConnection, context: Context) -> ApiKey:
    header = connection.headers.get("authorization")
    if header is not None:
        scheme, _, credential = header.partition(" ")
        # Header values are Latin-1 in ASGI: this gives back the bytes as they came.
        secret = credential.strip().encode("latin-1")
        key = _find_key(context, secret) if scheme.lower() == "bearer" else None
        if key is None:
            raise _unknown_key(context)
        return key
    cookie = connection.cookies.get(COOKIE)
    if cookie is None:
        raise RejectRequest(401, "unauthorized", "a key is needed: Authorization: Bearer <key>")
    key = _key_of_cookie(cookie, context)
    if key is None:
        raise RejectRequest(401, "unauthorized", "the session has ended, sign in again")
    check_origin(connection, context, proof=connection.scope["method"] not in _SAFE_METHODS)
    return key


def _find_key(context: Context, secret: bytes) -> ApiKey | None:
    if not 0 < len(secret) <= MAX_KEY_BYTES:
        return None
    return context.organisations.find_key(secret)


def _unknown_key(context: Context) -> RejectRequest | TryLater:
    if context.organisations.lacks_keys():
        return TryLater(ABSENT_S, _ABSENT)
    return RejectRequest(401, "unauthorized", "unknown key")


def _session_key(context: Context) -> bytes:
    return hmac.digest(context.secret, b"campaign-reports session v1", "sha256")


def fingerprint_of(context: Context, key: ApiKey) -> bytes:
    """By it a key is known again without being kept; another secret under the same name has another one."""
    return hmac.digest(_session_key(context), b"key\0" + key.secret, "sha256")[:16]


def key_of_fingerprint(context: Context, org: str, name: str, fingerprint: bytes) -> ApiKey | None:
    organisation = context.organisations.by_id.get(org)
    for key in organisation.keys if organisation is not None else ():
        if key.name == name:
            if key.absent:
                raise TryLater(ABSENT_S, _ABSENT)
            return key if hmac.compare_digest(fingerprint_of(context, key), fingerprint) else None
    return None


def session_cookie(context: Context, key: ApiKey) -> str:
    """The cookie's value: base64url of the session and its HMAC-SHA-256."""
    session = _Session(key.org, key.name, fingerprint_of(context, key), int(context.clock()) + SESSION_S)
    payload = _encode_session(session)
    signature = hmac.digest(_session_key(context), payload, "sha256")
    return base64.urlsafe_b64encode(signature + payload).decode().rstrip("=")


def _key_of_cookie(value: str, context: Context) -> ApiKey | None:
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    signature, payload = raw[:32], raw[32:]
    if not hmac.compare_digest(signature, hmac.digest(_session_key(context), payload, "sha256")):
        return None
    try:
        session = _decode_session(payload)
    except UNDECODABLE:
        return None
    if session.expires_at_s <= context.clock():
        return None
    return key_of_fingerprint(context, session.org, session.key_name, session.fingerprint)


def check_origin(connection: HTTPConnection, context: Context, *, proof: bool) -> None:
    """`proof`: the request must say that it comes from our own pages; else it must only not say another origin."""
    origin = connection.headers.get("origin")
    site = connection.headers.get("sec-fetch-site")
    if origin is not None:
        allowed = _is_own(origin, connection, context)
    elif site is not None:
        allowed = site == "same-origin" or (site == "none" and not proof) or not proof
    else:
        allowed = not proof
    if not allowed:
        raise RejectRequest(403, "foreign_origin", "a session can be used from this site's own pages only")


def _is_own(origin: str, connection: HTTPConnection, context: Context) -> bool:
    try:
        asked = urlsplit(origin)
        public = urlsplit(context.settings.public_url)
    except ValueError:
        return False
    if asked.scheme not in ("http", "https") or not asked.netloc:
        return False
    if public.netloc and (asked.scheme, asked.netloc.lower()) == (public.scheme, public.netloc.lower()):
        return True
    return asked.netloc.lower() == connection.headers.get("host", "").lower()


async def sign_in(request: Request) -> Response:
    """`POST /session`, form field `key` → 200 {"org", "name", "timezone", "key", "scopes"} and the cookie."""
    context = context_of(request)
    if request.headers.get("origin") is not None or request.headers.get("sec-fetch-site") is not None:
        check_origin(request, context, proof=True)
    key = _find_key(context, (await _form_key(request)).encode("utf-8", "surrogatepass"))
    if key is None:
        raise _unknown_key(context)
    organisation = context.organisations.by_id[key.org]
    response = json_response(
        {
            "org": key.org,
            "name": organisation.name,
            "timezone": organisation.timezone,
            "key": key.name,
            "scopes": sorted(key.scopes),
        }
    )
    response.set_cookie(
        COOKIE,
        session_cookie(context, key),
        max_age=SESSION_S,
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_secure(request, context),
    )
    return response


async def session_info(request: Request) -> Response:
    """`GET /session`: who is signed in, in the shape of `POST /session`; 401 when nobody is."""
    context = context_of(request)
    key = _key_of(request, context)
    organisation = context.organisations.by_id[key.org]
    return json_response(
        {
            "org": key.org,
            "name": organisation.name,
            "timezone": organisation.timezone,
            "key": key.name,
            "scopes": sorted(key.scopes),
        }
    )


async def sign_out(request: Request) -> Response:
    """`DELETE /session` → 204; the cookie is taken away whether or not it still held."""
    context = context_of(request)
    if COOKIE in request.cookies:
        check_origin(request, context, proof=True)
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    response.delete_cookie(
        COOKIE, path="/", httponly=True, samesite="lax", secure=is_secure(request, context)
    )
    return response


def is_secure(request: Request, context: Context) -> bool:
    return request.url.scheme == "https" or context.settings.public_url.startswith("https://")


async def _form_key(request: Request) -> str:
    """The form field `key` of a body of at most MAX_FORM_BYTES."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise RejectRequest(415, "unsupported_media_type", "send a form: application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise RejectRequest(413, "too_large", "a sign-in form is small")
    # One field: parsed here, for Starlette's own form parser would need one more library.
    for name, value in _fields(bytes(body)):
        if name == "key":
            return value.strip()
    raise RejectRequest(400, "missing_key", "the form has no field key")


def _fields(body: bytes) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return []


_WHO: Final = Operation(about="Who is signed in", answer=Session, others=NOBODY)
_SIGN_IN: Final = Operation(
    about="Signs in with a key: a cookie for the pages", answer=Session, body=SignIn, body_media=FORM,
    others={**NOBODY, **TOO_LARGE, 403: "From a foreign page."},
)  # fmt: skip
_SIGN_OUT: Final = Operation(about="Signs out", status=204, others={403: "From a foreign page."})


def routes() -> list[BaseRoute]:
    return [
        ApiRoute("GET", "/session", session_info, _WHO),
        ApiRoute("POST", "/session", sign_in, _SIGN_IN),
        ApiRoute("DELETE", "/session", sign_out, _SIGN_OUT),
    ]
