"""The process ``mt``: its signals, its exit code, a line for whatever goes wrong. Also ``python -m transformer_mt``."""

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from typer.exceptions import Abort, TyperException

from transformer_mt import streams
from transformer_mt.cli import app, follows
from transformer_mt.errors import ConfigError, Interrupted, MtError, SystemFault, is_out_of_memory, system_fault

_HEAD_START = 10.0  # seconds


def _fail(error: BaseException, message: str, code: int, *, debug: bool) -> int:
    # A mistake in what all processes are given is one error, though each of them finds it.
    everyones = code == ConfigError.code and follows()
    kind = f"rank {os.environ['RANK']}" if everyones else "error"
    with suppress(OSError):  # a log that is full does not change the code
        if debug:
            import traceback

            traceback.print_exception(error)
        # With its end of line in one piece: several processes may write at once.
        print(f"{kind}: {' '.join(message.split())}\n", end="", file=sys.stderr, flush=True)
    if everyones:
        _give_way()
    return code


def _give_way() -> None:
    """Give the leader time to tell what is wrong: torchrun ends all processes, this one too, when one has ended."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(_HEAD_START)


def _usage(error: TyperException) -> str:
    """What is wrong with a command line, and which help to ask for."""
    command = getattr(getattr(error, "ctx", None), "command_path", "mt")
    what, meant, near = error.format_message().rstrip(".").partition(". Did you mean ")
    what = what[:1].lower() + what[1:]
    return f"{command}: {what}; did you mean {near}" if meant else f"{command}: {what}; see {command} --help"


def run(arguments: list[str]) -> int:
    """Carry out a command line; return the exit code. Whatever goes wrong, one line starts with ``error:``."""
    debug = "--debug" in arguments
    if debug:
        arguments = [a for a in arguments if a != "--debug"]
    try:
        result: Any = app(arguments or ["--help"], prog_name="mt", standalone_mode=False)
        if result == 130:  # what Typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.stdout.flush()
        return int(result or 0)
    except MtError as error:
        if not error.silent:
            return _fail(error, str(error), error.code, debug=debug)
        if error.code < 128:  # no signal, which all have
            _give_way()
        return error.code
    except TyperException as error:
        return _fail(error, _usage(error), 2, debug=debug)
    except (Abort, KeyboardInterrupt) as error:
        return _fail(error, "interrupted", 130, debug=debug)
    except (BrokenPipeError, SystemExit) as error:
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has enough; end quietly
        return 0
    except OSError as error:
        fault: SystemFault = system_fault(error)
        return _fail(error, str(fault), fault.code, debug=debug)
    except Exception as error:
        if is_out_of_memory(error):
            advice = "out of memory; lower training.device_tokens or decoding.batch_size"
            return _fail(error, advice, SystemFault.code, debug=debug)
        return _fail(
            error, f"bug: {type(error).__name__}: {error} (run again with --debug and report it)", 1, debug=debug
        )


def _terminate(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that what is half done is taken away; training handles the signal by itself."""
    if number == signal.SIGHUP:  # a terminal that is closed may send it twice
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted(f"stopped by {signal.Signals(number).name}; start again when you like", 128 + number)


def main() -> None:
    """The entry point of ``mt``."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:  # of an old locale: paths, too, are UTF-8
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    streams.mend()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _terminate)
    if "train" in sys.argv[1:]:  # nothing to save yet, and the imports take seconds
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    code = run(sys.argv[1:])
    streams.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
