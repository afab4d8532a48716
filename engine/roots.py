"""The local root: is it there, ours, writable? Every way in which it may not be has its own sentence."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from engine.errors import ConfigError


def absolute_root(root: str) -> Path:
    """The configured root as a path. Raises ConfigError when it is not absolute."""
    path = Path(root)
    if not root or not path.is_absolute():
        raise ConfigError(
            f"The vault's root {root!r} is not an absolute path.",
            remedy=f"write it from the start, such as {Path('/') / 'var' / 'backups'}",
        )
    return Path(os.path.normpath(path))


def check_root(root: Path, state: Path) -> None:
    """Make root and state directories where they are missing; refuse what cannot work.

    Raises:
        ConfigError: Not a directory, somebody else's, read-only, or the state is on another file system.
    """
    make_private(root, state)
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise _read_only(root)
    for folder in (root, state):
        if not os.access(folder, os.W_OK | os.X_OK | os.R_OK):
            raise _not_ours(folder)
    if root.stat().st_dev != state.stat().st_dev:
        raise ConfigError(
            f"{state} is on another file system than {root}.",
            remedy=f"unmount or unlink {state.parent}; it is made anew",
        )


def make_private(root: Path, state: Path) -> Path:
    """The state directory, 0700, with all above it; the root too is made 0700 where it is missing.

    Raises:
        ConfigError: As ``check_root``.
    """
    if state.is_dir() and not state.is_symlink():
        _refuse_open_to_others(state)
        return state
    for folder in (root, state.parent, state):
        try:
            folder.mkdir(mode=0o700, parents=folder == root, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(
                f"{_culprit(folder)} is a file, not a directory; the vault needs {folder}.",
                remedy="move it away, or set vault.root to another place",
            ) from None
        except PermissionError:
            raise _not_ours(_nearest_parent(folder)) from None
        except OSError as error:
            if error.errno == 30:  # EROFS
                raise _read_only(_nearest_parent(folder)) from None
            raise ConfigError(
                f"{folder} cannot be made: {error.strerror}.", remedy="set vault.root to another place"
            ) from error
    _refuse_open_to_others(state)
    return state


def _refuse_open_to_others(state: Path) -> None:
    """The state directory holds journals that are acted upon: nobody else may write there."""
    status = state.lstat()
    if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise _not_ours(state)
    if status.st_mode & 0o022:
        raise ConfigError(
            f"Others may write to {state}, which holds this site's journals.", remedy=f"chmod 700 {state}"
        )


def _not_ours(folder: Path) -> ConfigError:
    owner = _user(folder.stat().st_uid) if folder.exists() else "unknown"
    me = _user(os.geteuid())
    mode = folder.stat().st_mode & 0o777 if folder.exists() else 0
    return ConfigError(
        f"{me} may not write to {folder}: it belongs to {owner} (mode {mode:03o}).",
        remedy=f"run as {owner}, or: chown {me} {folder}",
    )


def _read_only(folder: Path) -> ConfigError:
    return ConfigError(
        f"{folder} is on a read-only file system.",
        remedy=f"mount -o remount,rw $(findmnt -n -o TARGET --target {folder}), or set vault.root to another place",
    )


def _nearest_parent(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _culprit(folder: Path) -> Path:
    """The part of a path that is there but is no directory."""
    return next((each for each in (*reversed(folder.parents), folder) if each.exists() and not each.is_dir()), folder)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
