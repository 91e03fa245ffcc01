"""Plain data is read as pickle reads it; a pickle that would do more, or is malformed, is refused."""

import pickle
import random
import resource
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xattn_edu.data.plain_pickle import read_plain_pickle

# made with cPickle of Python 2.7.18: unicode, str in UTF-8 and in Latin-1, a shared list, long and large int
PYTHON2 = {
    0: (
        b"(lp1\n(dp2\nS'image_id'\np3\nI9\nsS'sent_ids'\np4\n(lp5\nI0\naI1\nasS'sentences'\np6\n(lp7\n(dp8\nS'toke"
        b"ns'\np9\n(lp10\nVman\np11\naVleft\np12\nasS'raw'\np13\nVMan \\u201cleft\\u201d\\u005c\np14\nsS'sent_id'"
        b"\np15\nI0\nsS'sent'\np16\nVman left\np17\nsa(dp18\ng9\n(lp19\nS'cafe'\np20\naS'left'\np21\nasg13\nS'caf"
        b"\\xc3\\xa9 \"\\'left\\n'\np22\nsg15\nI1\nsg16\nS'caf\\xe9 left'\np23\nsasS'split'\np24\nS'val'\np25\nsS'"
        b"file_name'\np26\nS'COCO_train2014_000000000009_16.jpg'\np27\nsS'more'\np28\n(lp29\nI01\naI00\naNaF1.5\na"
        b"I-3\naI300\naI70000\naI-1099511627776\naI1099511627776\nag19\nasS'category_id'\np30\nI1\nsS'ann_id'\np31"
        b"\nL16L\nsS'ref_id'\np32\nI0\nsa."
    ),
    2: (
        b"\x80\x02]q\x01}q\x02(U\x08image_idq\x03K\tU\x08sent_idsq\x04]q\x05(K\x00K\x01eU\tsentencesq\x06]q\x07(}q"
        b"\x08(U\x06tokensq\t]q\n(X\x03\x00\x00\x00manq\x0bX\x04\x00\x00\x00leftq\x0ceU\x03rawq\rX\x0f\x00\x00\x00"
        b"Man \xe2\x80\x9cleft\xe2\x80\x9d\\q\x0eU\x07sent_idq\x0fK\x00U\x04sentq\x10X\x08\x00\x00\x00man leftq"
        b"\x11u}q\x12(h\t]q\x13(U\x04cafeq\x14U\x04leftq\x15eh\rU\rcaf\xc3\xa9 \"'left\nq\x16h\x0fK\x01h\x10U\tcaf"
        b"\xe9 leftq\x17ueU\x05splitq\x18U\x03valq\x19U\tfile_nameq\x1aU\"COCO_train2014_000000000009_16.jpgq\x1bU"
        b"\x04moreq\x1c]q\x1d(\x88\x89NG?\xf8\x00\x00\x00\x00\x00\x00J\xfd\xff\xff\xffM,\x01Jp\x11\x01\x00I-109951"
        b"1627776\nI1099511627776\nh\x13eU\x0bcategory_idq\x1eK\x01U\x06ann_idq\x1f\x8a\x01\x10U\x06ref_idq K\x00u"
        b"a."
    ),
}  # fmt: skip


def plain(leaves):
    return st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
        max_leaves=20,
    )


@pytest.mark.parametrize("protocol", PYTHON2)
def test_what_python2_wrote(protocol):
    (ref,) = read_plain_pickle(PYTHON2[protocol])
    first, second = ref["sentences"]
    assert first == {"tokens": ["man", "left"], "raw": "Man “left”\\", "sent_id": 0, "sent": "man left"}
    assert second == {"tokens": ["cafe", "left"], "raw": "café \"'left\n", "sent_id": 1, "sent": "café left"}
    assert ref["more"] == [True, False, None, 1.5, -3, 300, 70_000, -(2**40), 2**40, ["cafe", "left"]]
    assert ref["more"][-1] is second["tokens"]
    assert [type(value) for value in ref["more"][:4]] == [bool, bool, type(None), float]
    assert (ref["ann_id"], ref["image_id"], ref["split"], ref["sent_ids"]) == (16, 9, "val", [0, 1])


@pytest.mark.parametrize("protocol", range(6))
@settings(max_examples=40)
@given(data=st.data())
def test_plain_data_is_read_as_pickle_reads_it(protocol, data):
    texts = st.text(max_size=300)
    leaves = texts if protocol < 3 else texts | st.binary(max_size=300)  # before, bytes are made by calling a function
    value = data.draw(plain(leaves))
    assert repr(read_plain_pickle(pickle.dumps(value, protocol))) == repr(value)


@pytest.mark.parametrize("protocol", range(6))
def test_what_occurs_twice_is_one_object(protocol):
    lists = [[number, f"list {number}"] for number in range(300)]  # more than a byte can number
    found = read_plain_pickle(pickle.dumps([lists, lists[::-1], {"last": lists[-1]}], protocol))
    assert found == [lists, lists[::-1], {"last": lists[-1]}]
    assert all(one is other for one, other in zip(found[0], found[1][::-1])) and found[2]["last"] is found[0][-1]


@pytest.mark.parametrize(
    "content",
    {
        "GLOBAL, REDUCE": b"cos\nsystem\n(S'false'\ntR.",
        "GLOBAL alone": b"cbuiltins\neval\n.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        "INST": b"(S'1'\nibuiltins\neval\n.",
        "OBJ": b"(cbuiltins\neval\nS'1'\no.",
        "NEWOBJ": b"\x80\x02]]\x81.",
        "NEWOBJ_EX": b"\x80\x04]]}\x92.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x00.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"Psome\n.",
        "BINPERSID": b"]Q.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "READONLY_BUFFER": b"\x80\x05]\x98.",
        "unknown": b"\x00.",
        "DUP": b"]2a.",
    }.values(),
)  # fmt: skip
def test_every_instruction_that_makes_other_things_is_refused(content):
    with pytest.raises(ValueError, match="makes no plain data"):
        read_plain_pickle(content)


def test_only_known_instructions_are_taken():
    """Of all 256: the others stop the machine, however much is on its stack."""
    taken = set()
    for code in range(256):
        try:
            read_plain_pickle(b"]}(" + bytes([code]))
        except ValueError as error:
            if "makes no plain data" not in str(error):
                taken.add(code)
    assert bytes(sorted(taken)) == (
        b"().BCFGIJKLMNRSTUVX]abcdeghjlpqrstu}\x80\x85\x86\x87\x88\x89\x8a\x8c\x8d\x8f\x90\x91\x93\x94\x95"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"]",
        b".",
        b"]].",  # two values
        b"]..",  # something after the end
        b"a.",
        b"]q",
        b"h\x05.",
        b"e.",
        b"]Ka.",
        b"K\x01K\x02a.",
        b"}K\x01K\x02s0.",  # an instruction that is none here
        b"}]K\x02s.",  # a key that is a list
        b"}G" + bytes(8) + b"K\x02s.",  # or a number with a fraction
        b"(lp0\n(tR.",  # a call of data
        b"]}b.",  # a state of data
        b"ccollections\nOrderedDict\n.",  # a function that is not called
        b"]ccollections\nOrderedDict\na.",
        b"ccollections\nOrderedDict\nK\x01R.",  # or with no arguments, or strange ones
        b"ccollections\nOrderedDict\n(K\x01K\x02K\x03tR.",
        b"ccollections\nOrderedDict\n(](K\x01K\x02eetR.",
        b"cbuiltins\nset\n(X\x01\0\0\0xtR.",
        b"c_codecs\nencode\n(K\x01tR.",
        b"cnumpy\ndtype\n(U\x02i8tR.",
        b"cnumpy\ndtype\n(U\x02O8tR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02i8tRU\x01xtR.",
        b"}(U\x01au.",  # half a pair
        b"](U\x01aK\x01u.",  # keys in a list
        b"I1",
        b"Ione\n.",
        b"I" + b"9" * 5000 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"F1.x\n.",
        b"Sunquoted\n.",
        b"S'\n.",
        b"S'\\x1'\n.",
        b"V\\u12\n.",
        b"X\x02\x00\x00\x00\xff\xff.",
        b"G\x00.",
        b"\x8a\xff\x01.",
        b"T\xff\xff\xff\xffx.",
        b"B\xff\xff\xff\xffx.",
        b"X\xff\xff\xff\x7fx.",
        b"\x8d" + b"\xff" * 8 + b".",
        b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
        b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"\x8b\xff\xff\xff\x7f.",
    ],
)
def test_a_malformed_pickle_is_a_value_error(content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="no pickle of plain data"):
        read_plain_pickle(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB: what it announces is never made


def forms():
    """Plain data as programs hold them who made a set of their own, and as lists, dictionaries and numbers."""
    ordered = OrderedDict(left=np.int32(-7), right=(True, None))
    numbers = [np.int64(2**40), np.uint8(200), np.float32(1.5), np.bool_(True), np.array([9], ">i8")[0], np.float64(-2)]
    given = [(1, "x", (2,)), (), {3}, frozenset(["y"]), set(), ordered, {5: (6, [7])}, b"\xff\0a", numbers]
    read = [[1, "x", [2]], [], [3], ["y"], [], {"left": -7, "right": [True, None]}, {5: [6, [7]]}, b"\xff\0a"]
    return given, [*read, [2**40, 200, 1.5, True, 9, -2.0]]


@pytest.mark.parametrize("protocol", range(6))
def test_tuples_sets_and_numbers_of_numpy_are_read(protocol):
    given, expected = forms()
    found = read_plain_pickle(pickle.dumps(given, protocol))
    assert repr(found) == repr(expected) and [type(value) for value in found[-1]] == [int, int, float, bool, int, float]


def test_what_numpy_wrote_in_python2():
    """numpy.int64(255), of NumPy 1.16: its bytes are a string, whose text is not that of UTF-8."""
    for protocol_2 in (b"\xff" + bytes(7), b"\xc3\xa9" + bytes(6)):
        content = (
            b"\x80\x02cnumpy.core.multiarray\nscalar\nq\x01cnumpy\ndtype\nq\x02U\x02i8K\x00K\x01\x87Rq\x03(K\x03U\x01<"
        )
        content += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x08" + protocol_2 + b"\x86Rq\x04."
        assert read_plain_pickle(content) == int.from_bytes(protocol_2, "little")


def test_what_is_not_read_is_named():
    for value, named in ((np.zeros(2), "numpy"), (Path("x"), "pathlib"), (print, "print"), (1j, "complex")):
        with pytest.raises(
            ValueError, match=f"it needs '.*{named}.*save lists, dictionaries, strings and numbers only"
        ):
            read_plain_pickle(pickle.dumps(value, 2))


def test_calls_copy_no_more_than_the_file_holds():
    """A text of a megabyte, turned into bytes ten thousand times: 10 GB."""
    text = b"X" + struct.pack("<I", 10**6) + b"x" * 10**6
    with pytest.raises(ValueError, match="calls make more than the file holds"):
        read_plain_pickle(text + b"q\0](" + b"c_codecs\nencode\n(h\0tR" * 10_000 + b"e.")


def test_a_place_in_the_memory_is_only_a_name():
    """For pickle itself, this is an order for 32 GiB."""
    assert read_plain_pickle(b"]r\xff\xff\xff\xff.") == [] and read_plain_pickle(b"]p99999999999\n.") == []


def test_random_bytes_are_no_pickle():
    rng, codes = random.Random(0), b"(.BCFGIJKLMNSTUVX]adeghjlpqrsu}\x80\x88\x89\x8a\x8c\x8d\x94\x95\n0123'\\"
    read = 0
    for number in range(20_000):
        size = rng.randrange(40)
        content = rng.randbytes(size) if number % 2 else bytes(rng.choices(codes, k=size)) + b"."
        try:
            repr(read_plain_pickle(content))
            read += 1
        except ValueError:
            pass
    assert read > 10


def test_the_length_of_a_text_may_have_eight_bytes():
    text = "left of the tree"
    assert read_plain_pickle(b"\x8d" + struct.pack("<Q", len(text)) + text.encode() + b".") == text


@pytest.mark.parametrize("number", [np.float64(1.5), np.int32(-70_000), np.uint16(513), np.float32(0.1)])
def test_a_number_of_a_big_endian_machine(number):
    """Its pickle has the other sign for the order of bytes, and the bytes in this order."""
    little = pickle.dumps(number, 3)
    swapped = little.replace(b"<q", b">q").replace(number.tobytes(), number.tobytes()[::-1])
    assert swapped != little and pickle.loads(swapped) == number == read_plain_pickle(swapped)
