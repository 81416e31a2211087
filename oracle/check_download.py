"""Compares `deltaw download` with huggingface_hub, on the server of tests/cli/hub.py: check_download.py DELTAW FOLDER

HF_ENDPOINT and HF_HOME are set by tests/cli/download.sh, which runs this."""

import filecmp
import os
import pathlib
import shutil
import subprocess
import sys

DELTAW, SERVED = sys.argv[1], pathlib.Path(sys.argv[2])
HOME = pathlib.Path(os.environ["HF_HOME"])
MODEL = "org/tiny"
IMPORTS = "from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache\n"


def python(code, **variables):
    """A process for each, since huggingface_hub reads its variables as it is imported."""
    done = subprocess.run([sys.executable, "-c", IMPORTS + code], capture_output=True, text=True,
                          env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ours(*arguments):
    done = subprocess.run([DELTAW, "download", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.strip()), done.stderr


def layout(folder):
    """Every path below, with where links lead and what files hold; without locks, which either may leave."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".locks") or name.startswith("trees") or name == "CACHEDIR.TAG":
            continue
        if path.is_symlink():
            found[name] = "link to " + os.readlink(path)
        else:
            found[name] = "folder" if path.is_dir() else path.read_bytes()
    return found


def requests(text):
    return sum(text in line for line in (SERVED / "log").read_text().splitlines())


def main():
    patterns = "['*.json', 'model.safetensors', '*.jinja']"
    theirs = pathlib.Path(python(f"print(snapshot_download('{MODEL}', allow_patterns={patterns}))"))
    their_layout = layout(HOME / "hub" / "models--org--tiny")
    assert (theirs / "model.safetensors").read_bytes() == (SERVED / "models" / MODEL / "model.safetensors").read_bytes()
    print("huggingface_hub downloads from the server")

    (SERVED / "log").write_text("")
    folder, _ = ours(MODEL)
    assert folder == theirs and requests("resolve") == 0, (folder, theirs)
    print("what huggingface_hub downloaded is found and not fetched again")

    shutil.rmtree(HOME)
    folder, _ = ours(MODEL)
    our_layout = layout(HOME / "hub" / "models--org--tiny")
    assert our_layout == {name: value for name, value in their_layout.items() if not name.startswith("trees")}, (
        sorted(our_layout), sorted(their_layout))
    offline = {"HF_HUB_OFFLINE": "1"}
    assert python(f"print(snapshot_download('{MODEL}', local_files_only=True))") == str(folder)
    assert python(f"print(snapshot_download('{MODEL}'))", **offline) == str(folder)
    for file in ("config.json", "model.safetensors", "additional_chat_templates/tool.jinja"):
        assert python(f"print(try_to_load_from_cache('{MODEL}', '{file}'))") == str(folder / file)
        assert python(f"print(hf_hub_download('{MODEL}', '{file}'))", **offline) == str(folder / file)
    print("layout and links are those of huggingface_hub, which finds them offline")

    (SERVED / "log").write_text("")
    python(f"snapshot_download('{MODEL}', allow_patterns={patterns})")
    assert requests("GET /org/tiny/resolve") == 0 and requests("store GET") == 0
    print("huggingface_hub fetches nothing again")

    # Both at once, on one lock.
    shutil.rmtree(HOME)
    (SERVED / "log").write_text("")
    (SERVED / "faults").write_text("drip:0.02 9 store GET\n")
    code = IMPORTS + f"snapshot_download('{MODEL}', allow_patterns={patterns})"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder, _ = ours(MODEL)
    assert other.wait() == 0
    assert requests("store GET") == 1, (SERVED / "log").read_text()
    assert filecmp.cmp(folder / "model.safetensors", SERVED / "models" / MODEL / "model.safetensors", shallow=False)
    (SERVED / "faults").unlink()
    print("both at once wait for each other")

    # A folder of the user's.
    local = pathlib.Path("local").resolve()
    ours(MODEL, "--local_dir", str(local))
    (SERVED / "log").write_text("")
    python(f"snapshot_download('{MODEL}', local_dir={str(local)!r}, allow_patterns={patterns})")
    assert requests("GET /org/tiny/resolve") == 0, (SERVED / "log").read_text()
    print("huggingface_hub knows the files of a local folder")


main()
