"""Path templates alone: the grammar, the tree, its precedence."""

import pytest

from groundswell.gateway.model import templates


def tree(*texts: str) -> templates.Tree[str]:
    made: templates.Tree[str] = templates.Tree()
    for text in texts:
        made.add(templates.parse(text), "GET", text)
    return made


def found(made: templates.Tree[str], path: str) -> str | None:
    leaf = made.find(path.split("/"))
    return leaf["GET"] if leaf else None


@pytest.mark.promise("GATEWAY-1")
@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("/v1/links", "v1/links", []),
        ("/v1/{name=links/*}", "v1/links/5", [("name", "links/5")]),
        ("/v1/{link.name=links/*}", "v1/links/5", [("link.name", "links/5")]),
        ("/v1/{parent=shelves/*}/books", "v1/shelves/2/books", [("parent", "shelves/2")]),
        ("/v1/{a}/{b}", "v1/x/y", [("a", "x"), ("b", "y")]),
        ("/v1/files/{path=**}", "v1/files/a/b/c", [("path", "a/b/c")]),
        ("/{code}", "abc", [("code", "abc")]),
    ],
)
def test_a_template_binds_its_variables_to_the_segments_of_a_path(
    text: str, path: str, values: list[tuple[str, str]]
) -> None:
    """GATEWAY-1. Every form of variable in google.api.http."""
    assert found(tree(text), path) == text
    assert templates.parse(text).values(path.split("/")) == values


@pytest.mark.promise("GATEWAY-1")
def test_literals_go_before_stars_and_verbs_before_none() -> None:
    """GATEWAY-1. The last route is the one that takes anything."""
    made = tree(
        "/{code}", "/v1/{name=links/*}", "/v1/{name=links/*}:like", "/v1/links:lookup", "/v1/links/new", "/v1/{rest=**}"
    )
    assert found(made, "v1/links/new") == "/v1/links/new"
    assert found(made, "v1/links/5:like") == "/v1/{name=links/*}:like"
    assert found(made, "v1/links/5:other") == "/v1/{name=links/*}"
    assert found(made, "v1/links:lookup") == "/v1/links:lookup"
    assert found(made, "v1/other/5/6") == "/v1/{rest=**}"
    assert found(made, "anything") == "/{code}"
    assert found(made, "a/b") is None
    assert found(made, "") is None, "an empty segment is no code"


@pytest.mark.parametrize("text", ["v1", "/v1/{a=**}/b", "/v1/{}", "/v1/{a", "/v1//b", "/v1/a b"])
def test_a_template_outside_the_grammar_stops_the_start(text: str) -> None:
    """A mistake in a proto file is found when the process starts, not when somebody calls."""
    with pytest.raises(templates.MalformedTemplate):
        templates.parse(text)


def test_the_same_route_twice_stops_the_start() -> None:
    """Two methods cannot have one path."""
    with pytest.raises(templates.MalformedTemplate):
        tree("/v1/{a}", "/v1/{b}")
