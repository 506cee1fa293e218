"""``install``: ESP-IDF at its commit with its tools, again and after interruptions, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import idf_standin
import pytest
from idf_standin import StandIn, git, write

from esp_at_tools.errors import EspAtError, ExternalToolError, InputError
from esp_at_tools.workspace import idf
from esp_at_tools.workspace.checkout import Checkout
from esp_at_tools.workspace.compile import Sources, check_paths, wanted_idf
from esp_at_tools.workspace.environment import parse_export, without_other_idf
from esp_at_tools.workspace.git import Git
from esp_at_tools.workspace.idf_state import Follow, Wanted, look

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script in part")
SILENT = Follow(*[lambda _: None] * 3)


@pytest.fixture(scope="session")
def remotes(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """The repositories, which no test changes."""
    return idf_standin.make_idf(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def standin(remotes: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The same with tools of this test's own, and the environment for them."""
    own = dataclasses.replace(remotes, tools=tmp_path / "tools")
    for name, value in own.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("IDF_PATH", "IDF_PYTHON_ENV_PATH", "AT_EXT_MODULE_CFG"):
        monkeypatch.delenv(name, raising=False)
    return own


@pytest.fixture
def checkout(standin: StandIn, tmp_path: Path) -> Path:
    return idf_standin.make_checkout(tmp_path / "esp-at-ü", standin)


def wanted_of(checkout: Path) -> Wanted:
    opened = Checkout.open(checkout)
    pin = opened.idf_pin(opened.module("MINI-1"))
    return Wanted("ESP-IDF", checkout / "esp-idf", pin.repository, pin.branch, pin.commit)


def test_everything_is_installed(cli, standin: StandIn, checkout: Path) -> None:
    done = cli("install", "--project", checkout, "--platform", "esp32c3", "--module", "mini-1", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["module"] == "ESP32C3/MINI-1"
    assert report["esp_idf"]["version"] == f"release/v5.4 ({standin.commit[:10]})"
    state = look(checkout / "esp-idf")
    assert state.head == standin.commit
    assert not state.missing
    assert (checkout / "esp-idf/components/lib/deep/deep.c").is_file()
    assert not list(checkout.glob(".esp-idf*"))
    assert git(checkout / "esp-idf", "rev-list", "--count", "HEAD") == "1", "it is not shallow"
    calls = [record["args"] for record in standin.records("idf_tools")]
    assert ["--non-interactive", "install", "--targets=esp32c3"] in calls
    assert ["--non-interactive", "install-python-env"] in calls
    assert f"-r {checkout}/requirements.txt" in (standin.tools / "pip.txt").read_text()
    info = json.loads((checkout / "build/module_info.json").read_text())
    assert info == {"platform": "PLATFORM_ESP32C3", "module": "MINI-1", "description": "4MB", "silence": 0}


def test_the_second_time_does_nothing(cli, standin: StandIn, checkout: Path) -> None:
    assert cli("install", "--project", checkout, "--module", "MINI-1").status == 0
    before = len((standin.tools / "pip.txt").read_text().splitlines())
    done = cli("install", "--project", checkout, "--json")  # module_info.json names the module
    assert done.status == 0, done.err
    assert json.loads(done.out)["done"] == []
    assert len((standin.tools / "pip.txt").read_text().splitlines()) == before
    calls = [record["args"][-1] for record in standin.records("idf_tools")]
    assert calls.count("install-python-env") == 1
    write(checkout / "requirements.txt", "pyyaml\nxlrd\n")
    assert cli("install", "--project", checkout).status == 0
    assert len((standin.tools / "pip.txt").read_text().splitlines()) == before + 1


def test_without_a_module_and_a_terminal(cli, checkout: Path) -> None:
    done = cli("install", "--project", checkout)
    assert done.status == 2
    assert "--module is missing" in done.err
    assert "ESP32C3/MINI-1, ESP32C3/MINI-2" in done.err
    assert not (checkout / "esp-idf").exists()
    done = cli("install", "--project", checkout, "--platform", "ESP32C3")
    assert (done.status, "it is one of MINI-1, MINI-2" in done.err) == (2, True)
    done = cli("install", "--project", checkout, "--platform", "ESP32", "--module", "ESP32C3/MINI-1")
    assert (done.status, "is of ESP32C3" in done.err) == (2, True)


@pytest.mark.parametrize("moment", range(4))
def test_an_install_that_is_killed_goes_on(standin: StandIn, checkout: Path, moment: int) -> None:
    command = [
        sys.executable,
        "-m",
        "esp_at_tools",
        "install",
        "--project",
        str(checkout),
        "--module",
        "MINI-1",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        text=True,
    )  # fmt: skip
    signs = ("-- cloning", "HEAD is now", "Cloning into", "-- installing")
    assert process.stdout is not None
    for line in process.stdout:
        if signs[moment] in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (checkout / "esp-idf").exists() == (moment == 3), (
        "a clone that is not complete is not in its place"
    )
    for path in (checkout / ".esp-idf.partial/.git", checkout / "esp-idf/.git"):
        if path.is_dir():
            write(path / "index.lock", "")  # as a killed git leaves it
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if moment == 3:  # the lock is in a complete clone, which nobody but the user may mend
        (checkout / "esp-idf/.git/index.lock").unlink()
    assert again.returncode == 0, again.stdout + again.stderr
    state = look(checkout / "esp-idf")
    assert (state.head, state.missing) == (standin.commit, ())
    assert not list(checkout.glob(".esp-idf*"))


def test_a_submodule_that_was_cloned_in_half_is_cloned_anew(standin: StandIn, checkout: Path) -> None:
    wanted = wanted_of(checkout)
    idf.obtain(wanted, SILENT)
    wanted.place.rename(wanted.partial)
    shutil.rmtree(wanted.partial / ".git/modules/components/lib/objects")
    assert idf.obtain(wanted, SILENT) == "cloned"
    assert look(wanted.place) == dataclasses.replace(look(wanted.place), head=standin.commit, missing=())


def test_submodules_that_are_missing_are_fetched(standin: StandIn, checkout: Path, tmp_path: Path) -> None:
    wanted = wanted_of(checkout)
    other = dataclasses.replace(wanted, place=tmp_path / "idf")
    git(tmp_path, "clone", "-q", "--recursive", str(standin.repository), "idf")
    git(other.place, "checkout", "-q", standin.commit)
    git(other.place, "submodule", "--quiet", "deinit", "-f", "components/lib")
    assert look(other.place).missing == ("components/lib",)
    assert "lacks submodules: components/lib" in idf.why_not(wanted, other.place)
    assert idf.obtain(other, SILENT) == "submodules fetched"
    assert (other.place / "components/lib/deep/deep.c").is_file()
    assert look(other.place).missing == ()
    git(other.place / "components/lib", "commit", "-q", "--allow-empty", "-m", "mine")
    mine = git(other.place / "components/lib", "rev-parse", "HEAD")
    assert idf.obtain(other, SILENT) == "", "a submodule that somebody keeps at a commit of his own is left"
    assert git(other.place / "components/lib", "rev-parse", "HEAD") == mine
    assert idf.why_not(wanted, other.place) == ""


def test_two_installs_at_once(checkout: Path) -> None:
    import fcntl

    wanted = wanted_of(checkout)
    git(checkout, "init", "-q", str(wanted.partial))
    with (wanted.partial / ".git/esp-at-tool.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another install is cloning ESP-IDF there"):
            idf.obtain(wanted, SILENT)
    assert idf.obtain(wanted, SILENT) == "cloned"


def test_the_whole_history(cli, standin: StandIn, checkout: Path) -> None:
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--whole")
    assert done.status == 0, done.err
    assert git(checkout / "esp-idf", "rev-list", "--count", "HEAD") == "2"
    assert look(checkout / "esp-idf").head == standin.commit


def test_another_commit_is_checked_out(standin: StandIn, checkout: Path) -> None:
    wanted = wanted_of(checkout)
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    assert look(wanted.place).head == standin.newest
    assert idf.obtain(wanted, SILENT) == "updated"
    assert look(wanted.place).head == standin.commit
    assert idf.obtain(wanted, SILENT) == ""


@pytest.mark.parametrize("whole", [False, True])
def test_commits_of_the_user_are_not_left_without_a_word(
    standin: StandIn, checkout: Path, *, whole: bool
) -> None:
    said: list[str] = []
    follow = dataclasses.replace(SILENT, warn=said.append)
    wanted = dataclasses.replace(wanted_of(checkout), whole=whole)
    newest = dataclasses.replace(wanted, commit=standin.newest)
    for each in (newest, wanted, newest):
        idf.obtain(each, follow)
    assert said == [], "what was fetched is nobody's"
    for number in range(2):
        git(wanted.place, "commit", "-q", "--allow-empty", "-m", f"mine {number}")
    mine = look(wanted.place).head
    assert idf.obtain(wanted, follow) == "updated"
    (warning,) = said
    assert f"leaving 2 commits of yours behind, up to {mine[:10]}, on no branch" in warning
    keep = warning.partition("to keep them: ")[2].replace("NAME", "kept")
    words = shlex.split(keep)
    assert words[:3] == ["git", "-C", str(wanted.place)]
    git(wanted.place, *words[3:])
    assert git(wanted.place, "rev-parse", "kept") == mine
    git(wanted.place, "checkout", "-q", "--detach", "kept")
    idf.obtain(newest, follow)
    assert said == [warning], "a branch has them"


def test_a_link_to_nothing(cli, checkout: Path) -> None:
    (checkout / "esp-idf").symlink_to("../elsewhere")
    for command in ("install", "build"):
        done = cli(command, "--project", checkout, "--module", "MINI-1")
        assert done.status == 2
        assert f"{checkout}/esp-idf: is a link to ../elsewhere, where there is nothing" in done.err
        assert "remove the link to have ESP-IDF cloned" in done.err
    done = cli("doctor", "--project", checkout, "--module", "MINI-1")
    assert "is a link to ../elsewhere, where there is nothing" in done.out


def test_changed_files_are_not_lost(standin: StandIn, checkout: Path) -> None:
    wanted = wanted_of(checkout)
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    write(wanted.place / "README.md", "mine")
    with pytest.raises(InputError) as refused:
        idf.obtain(wanted, SILENT)
    assert (
        f"at commit {standin.newest[:10]}, and the module is built with release/v5.4" in refused.value.message
    )
    assert "README.md" in refused.value.message
    assert (wanted.place / "README.md").read_text() == "mine"
    assert look(wanted.place).head == standin.newest


def test_an_update_that_was_interrupted_goes_on(standin: StandIn, checkout: Path) -> None:
    wanted = wanted_of(checkout)
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    (wanted.place / ".git/esp-at-tool-update").write_text(standin.commit)
    (wanted.place / "README.md").unlink()  # git had got so far
    write(wanted.place / ".git/index.lock", "")
    assert idf.obtain(wanted, SILENT) == "updated"
    assert (look(wanted.place).head, (wanted.place / "README.md").is_file()) == (standin.commit, True)


def test_an_update_that_failed_for_the_network_loses_nothing_later(standin: StandIn, checkout: Path) -> None:
    newest = dataclasses.replace(wanted_of(checkout), commit=standin.newest)
    idf.obtain(newest, SILENT)
    absent = dataclasses.replace(newest, commit="f" * 40, repository=str(checkout / "nothing"))
    with pytest.raises(ExternalToolError):
        idf.obtain(absent, SILENT)
    write(newest.place / "README.md", "mine")
    assert idf.obtain(newest, SILENT) == ""
    assert (newest.place / "README.md").read_text() == "mine"


def test_an_update_that_failed_for_a_submodule_loses_nothing_later(
    standin: StandIn, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = wanted_of(checkout)
    newest = dataclasses.replace(wanted, commit=standin.newest)
    idf.obtain(newest, SILENT)

    def fail(*_: object) -> None:
        raise ExternalToolError("no network", "")

    with monkeypatch.context() as patch:
        patch.setattr(idf.idf_clone, "update_submodules", fail)
        with pytest.raises(ExternalToolError):
            idf.obtain(wanted, SILENT)
    write(wanted.place / "README.md", "mine")
    with pytest.raises(InputError, match=r"would be lost: README\.md"):
        idf.obtain(newest, SILENT)
    assert idf.obtain(wanted, SILENT) == "updated"
    assert (wanted.place / "README.md").read_text() == "mine"


def test_files_that_git_does_not_know_are_not_overwritten(standin: StandIn, checkout: Path) -> None:
    wanted = wanted_of(checkout)
    idf.obtain(dataclasses.replace(wanted, commit=standin.newest), SILENT)
    git(wanted.place, "rm", "-q", "README.md")
    git(wanted.place, "commit", "-q", "-m", "mine")
    write(wanted.place / "README.md", "mine")
    for _ in range(2):
        with pytest.raises(ExternalToolError, match=r"README\.md"):
            idf.obtain(wanted, SILENT)
    assert (wanted.place / "README.md").read_text() == "mine"


def test_files_in_the_place_of_a_submodule_stay(checkout: Path) -> None:
    wanted = wanted_of(checkout)
    idf.obtain(wanted, SILENT)
    git(wanted.place, "submodule", "--quiet", "deinit", "-f", "components/lib")
    write(wanted.place / "components/lib/mine.c", "mine")
    idf.idf_clone.drop_unfinished_submodules(Git(wanted.place))
    assert (wanted.place / "components/lib/mine.c").read_text() == "mine"


def test_what_comes_in_while_the_clone_is_made_stays(checkout: Path) -> None:
    wanted = wanted_of(checkout)
    meanwhile = Follow(lambda _: None, warn=print, line=lambda _: write(wanted.place / "mine.txt", "mine"))
    with pytest.raises(InputError, match="is there by now"):
        idf.obtain(wanted, meanwhile)
    assert (wanted.place / "mine.txt").read_text() == "mine"
    assert (wanted.partial / "README.md").is_file()


def test_a_reference_that_is_none_leaves_nothing(cli, checkout: Path) -> None:
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--reference", checkout / "none")
    assert (done.status, "is no Git repository" in done.err) == (2, True)
    assert not list(checkout.glob(".esp-idf*"))


def test_a_folder_that_is_no_repository_is_left_alone(checkout: Path) -> None:
    write(checkout / "esp-idf/mine.txt", "mine")
    with pytest.raises(InputError, match="no Git repository"):
        idf.obtain(wanted_of(checkout), SILENT)
    assert (checkout / "esp-idf/mine.txt").read_text() == "mine"


def test_an_empty_folder_is_no_hindrance(standin: StandIn, checkout: Path) -> None:
    (checkout / "esp-idf").mkdir()
    assert idf.obtain(wanted_of(checkout), SILENT) == "cloned"
    assert look(checkout / "esp-idf").head == standin.commit


def test_a_server_that_gives_no_single_commits(standin: StandIn, checkout: Path, tmp_path: Path) -> None:
    for name in ("esp-idf", "esp-lib", "deep"):
        copy = tmp_path / f"mirror/{name}.git"
        git(tmp_path, "clone", "-q", "--bare", str(standin.remotes / f"{name}.git"), str(copy))
        git(copy, "config", "protocol.version", "0")
    steps: list[str] = []
    repository = (tmp_path / "mirror/esp-idf.git").as_uri()
    wanted = dataclasses.replace(wanted_of(checkout), repository=repository)
    git_config = write(tmp_path / "gitconfig", "[protocol]\n\tversion = 0\n")
    os.environ["GIT_CONFIG_GLOBAL"] = str(git_config)
    assert idf.obtain(wanted, Follow(steps.append, lambda _: None, print)) == "cloned"
    assert any("that commit alone cannot be had" in step for step in steps)
    assert look(wanted.place).head == standin.commit


def test_a_connection_that_breaks_does_not_lead_to_the_whole_branch(checkout: Path, monkeypatch) -> None:
    fetched = []

    def follow(git: Git, *args: str, **_: object) -> None:
        fetched.append(args)
        raise git.failure(args, 128, "error: RPC failed; curl 92 HTTP/2 stream 5\nfatal: early EOF")

    monkeypatch.setattr(Git, "follow", follow)
    with pytest.raises(ExternalToolError, match="early EOF"):
        idf.obtain(wanted_of(checkout), SILENT)
    assert [args[2:] for args in fetched] == [
        ("--depth=1", "--no-tags", *filters, "origin", wanted_of(checkout).commit)
        for filters in ((), ("--filter=blob:none",))
    ]


def test_a_fetch_that_broke_off_goes_on_in_parts(standin: StandIn, checkout: Path, monkeypatch) -> None:
    wanted = wanted_of(checkout)
    follow, run = Git.follow, Git.run
    parts: list[tuple[str, ...]] = []

    def broken_follow(git: Git, *args: str, line: Callable[[str], None]) -> None:
        if args[0] == "fetch" and "--filter=blob:none" not in args:
            write(git.folder / ".git/objects/pack/tmp_pack_x", "half a pack")
            raise git.failure(args, 128, "fetch-pack: unexpected disconnect while reading sideband packet")
        follow(git, *args, line=line)

    def broken_run(git: Git, *args: str) -> str:
        if "--filter=blob:none" in args:
            parts.append(args[args.index("origin") + 1 :])
            if len(parts) == 3:
                raise git.failure(args, 128, "fatal: early EOF")
        return run(git, *args)

    monkeypatch.setattr(Git, "follow", broken_follow)
    monkeypatch.setattr(Git, "run", broken_run)
    monkeypatch.setattr("esp_at_tools.workspace.fetch_parts._PART", 2)
    with pytest.raises(ExternalToolError, match="early EOF"):
        idf.obtain(wanted, SILENT)
    assert idf.obtain(wanted, SILENT) == "cloned"
    assert parts[3] == parts[2], "what had come stays"
    assert len(parts) > 4
    names = [name for part in (*parts[:2], *parts[3:]) for name in part]
    assert len(names) == len(set(names))
    state = look(wanted.place)
    assert (state.head, state.missing) == (standin.commit, ())
    assert git(wanted.place, "status", "--porcelain") == ""
    assert "promisor" not in git(wanted.place, "config", "--list", "--local")
    git(wanted.place, "fsck", "--full")
    left = [path.suffix for path in (wanted.place / ".git/objects/pack").iterdir()]
    assert set(left) <= {".pack", ".idx", ".rev"}


def test_a_password_in_an_address_is_not_printed(cli, checkout: Path) -> None:
    mirror = "http://me:hush-hush@127.0.0.1:9/group"
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--mirror", mirror, "-v")
    assert done.status == 4
    assert "http://***@127.0.0.1:9/group/" in done.out
    assert "hush-hush" not in done.out + done.err


def test_a_commit_that_the_branch_has_not(checkout: Path) -> None:
    wanted = dataclasses.replace(wanted_of(checkout), commit="0123456789" * 4)
    with pytest.raises(EspAtError) as failed:
        idf.obtain(wanted, SILENT)
    assert "has no commit 0123456789" in failed.value.message
    assert not wanted.place.exists()
    assert not wanted.partial.exists()


def test_the_pinned_commit_s_tag_comes_along(standin: StandIn, checkout: Path) -> None:
    git(standin.repository, "tag", "-a", "-m", "x", "v5.4.9", standin.commit)
    try:
        idf.obtain(wanted_of(checkout), SILENT)
    finally:
        git(standin.repository, "tag", "-d", "v5.4.9")
    assert git(checkout / "esp-idf", "describe", "--tags") == "v5.4.9"


def test_a_reference_repository_is_used(standin: StandIn, checkout: Path, cli) -> None:
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--reference", standin.repository)
    assert done.status == 0, done.err
    alternates = checkout / "esp-idf/.git/objects/info/alternates"
    assert alternates.read_text().strip() == str(standin.repository / ".git/objects")
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--reference", checkout / "main")
    assert done.status == 0, "there is nothing to clone any more"


def test_a_mirror(standin: StandIn, tmp_path: Path, cli) -> None:
    home = f"{idf_standin.HOME}/IDF_VERSION"
    pin = f"branch:release/v5.4\ncommit:{standin.commit}\nrepository:https://example.invalid/esp-idf.git\n"
    checkout = idf_standin.make_checkout(tmp_path / "esp-at", standin, **{home: pin})
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--mirror", standin.remotes)
    assert done.status == 0, done.err
    assert look(checkout / "esp-idf").head == standin.commit


@pytest.mark.parametrize(
    ("mirror", "address"),
    [
        ("", "https://github.com/espressif/esp-idf.git"),
        ("jihulab", "https://jihulab.com/esp-mirror/espressif/esp-idf.git"),
        ("https://host/all/", "https://host/all/esp-idf.git"),
        ("https://host/mine/esp-idf", "https://host/mine/esp-idf"),
        ("/srv/git/esp-idf.git", "/srv/git/esp-idf.git"),
    ],
)
def test_addresses_at_a_mirror(mirror: str, address: str) -> None:
    assert idf.mirrored("https://github.com/espressif/esp-idf.git", mirror) == address


def test_a_checkout_from_a_mirror_takes_esp_idf_from_there(tmp_path: Path, standin: StandIn) -> None:
    origin = "https://jihulab.com/esp-mirror/espressif/esp-at.git"
    script = f"at_targets = ['esp32c3']\npreset_origins = {{'{origin}': 1}}\n"
    pin = f"branch:b\ncommit:{standin.commit}\nrepository:https://github.com/espressif/esp-idf.git\n"
    files = {f"{idf_standin.HOME}/IDF_VERSION": pin, "build.py": script}
    checkout = idf_standin.make_checkout(tmp_path / "esp-at", standin, **files)
    opened = Checkout.open(checkout)
    module = opened.module("MINI-1")
    github = wanted_idf(opened, module, Sources())
    assert github.repository == "https://github.com/espressif/esp-idf.git"
    git(checkout, "remote", "set-url", "origin", origin)
    assert wanted_idf(opened, module, Sources()).repository == (
        "https://jihulab.com/esp-mirror/espressif/esp-idf.git"
    )
    assert wanted_idf(opened, module, Sources(mirror="/srv/git")).repository == "/srv/git/esp-idf.git"


def test_an_esp_idf_that_is_there(standin: StandIn, checkout: Path, tmp_path: Path, cli, monkeypatch) -> None:
    other = tmp_path / "idf"
    idf.obtain(dataclasses.replace(wanted_of(checkout), place=other, commit=standin.newest), SILENT)
    done = cli("install", "--project", checkout, "--module", "MINI-1", "--idf", other)
    assert done.status == 2
    assert f"is ESP-IDF at commit {standin.newest[:10]}" in done.err
    assert f"git checkout {standin.commit}" in done.err
    assert not (checkout / "esp-idf").exists()
    monkeypatch.setenv("IDF_PATH", str(other))
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 0
    assert "so ESP-IDF is cloned" in done.err
    assert not (checkout / "esp-idf").is_symlink()
    shutil.rmtree(checkout / "esp-idf")
    idf.obtain(dataclasses.replace(wanted_of(checkout), place=other), SILENT)
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 0, done.err
    assert os.path.realpath(checkout / "esp-idf") == str(other)
    git(other, "checkout", "-q", standin.newest)
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert (done.status, "what it leads to is not changed" in done.err) == (2, True)
    assert look(other).head == standin.newest


def test_tools_that_cannot_be_downloaded(cli, checkout: Path, monkeypatch, standin: StandIn) -> None:
    monkeypatch.setenv("STANDIN_OFFLINE", "1")
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 4
    assert "idf_tools.py --non-interactive install --targets=esp32c3: exit status 1" in done.err
    assert "ERROR: Failed to download" in done.err
    assert "goes on where it stopped" in done.err
    assert look(checkout / "esp-idf").head == standin.commit
    monkeypatch.delenv("STANDIN_OFFLINE")
    assert cli("install", "--project", checkout, "--module", "MINI-1").status == 0


def test_a_system_without_git(cli, checkout: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("install", "--project", checkout, "--module", "MINI-1")
    assert done.status == 4
    assert "not installed on this system: git" in done.err
    assert "install it: " in done.err
    assert not (checkout / "esp-idf").exists()


def test_a_path_with_a_space(cli, standin: StandIn, tmp_path: Path) -> None:
    checkout = idf_standin.make_checkout(tmp_path / "my esp-at", standin)
    for command in ("install", "build"):
        done = cli(command, "--project", checkout, "--module", "MINI-1")
        assert done.status == 2
        assert f"{checkout}: the path of the checkout has a space in it" in done.err
    assert not (checkout / "esp-idf").exists()
    with pytest.raises(InputError, match="IDF_TOOLS_PATH"):
        check_paths(tmp_path, {"IDF_TOOLS_PATH": "/my tools"})
    check_paths(tmp_path, {"IDF_TOOLS_PATH": "/tools-ü"})


def test_what_is_no_checkout(cli, tmp_path: Path) -> None:
    done = cli("install", "--project", tmp_path, "--module", "MINI-1")
    assert (done.status, "is no esp-at checkout" in done.err) == (2, True)


def test_the_exported_variables() -> None:
    text = "A=1\nPATH=/idf/bin:/idf/tools:$PATH\nB=x=y\nno variable\n"
    assert parse_export(text, "/usr/bin:/bin") == {
        "A": "1",
        "B": "x=y",
        "PATH": "/idf/bin:/idf/tools:/usr/bin:/bin",
    }


def test_another_esp_idf_of_the_shell_is_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "tools/cmake/version.cmake",
          "set(IDF_VERSION_MAJOR 5)\nset(IDF_VERSION_MINOR 4)\nset(IDF_VERSION_PATCH 4)\n")  # fmt: skip
    given = {"HOME": "/h", "IDF_PATH": "/x", "ESP_IDF_VERSION": "5.1"}
    other = "/h/.espressif/python_env/idf5.1_py3.11_env"
    own = "/opt/esp/python_env/idf5.4_py3.10_env"
    assert without_other_idf({**given, "IDF_PYTHON_ENV_PATH": other}, tmp_path) == {"HOME": "/h"}
    kept = without_other_idf({**given, "IDF_PYTHON_ENV_PATH": own}, tmp_path)
    assert kept == {"HOME": "/h", "IDF_PYTHON_ENV_PATH": own}
