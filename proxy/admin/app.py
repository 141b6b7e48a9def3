"""The admin listener's routes.  It is outside the data listener's limits: it answers under overload."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from proxy.admin.policy import add_policy_routes
from proxy.admin.respond import refusal
from proxy.exchange.exchange import Exchange
from proxy.policy.reload import Reloader
from proxy.telemetry.metrics import Metrics
from proxy.wire.errors import bad_request


def admin_app(
    metrics: Metrics, exchange: Exchange, ready: Callable[[], bool], reloader: Reloader | None, token: str
) -> web.Application:
    """`ready`: whether new requests are welcome; no `reloader`: the policy comes from no file."""
    registry = CollectorRegistry()
    registry.register(metrics)

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if ready() else web.Response(status=503, text="draining\n")

    async def scrape(_: web.Request) -> web.Response:
        exchange.flush()
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def unknown(_: web.Request) -> web.Response:
        routes = sorted({resource.canonical for resource in app.router.resources()} - {"/{path}"})
        return refusal(bad_request(f"no such admin route; there are {', '.join(routes)}", "not_found", 404))

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    add_policy_routes(app.router, exchange, reloader, token)
    app.router.add_route("*", "/{path:.*}", unknown)
    return app
