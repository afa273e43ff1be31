# The command line on the CPU: docker run --rm -v "$PWD:/data" meduniseg segment photo.png -o results --task disc_cup
FROM python:3.12-slim

# PyTorch's index of CPU builds makes the image several GB smaller; without it the default build is installed
ARG PIP_EXTRA_INDEX_URL=""

WORKDIR /opt/meduniseg
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY training_cli training_cli
RUN pip install --no-cache-dir --constraint constraints.txt . && useradd --create-home meduniseg

USER meduniseg
# models and runs of the user's own: mount a volume here to keep them
VOLUME /home/meduniseg/.local/share
WORKDIR /data
ENTRYPOINT ["meduniseg"]
CMD ["--help"]
