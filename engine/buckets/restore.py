"""The steps of a restore of a bucket: safety snapshot, make the bucket, put, settings, compare.

    plan = make_plan(site, BucketRequest(bucket="uploads"))
    with BucketRestore(site, plan, approved=False) as work:
        work.safety_backup()
        work.put()
        work.settings()
        work.compare()

Every object is whole old or whole new at any moment, and what stands there as it was is left alone: a restore that was
broken off is run again with the same ``into`` and goes on where it stopped. A journal tells the next run which uploads
in parts a dead one had begun.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from engine import names
from engine.backup import capture, locks, verify
from engine.buckets import tagless, unset
from engine.buckets.disk_map import DiskMap
from engine.buckets.endpoint import Endpoint
from engine.buckets.guard import Guard
from engine.buckets.lost import Lost
from engine.buckets.plan import BucketPlan, destination, selected, untouched_before
from engine.buckets.put import WHOLE, Putter, Unhad
from engine.buckets.record import Record, records
from engine.buckets.source import BucketsSource
from engine.buckets.standing import Standing
from engine.catalog import Entry
from engine.config_files.source import shown
from engine.errors import BackupError, ConfirmationNeeded, IntegrityError, Lacking, RestoreRefused
from engine.journal import Journal
from engine.progress import Progress, silent
from engine.site import Site, Target
from engine.stores.multipart import PartSize, growing

_AT_ONCE = 8
_IN_WINDOW = 64
_TOLD = 5


@dataclass(frozen=True)
class BucketResult:
    """What a restore did. ``bytes`` are those that were written."""

    into: str
    where: str
    entry: Entry
    written: int
    same: int
    bytes: int
    safety: Entry | None
    notes: list[str]
    seconds: float


class BucketRestore:
    """One restore under way. Holds the bucket's lock from entry to exit, so that no prune takes contents away.

    Args:
        approved: Somebody has confirmed that objects are overwritten.
        whole, parts: See ``engine.buckets.put``.
        there: Another place than the plan's request says.
    """

    def __init__(
        self, site: Site, plan: BucketPlan, *, approved: bool, progress: Progress = silent, whole: int = WHOLE,
        parts: PartSize = growing, there: Endpoint | None = None,
    ) -> None:  # fmt: skip
        self.site = site
        self.plan = plan
        self.notes = list(plan.notes)
        self.safety: Entry | None = None
        self.lost = Lost()
        self.there = there or destination(site, plan.request, plan.target.source, plan.into)
        self._approved = approved
        self._progress = progress
        self._begun = time.monotonic()
        self._written = self._bytes = self._same = 0
        self._with_tags: Record | None = None
        target = plan.target
        places = [site.vault.contents(entry.location, target.source, target.database) for entry, _ in plan.copies]
        own = self._same_server()
        self._guard = Guard(self.there, plan.request.under)
        self._putter = Putter(self.there, places, plan.request.under, whole=whole, parts=parts, own=own)
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> BucketRestore:
        self._exit.enter_context(locks(self.site, self.plan.target))
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()
        self.lost.close()
        self._guard.close()

    def safety_backup(self) -> Entry | None:
        """A snapshot of the bucket whose objects are overwritten, proven. None when none is.

        Raises:
            RestoreRefused: Some of them cannot be read, or they are where no source of the site is.
        """
        plan = self.plan
        if not plan.differing or not plan.request.safety_backup:
            return None
        name = plan.request.endpoint or plan.target.source
        config = next((each for each in self.site.config.buckets if each.name == name), None)
        if config is None:
            raise RestoreRefused(
                f"{plan.differing:,} objects of {plan.where} would be overwritten, and it is no source of the site.",
                kept="nothing was changed",
                remedy="restore below a prefix of its own (--under restored/), or go on without: --no-safety-backup",
            )
        target = Target(name, plan.into)
        everything = config.model_copy(update={"buckets": [plan.into], "exclude": []})
        entry, manifest = capture(
            self.site, target, tier=names.SAFETY, label=f"safety copy before restoring {plan.manifest.file}",
            locked=target == plan.target, progress=self._progress,
            source=BucketsSource(everything, vault=self.site.vault),
        )  # fmt: skip
        verify(self.site, entry, progress=self._progress, new=True)
        if manifest.incomplete:
            raise RestoreRefused(
                f"The safety snapshot {manifest.file} is incomplete: {'; '.join(manifest.incomplete[:_TOLD])}.",
                kept="nothing was changed",
                remedy="make these objects readable, or go on without it: --no-safety-backup",
            )
        with contextlib.closing(self.site.vault.read_part(entry, manifest)) as plain:
            self._guard.take(records(plain, manifest.file))
        self.safety = entry
        return entry

    def put(self) -> None:
        """Write what is not there as it was. What no place has unharmed is left out and noted in ``lost``.

        Raises:
            RestoreRefused: Something stands there now that did not when the plan was made, or was written after the
                safety snapshot.
        """
        makes = self.plan.makes and not self.there.exists()
        guarded = self.plan.request.safety_backup and not makes
        if makes:
            if self.plan.settings:
                unset.remember(self.site.vault, self.there)
            self.there.create()
        waiting: deque[tuple[Record, Future[None]]] = deque()
        step = f"restore into {self.plan.into}"
        with (
            self._journal() as self._putter.begun,
            DiskMap() as listed,
            ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="put") as pool,
        ):
            own = untouched_before(self.there, self.plan.manifest, self.plan.request)
            standing = Standing(self.there, listed, self.plan.request.under, fill=True, own=own)
            try:
                wanted = selected(self.site, self.plan.copies[0], self.plan.request)
                for each, how in standing.compare(wanted):
                    if how == "same":
                        self._same += 1
                        continue
                    if how == "differing" and not self._approved:
                        raise self._appeared(each.key)
                    waiting.append((each, pool.submit(self._put, each, guarded)))
                    self._written, self._bytes = self._written + 1, self._bytes + each.size
                    while len(waiting) > _IN_WINDOW or (waiting and waiting[0][1].done()):
                        self._settle(*waiting.popleft())
                    self._progress(step, self._bytes, self.plan.bytes)
                while waiting:
                    self._settle(*waiting.popleft())
            except BaseException:
                self._putter.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self.notes += self._putter.notes
        self._see_tags()

    def settings(self) -> None:
        """Set versioning, CORS and policy as they were; what the endpoint refuses is noted."""
        if not self.plan.settings:
            return
        facts, bucket = self.plan.manifest.contents, self.there.bucket
        client = self.there.client
        if facts.get("versioning"):
            self._set("versioning", lambda: client.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": facts["versioning"]}))  # fmt: skip
        if facts.get("cors"):
            self._set("CORS rules", lambda: client.put_bucket_cors(
                Bucket=bucket, CORSConfiguration={"CORSRules": facts["cors"]}))  # fmt: skip
        if facts.get("policy"):
            policy = json.dumps(facts["policy"])
            old = f"arn:aws:s3:::{self.plan.target.database}"
            for end in ('"', "/"):
                policy = policy.replace(old + end, f"arn:aws:s3:::{bucket}{end}")
            self._set("policy", lambda: client.put_bucket_policy(Bucket=bucket, Policy=policy))
        unset.forget(self.site.vault, self.there)

    def compare(self) -> int:
        """Look at what stands there now; how many objects were found.

        Raises:
            IntegrityError: One is missing, or of another size. Lacking: All stand there but what was lost.
        """
        found = 0
        wrong: list[str] = []
        under = self.plan.request.under
        with DiskMap() as listed:
            standing = Standing(self.there, listed, under, fill=True)
            for each in selected(self.site, self.plan.copies[0], self.plan.request):
                if each.key in self.lost:
                    continue
                size = standing.size(under + each.key)
                found += size == each.size
                if size != each.size and len(wrong) < _TOLD:
                    wrong.append(
                        f"{shown(under + each.key)} {'is not there' if size is None else f'has {size:,} bytes'}"
                    )
        if found != self.plan.objects - self.lost.count or wrong:
            raise IntegrityError(
                f"What was restored into {self.plan.where} is not what the snapshot holds: {'; '.join(wrong)}.",
                kept="what was overwritten is in the safety snapshot" if self.safety else "",
                remedy="see whether something else writes there, and run the restore again",
            )
        if self.lost.count:
            raise self.lost.told(
                self.plan.where, found, f"what was overwritten is in {self.safety.file}" if self.safety else ""
            )
        return found

    def result(self) -> BucketResult:
        """What was done, once ``compare`` has been."""
        return BucketResult(
            self.plan.into, self.plan.where, self.plan.copies[0][0], self._written, self._same, self._bytes,
            self.safety, self.notes, time.monotonic() - self._begun,
        )  # fmt: skip

    def _put(self, each: Record, guarded: bool) -> None:
        if guarded:
            self._guard.check(each)
        self._putter.put(each)

    def _same_server(self) -> bool:
        """Is it put where it came from?"""
        return bool(self.plan.manifest.contents.get("endpoint") == self.there.place.endpoint)

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Callable[[str, str], None]]:
        """Writes down the uploads in parts; what stays of it is taken up by the next sweep. At a replica's endpoint
        there is no source of the site that could, so nothing is written."""
        name = self.plan.request.endpoint or self.plan.target.source
        if name not in {each.name for each in self.site.config.buckets}:
            yield lambda key, upload: None
            return
        journal = Journal.create(self.site.journals, "bucket-restore", source=name, database=self.there.bucket)
        one = threading.Lock()

        def begun(key: str, upload: str) -> None:
            with one:
                journal.record("upload", key=key, id=upload)

        try:
            yield begun
        except BaseException:
            journal.release()
            raise
        journal.close()

    def _settle(self, each: Record, done: Future[None]) -> None:
        """See that an object was written, or note that it cannot be had."""
        try:
            done.result()
            if each.tags:
                self._with_tags = each
        except Unhad as why:
            self._written, self._bytes = self._written - 1, self._bytes - each.size
            self.lost.add(each.key, str(why))

    def _see_tags(self) -> None:
        """See by one object whether tags are kept there."""
        if self._with_tags is None:
            return
        try:
            kept = tagless.kept(self.there, self.plan.request.under, self._with_tags)
            note = "" if kept else tagless.told(self.there, self.plan.tagged)
        except BackupError as error:
            note = f"whether tags are kept there could not be seen: {error.message.rstrip('.')}"
        if note and note not in self.notes:
            self.notes.append(note)

    def _set(self, what: str, act: Callable[[], object]) -> None:
        try:
            with self.there.speaking(f"set the {what}"):
                act()
        except BackupError as error:
            self.notes.append(f"its {what} could not be set: {error.message.rstrip('.')}")

    def _appeared(self, key: str) -> RestoreRefused:
        return RestoreRefused(
            f"{shown(self.plan.request.under + key)} stands in {self.plan.where}, otherwise than in the snapshot.",
            kept="what stands there; objects that were restored so far stay",
            remedy=f"run it again, and confirm: --into {self.plan.into} --confirm {self.plan.into}",
        )


def run(
    site: Site,
    plan: BucketPlan,
    *,
    approved: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> BucketResult:
    """Every step of a plan, in order.

    Raises:
        ConfirmationNeeded: It overwrites objects and was not approved. Lacking: some objects can be had from no place;
            all others are there.
    """
    require_approval(plan, approved)
    with BucketRestore(site, plan, approved=approved, progress=progress) as work:
        if work.safety_backup() is not None:
            tell(f"safety snapshot {work.safety.file if work.safety else ''}")
        tell(f"restoring {plan.manifest.file} into {plan.where}")
        work.put()
        work.settings()
        try:
            work.compare()
        except Lacking:
            for note in work.notes:
                tell(f"Note: {note}")
            raise
        return work.result()


def require_approval(plan: BucketPlan, approved: bool) -> None:
    """Raises ConfirmationNeeded where objects are overwritten and nobody approved it."""
    if plan.differing and not approved:
        raise ConfirmationNeeded(
            f"This would overwrite {plan.differing:,} objects of {plan.where}, such as {plan.named[0]}.",
            kept="nothing was changed",
            remedy=f"confirm with --confirm {plan.into}; or restore beside: --under restored/",
        )
