"""Files of word vectors in their four forms, what is wrong with damaged ones, and the way into a model."""

import gzip
import time

import numpy as np
import pytest
import torch

from refseg.encoders.pretrained import load_word_vectors
from refseg.encoders.text import glove
from refseg.encoders.text.glove import read_vectors
from refseg.encoders.text.glove_transformer import GloveTransformer, GloveTransformerConfig
from refseg.encoders.text.recurrent import RecurrentText, RecurrentTextConfig
from refseg.encoders.text.tokenizer import WordTokenizer
from refseg.errors import CheckpointError
from refseg.training.recipe import parse_recipe
from refseg.training.setup import load_pretrained

ENTRIES = {"the": [0.5, -1.25, 3.0], "dog": [1e-3, 2.0, -0.125], "café": [4.0, 5.5, 6.0], "left": [-1.0, 0.25, 7.0]}
WORDS = ["<pad>", "<unk>", "dog", "purple", "café"]
FORMS = ("glove", "glove_gz", "word2vec_text", "word2vec_binary", "word2vec_binary_gz")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder, form, entries=ENTRIES, width=3):
    head = f"{len(entries)} {width}\n".encode() if form.startswith("word2vec") else b""
    if "binary" in form:
        body = b"".join(
            word.encode() + b" " + np.array(vector, dtype="<f4").tobytes() + b"\n" for word, vector in entries.items()
        )
    else:
        body = "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in entries.items()).encode()
    path = folder / f"vectors.{form}"
    path.write_bytes(gzip.compress(head + body) if form.endswith("_gz") else head + body)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_table(tmp_path, form):
    vectors = read_vectors(write(tmp_path, form), WORDS)
    assert vectors.known.tolist() == [False, False, True, False, True]
    zeros = [0.0, 0.0, 0.0]
    assert torch.equal(vectors.table, torch.tensor([zeros, zeros, ENTRIES["dog"], zeros, ENTRIES["café"]]))


def test_the_largest_binary_tables_are_read_piece_by_piece(tmp_path):
    """More bytes than are read at once, and floats that hold the bytes of spaces and line ends."""
    dice = np.random.default_rng(0)
    entries = {f"w{number}": dice.standard_normal(300).astype("<f4") for number in range(1500)}
    entries["w7"] = np.frombuffer(b" \n \n" * 300, dtype="<f4")
    vectors = read_vectors(write(tmp_path, "word2vec_binary", entries, 300), list(entries))
    assert vectors.known.all()
    assert np.array_equal(vectors.table.numpy(), np.stack(list(entries.values())))


def test_words_with_spaces_and_words_listed_twice(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2\n. . . 3 4\nat name@domain.com 5 6\nthe 7 8\n1/2 9 10\n")
    vectors = read_vectors(path, ["the", ". . .", "at name@domain.com", "1/2"])
    assert vectors.table.tolist() == [[1, 2], [3, 4], [5, 6], [9, 10]]


def test_the_cache_follows_file_and_vocabulary(tmp_path, cache, monkeypatch):
    path = write(tmp_path, "glove")
    first = read_vectors(path, WORDS)
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(glove, "_entries", None)
        again = read_vectors(path, WORDS)
    assert torch.equal(first.table, again.table)
    assert torch.equal(first.known, again.known)
    assert read_vectors(path, WORDS[::-1]).table[2].tolist() == first.table[2].tolist()
    time.sleep(0.01)
    write(tmp_path, "glove", {**ENTRIES, "dog": [9.0, 9.0, 9.0]})
    assert read_vectors(path, WORDS).table[2].tolist() == [9.0, 9.0, 9.0]
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    assert read_vectors(path, WORDS).table[2].tolist() == [9.0, 9.0, 9.0]
    for file in cache.iterdir():
        whole = file.read_bytes()
        for place in range(0, len(whole), 3):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            assert torch.equal(read_vectors(path, WORDS).table[2], torch.full((3,), 9.0))
    monkeypatch.setenv("REFSEG_CACHE", "off")
    assert read_vectors(path, WORDS).table[2].tolist() == [9.0, 9.0, 9.0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"the 1 2 3\ndog 4 5\n", r"line 2: 2 numbers after the word, 3 wanted"),
        (b"the 1 2 3\ndog 4.0 5.0 6.0 7.0\n", r"line 2: 4 numbers after the word, 3 wanted"),
        (b"the 1 2 3\ndog 4 x 6\n", r"line 2: of 'dog' not all that follows is a number"),
        (b"the 1 2 3\ncat 4 5 x\n", r"line 2: of 'cat' not all that follows is a number"),
        (b"the 1 2 3\ndog 4 nan 6\n", r"line 2: a number of 'dog' is not finite"),
        (b"4 3\nthe 1 2 3\ndog 4 5 6\n", r"line 4: cut short after 2 of the 4 words"),
        (b"", r"it is empty"),
        (b"word\n", r"line 1: 0 numbers after the word"),
        (b"3 0\n", r"line 1: 0 numbers a word cannot be"),
    ],
)
def test_a_damaged_text_says_file_and_line(tmp_path, content, said):
    path = tmp_path / "glove.txt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"glove\.txt.*{said}"):
        read_vectors(path, WORDS)


def test_damaged_binary_and_packed_files_say_where(tmp_path):
    path = write(tmp_path, "word2vec_binary")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"cut short at word 4 of 4"):
        read_vectors(path, WORDS)
    path.write_bytes(b"1 3\ndog " + np.array([1, np.inf, 2], dtype="<f4").tobytes())
    with pytest.raises(CheckpointError, match=r"word 1, 'dog', is not finite"):
        read_vectors(path, WORDS)
    packed = write(tmp_path, "glove_gz")
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(CheckpointError, match=r"line \d+: the file ends or is damaged here"):
        read_vectors(packed, WORDS)
    (tmp_path / "long.txt").write_bytes(b"x" * (1 << 20))
    with pytest.raises(CheckpointError, match=r"line 1: no file of word vectors"):
        read_vectors(tmp_path / "long.txt", WORDS)
    with pytest.raises(CheckpointError, match="no such file"):
        read_vectors(tmp_path / "absent.txt", WORDS)


def model_of(text):
    model = torch.nn.Module()
    model.text = text
    return model


def test_vectors_go_into_both_encoders(tmp_path):
    path = write(tmp_path, "glove", {word: [*vector, 1.0] for word, vector in ENTRIES.items()})
    for text in (
        RecurrentText(RecurrentTextConfig(vocabulary_size=5, embedding=4, hidden=2, train_embedding=False)),
        GloveTransformer(GloveTransformerConfig(vocabulary_size=5, width=4, heads=2, layers=1, feedforward=8)),
    ):
        missing = load_word_vectors(model_of(text), path, WORDS)
        assert missing == ["<pad>", "<unk>", "purple"]
        assert text.words.weight[2].tolist() == pytest.approx([*ENTRIES["dog"], 1.0])
        assert not text.words.weight[[0, 1, 3]].any()


def test_what_does_not_fit_is_named(tmp_path):
    path = write(tmp_path, "glove")
    text = RecurrentText(RecurrentTextConfig(vocabulary_size=5, embedding=4, hidden=2))
    with pytest.raises(CheckpointError, match=r"5 words of 3 channels, the model wants 5 of 4"):
        load_word_vectors(model_of(text), path, WORDS)
    with pytest.raises(CheckpointError, match="not Linear"):
        load_word_vectors(model_of(torch.nn.Linear(2, 2)), path, WORDS)


def test_a_run_says_where_its_word_vectors_come_from(tmp_path):
    path = write(tmp_path, "glove")
    tokenizer = WordTokenizer(WORDS[2:])
    model = model_of(
        RecurrentText(RecurrentTextConfig(vocabulary_size=5, embedding=3, hidden=2, train_embedding=False))
    )
    recipe = parse_recipe({"pretrained": {"glove": str(path)}})
    said = load_pretrained(model, recipe, tokenizer)
    assert said.startswith("2 of 5 words have vectors")
    assert said.endswith("zeros for purple")
    assert not model.text.words.weight.requires_grad
    assert "learnt from nothing" in load_pretrained(model, parse_recipe({}), tokenizer, resumed=True)
    assert model.text.words.weight.requires_grad
