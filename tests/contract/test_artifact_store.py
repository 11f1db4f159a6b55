"""What the runtime relies on in every artifact store, and what only files can suffer."""

import hashlib
import os
import pickle
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlma.adapters.artifacts import FileArtifacts, MemoryArtifacts
from mlma.core.errors import ArtifactError, RetryLaterError

BLOB = b"a model\x00\xff" * 1000
SHA256 = hashlib.sha256(BLOB).hexdigest()


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    return FileArtifacts(tmp_path / "artifacts") if request.param == "file" else MemoryArtifacts()


@pytest.fixture
def files(tmp_path):
    return FileArtifacts(tmp_path / "artifacts")


def everything(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("blob", [BLOB, b""])
def test_what_was_saved_is_loaded_by_its_hash(store, blob):
    sha256 = store.save(blob)
    assert sha256 == hashlib.sha256(blob).hexdigest()
    assert store.load(sha256) == blob


def test_saving_the_same_content_again_gives_the_same_hash(store):
    assert store.save(BLOB) == store.save(bytes(bytearray(BLOB))) == SHA256
    assert store.load(SHA256) == BLOB


def test_several_are_saved_at_once_and_named_in_their_order(store):
    blobs = [bytes([i % 7]) * i for i in range(20)] + [BLOB, BLOB]
    assert store.save_all([]) == []
    assert store.save_all(blobs) == [hashlib.sha256(blob).hexdigest() for blob in blobs]
    assert [store.load(hashlib.sha256(blob).hexdigest()) for blob in blobs] == blobs


@pytest.mark.parametrize("sha256", [SHA256, "", "../../etc/passwd", SHA256.upper(), SHA256 + "\n"])
def test_what_was_never_saved_is_refused_by_name(store, sha256):
    with pytest.raises(ArtifactError, match="artifact"):
        store.load(sha256)


def test_a_store_travels_to_other_processes(store):
    store.save(BLOB)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.load(SHA256) == BLOB
    copy.save(b"more")


def test_a_file_store_is_the_same_folder_wherever_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    here = FileArtifacts(Path("artifacts"))
    here.save(BLOB)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(pickle.dumps(here)).load(SHA256) == BLOB


def test_a_file_lies_one_folder_deep_under_the_hash_of_its_content(files, tmp_path):
    files.save(BLOB)
    path = tmp_path / "artifacts" / SHA256[:2] / f"{SHA256}.z"
    assert everything(tmp_path).keys() == {path}
    assert zlib.decompress(path.read_bytes()) == BLOB


def test_what_an_earlier_state_kept_two_folders_deep_is_loaded(files, tmp_path):
    files.save(BLOB)
    former = tmp_path / "artifacts" / SHA256[:2] / SHA256[2:4]
    former.mkdir()
    (tmp_path / "artifacts" / SHA256[:2] / f"{SHA256}.z").rename(former / f"{SHA256}.z")
    assert files.load(SHA256) == BLOB


def test_saving_again_does_not_touch_the_file(files, tmp_path):
    files.save(BLOB)
    before = everything(tmp_path)
    files.save(BLOB)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("damaged", "found"),
    [
        (zlib.compress(BLOB[:-1]), BLOB[:-1]),  # another content
        (zlib.compress(BLOB)[:-5], zlib.compress(BLOB)[:-5]),  # truncated
        (b"", b""),
    ],
)
def test_a_damaged_file_is_refused_with_both_hashes_and_healed_by_saving(files, tmp_path, damaged, found):
    files.save(BLOB)
    path = next(iter(everything(tmp_path)))
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError) as refused:
        files.load(SHA256)
    for part in (str(path), f"expected sha256 {SHA256}", f"found {hashlib.sha256(found).hexdigest()}"):
        assert part in str(refused.value)
    files.save(BLOB)
    assert files.load(SHA256) == BLOB


def test_a_missing_file_is_refused_with_its_path_and_hash(files, tmp_path):
    files.save(BLOB)
    path = next(iter(everything(tmp_path)))
    path.unlink()
    with pytest.raises(ArtifactError, match="missing") as refused:
        files.load(SHA256)
    assert str(path) in str(refused.value)
    assert SHA256 in str(refused.value)


def test_what_a_crash_left_behind_is_ignored(files, tmp_path):
    folder = tmp_path / "artifacts" / SHA256[:2]
    folder.mkdir(parents=True)
    (folder / f"{SHA256}.0123.partial").write_bytes(BLOB[:100])
    with pytest.raises(ArtifactError, match="missing"):
        files.load(SHA256)
    files.save(BLOB)
    assert files.load(SHA256) == BLOB


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_half_way_leaves_nothing_and_may_be_tried_again(files, tmp_path, monkeypatch, step):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(RetryLaterError, match="No space left on device"):
            files.save(BLOB)
    assert everything(tmp_path) == {}
    files.save(BLOB)
    assert files.load(SHA256) == BLOB


def test_every_folder_that_got_a_name_is_flushed_and_so_are_those_that_were_made(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("mlma.adapters.artifacts.sync_directory", flushed.append)
    root = tmp_path / "new" / "artifacts"
    hashes = FileArtifacts(root).save_all([BLOB, b"more", b"even more"])
    assert sorted(flushed) == sorted([tmp_path, tmp_path / "new", root, *{root / sha256[:2] for sha256 in hashes}])
    flushed.clear()
    FileArtifacts(root).save(BLOB)  # perhaps renamed before a crash, and not flushed since
    assert sorted(flushed) == [root, root / SHA256[:2]]


def test_a_folder_that_cannot_be_flushed_is_tried_again_later(files, monkeypatch):
    def fail(folder):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("mlma.adapters.artifacts.sync_directory", fail)
        with pytest.raises(RetryLaterError, match="artifacts: not flushed: Input/output error"):
            files.save_all([BLOB, b"more"])
    assert files.save_all([BLOB, b"more"])[0] == SHA256


def test_many_savers_of_one_content_do_not_disturb_each_other(files, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(files.save, [BLOB] * 32)) == {SHA256}
    assert files.load(SHA256) == BLOB
    assert len(everything(tmp_path)) == 1
