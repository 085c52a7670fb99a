"""A page on this machine: NiceGUI on 127.0.0.1, nothing loaded from elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib.resources import files

from align_ko.errors import UserError

HOST = "127.0.0.1"
PATIENCE = 15.0  # seconds; a machine busy with answers may be late with a sign of life, and no tab counts as closed for that


def check_port(port: int) -> None:
    """UserError where no server can listen there."""
    try:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"port {port} cannot be used: {reason}", key="--port", expected="another one, like 8081") from None


def serve(page: Callable[[], object], port: int, title: str) -> None:
    """Show what `page` builds, anew in every tab, until Ctrl-C. UserError for an occupied port."""
    check_port(port)
    from nicegui import app, ui
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # another site's name that leads to this machine gets no answer
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    ui.add_css(files("align_ko.chat").joinpath("page.css").read_text(encoding="utf-8"), shared=True)
    print(f"{title}: http://{HOST}:{port} (Ctrl-C로 끝냅니다)", flush=True)
    ui.run(page, host=HOST, port=port, title=title, language="ko-KR", dark=None, favicon="💬", show=False, reload=False,
           reconnect_timeout=PATIENCE, show_welcome_message=False)  # fmt: skip
