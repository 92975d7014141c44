"""Networks that were exported, run by ONNX Runtime or OpenVINO in the place of torch's."""
