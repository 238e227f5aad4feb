#!/bin/sh
# OpenVINO's Gather along the last axis returns wrong columns of tensors of more than 2^24 values.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6 (Python 3.10 to 3.13); CPU.
#
# Good guess: Gather with the indices 0, 1, 2, ... is the identity, and exact, however large its input:
# it only copies. So onnxruntime does it.
#
# Seen: of a float32 tensor of 3000x4243 values all are right; of 8000x4243 (34 million, 2 x 2^24), with two
# threads, four values in each row that the second thread works on are those of other columns, near
# the left and the right end, as if positions beyond 2^24 were kept in float32. No error, no warning.
# With three channels an image of 12 megapixels is concerned: a network that selects its columns (to
# reflect them, say) has wrong ones at its sides. Slices that are joined (Slice, Concat) are right.
#
# Fails if the large one has become right, or the small one wrong.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
  openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/try.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

onnxruntime.set_default_logger_severity(3)
print("onnxruntime", onnxruntime.__version__, " openvino", openvino.__version__)
value = helper.make_tensor_value_info
made = helper.make_graph(
    [helper.make_node("Gather", ["x", "i"], ["y"], axis=1)],
    "select",
    [value("x", TensorProto.FLOAT, ["h", "w"]), value("i", TensorProto.INT64, ["n"])],
    [value("y", TensorProto.FLOAT, ["h", "n"])],
)
made = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
onnx.checker.check_model(made)
model = made.SerializeToString()
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
core = openvino.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2}
network = core.compile_model(core.read_model(model), "CPU", settings)
wrong = {}
for height in (3000, 8000):
    x = np.random.default_rng(0).random((height, 4243), dtype=np.float32)
    columns = np.arange(4243)
    exact = np.take(x, columns, 1)
    assert (session.run(None, {"x": x, "i": columns})[0] == exact).all()
    found = network({"x": x, "i": columns})[0] != exact
    wrong[height] = int(found.sum())
    places = np.unique(np.nonzero(found)[1])
    print(f"{height}x4243 = {x.size / 2**24:.2f} x 2^24 values: {wrong[height]} wrong,",
          f"in columns {places[:4]} ... {places[-4:]}", flush=True)
sys.exit(0 if wrong[3000] == 0 < wrong[8000] else "It behaves otherwise now")
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
