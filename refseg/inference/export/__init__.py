"""Models as graphs: traced to ONNX, converted to OpenVINO, made 8 bits wide, checked, and put behind a static page."""
