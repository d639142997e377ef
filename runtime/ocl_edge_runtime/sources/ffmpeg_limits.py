"""What FFmpeg may open for a source that the user named: that, and nothing that the content names.

A file called drive.mp4 may be a playlist, a list for concatenation or a session description, and send
FFmpeg to other files and hosts. So a recording may be of these container formats only and reads no protocol
but ``file``; a stream may use the network, and no file. A playlist is followed where its URL was typed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ocl_edge.errors import UsageError

RECORDINGS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,nut,mxf,wtv,mjpeg,"
    "h264,hevc,av1,obu,ivf,m4v,yuv4mpegpipe,gif,apng,dv"
)
"""FFmpeg's names of containers that hold their frames themselves."""

STREAMS = f"{RECORDINGS},rtsp,rtp,sdp,rtp_mpegts,mpjpeg,live_flv"
PLAYLISTS = {".m3u8": "hls", ".m3u": "hls", ".mpd": "dash"}
"""Suffix of a typed URL -> FFmpeg's format that follows the names in it."""

SCHEMES = (
    "rtsp", "rtsps", "rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte", "rtmpts",
    "http", "https", "srt", "rist", "udp", "tcp", "rtp", "srtp", "tls", "mmsh", "mmst",
)  # fmt: skip
"""Of URLs that are opened, and all that an opened one may open."""

OF_NETWORKS = ",".join((*SCHEMES, "httpproxy"))
INSIDE_PLAYLISTS = "crypto,data"


def recording_options() -> dict[str, str]:
    """FFmpeg's options for a file."""
    return {"protocol_whitelist": "file", "format_whitelist": RECORDINGS}


def stream_options(url: str) -> Mapping[str, str]:
    """FFmpeg's options for a URL that the user typed.

    Raises:
        UsageError: of a scheme that no stream has; ``concat:``, ``file:`` and the like read files.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", url)
    if scheme is None or scheme[0].lower() not in SCHEMES:
        found = scheme[0] if scheme else url.partition(":")[0]
        raise UsageError(f"--source: streams are {', '.join(f'{s}://' for s in SCHEMES)}; got {found}:")
    path = re.split("[?#]", url.partition("://")[2], maxsplit=1)[0].lower()
    playlist = next((name for suffix, name in PLAYLISTS.items() if path.endswith(suffix)), None)
    if playlist is None:
        return {"protocol_whitelist": OF_NETWORKS, "format_whitelist": STREAMS}
    return {
        "protocol_whitelist": f"{OF_NETWORKS},{INSIDE_PLAYLISTS}",
        "format_whitelist": f"{STREAMS},{playlist},aac,mp3,webvtt",
    }
