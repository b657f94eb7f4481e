"""What the scripts of `make` leave in a checkout."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.daemon import CHECKOUT
from tests.servers.process import need_root


def test_what_root_makes_in_somebodys_checkout_becomes_theirs(tmp_path):
    need_root()
    checkout = tmp_path / "their checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(CHECKOUT / "scripts/owned.sh", checkout / "scripts")
    theirs, other = checkout / "theirs", checkout / "other"
    for path in (checkout, theirs, other):
        path.mkdir(exist_ok=True)
    os.chown(checkout, 65534, 65533)
    os.chown(theirs, 65534, 65534)
    os.chown(other, 12345, 12345)
    made = ("sh", "-c", 'mkdir new && echo "$1" >new/file && ln -s /etc/passwd new/link && exit 3', "sh", "a  b")
    assert subprocess.run([checkout / "scripts/owned.sh", *made], check=False).returncode == 3
    assert (checkout / "new/file").read_text() == "a  b\n"
    owners = {path.name: (path.lstat().st_uid, path.lstat().st_gid) for path in checkout.rglob("*")}
    assert owners["new"] == owners["file"] == owners["link"] == (65534, 65533)
    assert owners["theirs"] == (65534, 65534)
    assert owners["other"] == (12345, 12345)
    assert Path("/etc/passwd").stat().st_uid == 0
