"""Files of the hub: from its local cache, else fetched once."""

from collections.abc import Callable
from typing import Any

from xattn_edu.files import first_line


def cached_or_fetched(load: Callable[..., Any], what: str, advice: str) -> Any:
    """What `load(local_files_only=True)` finds in the cache; if that fails, what `load()` fetches from the hub.

    Raises OSError, which names `what` was looked for and ends with `advice`, if neither succeeds.
    """
    try:
        return load(local_files_only=True)
    except Exception:  # noqa: BLE001 - each library has an error of its own for a file that is not in the cache
        pass
    try:
        from huggingface_hub import constants, get_session

        # One short request first: without a network the hub's client retries for minutes.
        get_session().head(constants.ENDPOINT, timeout=10)
        return load()
    except Exception as error:  # noqa: BLE001 - whatever failed, the advice is the same
        raise OSError(
            f"{what} is not in the hub's cache and cannot be fetched ({first_line(error)}). {advice}"
        ) from None
