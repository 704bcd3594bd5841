"""Tables on narrow terminals: numbers whole, columns left out and named."""

import numpy as np
import pytest
from rich.console import Console

from jaxmeta import cli
from jaxmeta.analysis.comparison.result import Comparison
from jaxmeta.cli.listing import describe_catalogue
from jaxmeta.evaluation.result import Evaluation
from jaxmeta.render.tables import plain_table
from tests.robust_toys import Terrain
from tests.test_robustness import SEARCH, run


def printed(table, width):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def evaluation(agent="RL2"):
    rng = np.random.default_rng(0)
    names = ("random", "Bayes-optimal (for training)", "epsilon-greedy")
    references = {name: rng.normal(100, 1, (50, 10)) for name in names}
    best = np.linspace(100, 101, 10)
    return Evaluation(rng.normal(100, 1, (3, 50, 10)), references, best, agent=agent)


def comparison():
    runs = {"runs/first": evaluation(), "a-directory-of-a-long-name/second": evaluation()}
    references = runs["runs/first"].references
    return Comparison(runs=runs, references=references, experience=np.arange(10), optimal=None)


TABLES = {
    "evaluate": lambda: evaluation().table(),
    "compare": lambda: comparison().table(),
    "robustness": lambda: run(
        ("mass", "friction"), family=Terrain(noise=1.0), search=SEARCH
    ).table(),
}


@pytest.mark.parametrize("name", TABLES)
def test_forty_columns_keep_the_numbers(name):
    table = TABLES[name]()
    wide, narrow = printed(table, 120), printed(table, 40)
    assert max(map(len, narrow)) <= 40
    assert "…" not in "".join(narrow)
    assert "for want of width without:" in " ".join(narrow)
    assert "for want of width" not in " ".join(wide)
    found = {word for line in wide for word in line.split() if word.startswith("±") and word[1:]}
    kept = {word for line in narrow for word in line.split() if word.startswith("±")} & found
    assert len(kept) >= 2
    # Every number that is shown is one of the wide table, whole.
    numbers = {word for line in wide for word in line.split() if "." in word}
    assert {w for line in narrow for w in line.split() if "." in w and w[0].isdigit()} <= numbers


def table_of(*columns, rows=1):
    table = plain_table("Title", "caption")
    for heading, options, _ in columns:
        table.add_column(heading, **options)
    for _ in range(rows):
        table.add_row(*(cell for _, _, cell in columns))
    return table


RIGHT = {"justify": "right", "no_wrap": True}


def test_what_goes_first_stands_on_the_right_and_has_no_interval():
    table = table_of(
        ("policy", {"no_wrap": True}, "agent"),
        ("first", RIGHT, "1.0000"),
        ("a\n±95 %", RIGHT, "2.0000 ±0.1000"),
        ("same", RIGHT, "3.0000"),
        ("b\n±95 %", RIGHT, "4.0000 ±0.1000"),
        ("same", RIGHT, "3.0000"),
    )
    shown = {
        width: " ".join(" ".join(printed(table, width)).split())
        for width in (70, 59, 50, 41, 36, 22)
    }
    assert "without" not in shown[70]
    assert "without: same" in shown[59]
    assert shown[59].count("3.0000") == 1  # of two equal columns
    assert "without: same" in shown[50]
    assert "without: first, same" in shown[41]
    assert "without: first, same, b ±95 %" in shown[36]
    assert "2.0000 ±0.1000" in shown[22]


def test_a_name_goes_on_in_the_next_line_before_a_number_is_cut():
    name = "a-policy-of-a-rather-long-name"
    table = table_of(("policy", {"no_wrap": True}, name), ("a\n±95 %", RIGHT, "2.0 ±0.1"))
    lines = printed(table, 24)
    assert "2.0 ±0.1" in "".join(lines)
    assert name in "".join(line.split("  ")[0].strip() for line in lines[3:])


def test_rows_keep_their_look():
    table = table_of(("x", {}, ""), ("y\n±95 %", RIGHT, ""), ("z", RIGHT, ""), rows=0)
    table.add_row("1", "2 ±1", "5" * 20, style="bold", end_section=True)
    table.add_row("3", "4 ±1", "6" * 20)
    lines = [line.split() for line in printed(table, 20)]
    assert lines[4:7] == [["1", "2", "±1"], [], ["3", "4", "±1"]]


def test_the_list_ends_its_lines_at_words(monkeypatch, capsys):
    assert max(map(len, describe_catalogue(40).splitlines())) <= 40
    narrow, wide = ("".join(describe_catalogue(n).split()) for n in (40, 1000))
    assert narrow == wide
    monkeypatch.setenv("COLUMNS", "40")
    assert cli.main(["list"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40
