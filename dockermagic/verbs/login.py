"""``login`` and ``logout``: credentials where Docker keeps them, checked by the registry before they are stored."""

from __future__ import annotations

from dockermagic.errors import UsageError
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, text

__all__ = ["LOGIN", "LOGOUT"]

_LONGEST = 64 << 10


def _password(console: Console, arguments: Arguments) -> str:
    if arguments.flag("password-stdin"):
        if arguments.given("password"):
            raise UsageError("--password and --password-stdin are mutually exclusive")
        if not arguments.text("username"):
            raise UsageError("Must provide --username with --password-stdin")
        if console.stdin is None:
            raise UsageError("a cell has no standard input", hint="Leave --password-stdin out: you will be asked.")
        return console.stdin.read(_LONGEST).decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
    if arguments.given("password"):
        console.note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    return arguments.text("password")


def login(console: Console, arguments: Arguments) -> int:
    """Ask for what was not given, let the registry judge it, and keep it."""
    server = arguments.words[0] if arguments.words else ""
    password = _password(console, arguments)
    username = arguments.text("username") or console.ask("Username: ")
    if not username:
        raise UsageError("username is empty")
    password = password or console.ask("Password: ", secret=True)
    if not password:
        raise UsageError("password is empty")
    where = console.engine.login(server, username, password)
    if not where.startswith("the helper"):
        console.note(
            f"WARNING! Your credentials are stored unencrypted in '{where}'.\n"
            'A credential helper keeps them safer: see "credsStore" in Docker\'s documentation.'
        )
    console.write("Login Succeeded\n")
    return 0


def logout(console: Console, arguments: Arguments) -> int:
    """Remove the credentials for a registry."""
    server = arguments.words[0] if arguments.words else ""
    shown = server or "https://index.docker.io/v1/"
    done = console.engine.logout(server)
    console.write(f"Removing login credentials for {shown}\n" if done else f"Not logged in to {shown}\n")
    return 0


LOGIN = Verb(
    "login",
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry",
    login,
    (
        text("password", "p", "Password or Personal Access Token (PAT)"),
        flag("password-stdin", "", "Take the Password or Personal Access Token (PAT) from stdin"),
        text("username", "u", "Username"),
    ),
    (0, 1),
    more="SERVER is Docker Hub by default. The credentials go where Docker looks for them: ~/.docker/config.json.",
)
LOGOUT = Verb("logout", "[SERVER]", "Log out from a registry", logout, (), (0, 1))
