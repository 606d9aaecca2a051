"""KServe's own model server: the Open Inference Protocol is its native one."""

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

import common

PORT, THREADS, FILES = common.arguments()


class Onnx(Model):
    def __init__(self, name, path):
        super().__init__(name)
        self.model, self.ready = common.Model(name, path, THREADS), True

    def predict(self, payload, headers=None, response_headers=None):
        feeds = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        outputs = []
        for name, value in zip(self.model.outputs, self.model.run(feeds)):
            output = InferOutput(name=name, shape=list(value.shape), datatype=common.NAMES[value.dtype])
            output.set_data_from_numpy(np.asarray(value), binary_data=False)
            outputs.append(output)
        # As KServe's own runtimes do: an answer has to have one.
        identity = payload.id or generate_uuid()
        return InferResponse(response_id=identity, model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    server = ModelServer(http_port=PORT, enable_grpc=False, workers=1, access_log_format=None)
    server.start([Onnx(name, path) for name, path in FILES.items()])
