"""CSV files: what is detected, what is read, and one clear error for each thing that is wrong."""

import csv
import io

import numpy as np
import pytest

from ntkengine import tasks
from ntkengine.errors import DataError, InputError, NtkengineError, UnknownNameError
from ntkengine.tasks import tabular

ROWS = [[5.1, -3.5, 1e-3, 0], [4.9, 3.0, 1.4, 1], [6.2, 2.25, 4.5, 1], [5.9, 3.0, 5.1, 0]]
X = np.array([row[:3] for row in ROWS])


@pytest.fixture
def load(tmp_path):
    """Write text (or bytes) to a file and load it."""

    def write_and_load(text, **options):
        file = tmp_path / "some.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tasks.load_csv(file, **options)

    return write_and_load


def lines(separator=",", header=True, rows=ROWS):
    head = [separator.join(["long", "wide", "deep", "kind"])] if header else []
    return head + [separator.join(map(str, row)) for row in rows]


# --- what is detected ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separator_header_and_line_ends(load, separator, header, end):
    for tail in ("", end, 3 * end, f"{end}  {end}"):
        table = load(end.join(lines(separator, header)) + tail)
        np.testing.assert_array_equal(table.X, X)
        assert table.y.tolist() == [0, 1, 1, 0]
        assert table.class_names == ("0", "1")
        assert table.feature_names == (("long", "wide", "deep") if header else ("x0", "x1", "x2"))
        assert table.name == "some"


def test_byte_order_mark_and_names_beyond_ascii(load):
    table = load(b"\xef\xbb\xbf" + "größe,b\n1,2.5\n2,3.5\n".encode())
    assert table.feature_names == ("größe",)


def test_quoted_cells_hold_separators_quotes_and_line_ends(load):
    table = load('"a, ""b""","c\nd",kind\n"1.5",2,"x, y"\n 3 , 4 ,z\n"5","6","x, y"\n')
    assert table.feature_names == ('a, "b"', "c\nd")
    np.testing.assert_array_equal(table.X, [[1.5, 2], [3, 4], [5, 6]])
    assert table.class_names == ("x, y", "z")
    assert table.y.tolist() == [0, 1, 0]


def test_runs_of_spaces_are_one_separator(load):
    table = load("  1.5   2  7 \n 2.5 30  8\n")
    np.testing.assert_array_equal(table.X, [[1.5, 2], [2.5, 30]])


def test_texts_with_other_separators_do_not_mislead(load):
    table = load("a b,c;d,kind of\n1,2,x y;z\n3,4,u v;w\n5,6,u v;w\n")
    assert table.feature_names == ("a b", "c;d")
    assert table.class_names == ("u v;w", "x y;z")


def test_an_explicit_separator_wins(load):
    table = load("1|2|0\n3|4|1\n", separator="|")
    np.testing.assert_array_equal(table.X, [[1, 2], [3, 4]])


def test_text_target_without_header(load):
    table = load("5.1,3.5,setosa\n7.0,3.2,versicolor\n6.3,3.3,setosa\n")
    assert table.feature_names == ("x0", "x1")
    assert table.class_names == ("setosa", "versicolor")
    assert table.y.tolist() == [0, 1, 0]


def test_header_can_be_told(load):
    text = "2019,2020,2021\n1,2,0\n3,4,1\n"
    assert load(text).X.shape == (3, 2)
    assert load(text, header=True).feature_names == ("2019", "2020")
    assert load("a,b,c\n1,2,0\n3,4,1\n", header=True).X.shape == (2, 2)


def test_a_line_that_may_be_a_header_is_an_error_with_what_was_found(load):
    with pytest.raises(
        DataError, match=r"line 1: cannot tell .*column 0 holds 'abc' and column 1 the number '2'"
    ):
        load("abc,2,3\n1,2,0\n3,4,1\n")
    text = "0,1,2,3,kind\n5,3,1,0,x\n6,3,4,1,y\n7,2,5,2,x\n"
    with pytest.raises(DataError, match=r"cannot tell whether it is a header.*'kind'.*header=True or False"):
        load(text)
    assert load(text, header=True).class_names == ("x", "y")


def test_many_files_written_by_the_standard_library_come_back(load):
    rng = np.random.default_rng(0)
    for trial in range(40):
        n, d = (int(k) for k in rng.integers(3, 30, size=2))
        values = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-300, 300, size=(n, d))
        names = [f"n{j}" + ",; \t\"'é"[int(rng.integers(7))] for j in range(d)] + ["target"]
        stream = io.StringIO(newline="")
        writer = csv.writer(
            stream,
            delimiter=",;\t "[trial % 4],
            lineterminator=["\n", "\r\n"][trial % 2],
            quoting=[csv.QUOTE_MINIMAL, csv.QUOTE_ALL][int(rng.integers(2))],
        )
        writer.writerow(names)
        target = rng.normal(size=n)
        writer.writerows([*map(float, row), float(t)] for row, t in zip(values, target))
        table = load(stream.getvalue())
        np.testing.assert_array_equal(table.X, values)
        np.testing.assert_array_equal(table.y[:, 0], target)
        assert table.feature_names == tuple(name.strip() for name in names[:-1])


# --- the target ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "column"), [("wide", 1), (1, 1), ("1", 1), (-1, 3), ("-4", 0), (None, 3), (np.int64(2), 2)]
)
def test_target_by_name_or_number(load, target, column):
    table = load("\n".join(lines()), target=target)
    np.testing.assert_array_equal(table.X, np.delete(np.array(ROWS), column, axis=1))
    expected = np.array(ROWS)[:, column]
    found = np.array([float(table.class_names[i]) for i in table.y]) if table.class_names else table.y[:, 0]
    np.testing.assert_array_equal(found, expected)


def test_a_name_comes_before_a_number(load):
    table = load("1,0,b\n7.5,1,2.5\n8.5,2,3.5\n", target="1", header=True)
    np.testing.assert_array_equal(table.y, [[7.5], [8.5]])


def test_unknown_target(load):
    with pytest.raises(
        UnknownNameError, match=r"unknown target column 'wode'. Did you mean 'wide'\?.*deep, kind"
    ):
        load("\n".join(lines()), target="wode")
    with pytest.raises(
        InputError, match=r"column 4; there are 4 \(long, wide, deep, kind\): allowed -4 to 3"
    ):
        load("\n".join(lines()), target=4)
    with pytest.raises(InputError, match="no header: give a column's number, 0 to 3"):
        load("\n".join(lines(header=False)), target="wide")
    with pytest.raises(InputError, match=r"target is 1.5"):
        load("\n".join(lines()), target=1.5)


def column_of(values):
    return "\n".join(["a,t", *(f"{i},{v}" for i, v in enumerate(values))])


def test_few_whole_numbers_are_classes_in_numeric_order(load):
    table = load(column_of([10, 9, 2.0, "2", "-1"] * 5))
    assert table.class_names == ("-1", "2", "9", "10")
    assert table.y.tolist() == [3, 2, 1, 1, 0] * 5


@pytest.mark.parametrize(
    ("values", "n_classes"),
    [
        (list(range(4)) * 5, 4),  # 4 of 20: one for 5 rows
        (list(range(5)) * 4, 0),  # 5 of 20
        (list(range(50)) * 5, 50),
        (list(range(51)) * 5, 0),
        ([0, 1], 2),
        ([0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 0),
        (list("abc") * 2, 3),
    ],
)
def test_classes_or_regression(load, values, n_classes):
    table = load(column_of(values))
    assert len(table.class_names) == n_classes
    if n_classes == 0:
        np.testing.assert_array_equal(table.y, np.array(values, dtype=float)[:, None])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["x", "x", "x"], "one class only, 'x'"),
        ([3, 3, 3], "one class only, '3'"),
        ([0.5, 0.5], "is 0.5 in every row"),
        (["x", "", "y"], r"row 2 \(line 3\), target column 't': found '', expected a class"),
        ([1.5, 2.5, "nan"], r"row 3 \(line 4\), target column 't': found 'nan', expected a finite number"),
        ([1.5, "inf", 3], r"row 2 .*found 'inf'"),
        ([0, 1, 1, "abc"], r"row 4 \(line 5\).*found 'abc', expected a number as in most rows"),
        (["x", "y", 3], r"row 3 .*found '3', expected a text as in most rows"),
        ([f"name{i}" for i in range(60)], r"holds 60 texts in 60 rows: 'name0'.*at most 50 classes"),
    ],
)
def test_targets_that_cannot_be_used(load, values, text):
    with pytest.raises(DataError, match=text):
        load(column_of(values))


# --- cells --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("abc", "encode them as numbers"),
        ("1_000", "encode them"),
        ("0x10", "encode them"),
        ("", "fill the cell in"),
        ("NaN", "fill the cell in"),
        ("-Infinity", "fill the cell in"),
        ("1e999", "fill the cell in"),
        ("7,5", "decimal point"),
        ("?", "encode them"),
    ],
)
@pytest.mark.parametrize("target", ["kind", "long"])
def test_a_bad_cell_is_named_by_row_line_and_column(load, cell, advice, target):
    rows = [list(map(str, row)) for row in ROWS]
    rows[2][1] = f'"{cell}"'
    text = "\n".join(["long,wide,deep,kind", "", *(",".join(row) for row in rows)])
    with pytest.raises(DataError) as caught:
        load(text, target=target)
    message = str(caught.value)
    assert f"row 3 (line 5), column 'wide': found {cell!r}, expected a finite number; " in message
    assert advice in message
    assert "some.csv" in message


def test_a_bad_cell_far_down_is_found(load):
    rows = [[i, 2 * i, i % 3] for i in range(3000)]
    rows[2999][0] = "nan"
    with pytest.raises(DataError, match=r"row 3000 \(line 3001\), column 'a': found 'nan'"):
        load("\n".join(["a,b,t", *(",".join(map(str, row)) for row in rows)]))


def test_lines_are_counted_through_quoted_line_ends(load):
    with pytest.raises(DataError, match=r"row 3 \(line 6\), column 'a b': found 'x'"):
        load('"a\nb",t\n1,"p\nq"\n2,r\nx,r\n'.replace("a\nb", "a b\n"))


def test_text_features_suggest_encoding(load):
    with pytest.raises(DataError, match=r"row 1 \(line 2\), column 'colour': found 'red'.*one 0/1 column"):
        load("size,colour,kind\n1,red,0\n2,blue,1\n3,red,1\n")


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "is empty"),
        (" \n\n \r\n", "is empty"),
        ("\ufeff", "is empty"),
        ("a,b\n", r"holds a header and 0 row\(s\) of data; at least 2"),
        ("a,b\n1,2\n", r"a header and 1 row\(s\)"),
        ("1,2\n", r"holds 1 row\(s\)"),
        ("1\n2\n3\n", "no separator gives two or more columns"),
        ("a,b,c\n1,2,0\n3,4\n5,6,1\n", "line 3: 2 columns, expected 3"),
        ("a,b,c\n1,2,0\n3,4,1,9\n5,6,1\n", "line 3: 4 columns, expected 3"),
        ("a,b,a\n1,2,0\n3,4,1\n", "line 1: the column name 'a' appears 2 times"),
        (",a,b\n0,2,0\n1,4,1\n", "line 1: column 0 .* has no name"),
        (b"a,b\n1,0\n\xe9,1\n", "line 3: byte 0xe9 is not UTF-8"),
        ("a,b\n1,0\n2,1\n".encode("utf-16"), "not a text file: byte 4 is 0"),
        (b"PK\x03\x04\x14\x00\x06\x00", "not a text file: byte 6 is 0"),
        ('a,b\n1,0\n"2,1\n3,0\n4,1\n', "record that starts on line 3 cannot be read"),
        ('"a,b\n1,0\n', "record that starts on line 1 cannot be read"),
        ('a,b\n1,0\n"2"x,1\n', "record that starts on line 3 cannot be read"),
    ],
)
def test_files_that_cannot_be_used(load, content, text):
    with pytest.raises(DataError, match=text) as caught:
        load(content)
    assert "some.csv" in str(caught.value)


def test_paths_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match=r"missing.csv' does not exist"):
        tasks.load_csv(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="is a folder"):
        tasks.load_csv(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        tasks.load_csv("a\0b")
    with pytest.raises(InputError, match="path is 3"):
        tasks.load_csv(3)


@pytest.mark.parametrize("separator", ["", ",,", '"', "\n", 3])
def test_separators_that_cannot_be_used(load, separator):
    with pytest.raises(InputError, match="separator is"):
        load("1,2\n3,4\n", separator=separator)


def test_a_separator_that_is_not_in_the_file(load):
    with pytest.raises(DataError, match="line 1: one column with the separator ';'"):
        load("1,2\n3,4\n", separator=";")


def test_damaged_files_raise_only_our_errors(load):
    """Bytes cut, doubled and replaced at random: a table or an NtkengineError, nothing else."""
    rng = np.random.default_rng(1)
    good = "\n".join(lines(";") * 2).encode()
    alphabet = np.frombuffer(b'0;,"\n\r\t .e-+x\xff_', dtype=np.uint8)
    outcomes = {"table": 0, "error": 0}
    for _ in range(400):
        data = np.frombuffer(good, dtype=np.uint8).copy()
        where = rng.integers(len(data), size=int(rng.integers(1, 4)))
        data[where] = rng.choice(alphabet, size=len(where))
        start, stop = sorted(int(k) for k in rng.integers(len(data), size=2))
        content = data.tobytes() if rng.random() < 0.7 else data[start:stop].tobytes()
        try:
            table = load(content)
        except NtkengineError:
            outcomes["error"] += 1
        else:
            outcomes["table"] += 1
            assert np.isfinite(table.X).all()
    assert min(outcomes.values()) > 0


# --- into a task --------------------------------------------------------------------------------------------


def test_a_file_becomes_a_task(load):
    rng = np.random.default_rng(3)
    rows = [[*rng.normal(size=3), "abc"[i % 3]] for i in range(30)]
    table = load("\n".join(lines(rows=rows)))
    task = tasks.make_task(table, train_fraction=0.6)
    assert task.Y_train.shape == (18, 3)
    assert task.standardized
    np.testing.assert_allclose(task.X_train.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(task.X_train.std(axis=0), 1, rtol=1e-14)
    assert tabular.Table is tasks.Table
