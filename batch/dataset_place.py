"""Where a dataset goes: a folder, or a prefix in an object store."""

from __future__ import annotations

from batch.dataset_folder import LocalDataset, check_local_dataset
from batch.dataset_store import StoredDataset, check_stored_dataset
from batch.location import Location, Url


def open_dataset(place: Location) -> LocalDataset | StoredDataset:
    """Begin a dataset in a folder or under a URL.

    Raises:
        OutputError: the system refuses.
    """
    return StoredDataset(place) if isinstance(place, Url) else LocalDataset(place)


def check_dataset(place: Location) -> None:
    """Find out before the work whether a dataset could be published there.

    Raises:
        UsageError, OutputError: it could not.
    """
    if isinstance(place, Url):
        check_stored_dataset(place)
    else:
        check_local_dataset(place)
