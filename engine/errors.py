"""The tree of failures. Every one says what failed, what was kept safe and what to do next.

    BackupError                     anything this package raises on purpose
      ConfigError                   site file, block or parameter is wrong         permanent
        UnknownName                 no such site, database, backup, store...       permanent
      CredentialsRefused            the server or store refused who we are         permanent
      MissingGrant                  we are let in, but may not do what is needed   permanent
      WrongKey                      no key of the ring opens this backup           permanent
      ToolMissing                   a client program is not where it must run      permanent
      WrongTool                     it is there, but too old or of the wrong kind  permanent
      ConfirmationNeeded            a destructive step was not confirmed           permanent
      RestoreRefused                a restore would do harm or cannot work         permanent
      IntegrityError                bytes, signature or counts are not what they
                                    should be                                      permanent
        SnapshotMismatch            the dump and the server's own count differ     retryable
        Lacking                     all came back but what the message names       permanent
      LogGap                        a log is missing between two others            permanent
      LogChainBroken                the server's logs began anew: a full is needed permanent
      OutsideWindow                 no logs reach that moment                      permanent
      DiskFull                      not enough room                                permanent
      LockHeld                      another run works on the same thing            retryable
      LeaseLost                     what kept other hosts away could not be kept   retryable
      Unreachable                   no answer: down, refused, cut, timed out       retryable
      ToolFailed                    a client program exited non-zero or was killed retryable
      StoreError                    a store failed in a way that may pass          retryable
        NotFound                    a key is not in the store                      permanent
        Unreadable                  one file cannot be read, the store answers     retryable
        StoreRefused                the store will never accept this request       permanent
          Retained                  an object lock keeps it from being deleted     permanent
          Cold                      in cold storage: it has to be thawed first     permanent
            Thawing                 its thaw was asked for, and takes hours        permanent
      Cancelled                     stopped on request                             permanent
      Unforeseen                    a defect here; only its kind is told           permanent

``retryable`` answers one question: can doing exactly the same again help?
"""

from __future__ import annotations


class BackupError(Exception):
    """A failure with a sentence for the person who has to act on it.

    Args:
        message: What failed, on what. One sentence, names the thing.
        kept: What is still safe (nothing lost, old data untouched...).
        remedy: What to do next; an exact command or statement where there is one.
    """

    retryable = False

    def __init__(self, message: str, *, kept: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kept = kept
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.message.rstrip()]
        if self.kept:
            parts.append(f"Kept safe: {self.kept}")
        if self.remedy:
            parts.append(f"Next: {self.remedy}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect and multiprocessing pickle exceptions; keyword arguments need help.
        return (_rebuild, (type(self), self.message, self.kept, self.remedy))


def _rebuild(kind: type[BackupError], message: str, kept: str, remedy: str) -> BackupError:
    return kind(message, kept=kept, remedy=remedy)


class ConfigError(BackupError):
    """A site file, block or parameter is wrong."""


class UnknownName(ConfigError):
    """Nothing goes by this name; the message suggests the nearest one."""


class CredentialsRefused(BackupError):
    """A server or store refused the user, password, key or signature."""


class MissingGrant(BackupError):
    """Logged in, but a privilege is missing; the remedy holds the exact GRANT."""


class WrongKey(BackupError):
    """No key of the ring opens this backup."""


class ToolMissing(BackupError):
    """A client program is not in the place where it must run."""


class WrongTool(BackupError):
    """A client program is too old, or of the other flavour."""


class ConfirmationNeeded(BackupError):
    """A destructive step was asked for without its confirmation."""


class RestoreRefused(BackupError):
    """A restore would do harm, or cannot give what was asked."""


class IntegrityError(BackupError):
    """Bytes, a signature, an end marker or a count are not what they must be."""


class SnapshotMismatch(IntegrityError):
    """The rows in a dump and the rows counted at its own snapshot differ."""

    retryable = True


class Lacking(IntegrityError):
    """Some of what is restored can be had from no place; the message names it, and everything else came back."""


class LogGap(BackupError):
    """Logs are missing between others that are there; the message names them."""


class LogChainBroken(BackupError):
    """The server's logs began anew (it was restored, reset or replaced), or lost their anchor."""


class OutsideWindow(BackupError):
    """A moment that cannot be recovered; the message gives the window that can."""


class DiskFull(BackupError):
    """Not enough free space; the message says how much is there and needed."""


class LockHeld(BackupError):
    """Another run works on the same thing; the message names its holder."""

    retryable = True


class CopyUnderWay(LockHeld):
    """Another run makes this very copy, and tells how it ends; a retry would only wait for it again."""

    retryable = False


class LeaseLost(BackupError):
    """The lease that kept the runs of other hosts away ran out or was taken over: the work stopped."""

    retryable = True


class Unreachable(BackupError):
    """No answer: down, refused, cut off or timed out."""

    retryable = True


class ToolFailed(BackupError):
    """A client program exited non-zero or was killed; its last words are in the message."""

    retryable = True


class StoreError(BackupError):
    """A store failed in a way that may pass."""

    retryable = True


class NotFound(StoreError):
    """A key is not in the store."""

    retryable = False


class Unreadable(StoreError):
    """One file or object cannot be read (a bad sector, no permission), while the store it stands in answers: what is
    wrong is that file, as if its bytes were damaged."""


class StoreRefused(StoreError):
    """The store will not accept this request, however often it is made."""

    retryable = False


class Retained(StoreRefused):
    """An object lock keeps the object from being deleted, for now."""


class Cold(StoreRefused):
    """An object stands in cold storage (GLACIER...) and cannot be read before it is thawed."""


class Thawing(Cold):
    """The thaw of what stands in cold storage was asked for; the same again helps in some hours, not at once."""


class Cancelled(BackupError):
    """Stopped on request."""


class Unforeseen(BackupError):
    """A failure that nobody put into words. Its own text could hold anything, so only its kind is told."""


def in_words(failure: Exception, what: str) -> BackupError:
    """The failure itself where it speaks for itself, else an ``Unforeseen`` that names ``what`` failed.

    For whoever goes on with other work after a failure: what nobody foresaw must not cost that.
    """
    if isinstance(failure, BackupError):
        return failure
    return Unforeseen(
        f"{what} failed in a way that nobody foresaw: {type(failure).__name__}.",
        remedy="run the command with --debug for the traceback, and report it",
    )


def is_retryable(error: BaseException) -> bool:
    """True when doing exactly the same again may help. Unknown errors are retried."""
    if isinstance(error, BackupError):
        return error.retryable
    return isinstance(error, Exception)


def nearest(name: str, known: list[str]) -> str:
    """A hint such as `` Did you mean 'workset'?``, or the list of what is known."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(sorted(known))}." if known else "There are none yet."
