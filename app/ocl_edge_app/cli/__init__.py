"""The command line: one file a verb, imported when the verb is used."""

from __future__ import annotations

import errno
import importlib
import io
import sys
import traceback

import click

from ocl_edge._version import __version__
from ocl_edge.errors import OclEdgeError
from ocl_edge.plain_text import plain, plain_lines

VERBS = {
    "demo": "Show adaptation on a drawn drive; downloads nothing.",
    "export": "Turn a checkpoint into a verified bundle.",
    "calibrate": "Measure what is home for a network, on unlabelled frames.",
    "build": "Compile a bundle into TensorRT engines.",
    "run": "Segment a stream and adapt to it.",
    "profile": "Show where each millisecond of a frame goes.",
    "evaluate": "Measure what adaptation gains on labelled footage.",
    "sweep": "Compare bundles on streams, as a file lists them.",
    "inspect": "Print a bundle and verify every file.",
    "sign": "Sign a bundle with a key of yours.",
    "fleet": "Share what vehicles learn, without their images.",
    "bake": "Take what was learned out, as a checkpoint of your network.",
    "convert": "Rewrite a bundle of an older ocl-edge for this one.",
    "doctor": "List what this machine can run, and why not the rest.",
}

EPILOG = """
\b
Examples:
  ocl-edge demo
  ocl-edge export model.pth --input-size 384x512 --out bundle
  ocl-edge build bundle --backend tensorrt --precision fp16
  ocl-edge run bundle --source frames/ --sink overlay:out/
  ocl-edge profile bundle --source frames/
"""

SHOWN = 60
"""Letters of a name that the system finds too long."""

EXIT_OF_A_FAULT = 70
"""EX_SOFTWARE of sysexits.h."""

DEBUG = click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error.")


class LazyVerbs(click.Group):
    """Lists the verbs without importing them: PyTorch alone takes seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"ocl_edge_app.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        for each in (command, *getattr(command, "commands", {}).values()):
            if DEBUG not in each.params:
                each.params.append(DEBUG)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyVerbs, params=[DEBUG], epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="ocl-edge")
def cli() -> None:
    """Test-time adaptation of segmentation networks at the edge."""


def main() -> None:
    """Run the command line. Exit code 2 for wrong usage, 1 for failure, 70 for a fault of ocl-edge."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors go to standard error without a traceback."""
    try:
        code = cli.main(arguments, prog_name="ocl-edge", standalone_mode=False, obj=["ocl-edge", *arguments])
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(file=said)
        click.echo("\n".join(plain(line.expandtabs(4)) for line in said.getvalue().splitlines()), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except OclEdgeError as error:
        _show_traceback(arguments)
        click.echo(plain_lines(f"error: {error}"), err=True)
        return error.exit_code
    except Exception as error:
        _show_traceback(arguments)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # the system's limit, not ours
            click.echo(plain_lines(f"error: {str(error.filename)[:SHOWN]}...: {error.strerror}"), err=True)
            return 2
        if isinstance(error, ImportError) and error.name == "torch":
            verb = next((word for word in arguments if word in VERBS), "this")
            click.echo(f"error: {verb} needs PyTorch: pip install 'ocl-edge[torch]'", err=True)
            return 1
        click.echo(plain_lines(f"error: {_fault(error, arguments)}"), err=True)
        return EXIT_OF_A_FAULT


def _show_traceback(arguments: list[str]) -> None:
    if "--debug" in arguments:
        click.echo(plain_lines(traceback.format_exc()), err=True)


def _fault(error: Exception, arguments: list[str]) -> str:
    """One sentence about an exception that nobody expected: what was being done, its type and text."""
    verb = next((word for word in arguments if word in VERBS), "start")
    places = [
        f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).startswith("ocl_edge")
    ]
    text = " ".join(str(error).split())
    return (
        f"{verb}, in {places[-1]}: {type(error).__name__}{': ' if text else ''}{text}; "
        "this is a fault of ocl-edge: please report it (--debug shows the rest)"
    )
