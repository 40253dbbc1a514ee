"""What the name of a folder means: a folder of this machine, or one of an object store."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from attrs import Factory, frozen

from .._errors import InvalidInput
from ._objects import ObjectStorage
from ._storage import BESIDE, LocalStorage, Storage


@frozen
class _Store:
    """A kind of object store: the module of its file system, the extra it comes with, and where credentials are."""

    module: str
    extra: str
    credentials: str
    options: dict[str, Any] = Factory(dict)


_S3: Final = _Store("s3fs", "s3", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
_GCS: Final = _Store(
    "gcsfs", "gcs", "set GOOGLE_APPLICATION_CREDENTIALS, or call gcloud auth application-default login"
)
_AZURE: Final = _Store(
    "adlfs",
    "azure",
    "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or az login",
    {"anon": False},
)
_STORES: Final = {"s3": _S3, "gs": _GCS, "gcs": _GCS, "abfs": _AZURE, "abfss": _AZURE, "az": _AZURE}
_KNOWN: Final = "s3://, gs://, abfs://, az:// or file://, or a path"
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HALF_URL: Final = re.compile(rf"({'|'.join(_STORES)}|file):/(?!/)", re.IGNORECASE)


def storage_of(folder: str | os.PathLike[str]) -> Storage:
    """The storage of this name; no I/O. Raises `InvalidInput`."""
    text = os.fspath(folder)
    if _HALF_URL.match(text):
        raise InvalidInput(
            f"{text!r} is half a URL; pass the URL as a text with two slashes, because a Path takes one away"
        )
    url = _URL.fullmatch(text) if isinstance(folder, str) else None
    if url is None:
        return LocalStorage(Path(folder))
    scheme, rest = url[1].lower(), url[2]
    if scheme == "file":
        host, _, path = rest.partition("/")
        if host not in ("", "localhost") or not path:
            raise InvalidInput(f"{text!r} is not the URL of a folder of this machine, such as file:///data/january")
        return LocalStorage(Path(f"/{unquote(path)}"))
    store = _STORES.get(scheme)
    if store is None:
        raise InvalidInput(f"events cannot be written to {scheme}://; use {_KNOWN}")
    bucket, _, path = rest.partition("/")
    path = path.removesuffix("/")
    if ":" in bucket or "?" in rest or ("@" in bucket and store is not _AZURE):
        # Which is not shown: it may hold a secret.
        raise InvalidInput(f"the URL of a folder has neither credentials nor a query; {store.credentials}")
    if not bucket:
        raise InvalidInput(f"{text!r} names no bucket; use {scheme}://BUCKET/FOLDER")
    if not path:
        raise InvalidInput(f"{text!r} is a whole bucket; name a folder in it: {scheme}://{bucket}/FOLDER")
    if any(part in ("", ".", "..") for part in path.split("/")) or path.endswith(BESIDE):
        raise InvalidInput(
            f"{text!r} is not the name of a folder for parts; use one such as {scheme}://{bucket}/january"
        )
    if find_spec(store.module) is None:
        raise InvalidInput(f"{scheme}:// needs {store.module}: pip install 'np6_async[{store.extra}]'")
    name = f"{scheme}://{bucket}/{path}"
    return ObjectStorage(name, lambda: _connect(name, store), store.credentials)


def _connect(url: str, store: _Store) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    # No listing is kept: what others write is to be seen.
    found: tuple[Any, str] = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **store.options)
    return found
