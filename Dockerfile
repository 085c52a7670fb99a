# align_ko on NVIDIA GPUs, with the compiler that DeepSpeed's and FlashAttention's kernels are built with. The driver and the
# NVIDIA Container Toolkit are the host's.
#
#     docker build -t align-ko .
#     docker run --rm -it --gpus all --ipc host -v "$PWD:/work" --user "$(id -u):$(id -g)" align-ko init my-project --model qwen3_8b
#     docker run --rm -it --gpus all --ipc host -v "$PWD/my-project:/work" --user "$(id -u):$(id -g)" --entrypoint bash align-ko
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04
# PyPI's torch is a CUDA build; another index for another driver, as the Makefile's TORCH_ARGS.
ARG TORCH_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HOME=/home/align PATH=/opt/align_ko/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-dev python3-venv g++ ninja-build \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/align_ko
WORKDIR /align_ko
COPY constraints.txt ./
# torch in a layer of its own: a change of the code does not install it again. TORCH_ARGS are several words.
# hadolint ignore=SC2086,DL3013
RUN pip install $TORCH_ARGS "$(grep '^torch==' constraints.txt)"
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY src src
COPY scripts scripts
COPY recipes recipes
COPY metrics metrics
COPY accelerate_configs accelerate_configs
RUN pip install -c constraints.txt ".[all]" \
    && mkdir -m 777 /home/align /work
USER 1000
WORKDIR /work
ENTRYPOINT ["align-ko"]
CMD ["--help"]
