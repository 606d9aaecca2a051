"""NVIDIA's tritonserver out of the package nvidia-pytriton, with its Python backend: becomes that server once its models are written."""

import os
import shutil
import stat
import sys
import sysconfig

import common

CONFIG = """name: "%(name)s"
backend: "python"
max_batch_size: 0
%(inputs)s
%(outputs)s
instance_group [{ kind: KIND_CPU, count: 1 }]
parameters { key: "path" value { string_value: "%(path)s" } }
parameters { key: "threads" value { string_value: "%(threads)d" } }
"""
TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


def ports(kind, given):
    def one(port):
        dims = ", ".join(str(d) if isinstance(d, int) else "-1" for d in port.shape)
        return f'{kind} [{{ name: "{port.name}" data_type: {TYPES[port.type]} dims: [ {dims} ] }}]'

    return "\n".join(one(port) for port in given)


def repository(folder, files, threads):
    shutil.rmtree(folder, ignore_errors=True)
    here = os.path.dirname(os.path.abspath(__file__))
    for name, path in files.items():
        model = common.session(path, 1)
        place = os.path.join(folder, name)
        os.makedirs(os.path.join(place, "1"))
        shutil.copy(os.path.join(here, "triton_model.py"), os.path.join(place, "1", "model.py"))
        inputs, outputs = ports("input", model.get_inputs()), ports("output", model.get_outputs())
        with open(os.path.join(place, "config.pbtxt"), "w") as out:
            out.write(CONFIG % dict(name=name, path=path, threads=threads, inputs=inputs, outputs=outputs))


def backends(home, folder):
    """The backends' folder with the stub for this Python beside the Python backend; pip may have taken the right to run them."""
    stub = os.path.join(home, "python_backend_stubs", "%d.%d" % sys.version_info[:2], "triton_python_backend_stub")
    place = os.path.join(folder, "python")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(home, "backends", "python"), place)
    shutil.copy(stub, place)
    for path in (os.path.join(place, os.path.basename(stub)), os.path.join(home, "bin", "tritonserver")):
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def main():
    port, threads, files = common.arguments()
    # Found without importing it: pytriton itself is not used.
    package = next(p for p in map(lambda p: os.path.join(p, "pytriton"), sys.path) if os.path.isdir(p))
    home, own = os.path.join(package, "tritonserver"), os.environ["PEER_TEMPORARY"]
    models, copies = os.path.join(own, "repository"), os.path.join(own, "backends")
    repository(models, files, threads)
    backends(home, copies)
    here = os.path.dirname(os.path.abspath(__file__))
    # For the copies: the stub also wants the library of this very Python, where that has one.
    libraries = [os.path.join(os.path.dirname(package), "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    program = os.path.join(home, "bin", "tritonserver")
    words = [f"--model-repository={models}", f"--backend-directory={copies}", "--http-address=127.0.0.1", f"--http-port={port}"]
    words += ["--allow-grpc=false", "--allow-metrics=false", "--allow-gpu-metrics=false", "--log-info=false", "--log-warning=false"]
    words += ["--disable-auto-complete-config", "--http-thread-count=2"]
    os.execv(program, [program, *words])


if __name__ == "__main__":
    main()
