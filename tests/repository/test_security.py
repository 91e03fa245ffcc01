"""SECURITY.md is true: what is never trusted is never run, and JupyterLab answers its owner alone."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from test_setup import PATIENCE, ROOT, answer, load

from xattn_edu.predict.pictures import read_image
from xattn_edu.weights.language import load_bert, load_tokenizer

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_what_the_page_names_exists():
    paths = re.findall(r"`((?:xattn_edu|tests|requirements)[\w./]*)`", PAGE)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


# What is never trusted


@pytest.mark.parametrize(
    "start", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xc5\xd0\xd3\xc6" + bytes(28)], ids=["as text", "with a preview"]
)
def test_an_image_that_is_a_program_is_refused(tmp_path, monkeypatch, start):
    from PIL import EpsImagePlugin

    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **more: ran.append(arguments))
    path = tmp_path / "photograph.jpg"
    path.write_bytes(start + b"%%BoundingBox: 0 0 8 8\n%%EndComments\n(a program) print\n%%EOF\n")
    with pytest.raises(ValueError, match="photograph.jpg is PostScript, a program that would have to be run: save"):
        read_image(path)
    assert ran == []


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_bert, load_tokenizer])
def test_code_in_a_models_folder_is_not_run_whatever_is_answered(tmp_path, monkeypatch, load):
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    made, folder = tmp_path / "made", tmp_path / "model"
    folder.mkdir()
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(made)!r})\n")
    names = {"AutoConfig": "own.Config", "AutoTokenizer": ["own.Tokenizer", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": names}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Own", "auto_map": names}))
    with pytest.raises(ValueError, match="can be read"):
        load(folder)
    assert not made.exists()


# JupyterLab


def test_lab_keeps_its_token_and_the_loopback_address(monkeypatch):
    course = load(ROOT)
    command, variables = course.jupyterlab(8888, "secret")
    options = [option for option in command if option.startswith("-")]
    assert [option for option in options if "ip=" in option] == ["--ServerApp.ip=127.0.0.1"]
    assert not re.search(r"token|password|origin|allow.remote|xsrf|authenticat", " ".join(options), re.IGNORECASE)
    assert variables["JUPYTER_TOKEN"] == "secret"  # not in the command, which every user of the machine can list


@pytest.mark.parametrize("given", [None, "", "mine"])
def test_lab_never_starts_without_a_token(monkeypatch, capsys, given):
    course, started = load(ROOT), []
    monkeypatch.setattr(course, "prepare", lambda: None)
    monkeypatch.setattr(course, "free_port", lambda port: 8888)
    monkeypatch.setattr(course, "run", lambda *arguments: 0)
    monkeypatch.setattr(course.os, "chdir", lambda folder: None)
    monkeypatch.setattr(course.os, "name", "posix")
    monkeypatch.setattr(course.os, "execve", lambda program, command, variables: started.append(variables))
    monkeypatch.delenv("JUPYTER_TOKEN", raising=False)
    if given is not None:
        monkeypatch.setenv("JUPYTER_TOKEN", given)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "elsewhere")
    course.lab(None, [])
    course.lab(None, [])
    first, second = (variables["JUPYTER_TOKEN"] for variables in started)
    assert first == second == "mine" if given else first != second and re.fullmatch("[0-9a-f]{32}", first)
    assert f"token={second} " in capsys.readouterr().out
    assert "JUPYTER_CONFIG_PATH" not in started[0]  # another Jupyter's settings could take the token away


@pytest.mark.slow
def test_a_running_lab_listens_on_loopback_and_refuses_whoever_lacks_the_token(tmp_path):
    pytest.importorskip("jupyterlab")
    course = load(ROOT)
    course.PYTHON = Path(sys.executable)
    (tmp_path / "notebooks").mkdir()
    port = course.free_port()
    command, variables = course.jupyterlab(port, "secret", tmp_path / "notebooks", tmp_path / "home", ["--no-browser"])
    server = subprocess.Popen(command, env=variables, cwd=tmp_path)
    try:
        site = f"http://127.0.0.1:{port}"
        assert answer(server, f"{site}/api").keys() == {"version"}  # which needs no token, and says no more
        assert answer(server, f"{site}/api/contents?token=secret")["type"] == "directory"
        for address in (
            "/api/contents",
            "/api/contents?token=wrong",
            "/api/kernels",
            "/api/terminals",
            "/api/config/a",
        ):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(site + address, timeout=PATIENCE)
        with pytest.raises(urllib.error.HTTPError, match="403"):  # no kernel is started, hence no code is run
            urllib.request.urlopen(urllib.request.Request(f"{site}/api/kernels", b"{}"), timeout=PATIENCE)
        holders = {path.parent for path in (tmp_path / "home").rglob("*") if path.is_file() and "secret" in text(path)}
        assert holders == {tmp_path / "home" / "runtime"}
        assert os.name != "posix" or (tmp_path / "home" / "runtime").stat().st_mode & 0o077 == 0
        for other in other_addresses():
            with pytest.raises(OSError):
                socket.create_connection((other, port), timeout=5).close()
        tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
        lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
        heard = [local for _, local, _, state, *_ in lines if state == "0A" and int(local.split(":")[1], 16) == port]
        assert {local.split(":")[0] for local in heard} <= {"0100007F"}  # 127.0.0.1
    finally:
        server.terminate()
        server.wait(PATIENCE)


def text(path):
    return path.read_text(encoding="utf-8", errors="replace")


def other_addresses():
    """This machine's addresses beside 127.0.0.1."""
    try:
        found = {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        found = set()
    return {*found, "127.0.0.2"} - {"127.0.0.1", "::1"}
