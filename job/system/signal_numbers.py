"""The signals that a run handles. The main process does; workers ignore all of them and are told over their line."""

import signal

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR)
"""They end a run in an orderly way; so does SIGHUP from a terminal that hangs up."""

WITHOUT_MEANING = (signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGPOLL, signal.SIGSTKFLT)
"""They mean nothing to a run, and would end it without a log line."""

HANDLED = frozenset((*STOPS, signal.SIGHUP, signal.SIGUSR1, *WITHOUT_MEANING))
"""Python itself ignores SIGPIPE and SIGXFSZ: the call that they tell of fails instead."""
