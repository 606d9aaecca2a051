"""LitServe: one worker process per model behind its FastAPI front."""

import litserve

import common

PORT, THREADS, FILES = common.arguments()


class Onnx(litserve.LitAPI):
    def __init__(self, name, path):
        super().__init__(api_path=f"/v2/models/{name}/infer")
        self.name, self.path = name, path

    def setup(self, device):
        self.model = common.Model(self.name, self.path, THREADS)

    def decode_request(self, request):
        return request

    def predict(self, request):
        return self.model.infer(request)

    def encode_response(self, answer):
        return answer


if __name__ == "__main__":
    apis = [Onnx(name, path) for name, path in FILES.items()]
    server = litserve.LitServer(apis, accelerator="cpu", healthcheck_path="/v2/health/ready")
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="error", access_log=False)
