"""refseg models --cost: what a model costs."""

from __future__ import annotations

import json

from refseg.cli.main import main


def test_cost_of_a_preset(capsys) -> None:
    assert main(["models", "--cost", "restr-mini"]) == 0
    printed = capsys.readouterr().out
    assert "fusion" in printed
    assert "further expression" in printed
    assert main(["models", "restr: table 4: 2 layers", "--cost", "--size", "64", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["size"] == 64
    assert document["macs"] == sum(part["macs"] for part in document["parts"])
    assert document["parameters"] == sum(part["parameters"] for part in document["parts"])


def test_wrong_questions_are_one_line(capsys) -> None:
    for words, hint in (
        (["--cost"], "wants the name"),
        (["--cost", "restr-mimi"], "restr-mini"),
        (["restr-mini", "--size", "64"], "belongs to --cost"),
        (["--cost", "restr-mini", "--size", "0"], "size=0"),
    ):
        assert main(["models", *words]) == 2
        printed = capsys.readouterr().err
        assert hint in printed
        assert printed.count("\n") == 1
