"""The forms of user-data: what each decodes to, which one is chosen, and where a limit is."""

from __future__ import annotations

import email
import functools
import gzip
import json
import math
import random
import secrets as randomness
import string
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jinja2
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder import host as hosts
from builder import providers, userdata
from builder import spec as specs
from builder.problems import SpecError, UserError
from builder.providers import Counted, Encoding, Fact
from builder.providers.model import guess
from builder.userdata import context_mixing, delivery, encoding, shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.host import Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
LIMITED = [row.name for row in providers.PROVIDERS.values() if row.limit.value is not None]


def spec_of(stacks: Iterable[dict[str, object]], **more: object) -> tuple[Spec, Host]:
    """A spec as a user would write it, and its host."""
    document = {"server": {"name": "web1"}, "admin": {"name": "er", "ssh_keys": [KEY]}, "stacks": list(stacks), **more}
    spec, _ = specs.loads(json.dumps(document, ensure_ascii=False), Path("easyrunner.yaml"))
    return spec, hosts.build(spec)


def stack(name: str, **more: object) -> dict[str, object]:
    given = {"name": name, "image": f"ghcr.io/{name}/web:1.4.2", "domain": f"www.{name}.org", "port": 3000}
    return {**given, **more}


def written(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in document["write_files"]}


def rendered(template: bytes) -> bytes:
    """What cloud-init makes of a Jinja template, with its settings; tests/machine asks the real one."""
    header, _, text = template.decode().partition("\n")
    assert header == "## template: jinja"
    environment = jinja2.Environment(trim_blocks=True, extensions=["jinja2.ext.do"], undefined=jinja2.StrictUndefined)
    return (environment.from_string(text).render() + "\n").encode()


def decoded(content: bytes) -> bytes:
    """The cloud-config in a delivery."""
    if content.startswith(b"MIME"):
        parts = [part for part in email.message_from_bytes(content).walk() if not part.is_multipart()]
        assert [part.get_content_type() for part in parts] == ["application/gzip"]
        content = cast("bytes", parts[0].get_payload(decode=True))
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    return rendered(content) if content.startswith(b"## template") else content


@pytest.fixture(scope="module", autouse=True)
def compressed_once() -> Iterator[None]:
    """The search for the smallest stream takes its time; the same document comes up often here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "gzip", functools.cache(encoding.gzip))
        patch.setattr(encoding, "_mixed", functools.cache(encoding._mixed))
        yield


NAMES = st.from_regex(r"[a-z]([a-z0-9]{0,6}-)?[a-z0-9]{1,6}", fullmatch=True).filter(lambda name: name != "proxy")
VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=20
) | st.sampled_from(
    ["{{ x }}", "{% if", "{#", "{{{", "{", "}}", "%}", "'", '"', "\\", "3000", "web", "r.1", "{{'{'}}", "😀", "${X}"]
)


@st.composite
def stacks(draw: st.DrawFn) -> list[dict[str, object]]:
    """Stacks with names that are found in other words, environments of any kind, and some with more than that."""
    found = []
    for number, name in enumerate(draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))):
        keys = draw(st.lists(st.sampled_from(["A", "GREETING", "LONG_NAME", "web"]), max_size=3, unique=True))
        environment = {key: draw(VALUES) for key in keys}
        more = {"uid": 23_000 + number, "port": draw(st.sampled_from([3000, 8080, 20_000])), "environment": environment}
        found.append(stack(name, **more))
    return found


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(stacks())
def test_what_stacks_share_is_written_once_and_nothing_changes(given: list[dict[str, object]]) -> None:
    """The template renders to the readable document; only the order of the files differs."""
    try:
        spec, host = spec_of(given)
    except SpecError:
        return
    plain = yaml.safe_load(userdata.cloud_config(spec, host, "baked"))
    small = yaml.safe_load(rendered(shared.shared(spec, host, "baked")))
    assert written(plain) == written(small)
    assert {**plain, "write_files": None} == {**small, "write_files": None}


def test_a_stack_more_is_a_row_more() -> None:
    """Whatever the names: short ones, and ones that are words of the files."""
    names = ["a", "s1", "web", "run", "etc", "er", "user", "socket", *(f"app{number}" for number in range(40))]
    spec, host = spec_of([stack(name, uid=25_000 + number) for number, name in enumerate(names)])
    template = shared.shared(spec, host, "baked")
    assert written(yaml.safe_load(rendered(template))) == written(
        yaml.safe_load(userdata.cloud_config(spec, host, "baked"))
    )
    one, host_of_one = spec_of([stack("app1")])
    assert len(template) < len(shared.shared(one, host_of_one, "baked")) + 48 * 900


@pytest.mark.parametrize("on", ["stock", "baked"])
@pytest.mark.parametrize("provider", providers.NAMES)
def test_every_delivery_decodes_to_the_tree(provider: str, on: On) -> None:
    spec, host = spec_of([stack("shop"), stack("blog", environment={"MOTTO": "as above, so below"})])
    for smallest in (False, True):
        found = userdata.deliver(spec, host, provider, on, smallest=smallest)
        assert found.used == providers.get(provider).used(len(found.content))
        if found.encoding is Encoding.SCRIPT:
            assert found.content.startswith(b"#!/bin/sh\n")
            assert found.content.isascii()
            continue
        assert found.encoding.is_binary or found.content.isascii()
        config = yaml.safe_load(decoded(found.content))
        given = config.get("write_files") or unpacked(config)
        files = {entry["path"]: entry["content"] for entry in given}
        parts = userdata.cloudconfig.PARTS[on]
        assert files == {file.path: file.content.decode() for file in host.only(*parts)}


def unpacked(config: dict[str, Any]) -> list[dict[str, str]]:
    """The files of a packed form."""
    code, text = config["bootcmd"][-1][-2:]
    fields = unmixed(code, text).decode().split("\0")
    third = len(fields) // 3
    columns = zip(fields[:third], fields[third : 2 * third], fields[2 * third :], strict=True)
    return [{"path": path, "mode": mode, "content": content} for path, mode, content in columns]


@functools.cache
def unmixed(code: str, text: str) -> bytes:
    """The content of a block, by the decoder that goes along: all but what writes the files."""
    names: dict[str, Any] = {}
    program, _, rest = code.partition("if not os.path.exists")
    exec(program, names)
    digits = rest.partition("unpack(")[2].partition(").split(")[0]
    names["sys"].argv, before = ["-c", text], names["sys"].argv
    try:
        content = eval(f"unpack({digits})", names)
    finally:
        names["sys"].argv = before
    # Of other types the parts are no paths.
    assert isinstance(content, bytes)
    return content


def by_decoder(digits: Iterable[int], base: int, size: int) -> bytes:
    """The content of digits, by the decoder that user-data brings along."""
    names: dict[str, Any] = {"math": math}
    exec(context_mixing.DECODER.replace("BASE", str(base)).replace("SIZE", str(size)), names)
    return cast("bytes", names["unpack"](iter(digits)))


TEXTS = st.lists(
    st.sampled_from([b"a", b"[Unit]\nDescription=", b"\0", b"\n", b"er-proxy", b"\xff", "ü".encode()]), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | TEXTS.map(b"".join), st.sampled_from([2, 64, 93, 256]))
def test_what_is_mixed_comes_back(content: bytes, base: int) -> None:
    """Whatever the bytes, and in every base."""
    digits = context_mixing.encode(content, base)
    assert all(0 <= digit < base for digit in digits)
    assert by_decoder(digits, base, len(content)) == content


@pytest.mark.parametrize("content", [b"", b"\0", b"a" * 5000, bytes(range(256)) * 4, random.Random(7).randbytes(2000)])
def test_extremes_are_mixed_too(content: bytes) -> None:
    """Nothing; what is always expected, and what never is: that takes hardly more than it is."""
    digits = context_mixing.encode(content, 256)
    assert by_decoder(digits, 256, len(content)) == content
    assert len(digits) < len(content) * 1.1 + 4


def test_tables_are_the_same_everywhere() -> None:
    """Logarithms differ between machines in the last of 53 bits: no entry is so near to a half."""
    logits = [256 * math.log((10 * ones + 1) / (10 * zeros + 1)) for zeros in range(64) for ones in range(64)]
    shares = [65_536 / (1 + math.exp(-at / 256)) for at in range(-2048, 2048)]
    nearest = min(abs(entry % 1 - 0.5) for entry in logits + shares)
    assert nearest > 1e-7


def test_a_block_that_is_no_argument_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux takes arguments of 131,071 characters (MAX_ARG_STRLEN)."""
    spec, host = spec_of([])
    found = encoding.packed(spec, host, "baked")
    assert found is not None
    block = len(yaml.safe_load(found)["bootcmd"][-1][-1])
    monkeypatch.setattr(encoding, "_LONGEST_ARGUMENT", block)
    assert encoding.packed(spec, host, "baked") == found
    monkeypatch.setattr(encoding, "_LONGEST_ARGUMENT", block - 1)
    assert encoding.packed(spec, host, "baked") is None


def test_what_is_too_long_to_unpack_is_not_packed() -> None:
    """A small server takes two seconds for 100 kB."""
    noise = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=100_000))
    spec, host = spec_of(
        [stack("shop", environment={f"V{at}": noise[at : at + 1000] for at in range(0, 100_000, 1000)})]
    )
    for binary in (False, True):
        assert encoding.packed(spec, host, "stock", binary=binary) is None


@pytest.mark.parametrize(
    ("stacks_given", "more", "room"),
    [
        ([stack("shop")], {}, 1_770),
        ([stack("shop"), stack("blog", image=f"{ECR}/blog:1")], {"registries": {ECR: "aws"}}, 650),
    ],
)
def test_a_stock_image_on_aws_has_room(
    stacks_given: list[dict[str, object]], more: dict[str, object], room: int
) -> None:
    found = userdata.deliver(*spec_of(stacks_given, **more), "aws", "stock", smallest=True)
    assert found.encoding is Encoding.PACKED_GZIP
    assert found.used <= 16_384 - room


def test_the_packed_form_is_the_smallest_in_bytes_too() -> None:
    spec, host = spec_of([stack("shop")])
    found = {form: len(content) for form, _, content in delivery.forms(spec, host, providers.get("aws"), "stock")}
    assert found[Encoding.PACKED_GZIP] < found[Encoding.GZIP]


def test_compression_has_no_date_and_no_name_in_it() -> None:
    """RFC 1952: no flags, modification time 0; the same bytes twice."""
    one, two = encoding.gzip(b"same"), encoding.gzip(b"same")
    assert one == two
    assert one[3] == 0
    assert one[4:8] == bytes(4)


# Which form.


def limited(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    row = providers.get(name)
    monkeypatch.setitem(providers.PROVIDERS, name, replace(row, limit=Fact(limit, "this test")))


def forms(spec: Spec, host: Host, name: str) -> list[tuple[Encoding, bool, int]]:
    """Every form that a provider takes, with what it uses of its limit."""
    row = providers.get(name)
    return [(form, many, row.used(len(content))) for form, many, content in delivery.forms(spec, host, row, "baked")]


@pytest.mark.parametrize("name", LIMITED)
def test_the_plainest_form_that_fits_is_taken_down_to_the_byte(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of exactly its size a form is taken; with a byte less the next one, and after the last an error."""
    spec, host = spec_of(stack(f"app{number}") for number in range(9))
    plainer = 10**9
    for form, many, used in forms(spec, host, name):
        if used >= plainer:
            continue
        limited(monkeypatch, name, used)
        found = userdata.deliver(spec, host, name, "baked")
        assert (found.encoding, found.shared, found.used, found.limit) == (form, many, used, used)
        plainer = used
        limited(monkeypatch, name, used - 1)
        try:
            assert userdata.deliver(spec, host, name, "baked").used < used
        except UserError:
            continue
    with pytest.raises(UserError):
        userdata.deliver(spec, host, name, "baked")


@pytest.mark.parametrize("name", [name for name in LIMITED if name != "lightsail"])
def test_a_readable_document_of_exactly_the_limit_fits_and_one_byte_more_does_not(name: str) -> None:
    """The real limits; the spec is padded to them."""
    row = providers.get(name)
    assert row.limit.value is not None
    room = row.limit.value if row.counted.value is Counted.RAW else row.limit.value // 4 * 3
    base = len(userdata.cloud_config(*padded(1), "baked"))
    exact = userdata.deliver(*padded(room - base + 1), name, "baked")
    assert (exact.encoding, len(exact.content)) == (Encoding.PLAIN, room)
    over = userdata.deliver(*padded(room - base + 2), name, "baked")
    assert over.encoding is not Encoding.PLAIN
    assert over.used < exact.used


def padded(size: int) -> tuple[Spec, Host]:
    return spec_of([stack("shop", environment={"PADDING": "x" * size})])


def test_what_does_not_compress_meets_the_limit_of_ec2() -> None:
    """Grown until it fails: the last that fits is within the limit, the next over it, and its error has a way out."""
    row = providers.get("aws")
    noise = [randomness.token_hex(64) for _ in range(400)]

    def attempt(count: int) -> int | UserError:
        environment = {f"N{number}": value for number, value in enumerate(noise[:count])}
        spec, host = spec_of([stack("shop", environment=environment), stack("blog")])
        try:
            return userdata.deliver(spec, host, "aws", "baked").used
        except UserError as error:
            return error

    # What each takes is known, so that there is little to look for.
    low, high = 204, 228
    fits, fails = attempt(low), attempt(high)
    while high - low > 1:
        middle = (low + high) // 2
        found = attempt(middle)
        if isinstance(found, UserError):
            high, fails = middle, found
        else:
            low, fits = middle, found
    assert isinstance(fits, int)
    assert isinstance(fails, UserError)
    assert row.fits(fits)
    assert fits > 16_384 - 400
    assert "AWS EC2 takes 16,384" in fails.message
    assert "stack shop" in fails.message
    assert "smaller compose file" in (fails.hint or "")


def test_a_limit_that_nobody_has_published_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, host = spec_of([stack("shop")])
    row = providers.get("vultr")
    assert not row.limit.verified
    monkeypatch.setitem(providers.PROVIDERS, "vultr", replace(row, limit=guess(4000, "nowhere")))
    found = userdata.deliver(spec, host, "vultr", "stock")
    assert found.used > 4000
    assert found.used == min(row.used(len(content)) for _, _, content in delivery.forms(spec, host, row, "stock"))


def test_too_large_on_stock_says_what_a_baked_image_would_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, host = spec_of([stack("shop")])
    limited(monkeypatch, "hetzner", 4000)
    with pytest.raises(UserError) as caught:
        userdata.deliver(spec, host, "hetzner", "stock")
    assert "Hetzner Cloud takes 4,000" in caught.value.message
    assert caught.value.message.count("(") >= 3, "the three biggest things, with their sizes"
    assert (caught.value.hint or "").startswith("--on baked takes 2,")
    assert "which fits" in (caught.value.hint or "")


def test_text_beyond_ascii_is_never_sent_where_only_text_is_taken() -> None:
    spec, host = spec_of([stack("shop", environment={"MOTTO": "grüße"})])
    assert userdata.deliver(spec, host, "aws", "baked").encoding is Encoding.PLAIN
    found = userdata.deliver(spec, host, "hetzner", "baked")
    assert found.encoding is Encoding.PLAIN
    assert found.content.isascii()
    assert yaml.safe_load(found.content) == yaml.safe_load(userdata.cloud_config(spec, host, "baked"))


def test_what_is_packed_is_ascii() -> None:
    """cloud-init takes the text of a packed part for Latin-1: one other character, and the document is lost."""
    spec, host = spec_of([stack("shop", environment={"MOTTO": "grüße 😀"}), stack("blog", environment={"MOTTO": "ß"})])
    for _, _, content in delivery.forms(spec, host, providers.get("vultr"), "baked"):
        assert decoded(content).isascii()


def test_an_unknown_provider_is_an_error_that_names_the_known() -> None:
    with pytest.raises(UserError) as caught:
        userdata.deliver(*spec_of([]), "moon", "baked")
    assert "hetzner" in (caught.value.hint or "")


# Goals.


@pytest.mark.parametrize(("count", "goal"), [(3, 2_500), (100, 16_384)])
def test_a_baked_host_needs_little(count: int, goal: int) -> None:
    """In the form that goes everywhere: ASCII, base64 included."""
    words = ["harbor", "lotus", "quartz", "maple", "delta", "onyx", "river", "cedar", "fjord", "ember"]
    made = [
        stack(
            f"{words[number % 10]}-{words[number // 10]}",
            uid=21_000 + number * 97,
            image=f"ghcr.io/{words[number * 7 % 10]}/{words[number // 10]}:{number}.{number * 3 % 17}",
            domain=f"{words[number // 10]}.{words[number % 10]}{number}.com",
            port=2000 + number * 13,
        )
        for number in range(count)
    ]
    spec, host = spec_of(made)
    found = userdata.deliver(spec, host, "vultr", "baked", smallest=True)
    assert found.encoding is Encoding.MIME
    assert found.used <= goal


# What the talk is made of.


def test_the_groups_add_up_and_name_every_stack() -> None:
    spec, host = spec_of([stack("shop"), stack("blog")])
    for compressed in (False, True):
        found = userdata.groups(spec, host, "stock", 12_000, compressed=compressed)
        assert abs(sum(group.used for group in found) - 12_000) <= len(found)
        assert sum(group.files for group in found) == len(host.files)
        names = {group.name for group in found}
        assert {"stack shop", "stack blog", "firewall", "Caddy", "Fail2Ban", "SSH"} <= names


def test_secrets_are_named_once_and_never_inside() -> None:
    spec, _ = spec_of([stack("shop", secrets=["db_password", "token"]), stack("blog", secrets=["token"])])
    assert userdata.secrets(spec) == (("shop", "db_password"), ("shop", "token"), ("blog", "token"))


def test_every_key_of_the_cloud_config_is_explained() -> None:
    spec, host = spec_of([stack("shop")])
    for on in ("stock", "baked"):
        found = userdata.deliver(spec, host, "nocloud", on)
        told = {part.strip() for part, _ in userdata.explain(spec, host, found)}
        assert yaml.safe_load(userdata.cloud_config(spec, host, on)).keys() <= told
