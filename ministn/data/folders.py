"""Where the files of data sets are looked for."""

import os
from pathlib import Path


def search_path(name: str, data_dir: Path | str | None) -> list[Path]:
    """The folders to look in for a set's files, the one to download to last.

    data_dir: the only one, if it is given. name: of the set's folder in all others.
    """
    if data_dir is not None:
        return [Path(data_dir)]
    folders = os.environ.get("MINISTN_DATA"), user_cache()
    return [Path(folder) / name for folder in folders if folder]


def user_cache() -> Path | None:
    """The user's cache for this package. None without pooch, which knows the place on each system.

    Only downloads need pooch, so only here and there is it imported.
    """
    try:
        import pooch
    except ImportError:
        return None
    return Path(pooch.os_cache("ministn"))


def find(folders: list[Path], *names: str) -> Path | None:
    """The first file in the first folder that has one of these names."""
    paths = (folder / name for folder in folders for name in names)
    # os.path.isfile, unlike Path.is_file, does not raise for a folder that must not be entered.
    return next((path for path in paths if os.path.isfile(path)), None)
