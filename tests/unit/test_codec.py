"""The codec: what goes in comes out, openssl and gunzip agree, and every damage is noticed."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.codec import Encoder, KeyRing, check_stored, decode, unpack
from engine.codec.encode import Compression
from engine.codec.threads import ahead
from engine.errors import DiskFull, IntegrityError, WrongKey
from engine.manifest import Cipher, StoredFile
from tests.soak import trials

PASSPHRASE = "fake-passphrase-for-tests-" + "x" * 20
KEYS = KeyRing({"main": PASSPHRASE}, "main")
COMPRESSIONS: list[Compression] = ["gzip", "zstd", "none"]
SQL = b"".join(b"INSERT INTO t VALUES (%d,'name %d');\n" % (n, n * 7919 % 1000) for n in range(40_000))


def encoded(
    pieces: Iterable[bytes], compression: Compression = "gzip", keys: KeyRing = KEYS, **options: int
) -> tuple[bytes, StoredFile]:
    out = bytearray()
    encoder = Encoder(out.extend, keys, compression=compression, **options)
    for piece in pieces:
        encoder.write(piece)
    entry = encoder.stored(encoder.finish(), file="app_20250116_020000.sql.gz.enc")
    return bytes(out), entry


def plain(stored: bytes, entry: StoredFile, keys: KeyRing = KEYS, step: int = 4096) -> bytes:
    return b"".join(decode((stored[at : at + step] for at in range(0, len(stored), step)), entry, keys))


def described(
    stored: bytes, plain_size: int, compression: Compression = "gzip", iterations: int = 10_000
) -> StoredFile:
    return StoredFile(
        file="by-hand",
        size=len(stored),
        sha256=hashlib.sha256(stored).hexdigest(),
        plain_size=plain_size,
        compression=compression,
        cipher=Cipher(key_id="main", iterations=iterations),
    )


def openssl(data: bytes, *options: str) -> bytes:
    command = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "env:TEST_PASS", *options]
    done = subprocess.run(
        command, input=data, capture_output=True, check=False, env={**os.environ, "TEST_PASS": PASSPHRASE}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pieces=st.lists(st.binary(max_size=5000), max_size=20),
    compression=st.sampled_from(COMPRESSIONS),
    step=st.integers(1, 9000),
)
def test_any_bytes_in_any_pieces_come_back(pieces: list[bytes], compression: Compression, step: int) -> None:
    stored, entry = encoded(pieces, compression)
    assert entry.size == len(stored) and entry.sha256 == hashlib.sha256(stored).hexdigest()
    assert entry.plain_size == sum(map(len, pieces))
    assert plain(stored, entry, step=step) == b"".join(pieces)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 3_000_000))
def test_large_pieces_of_noise_and_text_come_back(seed: int, size: int) -> None:
    data = random.Random(seed).randbytes(size) + SQL[: size // 2]
    stored, entry = encoded([data[: size // 3], data[size // 3 :]])
    assert plain(stored, entry, step=1 << 20) == data


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 262143, 262144, 262145, 1_000_000])
def test_openssl_and_gunzip_open_what_the_encoder_made(size: int) -> None:
    data = (SQL * 2)[:size]
    stored, _ = encoded([data])
    assert gzip.decompress(openssl(stored, "-d")) == data
    assert subprocess.run(["gunzip"], input=openssl(stored, "-d"), capture_output=True, check=True).stdout == data


def test_openssl_needs_iter_for_other_iterations_as_the_manifest_says() -> None:
    stored, entry = encoded([SQL], iterations=20_000)
    assert entry.cipher.iterations == 20_000
    assert gzip.decompress(openssl(stored, "-d", "-iter", "20000")) == SQL
    assert plain(stored, entry) == SQL


@pytest.mark.parametrize("size", [0, 1, 31, 32, 500_000])
def test_the_decoder_opens_what_gzip_and_openssl_made(size: int) -> None:
    data = SQL[:size]
    packed = subprocess.run(["gzip"], input=data, capture_output=True, check=True).stdout
    stored = openssl(packed, "-salt")
    assert plain(stored, described(stored, size)) == data


def test_several_gzip_members_are_read_as_gunzip_reads_them() -> None:
    packed = gzip.compress(SQL[:1000]) + gzip.compress(b"") + gzip.compress(SQL[1000:]) + bytes(700)
    stored = openssl(packed)
    for step in (7, 4096, 1 << 20):
        assert plain(stored, described(stored, len(SQL)), step=step) == SQL


def test_several_zstd_frames_are_read_one_after_the_other() -> None:
    pack = zstandard.ZstdCompressor().compress
    stored = openssl(pack(SQL[:1000]) + pack(SQL[1000:]))
    assert plain(stored, described(stored, len(SQL), "zstd")) == SQL


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("place", ["magic", "salt", "first block", "middle", "block before the last", "last block"])
@pytest.mark.parametrize("bit", [0, 7])
def test_one_flipped_bit_anywhere_is_refused(compression: Compression, place: str, bit: int) -> None:
    stored, entry = encoded([SQL[:100_000]], compression)
    at = {
        "magic": 3,
        "salt": 11,
        "first block": 20,
        "middle": len(stored) // 2,
        "block before the last": len(stored) - 20,
        "last block": len(stored) - 3,
    }[place]
    damaged = stored[:at] + bytes([stored[at] ^ (1 << bit)]) + stored[at + 1 :]
    with pytest.raises(IntegrityError):
        plain(damaged, entry)
    with pytest.raises(IntegrityError, match="is damaged: its bytes have SHA-256"):
        check_stored([damaged], entry)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("cut", [1, 15, 16, 32, 4096, 10_000_000])
def test_a_file_cut_short_is_refused_also_at_a_block_boundary(compression: Compression, cut: int) -> None:
    stored, entry = encoded([SQL], compression)
    short = stored[:-cut] if cut < len(stored) else b""
    with pytest.raises(IntegrityError):
        plain(short, entry)
    with pytest.raises(IntegrityError, match="is truncated"):
        check_stored([short], entry)


def test_one_missing_byte_in_the_middle_is_refused() -> None:
    stored, entry = encoded([SQL])
    with pytest.raises(IntegrityError):
        plain(stored[:5000] + stored[5001:], entry)


@pytest.mark.parametrize("extra", [b"x", b"\0" * 16, b"x" * 16])
def test_trailing_bytes_are_refused(extra: bytes) -> None:
    stored, entry = encoded([SQL])
    with pytest.raises(IntegrityError):
        plain(stored + extra, entry)
    with pytest.raises(IntegrityError, match="longer than it was"):
        check_stored([stored, extra], entry)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_garbage_after_the_compressed_stream_is_refused(compression: Compression) -> None:
    packed = gzip.compress(SQL) if compression == "gzip" else zstandard.ZstdCompressor().compress(SQL)
    stored = openssl(packed + b"not a member")
    with pytest.raises(IntegrityError):
        plain(stored, described(stored, len(SQL), compression))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 1000])
def test_a_stream_that_ends_in_the_middle_is_refused_though_its_digest_fits(compression: Compression, cut: int) -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True)
    packed = gzip.compress(SQL) if compression == "gzip" else packer.compress(SQL)
    stored = openssl(packed[:-cut])
    with pytest.raises(IntegrityError):
        plain(stored, described(stored, len(SQL), compression))


@pytest.mark.parametrize("at", [-8, -5, -4, -1])
def test_a_gzip_trailer_that_does_not_fit_is_refused(at: int) -> None:
    packed = bytearray(gzip.compress(SQL))
    packed[at] ^= 1
    stored = openssl(bytes(packed))
    with pytest.raises(IntegrityError):
        plain(stored, described(stored, -1))


def test_another_length_than_the_manifest_says_is_refused() -> None:
    stored, entry = encoded([SQL])
    with pytest.raises(IntegrityError, match="its manifest says"):
        plain(stored, entry.model_copy(update={"plain_size": len(SQL) + 1}))


@pytest.mark.parametrize("trial", range(40))
def test_a_wrong_key_never_gives_a_file_out_as_good(trial: int) -> None:
    stored, entry = encoded([SQL[:3000]])
    wrong = KeyRing({"main": f"another fake passphrase number {trial}"}, "main")
    with pytest.raises(IntegrityError):
        plain(stored, entry, wrong)


def test_a_key_that_the_ring_lacks_is_named() -> None:
    stored, entry = encoded([SQL])
    with pytest.raises(WrongKey, match="no key 'main'"):
        plain(stored, entry, KeyRing({"new": PASSPHRASE}, "new"))


def test_an_error_of_the_sink_comes_out_of_write_or_finish() -> None:
    def full(data: bytes) -> None:
        raise DiskFull("no room for tests")

    encoder = Encoder(full, KEYS)
    with pytest.raises(DiskFull, match="no room for tests"):
        for _ in range(200):
            encoder.write(os.urandom(256 * 1024))
        encoder.finish()
    encoder.abort()


def test_abort_ends_a_blocked_encoder_and_its_threads() -> None:
    release = threading.Event()
    before = threading.active_count()
    encoder = Encoder(lambda data: release.wait(20), KEYS)
    encoder.write(os.urandom(1_000_000))
    release.set()
    encoder.abort()
    encoder.abort()
    assert threading.active_count() == before


def test_leaving_a_decoder_early_ends_its_threads_and_closes_its_source() -> None:
    stored, entry = encoded([os.urandom(8_000_000)])
    closed: list[bool] = []

    def source() -> Iterator[bytes]:
        try:
            for at in range(0, len(stored), 65536):
                yield stored[at : at + 65536]
        finally:
            closed.append(True)

    before = threading.active_count()
    reading = decode(source(), entry, KEYS)
    assert next(reading)
    reading.close()
    assert threading.active_count() == before
    assert closed == [True]


def test_an_error_of_the_source_comes_out_of_the_decoder_as_it_is() -> None:
    stored, entry = encoded([os.urandom(3_000_000)])

    def source() -> Iterator[bytes]:
        yield stored[:1_000_000]
        raise ConnectionError("cut for tests")

    with pytest.raises(ConnectionError, match="cut for tests"):
        list(decode(source(), entry, KEYS))


def test_items_fetched_ahead_keep_their_order_and_their_error() -> None:
    def source() -> Iterator[int]:
        yield from range(100)
        raise LookupError

    found: list[int] = []
    with pytest.raises(LookupError):
        for item in ahead(source(), depth=3):
            found.append(item)
    assert found == list(range(100))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bytes_that_unpack_ten_thousandfold_come_in_bounded_chunks(compression: Compression) -> None:
    size = 400_000_000
    if compression == "gzip":
        packed = gzip.compress(bytes(size), 9)
    else:
        packed = zstandard.ZstdCompressor().compress(bytes(size))
    pieces = (packed[at : at + (1 << 20)] for at in range(0, len(packed), 1 << 20))
    total = largest = 0
    for chunk in unpack(pieces, compression, what="bomb"):
        total += len(chunk)
        largest = max(largest, len(chunk))
    assert total == size
    assert largest <= 64 * 1024 * 1024


_LARGE = """
import hashlib, os, sys
from engine.codec import Encoder, KeyRing, decode
keys = KeyRing({"main": "fake" * 12}, "main")
noise = [os.urandom(512 * 1024) + bytes(512 * 1024) for _ in range(4)]
target, blocks = sys.argv[1], int(sys.argv[2])
def idle():
    return int(next(each for each in open("/proc/self/status") if each.startswith("VmHWM")).split()[1])
before = idle()
with open(target, "wb") as out:
    encoder = Encoder(out.write, keys)
    for n in range(blocks):
        encoder.write(noise[n % 4])
    entry = encoder.stored(encoder.finish(), file="big")
def chunks():
    with open(target, "rb") as source:
        while chunk := source.read(1 << 20):
            yield chunk
assert sum(map(len, decode(chunks(), entry, keys))) == blocks << 20
print((idle() - before) // 1024)
"""


@pytest.mark.soak
def test_any_size_passes_in_both_directions_in_constant_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Half a gigabyte; two in a soak."""
    target = tmp_path_factory.mktemp("big") / "big.enc"
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, str(target), str(trials(512, 2048))], capture_output=True, text=True, check=False
    )
    target.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40, f"grew by {done.stdout} MiB"


def test_the_size_of_a_dump_of_orders_stays_within_five_percent_of_gzips() -> None:
    rng = random.Random(20250116)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(3000)]
    rows = [
        f"({n},{rng.randrange(200_000)},'{rng.choice(words)}.{rng.choice(words)}{rng.randrange(10_000)}@example.com',"
        f"'2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d} {rng.randrange(24):02d}:{rng.randrange(60):02d}:00',"
        f"{rng.randrange(10**7) / 100:.2f},'{' '.join(rng.choices(words, k=rng.randint(8, 40)))}')"
        for n in range(30_000)
    ]
    dump = ("INSERT INTO `orders` VALUES\n" + ",\n".join(rows) + ";\n").encode()
    ours = encoded([dump])[1].size
    theirs = len(subprocess.run(["gzip", "-6"], input=dump, capture_output=True, check=True).stdout)
    assert ours <= 1.05 * theirs


def test_a_short_run_peaks_at_a_few_megabytes() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: other tests may have been higher
    before = _peak()
    encoder = Encoder(lambda data: None, KEYS)
    chunk = os.urandom(1 << 20)
    for _ in range(100):
        encoder.write(chunk)
    encoder.finish()
    assert _peak() - before < 40 * 1024


def _peak() -> int:
    """The most memory this process has had, kB. Not ru_maxrss: a child begins with what its parent had."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(each for each in status if each.startswith("VmHWM")).split()[1])
