"""The sample images that the pack lays into the host's input folder."""

from __future__ import annotations

from pathlib import Path

from tests.host.environment import Host
from tests.host.server import install_pack, make_base, serve

OWN, DELETED = "devudp_dark.jpg", "devudp_blurred.jpg"


def test_samples_are_copied_once_and_never_over_a_users_file(host: Host, tmp_path: Path) -> None:
    make_base(tmp_path)
    install_pack(tmp_path / "custom_nodes" / "comfyui-devudp")
    folder = tmp_path / "input"
    (folder / OWN).write_bytes(b"the user's own")
    with serve(host, tmp_path) as server:
        assert len(list(folder.glob("devudp_*.jpg"))) == 4
        assert (folder / OWN).read_bytes() == b"the user's own"
        assert "DEvUDP copied sample images" in server.log_text()
        offered = server.get("/object_info/LoadImage")["LoadImage"]["input"]["required"]["image"]
        assert DELETED in offered[0]
    (folder / DELETED).unlink()
    with serve(host, tmp_path) as server:
        assert "DEvUDP copied" not in server.log_text()
    assert not (folder / DELETED).exists()
