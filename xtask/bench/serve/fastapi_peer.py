"""FastAPI on uvicorn with uvloop, httptools and orjson: the fastest usual way. The session runs in the thread pool, as for a plain `def`."""

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

import common

PORT, THREADS, FILES = common.arguments()
MODELS = common.models(FILES, THREADS)
app = FastAPI()


@app.get("/v2/health/ready")
async def ready():
    return {"ready": True}


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request):
    answer = await run_in_threadpool(MODELS[name].infer, orjson.loads(await request.body()))
    return Response(orjson.dumps(answer), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", log_level="error", access_log=False)
