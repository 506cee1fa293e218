"""What modify-bin does all the same, but not without a word."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import builders
import pki_maker as made
import pytest
from cryptography import x509

C3 = ("modify-bin", "--input")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(builders.image())
    return path


def warnings(result) -> list[str]:
    assert result.status == 0, result.err
    return json.loads(result.out)["warnings"]


def given(tmp_path, **items: bytes) -> list[str]:
    """Options that set items to what stands in files, ``client_cert_0`` for ``client_cert.0``."""
    options = []
    for name, data in items.items():
        path = tmp_path / name
        path.write_bytes(data)
        official = f"{name[:-2]}.{name[-1]}" if name[-2:] in ("_0", "_1") else name
        options += ["--set", f"{official}=@{path}"]
    return options


def now() -> datetime:
    return datetime.now(timezone.utc)


def test_a_certificate_for_the_other_side(cli, tmp_path, image):
    extra = [(x509.ExtendedKeyUsage([made.SERVER]), False)]
    wrong = made.pem(made.issue(extra=extra, now=now()))
    items = given(tmp_path, client_cert_0=wrong, client_key_0=made.key_pem())
    (warning,) = warnings(cli(*C3, image, *items, "--output", tmp_path / "out.bin", "--json"))
    assert "client_cert.0" in warning
    assert "its extended key usage lacks clientAuth" in warning


def test_a_certificate_that_the_other_side_s_authority_did_not_sign(cli, tmp_path, image):
    ours, impostor = made.root(now=now()), made.root(own="p256:impostor", now=now())
    own = {"client_cert_0": made.pem(made.issue(now=now())), "client_key_0": made.key_pem()}
    out, after = tmp_path / "out.bin", tmp_path / "after.bin"
    options = given(tmp_path, server_ca=made.pem(ours), **own)
    assert warnings(cli(*C3, image, *options, "--output", out, "--json")) == []
    # The certificate is judged against what is there, and what is there against a new authority.
    options = given(tmp_path, server_ca=made.pem(impostor))
    (warning,) = warnings(cli(*C3, out, *options, "--output", after, "--json"))
    assert warning.startswith("client_cert.0: its signature does not verify with server_ca")
    assert "which has its issuer's name (one of the two is damaged" in warning
    assert warnings(cli(*C3, after, "--baud", "9600", "--output", tmp_path / "x.bin", "--json")) == []
    again = given(tmp_path, mqtt_ca=made.pem(ours))
    assert (
        warnings(cli(*C3, after, *again, "--output", tmp_path / "y.bin", "--json")) == []
    )  # what has nothing to do with the change is for 'inspect --check'
    report = json.loads(cli("inspect", after, "--json").out)
    assert ("pki-bad-signature", "warning") in {(check["id"], check["level"]) for check in report["checks"]}


def test_what_the_firmware_was_compiled_without(cli, tmp_path):
    folder = builders.release(tmp_path / "release")
    (folder / "sdkconfig").write_text(
        "CONFIG_MBEDTLS_ECP_C=y\n# CONFIG_MBEDTLS_ECP_DP_SECP256R1_ENABLED is not set\n"
        "CONFIG_MBEDTLS_HAVE_TIME=y\n# CONFIG_MBEDTLS_HAVE_TIME_DATE is not set\n"
    )
    options = given(tmp_path, mqtt_ca=made.pem(made.root(now=now())))
    result = cli(*C3, folder, *options, "--output", tmp_path / "out", "--json")
    assert result.status == 2
    assert "has a key of the kind ec256, which this firmware was compiled without" in result.err
    forced = warnings(cli(*C3, folder, *options, "--output", tmp_path / "out", "--force", "--json"))
    assert any("compiled without" in warning for warning in forced)
    expired = given(tmp_path, mqtt_ca=made.pem(made.root(own="rsa2048", days=(-9, -1), now=now())))
    assert warnings(cli(*C3, folder, *expired, "--output", tmp_path / "dates", "--json")) == []


@pytest.mark.parametrize(("place", "what"), [(builders.APP_OFFSET + 600, "application"), (600, "bootloader")])
def test_an_image_that_will_not_start(cli, tmp_path, image, place, what):
    data = bytearray(image.read_bytes())
    data[place] ^= 1
    image.write_bytes(data)
    result = cli(*C3, image, "--baud", "9600", "--output", tmp_path / "out.bin", "--json")
    (warning,) = warnings(result)
    assert f"its {what} is damaged" in warning


def test_a_sound_image_is_changed_without_a_word(cli, tmp_path, image):
    assert not warnings(cli(*C3, image, "--baud", "9600", "--output", tmp_path / "out.bin", "--json"))


def test_a_setting_that_is_removed(cli, tmp_path, image):
    out = tmp_path / "out.bin"
    assert warnings(cli(*C3, image, "--unset", "uart_tx_pin", "--output", out, "--json")) == [
        "uart_tx_pin: the firmware will use its built-in value"
    ]
    report = json.loads(cli("inspect", out, "--json").out)
    assert "settings-missing" in {check["id"] for check in report["checks"]}


def test_a_merged_image_that_was_not_up_to_date(cli, tmp_path):
    folder = builders.release(tmp_path / "release")
    merged = folder / "factory" / "factory_MINI-1.bin"
    old = builders.mfg_csv().replace("115200", "9600")
    merged.write_bytes(builders.image(builders.generate(old)))
    result = cli(*C3, folder, "--tx-power", "72", "--output", tmp_path / "out", "--json")
    (warning,) = warnings(result)
    assert "factory/factory_MINI-1.bin had another mfg_nvs than the release's parts" in warning


def test_a_copy_of_a_partition_that_stays(cli, tmp_path, shared):
    source = shared / "firmware" / "ESP32-C3-MINI-1-V2.3.0.0"
    result = cli(*C3, source, "--baud", "9600", "--output", tmp_path / "out", "--json")
    (warning,) = warnings(result)
    assert (
        "factory_param_MINI-1.bin is a copy of customized_partitions/factory_param.bin as it was" in warning
    )


def test_channels_that_are_asked_for_count_though_they_are_so_already(cli, tmp_path, image):
    out = tmp_path / "out.bin"
    result = cli(*C3, image, "--country-code", "US", "--channel-number", "13", "--output", out)
    assert result.status == 2
    assert "channel 13 is past 11" in result.err
    assert not out.exists()
    assert warnings(cli(*C3, image, "--country-code", "US", "--output", out, "--json"))  # they are there


def test_many_items_that_the_firmware_has_no_place_for_are_told_once(cli, tmp_path):
    path = tmp_path / "legacy.bin"
    path.write_bytes(builders.legacy_image())
    root = made.pem(made.root(now=now()))
    names = [f"{group}.{number}" for group in ("https_ca", "wss_ca") for number in "01"]
    (tmp_path / "ca.pem").write_bytes(root)
    lines = "".join(f"  {name}: ca.pem\n" for name in names)
    (tmp_path / "p.yaml").write_text(f"pki:\n{lines}")
    done = cli(*C3, path, "--profile", tmp_path / "p.yaml", "--output", tmp_path / "out.bin")
    assert done.status == 2
    assert done.err.count("--for mqtt") == done.err.count("cannot hold") == 1
    assert f"{', '.join(names)}" in done.err
    assert "(" not in done.err.splitlines()[-1]
    two = ("--set", f"https_ca.0=@{tmp_path / 'ca.pem'}", "--set", f"wss_ca.1=@{tmp_path / 'ca.pem'}")
    done = cli(*C3, path, *two, "--output", tmp_path / "out.bin")
    assert done.err.count("cannot hold it: its tables list no partition") == 2
    assert done.err.count("--for mqtt") == 1
