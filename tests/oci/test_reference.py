"""Image names as Docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockermagic.errors import InvalidReferenceError
from dockermagic.oci.reference import Reference, is_digest

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
        ("example.org/a/b__c.d-e:v1.0-rc_1", "example.org/a/b__c.d-e:v1.0-rc_1", "example.org/a/b__c.d-e:v1.0-rc_1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("UPPER/app", "UPPER/app:latest", "UPPER/app:latest"),
        ("busybox@" + DIGEST, "docker.io/library/busybox@" + DIGEST, "busybox@" + DIGEST),
        ("busybox:1@" + DIGEST, "docker.io/library/busybox:1@" + DIGEST, "busybox:1@" + DIGEST),
        ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "x:" + "t" * 128),
    ],
)
def test_a_short_name_is_completed_and_shortened_again(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)

    assert str(reference) == full
    assert reference.familiar() == familiar
    assert Reference.parse(full) == Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (":tag", "empty"),
        ("Busybox", "lower case"),
        ("user/App", "lower case"),
        ("busy box", "repository"),
        ("a//b", "repository"),
        ("-a", "repository"),
        ("a-", "repository"),
        ("a..b", "repository"),
        ("a___b", "repository"),
        ("busybox:", "tag"),
        ("busybox:.x", "tag"),
        ("x:" + "t" * 129, "tag"),
        ("busybox:a:b", "tag"),
        ("busybox@sha256:12", "digest"),
        ("busybox@", "digest"),
        ("busybox@sha256:" + "g" * 64, "digest"),
        ("busybox@sha256:" + "A" * 64, "digest"),
        ("-x.org/a", "registry"),
        ("x.org:port/a", "registry"),
        ("a" * 64, "id of an image"),
        ("x.org/" + "a" * 250, "longer than 255"),
    ],
)
def test_what_is_no_name_is_said_to_be_none(text: str, message: str) -> None:
    with pytest.raises(InvalidReferenceError, match=message):
        Reference.parse(text)


def test_other_tags_and_digests_of_a_repository() -> None:
    reference = Reference.parse("user/app:1")

    assert reference.with_tag("2").familiar() == "user/app:2"
    assert Reference.parse("user/app:1@" + DIGEST).with_tag("2").familiar() == "user/app:2"
    assert (reference.name, reference.familiar_name) == ("docker.io/user/app", "user/app")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DIGEST, True),
        ("sha512:" + "0" * 128, True),
        ("sha512:" + "0" * 64, False),
        ("sha256:" + "0" * 63, False),
        ("0" * 64, False),
        ("other+x:" + "0" * 32, True),
        ("sha256:../" + "0" * 61, False),
    ],
)
def test_digests(text: str, expected: bool) -> None:
    assert is_digest(text) is expected


@given(st.text("ab./:@-_A0\n", max_size=30))
def test_any_text_is_a_name_that_reads_back_or_a_clear_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError:
        return
    assert Reference.parse(str(reference)) == Reference.parse(reference.familiar()) == reference
