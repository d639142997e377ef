"""An RTSP server of Debian's GStreamer on the loopback. Run by a Python that has gi:

python rtsp_server.py PORT WIDTH HEIGHT
"""

from sys import argv, path

path.append("/usr/lib/python3/dist-packages")
import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer


def serve(port: str, width: str, height: str, directory: str = "") -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer(service=port, address="127.0.0.1")
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    factory.set_launch(
        f"( videotestsrc is-live=true ! video/x-raw,format=I420,width={width},height={height},framerate=20/1 "
        "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 pt=96 )"
    )
    server.get_mount_points().add_factory("/camera", factory)
    if directory:
        live = GstRtspServer.RTSPMediaFactory(transport_mode=GstRtspServer.RTSPTransportMode.RECORD)
        live.set_launch(
            "( rtph264depay name=depay0 ! h264parse ! avdec_h264 ! videoconvert ! pngenc ! "
            f"multifilesink location={directory}/%05d.png )"
        )
        server.get_mount_points().add_factory("/live", live)
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    serve(*argv[1:])
