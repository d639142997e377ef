"""What FFmpeg may open: the source that was named, and nothing that its content names."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocl_edge.errors import SourceError, UsageError
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.sources import SourceOptions, open_source
from ocl_edge_runtime.sources.ffmpeg_limits import SCHEMES, stream_options
from ocl_edge_runtime.sources.video import VideoReader
from tests.doubles.videos import make_video

SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server for a directory, and the paths that were asked of it."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def playlist(name: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov", "ts", "mjpeg"])
def test_recordings_are_read(tmp_path: Path, suffix: str) -> None:
    codec = "mpeg2video" if suffix == "ts" else "mjpeg"
    video = make_video(tmp_path / f"drive with: odd %03d [name].{suffix}", codec)
    assert sum(1 for _ in open_source(str(video), SourceOptions(), RealClock())) == 12


@pytest.mark.parametrize("kind", ["playlist", "remote playlist", "list", "session"])
def test_a_file_that_names_others_is_refused(
    tmp_path: Path, served: tuple[str, list[str]], kind: str
) -> None:
    video = make_video(tmp_path / "real.ts", "mpeg2video")
    url, asked = served
    content = {
        "playlist": playlist(str(video)),
        "remote playlist": playlist(f"{url}/real.ts"),
        "list": f"ffconcat version 1.0\nfile '{video}'\nfile '{url}/real.ts'\n",
        "session": SDP,
    }[kind]
    for suffix in ("mp4", "m3u8", "ffconcat", "sdp"):
        (tmp_path / f"drive.{suffix}").write_text(content)
        with pytest.raises(SourceError, match="cannot open"):
            open_source(str(tmp_path / f"drive.{suffix}"), SourceOptions(), RealClock())
    assert asked == []


def test_a_typed_playlist_is_followed_and_reads_no_file(
    tmp_path: Path, served: tuple[str, list[str]]
) -> None:
    url, asked = served
    make_video(tmp_path / "real.ts", "mpeg2video")
    (tmp_path / "live.m3u8").write_text(playlist("real.ts"))
    (tmp_path / "other.m3u8").write_text(playlist(f"file://{tmp_path}/real.ts"))
    (tmp_path / "camera").write_text(playlist("real.ts"))
    reader = VideoReader(f"{url}/live.m3u8?t=1", RealClock(), options=stream_options(f"{url}/live.m3u8?t=1"))
    assert sum(1 for _ in reader) == 12
    reader.close()
    for name in ("other.m3u8", "camera"):
        asked.clear()
        with pytest.raises(SourceError, match="cannot open"):
            VideoReader(f"{url}/{name}", RealClock(), options=stream_options(f"{url}/{name}"), timeout_s=5)
        assert {path.partition("?")[0] for path in asked} == {f"/{name}"}


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "concat://a|b", "subfile,,start,0,end,0,,://x", "crypto://x", "data://x", "://x",
     "async:http://x", "gopher://x", "unix://x", "pipe://0", "fd://0"],
)  # fmt: skip
def test_schemes_that_no_stream_has_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="streams are rtsp://"):
        open_source(url, SourceOptions(), RealClock())


def test_every_scheme_gets_the_network_and_never_a_file() -> None:
    for scheme in SCHEMES:
        allowed = stream_options(f"{scheme.upper()}://host/x")["protocol_whitelist"].split(",")
        assert scheme in allowed
        assert not {"file", "concat", "subfile", "pipe", "fd", "data", "crypto", "unix"} & set(allowed)
