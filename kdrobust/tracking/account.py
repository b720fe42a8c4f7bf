"""Whether Weights & Biases can be reached without asking anybody: an account on this machine, and a network."""

from __future__ import annotations

import contextlib
import http.client
import netrc
import os
import ssl
from urllib.parse import urlsplit

_DEFAULT = "https://api.wandb.ai"


def _server() -> tuple[str, int]:
    parts = urlsplit(os.environ.get("WANDB_BASE_URL") or _DEFAULT)
    return parts.hostname or "api.wandb.ai", parts.port or (80 if parts.scheme == "http" else 443)


def has_account() -> bool:
    """Whether a key is at hand: in `WANDB_API_KEY`, or in the netrc file where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(_server()[0]) is not None
    return False


def reachable(timeout: float = 5.0) -> bool:
    """Whether the server answers within `timeout` seconds, whatever it says; True where there is a proxy to ask.

    A connection alone says too little: a server that takes it and never answers would hold up the run.
    """
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    host, port = _server()
    plain = (os.environ.get("WANDB_BASE_URL") or _DEFAULT).startswith("http://")
    connection = (http.client.HTTPConnection if plain else http.client.HTTPSConnection)(host, port, timeout=timeout)
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
    except ssl.SSLError:
        # somebody is there; W&B itself decides whether to trust it
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def choose_mode() -> tuple[str, str]:
    """How to run W&B here: `online`, `offline` or `disabled`, and why, in words.

    `WANDB_MODE` decides for offline and disabled. Online needs an account and a network, also where it is asked for:
    without them W&B would prompt, or wait.
    """
    wanted = os.environ.get("WANDB_MODE", "").lower()
    if wanted in ("offline", "dryrun", "disabled"):
        return ("disabled" if wanted == "disabled" else "offline"), f"WANDB_MODE={wanted}"
    if not has_account():
        return "offline", "no account: `wandb login` makes runs online"
    if not reachable():
        return "offline", f"{_server()[0]} cannot be reached"
    return "online", "logged in"


def masked(text: str) -> str:
    """A text without this process's API key."""
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "***") if key else text
