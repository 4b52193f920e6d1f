"""Arrays on disk: what is written comes back, what was there survives a failure, and what is foreign is refused."""

import io
import os
import pickle
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from refode import MLP
from refode.files import load_arrays, save_arrays
from refode.flows import ContinuousFlow

KIND = "refode.test"
SHAPES = {"x": (3,), "y": ("N", 2)}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=3), "y": rng.normal(size=(5, 2))}


@pytest.fixture
def path(tmp_path, arrays):
    """A good file."""
    save_arrays(tmp_path / "good", KIND, **arrays)
    return tmp_path / "good"


def beside(path):
    return sorted(each.name for each in path.parent.iterdir())


def load(path):
    return load_arrays(path, KIND, SHAPES)


# ---- there and back -----------------------------------------------------------------------------------------------


def test_what_was_written_comes_back(path, arrays):
    got = load(path)
    assert sorted(got) == ["x", "y"]
    assert all(np.array_equal(got[name], arrays[name]) for name in got)
    assert beside(path) == ["good"]  # under this very name, and nothing beside it


def test_a_string_is_a_path_and_writing_replaces(path, arrays):
    save_arrays(str(path), KIND, x=arrays["x"] + 1, y=arrays["y"])
    assert np.array_equal(load(str(path))["x"], arrays["x"] + 1)


def test_more_arrays_than_asked_for_do_no_harm(path, arrays):
    assert sorted(load_arrays(path, KIND, {"x": (3,)})) == ["x"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_the_file_has_the_permissions_of_any_other(path, tmp_path):
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


# ---- a write that fails -------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_what_was_there(path, arrays, monkeypatch):
    """Half of the bytes are out when it raises."""
    before = path.read_bytes()

    def half(file, **_):
        file.write(before[: len(before) // 2])
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(OSError, match="no space"):
        save_arrays(path, KIND, x=arrays["x"])
    assert path.read_bytes() == before
    assert beside(path) == ["good"]


def test_an_interruption_before_the_last_step_leaves_what_was_there(path, arrays, monkeypatch):
    before = path.read_bytes()

    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_arrays(path, KIND, x=arrays["x"])
    assert path.read_bytes() == before
    assert beside(path) == ["good"]


def test_a_process_killed_while_it_writes_leaves_what_was_there(path):
    """Nothing is cleaned up, but the file is the old one."""
    before = path.read_bytes()
    script = (
        "import os, sys, numpy as np\n"
        "from refode.files import save_arrays\n"
        "def half(file, **_):\n"
        "    file.write(b'PK'); file.flush(); os._exit(9)\n"
        "np.savez = half\n"
        "save_arrays(sys.argv[1], 'refode.test', x=np.zeros(3))\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 9
    assert path.read_bytes() == before
    assert len(beside(path)) == 2


def test_a_folder_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_arrays(tmp_path / "no" / "where", KIND, x=np.zeros(3))


# ---- a file that is not what it says --------------------------------------------------------------------------------


def refused(path, match):
    with pytest.raises(ValueError, match=match) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(path, part):
    raw = path.read_bytes()
    path.write_bytes(raw[: int(part * len(raw))])
    refused(path, "is damaged, or no .npz file of plain arrays")


def test_a_byte_that_flipped(path, arrays):
    """In an array's data wherever: the checksum finds it."""
    raw = path.read_bytes()
    for array in arrays.values():
        at = raw.index(array.tobytes()) + array.nbytes // 2
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        refused(path, "is damaged.*CRC")


class Trap:
    """What unpickling would run."""

    def __reduce__(self):
        return (os.abort, ())


def foreign(what):
    """The bytes of a file that is none of ours."""
    out = io.BytesIO()
    match what:
        case "text":
            out.write(b"x = 1\n")
        case "pickle":
            pickle.dump(Trap(), out)
        case "one array":
            np.save(out, np.zeros(3))
        case "objects":
            np.savez(out, kind=KIND, x=np.array([Trap()] * 3), y=np.zeros((1, 2)))
    return out.getvalue()


@pytest.mark.parametrize("what", ["text", "pickle", "one array", "objects"])
def test_a_foreign_file(path, what):
    path.write_bytes(foreign(what))
    refused(path, "is damaged, or no .npz file of plain arrays")


def test_another_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    refused(path, f"does not hold a {KIND}")


def test_a_file_of_another_kind(path, arrays):
    save_arrays(path, "refode.other", **arrays)
    refused(path, f"does not hold a {KIND}")


def test_a_file_without_a_kind(path, arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    refused(path, f"does not hold a {KIND}")


def test_a_file_that_lacks_arrays(path):
    save_arrays(path, KIND, other=np.zeros(3))
    refused(path, "lacks x, y$")


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.zeros(4), r"x in .* must have shape \(3,\), got \(4,\)"),
        (np.array([0.0, np.nan, 1.0]), "x in .* must be finite"),
        (np.array(["a", "b", "c"]), "x in .* must hold real numbers"),
        (np.array([1j, 0, 0]), "x in .* must hold real numbers"),
    ],
    ids=["shape", "nan", "text", "complex"],
)
def test_arrays_that_are_not_what_was_asked_for(path, arrays, x, match):
    save_arrays(path, KIND, x=x, y=arrays["y"])
    refused(path, match)


def test_what_the_system_refuses_is_its_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError if os.name != "nt" else PermissionError):
        load(tmp_path)


# ---- a flow ---------------------------------------------------------------------------------------------------------


def flow(sizes=(2, 4, 2), seed=0, **span):
    field = MLP(sizes)
    return ContinuousFlow(field, field.init(np.random.default_rng(seed)), **span)


def test_a_flow_comes_back_with_its_parameters_and_its_span(tmp_path):
    saved = flow(seed=1, t0=0.5, t1=-0.25)
    saved.save(tmp_path / "flow.npz")
    loaded = flow(seed=2).load(tmp_path / "flow.npz")
    assert np.array_equal(loaded.theta, saved.theta)
    assert (loaded.t0, loaded.t1) == (0.5, -0.25)
    x = np.ones((3, 2))
    assert np.array_equal(loaded.logpdf(x), saved.logpdf(x))


def test_a_flow_of_another_size_is_refused(tmp_path):
    flow().save(tmp_path / "flow")
    with pytest.raises(ValueError, match=r"theta in .* must have shape \(34,\), got \(28,\)"):
        flow((2, 5, 2)).load(tmp_path / "flow")


def test_a_flows_file_is_no_other_file(tmp_path, path):
    with pytest.raises(ValueError, match=r"good does not hold a refode\.ContinuousFlow"):
        flow().load(path)
    flow().save(tmp_path / "flow")
    refused(tmp_path / "flow", "does not hold")
