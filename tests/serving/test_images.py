"""Images from files, folders and arrays, a batch at a time."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from kdrobust.errors import DataError
from kdrobust.serving.images import open_images

GREY, COLOUR = (1, 4, 6), (3, 4, 6)


def picture(path, *, size=(6, 4), mode="L", value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def together(images, size=2):
    batches = list(images.batches(size))
    return [name for names, _ in batches for name in names], np.concatenate([pixels for _, pixels in batches])


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    for place, name in enumerate(("b.png", "a.PNG", "below/c.bmp", ".hidden.png", "notes.txt")):
        picture(tmp_path / name, value=place) if name != "notes.txt" else (tmp_path / name).write_text("no")
    images = open_images(tmp_path, GREY)
    names, pixels = together(images)
    assert names == ["a.PNG", "b.png", "below/c.bmp"]
    assert (len(images), pixels.shape, pixels.dtype) == (3, (3, *GREY), np.uint8)
    assert pixels[:, 0, 0, 0].tolist() == [1, 0, 2]


@pytest.mark.parametrize(("mode", "value"), [("L", 10), ("RGB", (10, 10, 10)), ("RGBA", (10, 10, 10, 255)), ("P", 0)])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_grey_and_colour_become_what_the_model_takes(tmp_path, mode, value, shape):
    names, pixels = together(open_images(picture(tmp_path / "one.png", mode=mode, value=value), shape))
    assert (names, pixels.shape) == (["one.png"], (1, *shape))
    assert len(np.unique(pixels)) == 1


def test_another_size_is_refused_or_resized(tmp_path):
    path = picture(tmp_path / "big.png", size=(12, 8))
    with pytest.raises(DataError, match=r"big.png: 12x8 pixels, the model takes 6x4; set resize=true"):
        together(open_images(path, GREY))
    assert together(open_images(path, GREY, resize=True))[1].shape == (1, *GREY)


def bad_text(path):
    (path / "x.png").write_text("I am a text.")
    return path / "x.png"


def bad_cut(path):
    picture(path / "y.png", size=(60, 40), mode="RGB", value=(1, 2, 3))
    (path / "y.png").write_bytes((path / "y.png").read_bytes()[:80])
    return path


def bad_deep(path):
    Image.fromarray(np.zeros((4, 6), dtype=np.uint16)).save(path / "z.png")
    return path / "z.png"


def bad_empty(path):
    (path / "nothing").mkdir()
    return path / "nothing"


def bad_missing(path):
    return path / "absent"


def bad_kind(path):
    (path / "a.docx").write_text("hello")
    return path / "a.docx"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (bad_text, "x.png: no readable image"),
        (bad_cut, "y.png: no readable image"),
        (bad_deep, "z.png: pixels of type .* have more than 8 bits"),
        (bad_empty, "nothing: no images in this folder"),
        (bad_missing, "no such file or folder"),
        (bad_kind, "no image, .npz or .npy by its name"),
    ],
)
def test_bad_files_get_one_line(tmp_path, make, told):
    with pytest.raises(DataError, match=told) as error:
        together(open_images(make(tmp_path), GREY))
    assert "\n" not in str(error.value)
    assert "0x" not in str(error.value)


def test_a_model_of_other_inputs_takes_no_image_files(tmp_path):
    picture(tmp_path / "a.png")
    for shape in ((1, 80), (4, 4, 6)):
        with pytest.raises(DataError, match="which image files do not hold"):
            open_images(tmp_path / "a.png", shape)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_in_pieces(tmp_path, save):
    values = np.random.default_rng(0).random((7, *GREY)).astype(np.float32)
    save(tmp_path / "a.npz", x_test=values, y_test=np.zeros(7))
    images = open_images(tmp_path / "a.npz", GREY)
    assert [len(names) for names, _ in images.batches(3)] == [3, 3, 1]
    names, pixels = together(images)
    assert names == list("0123456")
    assert np.array_equal(pixels, values)


def test_which_array(tmp_path):
    np.savez(tmp_path / "two.npz", one=np.zeros((2, 4)), two=np.ones((3, 4)))
    with pytest.raises(DataError, match="holds one, two; say which one: array=NAME"):
        open_images(tmp_path / "two.npz", GREY)
    assert len(open_images(tmp_path / "two.npz", GREY, array="two")) == 3
    with pytest.raises(DataError, match=r"array=three: .*two.npz has one, two"):
        open_images(tmp_path / "two.npz", GREY, array="three")
    np.save(tmp_path / "plain.npy", np.ones((5, 4)))
    assert len(open_images(tmp_path / "plain.npy", GREY)) == 5
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"array=x: only an .npz holds arrays"):
        open_images(tmp_path / "a.png", GREY, array="x")


def array_objects(path):
    np.savez(path, x=np.array([{}, {}], dtype=object))


def array_fortran(path):
    np.savez(path, x=np.asfortranarray(np.ones((2, 3, 4))))


def array_empty(path):
    np.savez(path, x=np.zeros((0, 4)))


def array_text(path):
    path.write_text("no archive")


def array_cut(path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones((100, 4)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", buffer.getvalue()[:-50])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (array_objects, "holds pickled Python objects"),
        (array_fortran, "Fortran order"),
        (array_empty, "holds no images"),
        (array_text, "truncated, or no .npz"),
        (array_cut, "cannot be read, truncated"),
    ],
)
def test_bad_arrays_get_one_line(tmp_path, make, told):
    make(tmp_path / "bad.npz")
    with pytest.raises(DataError, match=told) as error:
        together(open_images(tmp_path / "bad.npz", GREY))
    assert "\n" not in str(error.value)


def header(path, shape, descr="<f4", content=b"\0" * 64):
    """An `.npy` whose header claims a shape."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        file.write(content)
    return path


@pytest.mark.parametrize("inside", [False, True], ids=["npy", "npz"])
@pytest.mark.parametrize("shape", [(-5, 1, 8, 8), (2, 1, 10**8, 10**8), (10**12, 1, 8, 8), (2**40, 2**40, 8, 8)])
def test_a_header_that_claims_more_than_the_file_holds(tmp_path, shape, inside):
    """Before: a traceback, or "out of memory"."""
    path = header(tmp_path / "x.npy", shape)
    if inside:
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.write(path, "x.npy")
        path = tmp_path / "x.npz"
    with pytest.raises(DataError, match="cannot be read, truncated") as caught:
        open_images(path, (1, 8, 8))
    assert "\n" not in str(caught.value)


def test_names_that_are_no_text(tmp_path):
    """Bytes that are no UTF-8 and line ends, which no table could hold."""
    content = picture(tmp_path / "a.png").read_bytes()
    for name in (b"\xff\xfe.png", b"b\nc.png", "ε ü.png".encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(content)
    names, _ = together(open_images(tmp_path, GREY))
    assert names == ["a.png", "b\\nc.png", "ε ü.png", "\\udcff\\udcfe.png"]
    assert "\n".join(names).encode("utf-8")
