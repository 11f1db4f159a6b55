"""The signature of a webhook's request: HMAC-SHA-256 over its time and its body."""

import hmac

SIGNATURE_HEADER = "X-Mlma-Signature"
TIMESTAMP_HEADER = "X-Mlma-Timestamp"
KEY_HEADER = "Idempotency-Key"


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Value of the signature header.

    Parameters
    ----------
    timestamp
        Value of the timestamp header, seconds since 1970; it is signed with the body, so that a request cannot be
        sent again later with another time.

    Examples
    --------
    >>> sign(b"secret", "1700000000", b"{}")[:20]
    'sha256=b8569b78799ff'
    """
    content = timestamp.encode() + b"." + body
    return f"sha256={hmac.new(secret, content, 'sha256').hexdigest()}"
