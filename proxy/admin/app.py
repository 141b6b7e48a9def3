"""The admin listener's routes.  It is outside the data listener's limits: it answers under overload."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.admin.dashboard import DashboardRoutes
from proxy.admin.door import Door
from proxy.admin.health import HealthRoutes
from proxy.admin.orders import OrderRoutes
from proxy.admin.policy import PolicyRoutes
from proxy.admin.report import ReportRoutes
from proxy.admin.rollout import RolloutRoutes
from proxy.wire.errors import bad_request

_NOT_FOUND = bad_request(
    "no such admin route; there are /, /livez, /readyz, /health, /metrics, /policy, /policy/reload, /assign, /report"
    " and /rollout/… with advance, pause, resume, rollback and clear",
    "not_found",
    404,
)


def admin_app(
    collectors: Sequence[Collector],
    refresh: Callable[[], Awaitable[None]],
    readiness: Callable[[], str],
    policy: PolicyRoutes,
    health: HealthRoutes,
    rollout: RolloutRoutes,
    orders: OrderRoutes,
    report: ReportRoutes,
    dashboard: DashboardRoutes,
    door: Door,
) -> web.Application:
    """`refresh` brings what collectors give up to date; `readiness`: `ready`, else why no request is welcome."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        word = readiness()
        return web.Response(status=200 if word == "ready" else 503, text=f"{word}\n")

    async def scrape(request: web.Request) -> web.Response:
        await refresh()
        encode, content_type = choose_encoder(",".join(request.headers.getall("Accept", [])))
        response = web.Response(body=encode(registry), headers={"Content-Type": content_type})
        response.enable_compression()  # where it was asked for
        return response

    async def unknown(_: web.Request) -> web.Response:
        return web.Response(status=404, body=_NOT_FOUND.body(), content_type="application/json")

    app = web.Application()
    door.guard(app)
    app.router.add_get("/", dashboard.page)
    app.router.add_get("/dashboard/events", dashboard.events)
    app.router.add_get("/dashboard/{file}", dashboard.file)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/health", health.all)
    app.router.add_get("/health/{agent}", health.one)
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/policy", policy.show)
    app.router.add_post("/policy/reload", policy.reload)
    app.router.add_get("/assign", policy.assign)
    app.router.add_post("/rollout/advance", orders.advance)
    app.router.add_post("/rollout/pause", orders.pause)
    app.router.add_post("/rollout/resume", orders.resume)
    app.router.add_post("/rollout/rollback", orders.rollback)
    app.router.add_post("/rollout/clear", rollout.clear)
    app.router.add_get("/report", report.text)
    app.router.add_get("/report.json", report.json)
    app.router.add_get("/report.md", report.markdown)
    app.router.add_route("*", "/{path:.*}", unknown)
    return app
