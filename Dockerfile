# The server, or the annotation game, on a CPU: the package with the weights that ship with it, no root.
#   docker build -t refseg .
#   docker run --rm -p 8000:8000 refseg
FROM python:3.11-slim

# TORCH is what pip is told about where torch comes from: PyPI's wheel for Linux brings CUDA along, which a CPU cannot use.
#   docker build --build-arg TORCH="--index-url ADDRESS-OF-THE-CPU-WHEELS" -t refseg .
ARG TORCH=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 REFSEG_CACHE=/tmp/refseg

WORKDIR /src
# Dependencies change less often than the code: this layer is kept between builds.
COPY constraints.txt ./
RUN pip install -c constraints.txt ${TORCH} torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY refseg ./refseg
RUN pip install -c constraints.txt ".[serve,annotate]" && rm -rf /src/*

RUN useradd --create-home --uid 10001 refseg && mkdir /data && chown refseg /data
USER refseg
WORKDIR /home/refseg
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["refseg", "serve", "--host", "0.0.0.0", "--port", "8000"]
