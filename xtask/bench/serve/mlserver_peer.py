"""MLServer with a runtime of its own for ONNX files, in its own process: the Open Inference Protocol is its native one."""

import asyncio

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse

import common


class Onnx(MLModel):
    async def load(self):
        parameters = self.settings.parameters
        self.model = common.Model(self.name, parameters.uri, parameters.extra["threads"])
        return True

    async def predict(self, payload):
        feeds = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        values = zip(self.model.outputs, self.model.run(feeds))
        outputs = [NumpyCodec.encode_output(name, value) for name, value in values]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)


async def main():
    port, threads, files = common.arguments()
    settings = Settings(host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2, parallel_workers=0,
                        metrics_endpoint=None, debug=False, load_models_at_startup=False)
    models = [
        ModelSettings(name=name, implementation=Onnx, parameters=ModelParameters(uri=path, extra={"threads": threads}))
        for name, path in files.items()
    ]
    server = MLServer(settings)
    await server.start(models)


if __name__ == "__main__":
    asyncio.run(main())
