"""Binary files where a text was meant."""

from __future__ import annotations

import builders
import pytest

from esp_at_tools.formats.not_text import not_text


@pytest.fixture
def binaries(tmp_path):
    builders.zipped(builders.release(tmp_path / "release"), tmp_path / "v501.zip")
    (tmp_path / "image.bin").write_bytes(builders.esp_image())
    (tmp_path / "mfg_nvs.bin").write_bytes(builders.generate(builders.mfg_csv()))
    (tmp_path / "sdkconfig").write_text("CONFIG_X=y\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("v501.zip", "a .zip archive"),
        ("image.bin", "an application, bootloader or flash image"),
        ("mfg_nvs.bin", "an NVS partition"),
    ],
)
def test_it_is_said_what_the_file_is(cli, binaries, name, kind):
    done = cli("sdkconfig", "diff", binaries / name, binaries / "sdkconfig")
    assert done.status == 2
    assert f"{name}: is {kind}, no sdkconfig" in done.err
    done = cli("nvs", "generate", binaries / name, binaries / "out.bin", "0x3000")
    assert done.status == 2
    assert f"{name}: is {kind}, no CSV" in done.err
    assert not (binaries / "out.bin").exists()


@pytest.mark.parametrize("data", [b"", b"a,b\n", "é".encode("latin-1"), "a".encode("utf-16")])
def test_texts_are_none(data):
    assert not_text(data) == ""
