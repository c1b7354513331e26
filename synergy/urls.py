"""Addresses of servers as they may be shown: passwords masked, wherever a URL carries one."""

import re

MASK = "***"

#: Options of MongoDB and AMQP URLs that are secrets themselves.
_SECRET_OPTIONS = re.compile(
    r"(?i)([?&;](?:tlsCertificateKeyFilePassword|ssl_pem_passphrase|authMechanismProperties"
    r"|password)=)[^&;#]*"
)
# The last @ ends the name and password, so that one with an unescaped @ or / in it is masked whole.
_USER_INFO = re.compile(r"(?s)^([a-zA-Z][a-zA-Z0-9+.-]*://[^:@/?#]*:).*@")


def masked(url: str) -> str:
    """The URL with ``***`` in place of its password; malformed ones too."""
    address, mark, options = url.partition("?")
    if "@" in options and "@" not in address:  # a "?" within the password
        address, mark, options = url, "", ""
    return _USER_INFO.sub(rf"\1{MASK}@", address) + _SECRET_OPTIONS.sub(
        rf"\1{MASK}", mark + options
    )
