"""The model behind Triton's Python backend: one session, asked in Triton's own tensors."""

import json
import os
import sys

# The server's own Python is an isolated one and does not look there by itself.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)

import triton_python_backend_utils as pb_utils

import common


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        value = lambda name: parameters[name]["string_value"]
        self.model = common.Model(args["model_name"], value("path"), int(value("threads")))
        self.inputs = [port.name for port in self.model.session.get_inputs()]

    def execute(self, requests):
        responses = []
        for request in requests:
            feeds = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            tensors = [pb_utils.Tensor(name, value) for name, value in zip(self.model.outputs, self.model.run(feeds))]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
