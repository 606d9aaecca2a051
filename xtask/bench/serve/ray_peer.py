"""Ray Serve: one deployment with one replica that holds every model, behind Ray's HTTP proxy."""

import os
import signal

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

import common


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64)
class Onnx:
    def __init__(self, paths, threads):
        self.models = common.models(paths, threads)

    async def __call__(self, request: Request):
        name = request.url.path.split("/")[3]
        answer = self.models[name].infer(orjson.loads(await request.body()))
        return Response(orjson.dumps(answer), media_type="application/json")


if __name__ == "__main__":
    port, threads, paths = common.arguments()
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False,
             object_store_memory=100 << 20, _temp_dir=os.environ.get("PEER_TEMPORARY"))
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Onnx.bind(paths, threads), route_prefix="/")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
