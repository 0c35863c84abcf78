"""Go templates give what Docker's own command line gives for them."""

from __future__ import annotations

import pytest

from dockermagic.errors import UsageError
from dockermagic.verbs.template import Template

VALUE = {
    "Name": "default",
    "Count": 3,
    "Ratio": 1.5,
    "On": True,
    "Nothing": None,
    "Words": ["b", "a", "c"],
    "Empty": [],
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"x": "1", "a.b": "2"}, "User": ""},
    "Nil": {"Entrypoint": None, "Volumes": None, "Healthcheck": None},
}

RENDERED = [
    ("plain", "plain"),
    ("{{.Name}}", "default"),
    ("a {{ .Name }} b", "a default b"),
    ("{{.Config.Env}}", "[A=1 B=2]"),
    ("{{.Config.Labels}}", "map[a.b:2 x:1]"),
    ("{{.Config.Labels.x}}{{.Config.Labels.nope}}", "1"),
    ('{{index .Config.Labels "a.b"}}', "2"),
    ("{{.Nothing}}", "<nil>"),
    ("{{.On}} {{.Count}} {{.Ratio}}", "true 3 1.5"),
    ("{{json .Config}}", '{"Env":["A=1","B=2"],"Labels":{"x":"1","a.b":"2"},"User":""}'),
    ("{{json .Nothing}}", "null"),
    ("{{.Nil.Entrypoint}} {{.Nil.Volumes}} {{.Nil.Healthcheck}}", "[] map[] <nil>"),
    ("{{json .Nil.Entrypoint}} {{json .Nil.Volumes}} {{len .Nil.Entrypoint}}", "null null 0"),
    ('{{json "<é>"}}', '"<é>"'),
    ("{{upper .Name}} {{lower .Name}} {{title .Name}}", "DEFAULT default Default"),
    ('{{printf "%-10s|%q" .Name .Name}}', 'default   |"default"'),
    ('{{printf "%d %5.2f %v %% %x" .Count .Ratio .Words 255}}', "3  1.50 [b a c] % ff"),
    ('{{join (split .Name "f") ","}}', "de,ault"),
    ("{{index .Words 1}}", "a"),
    ("{{len .Words}} {{len .Config.Labels}} {{len .Name}}", "3 2 7"),
    ('{{len "é"}}', "2"),
    ('{{.Name | upper | printf "%s!"}}', "DEFAULT!"),
    ('{{eq .Name "x" "default"}} {{ne .Count 3}} {{lt 1 2}} {{ge .Count 3}}', "true false true true"),
    ("{{and .Name .Count}} {{or .Empty .Name}} {{not .Name}}", "3 default false"),
    ('{{/* a comment */}}x {{- " y" -}} z', "x yz"),
    ("a {{- /* b */ -}} c", "ac"),
    ("{{println .Name 1}}|", "default 1\n|"),
    ('{{print 1 "a" 2 3}}', "1a2 3"),
    ("{{slice .Name 1 3}} {{slice .Words 1}}", "ef [a c]"),
    ("{{truncate .Name 3}} {{pad .Name 1 2}}|", "def  default  |"),
    ("{{$x := .Name}}{{$x}}{{$.Count}}", "default3"),
    ("{{range .Words}}<{{.}}>{{end}}", "<b><a><c>"),
    ("{{range $i, $w := .Words}}{{$i}}{{$w}} {{end}}", "0b 1a 2c "),
    ("{{range $w := .Words}}{{$w}}{{$.Name}} {{end}}", "bdefault adefault cdefault "),
    ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a.b=2;x=1;"),
    ("{{range .Empty}}x{{else}}none{{end}}{{range .Nothing}}x{{end}}", "none"),
    ("{{if .Config.User}}a{{else if .Count}}b{{else}}c{{end}}", "b"),
    ('{{if eq .Name "x"}}1{{else if eq .Name "default"}}2{{else}}3{{end}}', "2"),
    ("{{with .Config}}{{.Env}}{{end}}{{with .Nothing}}x{{else}}-{{end}}", "[A=1 B=2]-"),
    ("{{(index .Words 0)}} {{(printf `%s` .Name)}}", "b default"),
    ('{{"a\\n"}}{{`a\\n`}}', "a\na\\n"),
    ('{{"}}"}}', "}}"),
    ("{{if .On}}{{range .Words}}{{if eq . `a`}}!{{end}}{{end}}{{end}}", "!"),
]


@pytest.mark.parametrize(("source", "expected"), RENDERED)
def test_renders(source: str, expected: str) -> None:
    assert Template(source).render(VALUE) == expected


REFUSED = [
    ("{{.Nope}}", 'there is no field "Nope"'),
    ("{{.Config.Nope}}", 'there is no field "Nope"'),
    ("{{.Name.x}}", "can't evaluate field x in type string"),
    ("{{.Nothing.x}}", "nil pointer evaluating .x"),
    ("{{foo}}", 'function "foo" not defined'),
    ("{{.Name", "unclosed action"),
    ("{{if .Name}}x", "unexpected EOF"),
    ("{{end}}", "unexpected {{end}}"),
    ("{{}}", "missing value for command"),
    ("{{.Name .Count}}", "can't give argument to non-function .Name"),
    ("{{range .Name}}x{{end}}", "range can't iterate over default"),
    ("{{nil}}", "nil is not a command"),
    ("{{index .Words 9}}", "index out of range: 9"),
    ("{{lt .Name 1}}", "incompatible types for comparison"),
    ("{{upper}}", "wrong number or type of args for upper"),
    ("{{$x}}", 'undefined variable "$x"'),
    ("{{(.Name}}", "unclosed left paren"),
    ("{{.Name ! }}", "unexpected '!' in command"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_refuses(source: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Template(source).render(VALUE)

    assert message in caught.value.message


def test_a_long_template_takes_no_time() -> None:
    """Nothing in the scanner backtracks: what is not closed is found at once."""
    with pytest.raises(UsageError):
        Template("{{" + '"' * 20_000)

    assert Template("{{.Count}}" * 2_000).render(VALUE) == "3" * 2_000
