"""Addresses of servers that a user gives: what is wrong with one, before anything is sent there."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""This machine itself, with which http is spoken: nothing crosses a network."""

AddressFault = Literal["none", "password", "unencrypted"]
"""``none``: it is no address of a service; ``password``: a user or password is in it; ``unencrypted``: images and
passwords would cross a network in the open."""


def address_fault(address: str) -> tuple[AddressFault | None, str]:
    """Find out what is wrong with the address of a service.

    Args:
        address: ``https://HOST[:PORT][/PATH]``, or http for this machine itself.

    Returns:
        The fault, None where there is none; and the host, empty where there is no address.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "none", ""
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        return "none", ""
    if "@" in parts.netloc:
        return "password", host
    if parts.scheme == "http" and host not in LOCAL_HOSTS:
        return "unencrypted", host
    return None, host
